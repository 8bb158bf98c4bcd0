"""What the provider reports by webhook, in a closed union [pure]; ``webhook_bodies`` reads it out of the bodies."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


@dataclass(frozen=True, slots=True)
class Posted:
    """What the provider has posted, as it came; the ``repr`` hides it.

    *token* tells it from everything else that is posted, and is the same when it comes back; *tries*: how often it did.
    *only*: which of its updates are left to be seen to, from 0 on; none named are all of them.
    """

    body: bytes
    token: str
    tries: int = 0
    only: tuple[int, ...] = ()

    def __repr__(self) -> str:
        """Everything that holds no number."""
        return f"Posted({len(self.body)} bytes not shown, token={self.token!r}, tries={self.tries})"


class Reported(StrEnum):
    """What a report says became of a message that the provider took."""

    SENT = "sent"
    DELIVERED = "delivered"
    READ = "read"
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class ProviderError:
    """What the provider says of a failure; the texts never hold a code or a whole number."""

    code: int | None
    title: str | None = None
    detail: str | None = None


@dataclass(frozen=True, slots=True)
class MessageReport:
    """What became of one message.

    *message_id*: the provider's (the wamid). *callback*: our own word for the attempt, as it travelled in
    ``biz_opaque_callback_data``. At least one of the two is there. *at*: when it happened by the provider's clock, in
    Unix seconds; None where the report does not say. *error*: of a ``failed``, and None where even that one gives none.
    *number_id*: the business number's id.
    """

    status: Reported
    message_id: str | None
    callback: str | None
    at: float | None
    error: ProviderError | None = None
    number_id: str | None = None


@dataclass(frozen=True, slots=True)
class NotRequested:
    """Somebody who got a code says that they did not ask for it: *message_id* is the message with that code."""

    message_id: str
    at: float | None
    number_id: str | None = None


@dataclass(frozen=True, slots=True)
class TemplateStatus:
    """A template changed its status: *event* as the provider writes it, in capitals (APPROVED, PAUSED, DISABLED …).

    *reason*: in capitals too (INVALID_FORMAT, FIRST_PAUSE …). *detail*: what else is said, such as the day on which
    the template will be disabled, or what an author should change.
    """

    account_id: str | None
    template: str
    language: str
    event: str
    reason: str | None
    at: float | None
    detail: str | None = None


@dataclass(frozen=True, slots=True)
class TemplateCategory:
    """A template's category has changed, or is about to (*impending*): *category* is what it becomes, in capitals."""

    account_id: str | None
    template: str
    language: str
    category: str
    impending: bool
    at: float | None


@dataclass(frozen=True, slots=True)
class TemplateQuality:
    """A template's quality: GREEN, YELLOW, RED or UNKNOWN."""

    account_id: str | None
    template: str
    language: str
    quality: str
    at: float | None


@dataclass(frozen=True, slots=True)
class AccountChange:
    """Something about the account (WABA) as a whole.

    *blocked*: whether it may not send any more, or (False) may again; None where nothing is said of that. *event* is
    the provider's word in capitals, *detail* what else is known. *grave*: an operator should see to it, before it
    becomes a block. *until*: when a block ends by itself, in Unix seconds;
    None where nobody says. No webhook tells of such an end, and the one that tells of the block may come days later.
    """

    account_id: str | None
    event: str
    blocked: bool | None
    detail: str | None
    at: float | None
    until: float | None = None
    grave: bool = False


@dataclass(frozen=True, slots=True)
class NumberChange:
    """Something about one business number, by its *display_number*: *event* such as THROUGHPUT_UPGRADE, FLAGGED.

    *grave*: an operator should see to it; False where it is good, or takes back what was not; None where it is neither.
    """

    account_id: str | None
    display_number: str | None
    event: str
    detail: str | None
    at: float | None
    grave: bool | None = None


@dataclass(frozen=True, slots=True)
class ServiceTrouble:
    """An error of the system, the app or the account, which belongs to no message."""

    account_id: str | None
    number_id: str | None
    error: ProviderError


@dataclass(frozen=True, slots=True)
class Preference:
    """A user's wish about marketing messages; it never concerns one-time passwords, and is counted alone."""

    value: str


@dataclass(frozen=True, slots=True)
class Ignored:
    """Something of no use here, or not known: *what* names its kind, in words that no stranger chooses freely."""

    what: str


# What concerns an account and its senders, and no single message.
OfAccount = TemplateStatus | TemplateCategory | TemplateQuality | AccountChange | NumberChange | ServiceTrouble
Update = MessageReport | NotRequested | OfAccount | Preference | Ignored
