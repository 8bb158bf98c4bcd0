"""What a provider said to one request, in words that are the same for every provider."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Kind(StrEnum):
    """Why something failed. Each kind has one policy (contract, section 6)."""

    THROUGHPUT = "throughput"
    PAIR_LIMIT = "pair_limit"
    QUOTA = "quota"
    USER_LIMIT = "user_limit"
    UNAVAILABLE = "unavailable"
    SENDER_HALTED = "sender_halted"
    TEMPLATE = "template"
    RECIPIENT = "recipient"
    BAD_REQUEST = "bad_request"
    # The kinds below are ours: no single answer of a provider has them.
    UNKNOWN = "unknown"
    EXHAUSTED = "exhausted"
    INVALID_JOB = "invalid_job"
    DELIVERY_LIMIT = "delivery_limit"
    NO_SENDER = "no_sender"
    NO_KEY = "no_key"
    NO_REPORT = "no_report"


@dataclass(frozen=True, slots=True)
class Error:
    """What a result says of a failure; its texts never hold the code or the recipient's number."""

    kind: Kind
    code: int | None = None
    title: str | None = None
    detail: str | None = None
    http_status: int | None = None
    provider_trace_id: str | None = None


@dataclass(frozen=True, slots=True)
class Accepted:
    """The provider took the message. *message_status*: its word for a message that it does not pass on at once."""

    provider_message_id: str
    message_status: str | None = None

    @property
    def held(self) -> bool:
        """Whether it says that it will not pass the message on at once."""
        return self.message_status is not None


@dataclass(frozen=True, slots=True)
class Refused:
    """The provider did not take the message, or the request never reached it.

    *not_before_s*: the provider asked for this pause, or its table does (seconds).
    *max_retries*: how often this may be tried again, where its table says less than the policy would.
    *listed*: whether the table knows the code; somebody should see one that it does not.
    *remedy*: what an operator has to do about it, where it concerns the sender and not one job.
    *outdated*: what it refuses (the token) has been replaced since the request began, so that it concerns nobody else.
    """

    error: Error
    not_before_s: float | None = None
    max_retries: int | None = None
    listed: bool = True
    remedy: str | None = None
    outdated: bool = False


@dataclass(frozen=True, slots=True)
class Unknown:
    """Nobody can tell whether the provider took the message."""

    error: Error


Outcome = Accepted | Refused | Unknown
