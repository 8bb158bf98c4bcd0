"""Real `otpost worker` processes, and a load for them whose every job can be accounted for.

async with Load.begin(vhost) as load, worker_process(vhost, folder, simulator.url) as worker:
    await load.keep_sending(simulator.journal, until=finished)
"""

from __future__ import annotations

import asyncio
import os
import signal
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

import orjson

from forked import ForkedProcess, fork_otpost
from otpost import OtpJob, Producer
from otpost.errors import OtpostError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping
    from pathlib import Path

    from broker import Vhost
    from otpost.result import OtpResult
    from otpost_worker.simulator import Entry, Journal

# Far more than anything here needs on an idle machine; a test that meets it has failed.
PATIENCE_S: Final = 60.0
CODE: Final = "493817"
# So few that a queue stays nearly empty, and so many that there is always something under way.
OUTSTANDING: Final = 60


class WorkerProcess:
    """One `otpost worker`; its log is read as it comes."""

    def __init__(self, process: ForkedProcess | asyncio.subprocess.Process) -> None:
        self.process = process
        self.log: list[dict[str, Any]] = []
        self._news = asyncio.Condition()
        self._reading = asyncio.create_task(self._read())

    async def _read(self) -> None:
        assert self.process.stderr is not None
        async for line in self.process.stderr:
            async with self._news:
                self.log.append(_entry(line))
                self._news.notify_all()

    async def logged(self, event: str, *, nth: int = 1) -> None:
        """Wait for the log line `event`, or for its `nth` one."""

        def is_there() -> bool:
            return [entry.get("event") for entry in self.log].count(event) >= nth

        try:
            async with asyncio.timeout(PATIENCE_S), self._news:
                await self._news.wait_for(is_there)
        except TimeoutError:
            raise AssertionError(f"waited for {event} in vain; the log ends with {self.log[-5:]}") from None

    def signal(self, number: signal.Signals = signal.SIGTERM) -> None:
        self.process.send_signal(number)

    async def ended(self) -> int:
        """Wait for its end and return its exit status."""
        async with asyncio.timeout(PATIENCE_S):
            await self._reading
            status = await self.process.wait()
        if isinstance(self.process, ForkedProcess):
            self.process.close()
        return status

    async def stop(self) -> None:
        """End it in good order: it has to succeed in that."""
        self.signal()
        status = await self.ended()
        assert status == 0, f"exit status {status}; the log ends with {self.log[-5:]}"

    async def clear_away(self) -> None:
        if self.process.returncode is None:
            self.process.kill()
            await self.process.wait()
        self._reading.cancel()
        await asyncio.gather(self._reading, return_exceptions=True)
        if isinstance(self.process, ForkedProcess):
            self.process.close()

    def warnings(self) -> list[dict[str, Any]]:
        """What went wrong in the worker's own view."""
        return [entry for entry in self.log if entry.get("level") in ("warning", "error", "critical")]


def _entry(line: bytes) -> dict[str, Any]:
    try:
        decoded = orjson.loads(line)
    except orjson.JSONDecodeError:
        # A traceback, say: no log line, and never to be overlooked.
        decoded = {"level": "critical", "event": line.decode(errors="replace").rstrip()}
    assert isinstance(decoded, dict)
    return decoded


def worker_environment(vhost: Vhost, folder: Path, api_base: str, **settings: object) -> dict[str, str]:
    """Describe one sender; `settings` are further settings by their names without OTPOST_, in small letters."""
    clean = {name: value for name, value in os.environ.items() if not name.startswith("OTPOST_")}
    given: Mapping[str, object] = {
        "broker_url": vhost.url,
        "ledger_url": f"sqlite:///{folder / 'ledger.db'}",
        "phone_number_id": "106540352242922",
        "access_token": "EAAG-a-token",
        "template": "verification_code",
        "language": "en_US",
        "api_base": api_base,
        "log_format": "json",
    } | settings
    return clean | {f"OTPOST_{name.upper()}": str(value) for name, value in given.items()}


async def start_worker(environment: Mapping[str, str]) -> WorkerProcess:
    """Start a worker, whatever it will do next."""
    return WorkerProcess(await fork_otpost("worker", environment=environment))


@asynccontextmanager
async def worker_process(environment: Mapping[str, str], *, consuming: bool = True) -> AsyncIterator[WorkerProcess]:
    """Run a worker, `consuming` when the block begins; it is killed if it still runs in the end."""
    worker = await start_worker(environment)
    try:
        if consuming:
            await worker.logged("consuming")
        yield worker
    finally:
        await worker.clear_away()


@dataclass
class Load:
    """Jobs to recipients of their own, and every result that came of them."""

    producer: Producer
    sent: list[str] = field(default_factory=list)
    ends: dict[str, dict[str, OtpResult]] = field(default_factory=dict)
    copies: list[str] = field(default_factory=list)
    events: dict[str, OtpResult] = field(default_factory=dict)
    _news: asyncio.Condition = field(default_factory=asyncio.Condition)

    def job(self, *, to: str | None = None, ttl_s: float = 300) -> OtpJob:
        """Make the next job; a number of its own unless `to` is given."""
        number = len(self.sent)
        job = OtpJob(id=f"job-{number}", to=to or f"+1201{number:07}", code=CODE, ttl_s=ttl_s)
        self.sent.append(job.id)
        return job

    async def send(self, *, to: str | None = None) -> str:
        """Send a job until it is confirmed, as a producer has to that wants to be sure."""
        job = self.job(to=to)
        async with asyncio.timeout(PATIENCE_S):
            while True:
                try:
                    return await self.producer.send(job)
                except OtpostError:
                    await asyncio.sleep(0.2)

    async def keep_sending(self, journal: Journal, until: asyncio.Event) -> None:
        """Send without a pause, but never far ahead of the provider."""
        while not until.is_set():
            await self.send()
            if len(self.sent) - journal.total > OUTSTANDING:
                await journal.wait(received=len(self.sent) - OUTSTANDING, timeout_s=0.5)

    async def listen(self) -> None:
        """Read the results stream from its beginning, for ever."""
        async for result in self.producer.results(since="first"):
            async with self._news:
                if result.event_id in self.events:
                    self.copies.append(result.event_id)
                self.events[result.event_id] = result
                if result.ends_job:
                    assert result.job_id is not None
                    self.ends.setdefault(result.job_id, {})[result.event_id] = result
                self._news.notify_all()

    async def ended(self, jobs: list[str]) -> None:
        """Wait until these jobs have an end."""
        async with asyncio.timeout(PATIENCE_S), self._news:
            await self._news.wait_for(lambda: set(jobs) <= self.ends.keys())

    async def all_ended(self, timeout_s: float = PATIENCE_S) -> None:
        """Wait until every job that was sent has an end."""

        def missing() -> set[str]:
            return set(self.sent) - self.ends.keys()

        try:
            async with asyncio.timeout(timeout_s), self._news:
                await self._news.wait_for(lambda: not missing())
        except TimeoutError:
            raise AssertionError(f"no end for {len(missing())} of {len(self.sent)} jobs: {missing()}") from None

    def statuses(self) -> dict[str, list[str]]:
        """The ends of each job, events that came twice counted once."""
        return {job: [end.status.value for end in ends.values()] for job, ends in self.ends.items()}


@asynccontextmanager
async def load_on(vhost: Vhost) -> AsyncIterator[Load]:
    """Begin a load; a worker has to have declared what it needs."""
    async with Producer(vhost.url, timeout_s=PATIENCE_S) as producer:
        load = Load(producer)
        listening = asyncio.create_task(load.listen())
        try:
            yield load
        finally:
            listening.cancel()
            await asyncio.gather(listening, return_exceptions=True)


def requested_twice(journal: Journal) -> dict[str, list[Entry]]:
    """The recipients that more than one request was for."""
    by_recipient: dict[str, list[Entry]] = {}
    for entry in journal.entries():
        by_recipient.setdefault(str(entry.to), []).append(entry)
    return {to: entries for to, entries in by_recipient.items() if len(entries) > 1}


async def queues_become_empty(vhost: Vhost) -> None:
    """Wait until no copy of any job is left: in its queue, on the ladder, dropped, or among the dead letters.

    A worker has to be there: a copy that met its own job under way is on the ladder until that one's lease is over.
    """
    for name in vhost.queues():
        if name != "otpost.results":
            await vhost.wait_for_queue(name, unacked=0, timeout_s=PATIENCE_S)
            await vhost.wait_for_ready(name, 0, timeout_s=PATIENCE_S)
