"""The result: what became of a job, one event at a time (contract, section 3)."""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum
from typing import Any, Final, Self

import orjson
from pydantic import BaseModel, ConfigDict, ValidationError

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


class ResultError(BaseModel):
    """Why a request failed: *kind* decides what was done about it, *code* is the provider's own."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    kind: str
    code: int | None = None
    title: str | None = None
    detail: str | None = None
    http_status: int | None = None
    provider_trace_id: str | None = None


class UnreadableResult(OtpostError):
    """The message is no result of a version that is known here."""


class OtpResult(BaseModel):
    """One event in the life of a job.

    The same event may come twice after a crash, with the same *event_id*. *at* is when it happened,
    *latency_ms* counts from the job's ``created_at``, and *to* shows only the first and last two digits.
    """

    model_config = ConfigDict(frozen=True, extra="ignore")

    event_id: str
    job_id: str | None
    sender: str
    status: Status
    run: int
    attempt: int
    at: datetime
    provider: str | None = None
    provider_message_id: str | None = None
    to: str | None = None
    ref: dict[str, Any] | None = None
    error: ResultError | None = None
    retry_in_s: float | None = None
    latency_ms: int | None = None

    @property
    def ends_job(self) -> bool:
        """Whether the job's run is over with this event."""
        return self.status.ends_job

    def to_json(self) -> bytes:
        """Encode the result as it travels: UTF-8 JSON, every field present."""
        return orjson.dumps(self.model_dump(), option=orjson.OPT_UTC_Z)

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
