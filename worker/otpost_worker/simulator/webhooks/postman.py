"""Posts webhooks when they are due, again until they are answered with 200, and writes down what became of each.

One heap holds what waits, by its moment; at most `concurrency` POSTs are under way. A POST that must be tried again
goes back to the heap and holds no place meanwhile, so that a receiver that is away delays only what it does not take.
"""

from __future__ import annotations

import asyncio
import heapq
import io
import itertools
import time
from contextlib import suppress
from dataclasses import dataclass, field
from random import Random
from typing import TYPE_CHECKING, Any, Final, assert_never

import aiohttp

from otpost_worker.simulator.control import ControlError

from . import bodies
from .letters import Letter, Posting
from .planning import TakenMessage, planned
from .reports import Pages, Report, Reports
from .telling import Body, StatusOf, Telling

if TYPE_CHECKING:
    from collections.abc import Callable, Collection

    from .plans import Plan
    from .settings import WebhookSettings

# What waits beyond this is dropped and counted: a receiver that is away for good must not fill the memory.
MAX_WAITING: Final = 300_000
# What is remembered of POSTs that are done.
MAX_POSTINGS: Final = 100_000
# Longer, a webhook does not hold up the answer that it comes before.
_BEFORE_ANSWER_S: Final = 10.0
_CLOSE_S: Final = 1.0
_ANSWER_BYTES: Final = 4096
_OK: Final = 200
# Longer bodies are written piece by piece, or nothing else would happen meanwhile.
_LARGE: Final = 1024 * 1024


@dataclass(slots=True)
class _Waiter:
    enough: Callable[[], bool]
    done: asyncio.Future[None] = field(default_factory=lambda: asyncio.get_running_loop().create_future())

    def release(self) -> None:
        if not self.done.done():
            self.done.set_result(None)


class Postman:
    """Sends the webhooks of one simulator, from `start` to `close`."""

    def __init__(self, settings: WebhookSettings, report_limit: int) -> None:
        self._settings = settings
        self.reports = Reports(report_limit)
        self.postings: Pages[Posting] = Pages(MAX_POSTINGS)
        self._heap: list[tuple[float, int, Report | Letter]] = []
        self._order = itertools.count()
        self._batch: list[Report] = []
        self._batch_due = 0.0
        self._under_way: dict[asyncio.Task[None], Letter] = {}
        self._wake = asyncio.Event()
        self._waiters: list[_Waiter] = []
        self._session: aiohttp.ClientSession | None = None
        self._round: asyncio.Task[None] | None = None
        self._reset_counts()

    def _reset_counts(self) -> None:
        self._tries = 0
        self._overflow = 0
        self._answers: dict[str, int] = {}

    @property
    def settings(self) -> WebhookSettings:
        """The settings in force."""
        return self._settings

    @property
    def waiting(self) -> int:
        """How much is still to be posted, what is under way counted."""
        return len(self._heap) + len(self._batch) + len(self._under_way)

    def set(self, settings: WebhookSettings) -> None:
        """Other settings from now on; without a URL, what waits is given up."""
        self._settings = settings
        if settings.url is None:
            self._give_up_all()
        self._wake.set()

    async def start(self) -> None:
        """Begin to post."""
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=0),
            cookie_jar=aiohttp.DummyCookieJar(),
            auto_decompress=False,
        )
        self._round = asyncio.create_task(self._go_round())

    async def close(self) -> None:
        """Stop at once: what waits is given up, what is under way is cut."""
        tasks = (*self._under_way, *((self._round,) if self._round else ()))
        self._round = None
        await _cut(tasks)
        self._give_up_all()
        self.release()
        if self._session is not None:
            await self._session.close()
            self._session = None

    # What is to be posted

    async def expect(self, message: TakenMessage, plan: Plan) -> None:
        """A message was taken: plan its reports. Returns once those that come before the answer were posted."""
        if self._settings.url is None or self._round is None:
            return
        chance = Random(f"{self._settings.seed}/{message.callback or message.message_id}")  # noqa: S311 - repeatable
        # Its moments count from when it was taken, which may be some milliseconds ago, or to come after a delay.
        taken = time.monotonic() + message.at - time.time()
        first: list[asyncio.Future[None]] = []
        for one in planned(message, plan, self._settings, chance, first_seq=self.reports.next_seq):
            self.reports.add(one.report)
            for after_s in one.post_after_s:
                if one.before_answer:
                    first.append(self._at_once(one.report))
                else:
                    self._put(taken + after_s, one.report)
        self._wake.set()
        if first:
            await asyncio.wait(first, timeout=_BEFORE_ANSWER_S)

    async def tell(self, telling: Telling) -> Posting:
        """Post what a control request asks for; returns once it was tried for the first time.

        Raises:
            ControlError: there is no URL to post it to.
        """
        if self._settings.url is None or self._round is None:
            raise ControlError(
                'there is no url to post to; PUT /_simulator/webhooks {"url": ..., "secret": ...} first.'
            )
        letter = self._told_letter(telling.what)
        letter.signature, letter.signature_header = telling.signature, telling.signature_header
        letter.retry = telling.retry
        await asyncio.wait([self._hurry(letter)], timeout=self._settings.timeout_s + _BEFORE_ANSWER_S)
        return letter.posting

    async def clear(self) -> int:
        """Forget all reports and postings, and what still waits; returns how much waited."""
        waited = self.waiting
        self._give_up_all()
        await _cut(tuple(self._under_way))
        self.reports.clear()
        self.postings.clear()
        self._reset_counts()
        return waited

    def _told_letter(self, what: StatusOf | Body) -> Letter:
        match what:
            case StatusOf():
                return self._letter("statuses", (self._told(what),))
            case Body():
                return self._letter(what.kind, body=what.body)
            case _:
                assert_never(what)

    def _told(self, told: StatusOf) -> Report:
        now = time.time()
        report = Report(
            seq=self.reports.next_seq,
            message_id=told.message.message_id,
            callback=told.message.callback,
            status=told.status,
            timestamp=int(now) if told.timestamp is None else told.timestamp,
            at=now if told.timestamp is None else float(told.timestamp),
            phone_number_id=told.message.phone_number_id,
            recipient=told.message.recipient,
            code=told.code,
            priced=told.status != "failed",
            planned=1,
        )
        self.reports.add(report)
        return report

    def _letter(self, kind: str, reports: tuple[Report, ...] = (), body: bytes | None = None) -> Letter:
        posting = Posting(self.postings.next_seq, kind, len(reports))
        self.postings.add(posting)
        return Letter(posting, reports, body)

    def _at_once(self, report: Report) -> asyncio.Future[None]:
        return self._hurry(self._letter("statuses", (report,)))

    def _hurry(self, letter: Letter) -> asyncio.Future[None]:
        letter.tried = asyncio.get_running_loop().create_future()
        # Before everything else that is due.
        self._put(0.0, letter)
        self._wake.set()
        return letter.tried

    def _put(self, due: float, item: Report | Letter) -> None:
        if len(self._heap) >= MAX_WAITING:
            self._overflow += 1
            self._abandon(item)
            return
        heapq.heappush(self._heap, (due, next(self._order), item))

    # Posting

    async def _go_round(self) -> None:
        while True:
            self._wake.clear()
            pause_s = self._start_what_is_due()
            with suppress(TimeoutError):
                async with asyncio.timeout(pause_s):
                    await self._wake.wait()

    def _start_what_is_due(self) -> float | None:
        """Returns in how many seconds more is due; None where only an event can tell."""
        while len(self._under_way) < self._settings.concurrency:
            now = time.monotonic()
            letter = self._next_letter(now)
            if letter is None:
                moments = [self._heap[0][0]] if self._heap else []
                moments += [self._batch_due] if self._batch else []
                return max(0.0, min(moments) - now) if moments else None
            task = asyncio.create_task(self._post(letter, now))
            self._under_way[task] = letter
            task.add_done_callback(self._done)
        return None

    def _next_letter(self, now: float) -> Letter | None:
        while self._heap and self._heap[0][0] <= now:
            item = heapq.heappop(self._heap)[2]
            if isinstance(item, Letter):
                return item
            if not self._batch:
                self._batch_due = now + (self._settings.batch_wait_s if self._settings.batch > 1 else 0.0)
            self._batch.append(item)
            if len(self._batch) >= self._settings.batch:
                return self._close_batch()
        return self._close_batch() if self._batch and self._batch_due <= now else None

    def _close_batch(self) -> Letter:
        reports, self._batch = tuple(self._batch), []
        return self._letter("statuses", reports)

    async def _post(self, letter: Letter, now: float) -> None:
        posting = letter.posting
        if letter.started is None:
            letter.started, letter.pause_s = now, self._settings.retry.first_s
        posting.tries += 1
        posting.last_at = time.time()
        posting.first_at = posting.first_at or posting.last_at
        posting.answer = await self._exchange(letter)
        self._note(letter, time.monotonic())

    async def _exchange(self, letter: Letter) -> int | None:
        settings = self._settings
        if self._session is None or settings.url is None:
            return None
        body = bodies.written(bodies.statuses(settings, letter.reports)) if letter.body is None else letter.body
        headers = {"Content-Type": "application/json", "User-Agent": "facebookexternalua"}
        if (signed := letter.header(settings.secret, body)) is not None:
            headers["X-Hub-Signature-256"] = signed
        try:
            async with self._session.post(
                settings.url,
                data=body if len(body) < _LARGE else io.BytesIO(body),
                headers=headers,
                allow_redirects=False,
                timeout=aiohttp.ClientTimeout(total=settings.timeout_s),
            ) as answer:
                # Enough to let a decent receiver's connection be used again.
                await answer.content.read(_ANSWER_BYTES)
                return answer.status
        except (aiohttp.ClientError, OSError, TimeoutError):
            return None

    def _note(self, letter: Letter, now: float) -> None:
        posting, retry = letter.posting, self._settings.retry
        self._tries += 1
        answer = "none" if posting.answer is None else str(posting.answer)
        self._answers[answer] = self._answers.get(answer, 0) + 1
        for report in letter.reports:
            self.reports.note(report, posting.answer, at=time.time())
        if posting.answer == _OK:
            posting.state = "answered"
        elif (
            not letter.retry
            or self._settings.url is None
            or now + letter.pause_s - (letter.started or now) > retry.for_s
        ):
            self._abandon(letter)
        else:
            self._put(now + letter.pause_s, letter)
            letter.pause_s = min(letter.pause_s * retry.factor, retry.ceiling_s)
        letter.was_tried()

    def _abandon(self, item: Report | Letter) -> None:
        if isinstance(item, Report):
            self.reports.give_up(item)
            return
        item.posting.state = "given_up"
        for report in item.reports:
            self.reports.give_up(report)
        item.was_tried()

    def _give_up_all(self) -> None:
        for _, _, item in self._heap:
            self._abandon(item)
        for report in self._batch:
            self._abandon(report)
        self._heap.clear()
        self._batch.clear()
        self._tell_waiters()

    def _done(self, task: asyncio.Task[None]) -> None:
        letter = self._under_way.pop(task)
        if task.cancelled():
            self._abandon(letter)
        elif (error := task.exception()) is not None:
            self._abandon(letter)
            report = {"message": "a webhook could not be posted", "exception": error, "task": task}
            asyncio.get_running_loop().call_exception_handler(report)
        self._wake.set()
        self._tell_waiters()

    # Waiting for it

    async def wait(self, *, answered: int = 0, settled: bool = False, timeout_s: float = 30.0) -> bool:
        """Wait until so many reports were answered with 200, and, if `settled`, until nothing is to be posted.

        False after `timeout_s` seconds.
        """

        def enough() -> bool:
            return self.reports.answered >= answered and not (settled and self.waiting)

        if enough():
            return True
        waiter = _Waiter(enough)
        self._waiters.append(waiter)
        try:
            async with asyncio.timeout(timeout_s):
                await waiter.done
        except TimeoutError:
            return False
        finally:
            self._waiters.remove(waiter)
        return enough()

    def release(self) -> None:
        """Let everybody who waits go on with what there is."""
        for waiter in self._waiters:
            waiter.release()

    def _tell_waiters(self) -> None:
        for waiter in self._waiters:
            if waiter.enough():
                waiter.release()

    def stats(self) -> dict[str, Any]:
        """Counts since the last clear. `tries`: POSTs that were made; `answers`: by HTTP status, or `none`."""
        return {
            **self.reports.stats(),
            "posts": self.postings.total,
            "tries": self._tries,
            "answers": dict(self._answers),
            "waiting": self.waiting,
            "overflow": self._overflow,
        }


async def _cut(tasks: Collection[asyncio.Task[None]]) -> None:
    for task in tasks:
        task.cancel()
    if tasks:
        await asyncio.wait(tasks, timeout=_CLOSE_S)
