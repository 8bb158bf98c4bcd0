"""The result: what became of a job, one event at a time (contract, section 3)."""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum
from typing import Annotated, Any, Final, Self

import orjson
from pydantic import BaseModel, ConfigDict, Field, ValidationError, WithJsonSchema

from otpost.errors import OtpostError

RESULT_TYPE: Final = "otpost.result.v1"
EVENT_TYPE: Final = "otpost.event.v1"


class Status(StrEnum):
    """What an event says of its job."""

    ACCEPTED = "accepted"
    RETRYING = "retrying"
    FAILED = "failed"
    EXPIRED = "expired"
    SENT = "sent"
    DELIVERED = "delivered"
    READ = "read"
    UNDELIVERED = "undelivered"

    @property
    def ends_job(self) -> bool:
        """Whether this is the one end of the job's run."""
        return self in _ENDS


_ENDS: Final = frozenset({Status.ACCEPTED, Status.FAILED, Status.EXPIRED})


# What is published is narrower than what is read: another version may write its times and ids otherwise.
_AT: Final = WithJsonSchema({"type": "string", "format": "date-time", "pattern": r"Z$"})
_COUNT: Final = WithJsonSchema({"type": "integer", "minimum": 1})
_MASKED: Final = WithJsonSchema({"type": "string", "pattern": r"^[0-9]{2}\*{3,11}[0-9]{2}$"})


class ResultError(BaseModel):
    """Why a request failed: *kind* decides what was done about it, *code* is the provider's own."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    kind: str = Field(description="What went wrong, in one word that never changes its meaning; more may be added.")
    code: int | None = Field(default=None, description="The provider's own number.")
    title: str | None = Field(default=None, description="The provider's or our own short text.")
    detail: str | None = Field(default=None, description="What else was said.")
    http_status: int | None = Field(default=None, description="Of the provider's answer.")
    provider_trace_id: str | None = Field(default=None, description="What the provider's support asks for.")


class UnreadableResult(OtpostError):
    """The message is no result of a version that is known here."""


class OtpResult(BaseModel):
    """One event in the life of a job.

    The same event may come twice after a crash, with the same *event_id*. *at* is when it happened,
    *latency_ms* counts from the job's ``created_at``, and *to* shows only the first and last two digits.
    """

    model_config = ConfigDict(frozen=True, extra="ignore")

    event_id: str = Field(description="The same for a copy of the same event: forget what you have seen already.")
    job_id: str | None = Field(description="The job's id; null where its body held none that can be read.")
    sender: str = Field(description="The sender that the job was published for.")
    status: Status = Field(description="accepted, failed and expired end the job's run; the others tell more of it.")
    run: Annotated[int, _COUNT] = Field(description="1, and one more for each time that a dead letter was replayed.")
    attempt: Annotated[int, _COUNT] = Field(description="Which attempt of the run.")
    at: Annotated[datetime, _AT] = Field(description="When it happened, in UTC.")
    provider: str | None = Field(default=None, description="Who was asked; null where nobody was.")
    provider_message_id: str | None = Field(default=None, description="The provider's id: the wamid.")
    to: Annotated[str, _MASKED] | None = Field(default=None, description="The number, all but four digits hidden.")
    ref: dict[str, Any] | None = Field(default=None, description="The job's own ref.")
    error: ResultError | None = Field(default=None, description="Why it is retrying, failed, expired or undelivered.")
    retry_in_s: float | None = Field(default=None, description="Seconds until the next attempt of a retrying job.")
    latency_ms: int | None = Field(default=None, description="Milliseconds since the job's created_at.")
    message_status: str | None = Field(
        default=None,
        description="What the provider said beside taking the message, such as held_for_quality_assessment; there only "
        "where it is not just 'accepted'.",
    )

    @property
    def ends_job(self) -> bool:
        """Whether the job's run is over with this event."""
        return self.status.ends_job

    def to_json(self) -> bytes:
        """Encode the result as it travels: UTF-8 JSON, every field present but an empty *message_status*."""
        left_out = set() if self.message_status else {"message_status"}
        return orjson.dumps(self.model_dump(exclude=left_out), option=orjson.OPT_UTC_Z)

    @classmethod
    def parse(cls, body: bytes) -> Self:
        """Decode a result; fields that are not known yet are ignored.

        :raises UnreadableResult: the body is no result.
        """
        try:
            return cls.model_validate(orjson.loads(body))
        except (orjson.JSONDecodeError, ValidationError):
            reason = "the message is no otpost.result.v1: is something else bound to this queue or stream?"
        raise UnreadableResult(reason)


def mask_number(number: str) -> str:
    """Hide a phone number but for its first two and last two digits."""
    digits = number.removeprefix("+")
    return digits[:2] + "*" * (len(digits) - 4) + digits[-2:]
