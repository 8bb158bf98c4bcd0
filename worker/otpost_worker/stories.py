"""What the ledger tells of a job, and what is written into it when the provider reports more of it [pure]."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING

from otpost.result import Status

if TYPE_CHECKING:
    from collections.abc import Mapping

    from otpost_worker.attempts import State
    from otpost_worker.envelope import Envelope, Step
    from otpost_worker.outcome import Error, Kind


class Hearing(StrEnum):
    """What can be heard of an attempt beside the answer to its request."""

    SETTLED = "settled"  # a report told that it was taken, before or in place of the answer
    SENT = "sent"
    DELIVERED = "delivered"
    READ = "read"
    FAILED = "failed"
    UNDELIVERED = "undelivered"  # what we concluded: of a failure, or of silence


@dataclass(frozen=True, slots=True)
class Report:
    """What was heard: *at* by the provider's clock, in Unix seconds.

    *token* tells the message that brought it first from every other one: the same message once more, after a crash, has
    its events published once more, and a copy has not. *error*: of a failure. *told*: the event that the world heard
    of it, as JSON, where that could not be written in the same words once more.
    """

    at: float
    token: str
    error: Error | None = None
    told: str | None = None


@dataclass(frozen=True, slots=True)
class AttemptStory:
    """One attempt as the ledger has it; times in Unix seconds, None where there is none.

    *reports*: what was heard of it after the provider's answer, or in its place. *probe*: its sender or template was
    held, and it was to find out whether that can end.
    """

    attempt: int
    state: State
    kind: Kind | None
    claimed_at: float
    recorded_at: float | None
    lease_until: float | None
    due_at: float | None
    provider_message_id: str | None
    step: Step | None
    reports: Mapping[Hearing, Report] = field(default_factory=dict)
    probe: bool = False


@dataclass(frozen=True, slots=True)
class RunStory:
    """One run of a job: its *end* once it has one, and its attempts in order.

    *envelope* has no body. *buried*: its dead letter is confirmed. *turn*: when its recipient's turn comes.
    *undelivered*: the provider, which had accepted it, gave it up; such a run does not stand accepted. *delivered*: a
    delivery of one of its attempts was reported, whatever it has ended with.
    """

    run: int
    envelope: Envelope
    ended_at: float | None
    end: Step | None
    buried: bool
    forget_at: float
    turn: float | None
    attempts: tuple[AttemptStory, ...]
    undelivered: bool = False
    delivered: bool = False

    @property
    def stands(self) -> bool:
        """Whether it has ended as accepted, and was not given up after that; or was delivered all the same."""
        ended = self.end.event.status if self.end and self.end.event else None
        return self.end is not None and (self.delivered or (ended == Status.ACCEPTED and not self.undelivered))


@dataclass(frozen=True, slots=True)
class JobStory:
    """A job as the ledger has it, to be amended; the envelopes of its *runs* have their bodies, where those are kept.

    *version* is another one after every write to the job, but for what becomes of its bodies.
    """

    job_id: str
    runs: tuple[RunStory, ...]
    version: str


@dataclass(frozen=True, slots=True)
class AttemptChange:
    """What becomes of an attempt that had another outcome, or none; *step* where it does not end its run."""

    state: State
    kind: Kind | None = None
    step: Step | None = None


@dataclass(frozen=True, slots=True)
class Amendment:
    """What a report changes about *attempt* of *run*, and about the run.

    *reports*: all of the attempt's from now on. *message_id*: the provider's, kept where none is known. *end*: of the
    run from now on; or *reopened*: it has none any more. *undelivered*, *delivered*: see ``RunStory``. *body*: what is
    kept of it from now on, b"" for nothing; None leaves it as it is.
    """

    run: int
    attempt: int
    reports: Mapping[Hearing, Report]
    message_id: str | None = None
    change: AttemptChange | None = None
    end: Step | None = None
    reopened: bool = False
    undelivered: bool = False
    delivered: bool = False
    body: bytes | None = None

    @property
    def needs_body(self) -> bool:
        """Whether the job is sent once more, or buried: then its body has to last beyond the deadline."""
        return self.reopened or (self.end is not None and self.end.letter is not None)
