"""A job on its way: its body as the producer wrote it, and what travels beside it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Self

import orjson

from otpost.errors import InvalidJob, Problem
from otpost.job import CLOCK_SLACK_S, MAX_LIFETIME_S, OtpJob, decode_object, is_job_id
from otpost.topology import HEADER_DEADLINE

if TYPE_CHECKING:
    from datetime import datetime

# No queue of ours may be told to anybody as a place for replies: a reply there would be taken for a job.
RESERVED_PREFIX: Final = "otpost."


@dataclass(frozen=True, slots=True)
class Reply:
    """Where the caller wants each result as well: a queue, and its own word for the job."""

    queue: str
    correlation_id: str | None


@dataclass(frozen=True, slots=True)
class Envelope:
    """One copy of a job between two queues.

    *attempt* is the attempt that this copy is to become, *counted* how many before it count toward the limit,
    *drops* how often the broker gave it up. *deadline* (Unix seconds) overrides the body's, after a replay.
    *published_at* is the AMQP timestamp, which may be the only thing that tells the job's age. The ``repr``
    hides the body, which holds the code.
    """

    body: bytes
    sender: str
    run: int = 1
    attempt: int = 1
    counted: int = 0
    drops: int = 0
    deadline: float | None = None
    reply: Reply | None = None
    traceparent: str | None = None
    published_at: datetime | None = None

    def __repr__(self) -> str:
        """Everything that is no secret."""
        return (
            f"Envelope(sender={self.sender!r}, run={self.run}, attempt={self.attempt}, "
            f"{len(self.body)} bytes not shown)"
        )


@dataclass(frozen=True, slots=True)
class Parcel:
    """A readable job with its envelope; *deadline* in Unix seconds is the one that counts."""

    job: OtpJob
    envelope: Envelope
    template: str
    language: str

    @property
    def deadline(self) -> float:
        """After this instant the code is never sent."""
        return self.envelope.deadline or self.job.deadline

    @property
    def hold_until(self) -> float:
        """Before this instant the job does not want to be sent; 0 where it does not mind."""
        return self.job.not_before.timestamp() if self.job.not_before else 0.0


@dataclass(frozen=True, slots=True)
class Defaults:
    """What a sender fills in for a job that leaves it out."""

    template: str | None = None
    language: str | None = None


@dataclass(frozen=True, slots=True)
class Unreadable:
    """A body that is no job: *problems* in words, and the id it gives itself, if it can be one."""

    envelope: Envelope
    problems: tuple[Problem, ...]
    job_id: str | None


def open_envelope(envelope: Envelope, defaults: Defaults, *, now: float) -> Parcel | Unreadable:
    """Read the job inside; *now* in Unix seconds is the worker's clock."""
    try:
        job = OtpJob.parse(envelope.body, now=now, published_at=envelope.published_at)
    except InvalidJob as error:
        return Unreadable(envelope, error.problems, readable_id(envelope.body))
    template, language = job.template or defaults.template, job.language or defaults.language
    problems = [
        *(
            []
            if template
            else [Problem("template", "is required: this sender has no default (OTPOST_TEMPLATE); name one in the job")]
        ),
        *(
            []
            if language
            else [Problem("language", "is required: this sender has no default (OTPOST_LANGUAGE); name one in the job")]
        ),
        *_reply_problems(envelope.reply),
        *_deadline_problems(envelope.deadline, now),
    ]
    if problems or template is None or language is None:
        return Unreadable(envelope, tuple(problems), job.id)
    return Parcel(job, envelope, template, language)


def _reply_problems(reply: Reply | None) -> list[Problem]:
    if reply is None or not reply.queue.startswith(RESERVED_PREFIX):
        return []
    return [Problem("reply_to", f"(AMQP property) may not begin with {RESERVED_PREFIX!r}: name a queue of your own")]


def _deadline_problems(deadline: float | None, now: float) -> list[Problem]:
    """What a replay gives lives no longer than a job may; whoever can publish could write anything here."""
    if deadline is None or deadline <= now + MAX_LIFETIME_S + CLOCK_SLACK_S:
        return []
    rule = f"(AMQP header) must be at most {MAX_LIFETIME_S:g} s from now; only 'otpost dead replay --ttl' writes it"
    return [Problem(HEADER_DEADLINE, rule)]


def readable_id(body: bytes) -> str | None:
    """Read the id off a body, however broken the rest of it is; None where there is none that can be one."""
    try:
        job_id: Any = decode_object(body).get("id")
    except InvalidJob:
        return None
    return job_id if is_job_id(job_id) else None


@dataclass(frozen=True, slots=True)
class Event:
    """A result, ready to be published: *id* tells the same event from another one."""

    id: str
    status: str
    body: bytes

    @property
    def ends_job(self) -> bool:
        """Whether the run is over with this."""
        return self.status in ("accepted", "failed", "expired")


@dataclass(frozen=True, slots=True)
class Next:
    """The next attempt: its number, what it has used up, and when it is due (Unix seconds)."""

    attempt: int
    counted: int
    due_at: float


@dataclass(frozen=True, slots=True)
class Letter:
    """What a dead letter says beside the job: the reason and the error, as JSON, and when it died (RFC 3339)."""

    reason: str
    error: str
    attempt: int
    died_at: str


@dataclass(frozen=True, slots=True)
class Watch:
    """At *due_at* (Unix seconds) it is looked whether a delivery of this attempt was reported."""

    run: int
    attempt: int
    due_at: float


@dataclass(frozen=True, slots=True)
class Step:
    """What follows from an outcome. Recorded before it is taken, so that a crash repeats it unchanged.

    *fingerprint*: of a body that is no job and ends like this; it tells the body from others when it is gone.
    *is_of_a_stranger*: it buries a copy whose id belongs to another job, of which nothing is noted.
    """

    event: Event | None
    next: Next | None = None
    letter: Letter | None = None
    fingerprint: str | None = None
    watch: Watch | None = None
    is_of_a_stranger: bool = False

    @property
    def ends_job(self) -> bool:
        """Whether the run is over with this."""
        return self.event is not None and self.event.ends_job

    def is_of(self, fingerprint: str | None) -> bool:
        """Tell whether it is the end of the body that is no job with this *fingerprint*."""
        return fingerprint is not None and self.fingerprint == fingerprint

    def to_json(self) -> bytes:
        """Encode the step for the ledger. It holds neither the code nor a full number."""
        return orjson.dumps(self, default=bytes.decode, option=orjson.OPT_PASSTHROUGH_SUBCLASS)

    @classmethod
    def from_json(cls, data: bytes) -> Self:
        """Decode what ``to_json`` encoded."""
        fields = orjson.loads(data)
        event, following, letter, watch = fields["event"], fields["next"], fields["letter"], fields.get("watch")
        return cls(
            Event(event["id"], event["status"], event["body"].encode()) if event else None,
            Next(**following) if following else None,
            Letter(**letter) if letter else None,
            fields.get("fingerprint"),
            Watch(**watch) if watch else None,
        )
