"""The witnesses: the simulator's journal, the results, the dead letters, the metrics; and the queues themselves."""

from __future__ import annotations

import asyncio
from collections import Counter
from contextlib import suppress
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Final, Self

import aiohttp
import orjson
from prometheus_client.parser import text_string_to_metric_families

from otpost import OtpResult, Producer, declaring, rabbitmq
from otpost.topology import DEAD, RESULTS, job_queue, topology

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from pathlib import Path
    from types import TracebackType

    from aio_pika.abc import AbstractConnection

    from cases import Names
    from processes import Children

_TIMEOUT_S: Final = 10.0
_POLL_S: Final = 0.2
# Only our own events are counted, so this need not be exact; the broker's clock may differ from ours.
_LOOK_BACK: Final = timedelta(minutes=10)
_LETTERS_TIMEOUT_S: Final = 20.0


class Journal:
    """The simulator, and what it wrote down about each request."""

    def __init__(self, url: str) -> None:
        self.url = url
        self._control = f"{url}/_simulator"
        self._session = aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=_TIMEOUT_S))

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._session.close()

    async def set_rules(self, rules: Iterable[object]) -> None:
        """Replace the rules by these."""
        async with self._session.delete(f"{self._control}/rules") as answer:
            answer.raise_for_status()
        for rule in rules:
            async with self._session.post(f"{self._control}/rules", json=rule) as answer:
                answer.raise_for_status()

    async def requests(self) -> list[dict[str, Any]]:
        """Everything that reached it."""
        async with self._session.get(f"{self._control}/requests") as answer:
            answer.raise_for_status()
            requests: list[dict[str, Any]] = orjson.loads(await answer.read())["requests"]
            return requests


class Results:
    """Collects our results from the stream; an event that comes again, as it may, is counted once."""

    def __init__(self, url: str, names: Names) -> None:
        self._feed = Producer(url).results(since=_LOOK_BACK)
        self._names = names
        self._events: dict[str, OtpResult] = {}
        self._ended: set[str] = set()
        self._more = asyncio.Event()
        self._collecting: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        self._collecting = asyncio.create_task(self._collect())
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._collecting is not None:
            self._collecting.cancel()
            with suppress(asyncio.CancelledError):
                await self._collecting

    async def _collect(self) -> None:
        async for result in self._feed:
            if self._names.owns_sender(result.sender):
                self._events.setdefault(result.event_id, result)
                if result.ends_job:
                    self._ended.add(result.event_id)
                self._more.set()

    def seen(self) -> list[OtpResult]:
        """What came so far, in order."""
        return list(self._events.values())

    async def ends(self, number: int, tell: Callable[[int], None]) -> None:
        """Wait for the ends of *number* runs; *tell* hears how many there are whenever there are more."""
        assert self._collecting is not None  # noqa: S101 - entered
        while True:
            self._more.clear()
            tell(len(self._ended))
            if len(self._ended) >= number:
                return
            waiting = asyncio.create_task(self._more.wait())
            await asyncio.wait({waiting, self._collecting}, return_when=asyncio.FIRST_COMPLETED)
            waiting.cancel()
            if self._collecting.done():
                self._collecting.result()

    async def end_of(self, job_id: str, *, run: int) -> OtpResult:
        """Wait for the end of one job's run."""
        while True:
            self._more.clear()
            for result in self._events.values():
                if result.job_id == job_id and result.run == run and result.ends_job:
                    return result
            await self._more.wait()


async def dead_letters(children: Children, names: Names, *, wanted: int) -> list[dict[str, Any]]:
    """List our dead letters. A letter follows its result: where fewer than *wanted* are there, look again."""
    loop = asyncio.get_running_loop()
    deadline = loop.time() + _LETTERS_TIMEOUT_S
    while True:
        printed = await children.run("dead", "list", "--json", "--limit", "60000")
        letters = [letter for letter in map(orjson.loads, printed.splitlines()) if names.owns_sender(letter["sender"])]
        if len(letters) >= wanted or loop.time() > deadline:
            return letters


async def scrape(logs: Iterable[Path]) -> Counter[str]:
    """Sum the counters of the workers with these logs by name, results also as ``<name>{<status>}``."""
    sums: Counter[str] = Counter()
    async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=_TIMEOUT_S)) as session:
        for log in logs:
            async with session.get(f"{_health_url(log)}/metrics") as answer:
                answer.raise_for_status()
                page = await answer.text()
            for family in text_string_to_metric_families(page):
                for sample in family.samples:
                    if family.type == "counter":
                        sums[sample.name] += int(sample.value)
                        sums[f"{sample.name}{{{sample.labels.get('status', '')}}}"] += int(sample.value)
    return sums


def _health_url(log: Path) -> str:
    """Find where a worker answers that took a free port: its log says so."""
    for line in map(orjson.loads, log.read_bytes().splitlines()):
        if line["event"] == "health.listening":
            return f"http://{line['host']}:{line['port']}"
    raise AssertionError(f"{log} does not tell of a health server")


class Broker:
    """The queues on the broker, as the broker counts them."""

    def __init__(self, connection: AbstractConnection, names: Names) -> None:
        self._connection = connection
        self._names = names

    async def strangers(self) -> list[str]:
        """Say what speaks of somebody else's work here: jobs under way, or workers.

        Results and dead letters of others do no harm: they are told apart by their senders, and only looked at.
        """
        found = []
        for queue in topology(["default"]).queues:
            state = await declaring.inspect_queue(self._connection, queue.name, timeout_s=_TIMEOUT_S)
            if state is None or queue.name == RESULTS:
                continue
            if state.consumers:
                found.append(f"{state.consumers} consumers on {queue.name}")
            if state.ready and queue.name != DEAD:
                found.append(f"{state.ready} messages in {queue.name}")
        return found

    async def served_by(self, workers: int) -> None:
        """Wait until so many workers take our jobs."""
        while True:
            states = [await self._state(job_queue(sender)) for sender in self._names.served]
            if all(state.consumers >= workers for state in states):
                return
            await asyncio.sleep(_POLL_S)

    async def quiet(self) -> None:
        """Wait until nothing stands in a job queue or on the delay ladder any more."""
        while True:
            if not await self.left():
                return
            await asyncio.sleep(_POLL_S)

    async def left(self) -> dict[str, int]:
        """Count what is ready in each queue through which our jobs go, empty ones left out."""
        queues = [queue.name for queue in topology(self._names.served).queues if queue.name not in (RESULTS, DEAD)]
        counts = {queue: (await self._state(queue)).ready for queue in queues}
        return {queue: ready for queue, ready in counts.items() if ready}

    async def remove_ours(self) -> None:
        """Delete our senders' queues.

        :raises ConnectionLost: the broker is gone, and they with it, if it was a private one.
        """
        async with rabbitmq.translated():
            channel = await rabbitmq.open_channel(self._connection, confirms=False)
            for sender in self._names.served:
                await channel.queue_delete(job_queue(sender), timeout=_TIMEOUT_S)
            await rabbitmq.close_quietly(channel)

    async def _state(self, queue: str) -> declaring.QueueState:
        state = await declaring.inspect_queue(self._connection, queue, timeout_s=_TIMEOUT_S)
        return state or declaring.QueueState(0, 0)
