"""The ledger in memory: what the other ledgers are compared with, and what a process of its own can do with.

It is gone with its process, so it keeps no promise across a restart.
"""

from __future__ import annotations

import hashlib
import secrets
import time
from collections import Counter
from dataclasses import replace
from itertools import chain
from typing import TYPE_CHECKING, Self, assert_never
from uuid import uuid4

from otpost_worker.attempts import (
    Acknowledge,
    Attempt,
    Claim,
    Conclude,
    Known,
    PublishEnd,
    RecordUnknown,
    RepeatStep,
    Run,
    State,
    Wait,
    judge,
)
from otpost_worker.decision import History
from otpost_worker.ledger.memory.limits import Limits
from otpost_worker.ledger.memory.rows import KnownAttempt, KnownRun
from otpost_worker.pacing import Full, Go, Held, TakeTurn
from otpost_worker.pacing import NoRoom as NoTurn
from otpost_worker.ports import (
    Claimed,
    ClaimReply,
    ClaimRequest,
    Crowded,
    Entry,
    Lapsed,
    MustEnd,
    NoRoom,
    Noted,
    Recorded,
    SenderReport,
    Ticket,
)
from otpost_worker.stories import JobStory, RunStory

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from types import TracebackType

    from otpost_worker.envelope import Envelope, Step
    from otpost_worker.ports import Clock
    from otpost_worker.standing import Heard, News
    from otpost_worker.stories import Amendment


class MemoryLedger:
    """Implements ``ports.Ledger``, ``Standings`` and ``Archive``; may be opened again and again.

    *clock* tells the time in Unix seconds and is the one that leases are counted by.
    """

    def __init__(self, *, clock: Clock = time.time) -> None:
        self._clock = clock
        self._jobs: dict[str, dict[int, KnownRun]] = {}
        self._limits = Limits()
        self._identity = str(uuid4())

    @property
    def identity(self) -> str:
        """See ``ports.Archive``."""
        return self._identity

    async def __aenter__(self) -> Self:
        """There is nothing to open."""
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """There is nothing to close."""

    # What the way of a job asks for

    async def claim(self, request: ClaimRequest) -> ClaimReply:
        """See ``ports.Ledger``."""
        now, wish = self._clock(), request.wish
        action = judge(self._known(request.job_id), wish, now=now)
        if isinstance(action, Wait | RecordUnknown) and (own := self._granted_again(request, now)) is not None:
            return own
        match action:
            case Claim():
                return self._paced(request, now)
            case PublishEnd(run):
                return self._jobs[request.job_id][run].recorded_end()
            case RepeatStep(number):
                run_now, attempt = self._attempt(request.job_id, wish.run, number)
                assert attempt.step is not None  # noqa: S101 - it has an outcome that ended nothing
                return run_now.recorded(attempt.step)
            case RecordUnknown(number):
                run_now, attempt = self._attempt(request.job_id, wish.run, number)
                ticket = Ticket(request.job_id, wish.run, number, attempt.token)
                return Lapsed(ticket, self._history(request, before=number), run_now.envelope)
            case Conclude(after_unknown):
                highest = self._jobs[request.job_id][wish.run].highest if after_unknown else None
                return MustEnd(self._history(request, before=wish.attempt), highest.number if highest else None)
            case Acknowledge() | Wait():
                return action

    async def record(self, ticket: Ticket, entry: Entry) -> Noted:
        """See ``ports.Ledger``."""
        now, attempt = self._clock(), self._attempt_of(ticket)
        again = attempt is not None and attempt.token == ticket.token and attempt.state is not State.CLAIMED
        if attempt is not None and again:
            news = attempt.told
        else:
            news = self._limits.hear(entry.heard, entry.retry_of(ticket), now) if entry.heard else ()
        if attempt is None:
            return Noted(None, news, known=False)
        recorded = self._record(ticket, attempt, entry, now)
        if news and attempt.token == ticket.token:
            attempt.told = news
        return Noted(recorded, news)

    async def lapse(self, ticket: Ticket, entry: Entry) -> Recorded | None:
        """See ``ports.Ledger``."""
        now, attempt = self._clock(), self._attempt_of(ticket)
        if attempt is None or attempt.state is not State.CLAIMED or attempt.token != ticket.token:
            return None
        run = self._jobs[ticket.job_id][ticket.run]
        if run.end is not None or attempt.lease_until is None or attempt.lease_until > now:
            return None
        envelope = run.envelope
        self._write(run, attempt, entry, now)
        # Whoever held the claim has lost it: its own outcome comes too late from here on.
        attempt.token = secrets.token_hex(8)
        return Recorded(envelope, entry.step)

    async def conclude(self, request: ClaimRequest, step: Step) -> Recorded | None:
        """See ``ports.Ledger``."""
        now = self._clock()
        if not isinstance(judge(self._known(request.job_id), request.wish, now=now), Conclude):
            return None
        return self._ended_without_request(request, step, now)

    async def refuse(self, request: ClaimRequest, step: Step) -> Recorded | None:
        """See ``ports.Ledger``."""
        known = self._known(request.job_id)
        latest = known.latest
        if latest is None or (request.wish.run > latest.number and known.standing_run is None):
            return self._ended_without_request(request, step, self._clock())
        if not latest.ended or request.wish.run > latest.number:
            return None
        # Its own end is due to this very body, and to no other.
        run = self._jobs[request.job_id][latest.number]
        own = run.body == request.envelope.body or (run.end and run.end.is_of(step.fingerprint))
        return run.recorded_end() if own else None

    async def release(self, ticket: Ticket) -> None:
        """See ``ports.Ledger``."""
        runs = self._jobs.get(ticket.job_id, {})
        run, attempt = runs.get(ticket.run), self._attempt_of(ticket)
        if run is None:
            return
        if attempt is not None and attempt.token == ticket.token and attempt.state is State.CLAIMED:
            del run.attempts[ticket.attempt]
        if run.end is None and not run.attempts:
            del runs[ticket.run]

    async def note_buried(self, job_id: str, run: int) -> None:
        """See ``ports.Ledger``."""
        known = self._jobs.get(job_id, {}).get(run)
        # Not before its end is recorded: until then another worker may have to take the job further.
        if known is not None and known.end is not None:
            known.buried = True
            known.forget_body()

    async def check(self) -> None:
        """See ``ports.Ledger``."""

    async def forget(self) -> int:
        """Forget what is past its time; returns how many runs."""
        now, before = self._clock(), sum(map(len, self._jobs.values()))
        for run in chain.from_iterable(runs.values() for runs in self._jobs.values()):
            run.forget_late_body(now)
        kept = {
            job_id: {number: run for number, run in runs.items() if run.forget_at >= now}
            for job_id, runs in self._jobs.items()
        }
        self._jobs = {job_id: runs for job_id, runs in kept.items() if runs}
        self._limits.forget(now)
        return before - sum(map(len, self._jobs.values()))

    async def report(self, rates: Mapping[str, float], quotas: Mapping[str, str]) -> Mapping[str, SenderReport]:
        """See ``ports.Standings``."""
        return self._limits.report(rates, quotas, self._clock())

    async def probe_soon(self, senders: Iterable[str]) -> None:
        """See ``ports.Standings``."""
        self._limits.probe_soon(senders, self._clock())

    async def hear(self, heard: Heard) -> tuple[News, ...]:
        """See ``ports.Reports``."""
        return self._limits.hear_word(heard, self._clock())

    async def story(self, job_id: str) -> tuple[RunStory, ...]:
        """See ``ports.Archive``."""
        return tuple(
            self._run_story(job_id, number, replace(run.envelope, body=b""))
            for number, run in sorted(self._jobs.get(job_id, {}).items())
        )

    def _run_story(self, job_id: str, number: int, envelope: Envelope) -> RunStory:
        run = self._jobs[job_id][number]
        return RunStory(
            number,
            envelope,
            run.ended_at,
            run.end,
            run.buried,
            run.forget_at,
            self._limits.last_turn(job_id, number),
            tuple(attempt.story() for _, attempt in sorted(run.attempts.items())),
            run.undelivered,
            run.delivered,
        )

    # What is heard of a job later

    async def find(self, message_id: str) -> tuple[str, int, int] | None:
        """See ``ports.Reports``."""
        return next(
            (
                (job_id, number, attempt.number)
                for job_id, runs in self._jobs.items()
                for number, run in runs.items()
                for attempt in run.attempts.values()
                if attempt.provider_message_id == message_id
            ),
            None,
        )

    async def look_up(self, job_id: str) -> JobStory | None:
        """See ``ports.Reports``."""
        runs = self._jobs.get(job_id)
        if not runs:
            return None
        now = self._clock()
        stories = tuple(self._run_story(job_id, number, run.told_at(now)) for number, run in sorted(runs.items()))
        return JobStory(job_id, stories, self._version(job_id))

    async def amend(self, story: JobStory, amendment: Amendment) -> bool:
        """See ``ports.Reports``."""
        if self._version(story.job_id) != story.version:
            return False
        run, attempt = self._attempt(story.job_id, amendment.run, amendment.attempt)
        change, now = amendment.change, self._clock()
        if amendment.needs_body and not run.told_at(now).body:
            return False
        attempt.reports = dict(amendment.reports)
        attempt.provider_message_id = attempt.provider_message_id or amendment.message_id
        if change is not None:
            attempt.state, attempt.kind, attempt.step, attempt.lease_until = (
                change.state,
                change.kind,
                change.step,
                None,
            )
            attempt.due_at = change.step.next.due_at if change.step and change.step.next else None
            attempt.recorded_at = attempt.recorded_at or now
        if amendment.end is not None:
            run.end, run.ended_at = amendment.end, run.ended_at or now
        if amendment.reopened:
            # The job is under way again, and needs its body for as long as that lasts.
            run.end = run.ended_at = run.kept_until = None
        run.undelivered, run.delivered = amendment.undelivered, amendment.delivered
        if amendment.end is not None and amendment.end.letter is not None:
            run.kept_until = None
        if amendment.body is not None:
            run.keep_body(amendment.body, now)
        return True

    def _version(self, job_id: str) -> str:
        runs = {number: run.without_body() for number, run in self._jobs.get(job_id, {}).items()}
        return hashlib.sha256(repr(runs).encode()).hexdigest()

    # What is known, and what is written down

    def _known(self, job_id: str) -> Known:
        runs = self._jobs.get(job_id)
        if not runs:
            return Known()
        number = max(runs)
        highest = runs[number].highest
        standing = [number for number, run in runs.items() if run.stands]
        return Known(
            Run(
                number,
                runs[number].end is not None,
                Attempt(highest.number, highest.state, highest.lease_until or 0.0, highest.due_at or 0.0)
                if highest
                else None,
            ),
            max(standing, default=None),
        )

    def _attempt(self, job_id: str, run: int, number: int) -> tuple[KnownRun, KnownAttempt]:
        known = self._jobs[job_id][run]
        return known, known.attempts[number]

    def _attempt_of(self, ticket: Ticket) -> KnownAttempt | None:
        run = self._jobs.get(ticket.job_id, {}).get(ticket.run)
        return run.attempts.get(ticket.attempt) if run else None

    def _history(self, request: ClaimRequest, *, before: int) -> History:
        run = self._jobs.get(request.job_id, {}).get(request.wish.run)
        earlier = [attempt for attempt in run.attempts.values() if attempt.number < before] if run else []
        kinds = Counter(attempt.kind for attempt in earlier if attempt.kind is not None)
        return History(request.envelope.counted, dict(kinds))

    def _paced(self, request: ClaimRequest, now: float) -> ClaimReply:
        if request.lane is None:
            return self._granted(request, now, start_at=now)
        pace = self._limits.pace(request, request.lane, now)
        match pace:
            case Go():
                return self._granted(request, now, start_at=pace.start_at, probe=pace.is_probe)
            case TakeTurn(start_at):
                return Wait(start_at)
            case Held(until):
                return Wait(until)
            case Full(until):
                return Crowded(until)
            case NoTurn():
                return NoRoom()
            case _:  # pragma: no cover
                assert_never(pace)

    def _granted(self, request: ClaimRequest, now: float, *, start_at: float, probe: bool = False) -> Claimed:
        wish, lease_until = request.wish, now + request.lease_s
        run = self._remembered(request)
        run.attempts[wish.attempt] = KnownAttempt(wish.attempt, request.token, now, lease_until, start_at, probe)
        ticket = Ticket(request.job_id, wish.run, wish.attempt, request.token)
        return Claimed(ticket, self._history(request, before=wish.attempt), start_at, probe)

    def _granted_again(self, request: ClaimRequest, now: float) -> Claimed | None:
        """Grant the asker's own open claim once more: the answer to the same request was lost on the way."""
        wish = request.wish
        ticket = Ticket(request.job_id, wish.run, wish.attempt, request.token)
        attempt = self._attempt_of(ticket)
        if attempt is None or attempt.state is not State.CLAIMED or attempt.token != request.token:
            return None
        attempt.lease_until = now + request.lease_s
        return Claimed(ticket, self._history(request, before=wish.attempt), attempt.start_at, attempt.probe)

    def _remembered(self, request: ClaimRequest) -> KnownRun:
        runs = self._jobs.setdefault(request.job_id, {})
        fresh = KnownRun(request.envelope, request.forget_at)
        return runs.setdefault(request.wish.run, fresh)

    def _ended_without_request(self, request: ClaimRequest, step: Step, now: float) -> Recorded:
        run = self._remembered(request)
        envelope = run.envelope
        run.finish(step, now)
        return Recorded(envelope, step)

    def _record(self, ticket: Ticket, attempt: KnownAttempt, entry: Entry, now: float) -> Recorded | None:
        run, ours = self._jobs[ticket.job_id][ticket.run], attempt.token == ticket.token
        accepted = entry.provider_message_id is not None
        settles = (ours and attempt.state is State.CLAIMED) or (accepted and attempt.state is State.UNKNOWN)
        if settles and run.end is None:
            self._write(run, attempt, entry, now)
            return run.recorded(entry.step)
        if ours and attempt.state is State.SETTLED:
            # The same call again: the first one was done, but its answer was lost on the way.
            return run.recorded_end() if run.end is not None else None
        if ours and attempt.state is entry.state:
            return run.recorded(entry.step)
        # Too late: somebody has drawn another conclusion, which stands. The provider's id is kept all the same.
        attempt.provider_message_id = attempt.provider_message_id or entry.provider_message_id
        if ours and attempt.state is State.CLAIMED:
            # Its answer has come: nobody need wait for it any more.
            attempt.state, attempt.kind, attempt.lease_until, attempt.recorded_at = State.SETTLED, entry.kind, None, now
        return None

    @staticmethod
    def _write(run: KnownRun, attempt: KnownAttempt, entry: Entry, now: float) -> None:
        step = entry.step
        attempt.state, attempt.kind, attempt.recorded_at, attempt.lease_until = entry.state, entry.kind, now, None
        attempt.due_at = step.next.due_at if step.next else None
        attempt.step = None if step.ends_job else step
        attempt.provider_message_id = entry.provider_message_id or attempt.provider_message_id
        if step.ends_job:
            run.finish(step, now, entry.kept)
