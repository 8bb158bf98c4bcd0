"""The table of contract section 5: what is done with a delivery, given what the ledger knows of its job."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import assert_never


class State(StrEnum):
    """What became of one attempt."""

    CLAIMED = "claimed"
    UNKNOWN = "unknown"
    REFUSED = "refused"
    TAKEN_BACK = "taken_back"
    # The attempt's outcome ended its run, or came after the run had ended.
    SETTLED = "settled"


@dataclass(frozen=True, slots=True)
class Attempt:
    """The highest attempt of a run: a claim lasts until *lease_until*, a retry is due at *due_at*."""

    number: int
    state: State
    lease_until: float = 0.0
    due_at: float = 0.0


@dataclass(frozen=True, slots=True)
class Run:
    """What the ledger knows of one run of a job; *highest* is None where every claim was released."""

    number: int
    ended: bool
    highest: Attempt | None


@dataclass(frozen=True, slots=True)
class Known:
    """What the ledger knows of a job: its latest run, and the last one that stands.

    A run stands that was accepted and not given up after that, or was delivered all the same.
    """

    latest: Run | None = None
    standing_run: int | None = None


@dataclass(frozen=True, slots=True)
class Wish:
    """What the worker would do with the delivery where the table lets it send.

    *late*: too close to the deadline to start a request. *hold_until*: not before this (the job's own wish, or
    a halted sender). *resend*: whether an unknown attempt may be followed by another. *end*: it is not to be
    sent at all but to end (the reader of what the broker dropped).
    """

    run: int
    attempt: int
    late: bool = False
    hold_until: float = 0.0
    resend: bool = True
    end: bool = False


@dataclass(frozen=True, slots=True)
class Claim:
    """Claim the attempt and send."""


@dataclass(frozen=True, slots=True)
class PublishEnd:
    """Publish the recorded end of *run* again, with its dead letter unless that is noted; acknowledge."""

    run: int


@dataclass(frozen=True, slots=True)
class RepeatStep:
    """Publish again what was recorded to follow from *attempt*; acknowledge."""

    attempt: int


@dataclass(frozen=True, slots=True)
class Acknowledge:
    """A stale copy: somebody went further than this; acknowledge."""


@dataclass(frozen=True, slots=True)
class Wait:
    """Back onto the ladder, unchanged, until *until* (Unix seconds)."""

    until: float


@dataclass(frozen=True, slots=True)
class RecordUnknown:
    """The claim of *attempt* lapsed: record it as unknown and publish what follows from that."""

    attempt: int


@dataclass(frozen=True, slots=True)
class Conclude:
    """Nothing may be sent any more: end the run. *after_unknown*: the message may have arrived."""

    after_unknown: bool


Action = Claim | PublishEnd | RepeatStep | Acknowledge | Wait | RecordUnknown | Conclude


def judge(known: Known, wish: Wish, *, now: float) -> Action:
    """Look the delivery up in the table; *now* is the ledger's clock in Unix seconds."""
    run = known.latest
    if run is None:
        return _start(wish, now, known)
    if wish.run > run.number:
        # A replay is like a new job, unless one of the runs before it has reached the recipient.
        return _start(wish, now, known)
    if run.ended:
        return PublishEnd(run.number)
    if wish.run < run.number:
        return Acknowledge()
    if run.highest is None:
        return _start(wish, now, known)
    return _under_way(run.highest, wish, now, known)


def _under_way(highest: Attempt, wish: Wish, now: float, known: Known) -> Action:
    if wish.attempt < highest.number:
        return Acknowledge()
    match highest.state:
        case State.CLAIMED:
            if now < highest.lease_until:
                return Wait(highest.lease_until)
            return RecordUnknown(highest.number)
        case State.UNKNOWN | State.REFUSED | State.TAKEN_BACK:
            if wish.attempt == highest.number:
                return RepeatStep(highest.number)
            if now < highest.due_at:
                return Wait(highest.due_at)
            return _start(wish, now, known, after_unknown=highest.state is State.UNKNOWN)
        case State.SETTLED:
            # Its run has ended, which was looked up before.
            return Acknowledge()
        case _:  # pragma: no cover
            assert_never(highest.state)


def _start(wish: Wish, now: float, known: Known, *, after_unknown: bool = False) -> Action:
    if known.standing_run is not None:
        # That a run before it was delivered may be reported while a replay waits for its retry.
        return PublishEnd(known.standing_run)
    if wish.end or wish.late or (after_unknown and not wish.resend):
        return Conclude(after_unknown)
    if now < wish.hold_until:
        return Wait(wish.hold_until)
    return Claim()
