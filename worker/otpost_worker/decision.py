"""What follows from what a provider said (contract, section 6). Expiry beats retry."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Final, assert_never

from otpost_worker.backoff import delay_s
from otpost_worker.outcome import Accepted, Error, Kind, Outcome, Refused, Unknown
from otpost_worker.pacing import LAST_CHANCE_S, probe_pause_s

if TYPE_CHECKING:
    from collections.abc import Mapping

# Trouble that is the sender's and not the job's does not use up the job's attempts.
UNCOUNTED: Final = frozenset({Kind.THROUGHPUT, Kind.QUOTA, Kind.SENDER_HALTED})
# A job whose request had an outdated token: there is a new one to try.
OUTDATED_PAUSE_S: Final = 1.0
# A job comes back from the ladder a little later than asked for, normally at most so much; clocks are read apart, too.
BACK_WITHIN_S: Final = 0.5
PERMANENT: Final = frozenset({Kind.TEMPLATE, Kind.RECIPIENT, Kind.BAD_REQUEST})


@dataclass(frozen=True, slots=True)
class Policy:
    """The knobs of the decision.

    *timeout_s*: the total time one request may take; none starts with less than that before the deadline.
    *max_attempts*: how many counted attempts a job has. *resend_unknown*: whether a job whose request may or may
    not have arrived is sent once more. *unknown_pause_s*: how long to wait before that, for a webhook to settle
    it. *halt_pause_s*: how long at most a job waits after a refusal that concerns all of its sender's jobs.
    *start_tolerance_s*: how much later than booked a request may start.
    """

    timeout_s: float = 5.0
    max_attempts: int = 8
    resend_unknown: bool = True
    unknown_pause_s: float = 5.0
    halt_pause_s: float = 30.0
    start_tolerance_s: float = 0.5

    def latest_start(self, deadline: float) -> float:
        """The last instant at which a request may start, in Unix seconds."""
        return deadline - self.timeout_s


@dataclass(frozen=True, slots=True)
class History:
    """What came before this attempt: *counted* attempts, earlier *failures* by kind."""

    counted: int = 0
    failures: Mapping[Kind, int] = field(default_factory=dict)

    def failures_of(self, kind: Kind) -> int:
        """How many earlier attempts of this run failed for this reason."""
        return self.failures.get(kind, 0)


@dataclass(frozen=True, slots=True)
class Done:
    """The job ends well."""

    accepted: Accepted


@dataclass(frozen=True, slots=True)
class RetryIn:
    """The next attempt comes after *delay_s*; *counted* is what the job has used up by then.

    *announced* is whether the world hears of it: not where nothing may follow but the end.
    """

    delay_s: float
    counted: int
    error: Error
    announced: bool = True


@dataclass(frozen=True, slots=True)
class Halt:
    """As a retry; and none of the sender's other jobs need try for *retry.delay_s*."""

    retry: RetryIn


@dataclass(frozen=True, slots=True)
class Bury:
    """The job ends as a dead letter for *error.kind*."""

    error: Error


@dataclass(frozen=True, slots=True)
class Expire:
    """The deadline comes before anything more could be done; *error* is the last failure, if there was one."""

    error: Error | None


Decision = Done | RetryIn | Halt | Bury | Expire


def decide(
    outcome: Outcome, *, deadline: float, now: float, history: History, policy: Policy, random: float
) -> Decision:
    """Decide what follows from *outcome*; times in Unix seconds, *random* between 0 and 1."""
    match outcome:
        case Accepted():
            return Done(outcome)
        case Refused():
            return _after_refusal(outcome, deadline, now, history, policy, random)
        case Unknown():
            return after_unknown(outcome.error, deadline=deadline, now=now, history=history, policy=policy)
        case _:  # pragma: no cover
            assert_never(outcome)


def _after_refusal(
    refused: Refused, deadline: float, now: float, history: History, policy: Policy, random: float
) -> Decision:
    kind = refused.error.kind
    if kind in PERMANENT:
        return Bury(refused.error)
    before = history.failures_of(kind)
    counted = history.counted + (kind not in UNCOUNTED)
    used_up = refused.max_retries is not None and before >= refused.max_retries
    if used_up or counted >= policy.max_attempts:
        return Bury(replace(refused.error, kind=Kind.EXHAUSTED))
    if kind is Kind.SENDER_HALTED:
        left_s = policy.latest_start(deadline) - now
        wait = OUTDATED_PAUSE_S if refused.outdated else _halt_pause_s(policy, before, left_s)
    else:
        wait = delay_s(kind, before, asked_s=refused.not_before_s, random=random)
    if now + wait > policy.latest_start(deadline):
        return _too_late(refused.error, history)
    retry = RetryIn(wait, counted, refused.error)
    return Halt(retry) if kind is Kind.SENDER_HALTED and not refused.outdated else retry


def _halt_pause_s(policy: Policy, before: int, left_s: float) -> float:
    """Tell how long to wait for a halted sender that has refused this job *before*; *left_s* to its last moment.

    Where there are no other jobs, this one is the next probe as well.
    """
    pause_s = min(policy.halt_pause_s, probe_pause_s(before) + BACK_WITHIN_S)
    last_chance_s = left_s - LAST_CHANCE_S
    return pause_s if pause_s + BACK_WITHIN_S <= left_s or last_chance_s < LAST_CHANCE_S else last_chance_s


def _too_late(error: Error, history: History) -> Decision:
    """End for want of time; but with an attempt behind it that may have arrived, nobody shall read "not sent"."""
    return Bury(replace(error, kind=Kind.UNKNOWN)) if history.failures_of(Kind.UNKNOWN) else Expire(error)


def after_unknown(error: Error, *, deadline: float, now: float, history: History, policy: Policy) -> Decision:
    """Decide what follows where nobody can tell whether the message was taken.

    Not even a deadline that leaves no room makes this ``expired``: the message may have arrived.
    """
    counted = history.counted + 1
    second = history.failures_of(Kind.UNKNOWN) > 0
    room = now + policy.unknown_pause_s <= policy.latest_start(deadline)
    if second or not room or counted >= policy.max_attempts:
        return Bury(replace(error, kind=Kind.UNKNOWN))
    return RetryIn(policy.unknown_pause_s, counted, error, announced=policy.resend_unknown)
