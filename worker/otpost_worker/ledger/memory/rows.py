"""What the ledger in memory keeps of a job."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from otpost_worker.attempts import State
from otpost_worker.envelope import Step
from otpost_worker.ports import REMEMBERED_AFTER_DEADLINE_S, Recorded
from otpost_worker.stories import AttemptStory

if TYPE_CHECKING:
    from collections.abc import Mapping

    from otpost_worker.envelope import Envelope
    from otpost_worker.outcome import Kind
    from otpost_worker.standing import News
    from otpost_worker.stories import Hearing, Report


@dataclass(slots=True)
class KnownAttempt:
    """One attempt; *told* is what its outcome changed about the sender."""

    number: int
    token: str
    claimed_at: float
    lease_until: float | None
    start_at: float
    probe: bool
    state: State = State.CLAIMED
    kind: Kind | None = None
    due_at: float | None = None
    step: Step | None = None
    provider_message_id: str | None = None
    recorded_at: float | None = None
    told: tuple[News, ...] = ()
    reports: Mapping[Hearing, Report] = field(default_factory=dict)

    def story(self) -> AttemptStory:
        """Tell it."""
        return AttemptStory(
            self.number,
            self.state,
            self.kind,
            self.claimed_at,
            self.recorded_at,
            self.lease_until,
            self.due_at,
            self.provider_message_id,
            self.step,
            self.reports,
            self.probe,
        )


@dataclass(slots=True)
class KnownRun:
    """One run; its envelope is without its body once nothing can need it any more."""

    envelope: Envelope
    forget_at: float
    end: Step | None = None
    ended_at: float | None = None
    buried: bool = False
    undelivered: bool = False
    delivered: bool = False
    # Until when the body is kept although the run has ended, for what was accepted may be taken back.
    kept_until: float | None = None
    attempts: dict[int, KnownAttempt] = field(default_factory=dict)

    @property
    def stands(self) -> bool:
        """Whether it has ended as accepted, and was not given up after that; or was delivered all the same."""
        accepted = bool(self.end and self.end.event and self.end.event.status == "accepted")
        return self.end is not None and (self.delivered or (accepted and not self.undelivered))

    @property
    def highest(self) -> KnownAttempt | None:
        """Its last attempt."""
        return self.attempts[max(self.attempts)] if self.attempts else None

    def recorded_end(self) -> Recorded:
        """Give its end, without the dead letter where that is noted."""
        assert self.end is not None  # noqa: S101 - asked of runs that have ended
        return self.recorded(Step(self.end.event) if self.buried else self.end)

    def recorded(self, step: Step) -> Recorded:
        """Give *step* to be published, with the body where it needs one."""
        needs_body = step.letter is not None or not step.ends_job
        return Recorded(replace(self.envelope, body=self.body if needs_body else b""), step)

    @property
    def body(self) -> bytes:
        """The body as the way of the job needs it: what is kept after that is for reports alone."""
        return self.envelope.body if self.kept_until is None else b""

    def finish(self, step: Step, now: float, kept: bytes = b"") -> None:
        """Keep its end; the body goes with it, unless its dead letter may still have to be written."""
        self.end, self.ended_at = step, now
        if kept:
            self.keep_body(kept, now)
        elif step.letter is None:
            self.forget_body()

    def keep_body(self, body: bytes, now: float) -> None:
        """Keep *body* in place of the job's own, until the deadline; nothing where it is empty, or that is over."""
        self.envelope = replace(self.envelope, body=body)
        self.kept_until = self.forget_at - REMEMBERED_AFTER_DEADLINE_S
        self.forget_late_body(now)
        if not body:
            self.kept_until = None

    def forget_body(self) -> None:
        """Nothing can need it any more."""
        self.envelope, self.kept_until = replace(self.envelope, body=b""), None

    def forget_late_body(self, now: float) -> None:
        """Let go of what is kept until the deadline, when that is over."""
        if self.kept_until is not None and self.kept_until <= now:
            self.forget_body()

    def told_at(self, now: float) -> Envelope:
        """Give the envelope as it is at *now*."""
        over = self.kept_until is not None and self.kept_until <= now
        return replace(self.envelope, body=b"") if over else self.envelope

    def without_body(self) -> KnownRun:
        """Give everything else of it."""
        return replace(self, envelope=replace(self.envelope, body=b""), kept_until=None)
