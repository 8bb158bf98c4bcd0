"""The end of a job that the ordinary way stumbles over: told and kept without a look at what is in it."""

from __future__ import annotations

import secrets
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import structlog

from otpost_worker.attempts import Acknowledge, State, Wish
from otpost_worker.deliver import LEASE_MARGIN_S
from otpost_worker.envelope import Envelope, Next, Step, readable_id
from otpost_worker.outcome import Error, Kind
from otpost_worker.ports import ClaimRequest, Entry, Lapsed, LedgerUnavailable, MustEnd, Recorded
from otpost_worker.steps import MAYBE_SENT, Subject, failed

if TYPE_CHECKING:
    from otpost_worker.observer import Observer
    from otpost_worker.ports import Broker, Clock, Codes, Ledger

_log = structlog.get_logger("otpost.dropped")


@dataclass(frozen=True, slots=True)
class _Bare:
    """What of a job nobody can stumble over: where it was going, its id if it has one, and its body, sealed."""

    envelope: Envelope
    job_id: str | None
    nonce: str

    def ends(self, error: Error, now: float) -> Step:
        copy = self.envelope
        subject = Subject(self.job_id or f"~{self.nonce}", self.job_id, copy.sender, copy.run, copy.attempt)
        return failed(error, subject, now=now)


@dataclass(frozen=True, slots=True)
class _Standing:
    """The end that stands; *again* where it was recorded before, *begun* where the run begins only with it."""

    step: Step
    again: bool = False
    begun: bool = False


class LastResort:
    """Ends such jobs; the ledger is asked what is known of their ids, as far as it can tell."""

    def __init__(self, broker: Broker, ledger: Ledger, codes: Codes, observer: Observer, clock: Clock) -> None:
        self._broker = broker
        self._ledger = ledger
        self._codes = codes
        self._observer = observer
        self._clock = clock

    async def end(self, envelope: Envelope, error: Error) -> bool:
        """End the job as ``failed`` with *error*, or as it has ended already; False where it may yet end by itself.

        :raises LedgerUnavailable: whether it has ended is not known.
        """
        fresh = Envelope(envelope.body, envelope.sender, envelope.run, envelope.attempt)
        bare = _Bare(self._codes.cover_whole(fresh), readable_id(envelope.body), secrets.token_hex(16))
        standing = await self._stands(bare, error)
        if standing is None:
            return False
        step = standing.step
        if standing.begun:
            self._observer.job_begun(envelope.sender)
        if step.event is not None:
            await self._broker.publish_event(step.event, replace(bare.envelope, reply=envelope.reply))
            self._observer.result_published(envelope.sender, step.event.status, again=standing.again)
        if step.letter is not None:
            await self._broker.bury(bare.envelope, step.letter)
            self._observer.job_buried(envelope.sender, step.letter.reason)
            if bare.job_id is not None:
                # Without the note a later copy of the job may leave its dead letter once more.
                with suppress(Exception):
                    await self._ledger.note_buried(bare.job_id, envelope.run)
        return True

    async def _stands(self, bare: _Bare, error: Error) -> _Standing | None:
        """Tell which end stands; None where the ledger still expects something else of the job."""
        if bare.job_id is None:
            return _Standing(bare.ends(error, self._clock()), begun=True)
        try:
            return await self._recorded(bare, bare.job_id, error, bare.envelope.attempt)
        except LedgerUnavailable:
            raise
        except Exception as crash:  # noqa: BLE001 - it may be the ledger that stumbles over the job
            _log.error("job.crashed", error=type(crash).__name__, exc_info=crash)
            # A copy that is to become the first attempt has most likely never been one.
            return _Standing(bare.ends(error, self._clock()), begun=bare.envelope.attempt == 1)

    async def _recorded(self, bare: _Bare, job_id: str, error: Error, attempt: int) -> _Standing | None:
        now, envelope = self._clock(), bare.envelope
        wish, token = Wish(envelope.run, attempt, end=True), secrets.token_hex(8)
        request = ClaimRequest(job_id, wish, envelope, now, LEASE_MARGIN_S, token=token)
        match await self._ledger.claim(request):
            case Recorded(_, step) if step.ends_job:
                return _Standing(step, again=True)
            case Recorded(_, Step(next=Next() as following)):
                # What was to follow is what is stumbled over.
                return await self._recorded(bare, job_id, error, following.attempt)
            case MustEnd() as end:
                step = bare.ends(error if end.unknown is None else MAYBE_SENT, now)
                recorded = await self._ledger.conclude(request, step)
                begun = end.unknown is None and not end.history.failures
            case Lapsed(ticket):
                entry = Entry(State.SETTLED, Kind.UNKNOWN, bare.ends(MAYBE_SENT, now))
                recorded = await self._ledger.lapse(ticket, entry)
                begun = False
                if recorded is not None:
                    self._observer.request_lapsed(envelope.sender)
            case Acknowledge():
                return _Standing(Step(None))
            case _:
                return None
        return _Standing(recorded.step, begun=begun) if recorded is not None else None
