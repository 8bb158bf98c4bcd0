"""What webhooks say of a sender and not of one message [pure]: holds and releases, and what becomes an event."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final

from otpost.errors import InvalidJob
from otpost.event import EventName, SenderEvent
from otpost.job import OtpJob
from otpost.result import ResultError
from otpost_worker.envelope import Defaults
from otpost_worker.outcome import Error, Kind
from otpost_worker.pacing import Lane
from otpost_worker.standing import Heard, Signal, hear_outcome
from otpost_worker.steps import name_concerned
from otpost_worker.updates import AccountChange, ServiceTrouble, TemplateCategory, TemplateStatus

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from otpost_worker.envelope import Envelope
    from otpost_worker.outcome import Refused
    from otpost_worker.updates import ProviderError, Update

# A template in any of these cannot be sent (whatsapp.md, section 4); the others say nothing against it.
CLOSED: Final = frozenset(
    {"PAUSED", "DISABLED", "REJECTED", "LOCKED", "LIMIT_EXCEEDED", "PENDING_DELETION", "DELETED", "ARCHIVED"}
)
OPENED: Final = frozenset({"APPROVED", "REINSTATED", "UNARCHIVED"})
AUTHENTICATION: Final = "AUTHENTICATION"
# That somebody answers was known from the answer itself.
_SAY_NOTHING: Final = frozenset({Signal.NOTHING, Signal.ANSWERED, Signal.UNANSWERED})
_ACCOUNT_REMEDY: Final = "see the account in Meta's WhatsApp Manager and Business Support Home"


@dataclass(frozen=True, slots=True)
class Account:
    """A sender as the provider names it: *account_id* of the WABA, None where it was not configured; *number_id*.

    *defaults*: its template, for jobs that name none.
    """

    sender: str
    account_id: str | None
    number_id: str
    rate: float
    quota: str
    defaults: Defaults = field(default_factory=Defaults)


@dataclass(frozen=True, slots=True)
class Consequence:
    """What follows for one sender: *event* for the world, where what the ledger is to hear is news to it.

    Where it is to hear nothing, the event goes out in any case.
    """

    sender: str
    heard: Heard | None
    event: SenderEvent


def concerned(accounts: Iterable[Account], *, account_id: str | None, number_id: str | None = None) -> list[Account]:
    """Name the senders that a webhook is about.

    A sender whose account was not configured is meant where it is the only one, as it cannot be told from another one.
    """
    known = list(accounts)
    if number_id is not None:
        return [one for one in known if one.number_id == number_id]
    named = [one for one in known if one.account_id is not None and one.account_id == account_id]
    return named or [one for one in known if one.account_id is None and len(known) == 1]


def consequences(
    update: Update, accounts: Iterable[Account], *, now: float, refusal_of: Callable[[ProviderError], Refused]
) -> list[Consequence]:
    """Judge *update*; nothing follows from most of them."""
    match update:
        case TemplateStatus():
            return [
                one
                for account in concerned(accounts, account_id=update.account_id)
                if (one := _of_template(update, account, now)) is not None
            ]
        case TemplateCategory() if update.category != AUTHENTICATION:
            return [_category_changed(update, one, now) for one in concerned(accounts, account_id=update.account_id)]
        case AccountChange(blocked=True, until=float() as until) if until <= now:
            # It comes days late, and is over.
            return []
        case AccountChange(blocked=bool()):
            return [_of_account(update, one, now) for one in concerned(accounts, account_id=update.account_id)]
        case ServiceTrouble():
            refused = refusal_of(update.error)
            if refused.error.kind is not Kind.SENDER_HALTED:
                return []
            senders = concerned(accounts, account_id=update.account_id, number_id=update.number_id)
            return [_halted(one, refused.error, now, said_at=None) for one in senders]
        case _:
            return []


def hear_failure(
    refused: Refused, account: Account, envelope: Envelope, *, claimed_at: float, now: float
) -> Heard | None:
    """Take from a failure that was reported of a job what concerns its sender, as from an answer; None where nothing.

    *envelope*: the job's, with its body where that is kept. *claimed_at*: when its request began.
    """
    try:
        job = OtpJob.parse(envelope.body, now=now, published_at=envelope.published_at)
    except InvalidJob:  # it is not kept: neither its recipient nor its template is known
        job = None
    lane = Lane(
        account.sender,
        account.quota,
        job.to if job else "",
        (job.template if job else None) or account.defaults.template or "",
        (job.language if job else None) or account.defaults.language or "",
        rate=account.rate,
        latest_start=0.0,
        deadline=0.0,
    )
    if refused.error.kind is Kind.SENDER_HALTED:
        refused = replace(refused, remedy=_ACCOUNT_REMEDY)
    heard = hear_outcome(refused, lane, booked_at=claimed_at, started_at=claimed_at, ended_at=now, pair_failures=0)
    unknown_recipient = heard.signal is Signal.PAIR_LIMITED and not lane.recipient
    unknown_template = heard.signal is Signal.TEMPLATE_REFUSED and not lane.template
    return None if heard.signal in _SAY_NOTHING or unknown_recipient or unknown_template else heard


def category_changed(sender: str, error: Error, *, key: str, at: float) -> SenderEvent:
    """Say that a failure which only marketing templates can meet has met one of ours; *key* tells it from others."""
    return SenderEvent(
        event_id=f"{key}/{EventName.CATEGORY_CHANGED}",
        sender=sender,
        name=EventName.CATEGORY_CHANGED,
        at=datetime.fromtimestamp(at, UTC),
        detail="the provider treats the template as MARKETING: see its category in Meta's WhatsApp Manager",
        error=_result_error(error),
    )


def _of_template(update: TemplateStatus, account: Account, now: float) -> Consequence | None:
    at = update.at if update.at is not None else now
    why = "" if update.reason in (None, "NONE") else f" ({update.reason})"
    if update.event in CLOSED:
        error = Error(Kind.TEMPLATE, title=f"The template is {update.event}{why}", detail=update.detail)
        remedy = "see the template in Meta's WhatsApp Manager; another approved one may be named in OTPOST_TEMPLATE"
        heard = Heard(
            _lane(account, update), Signal.TEMPLATE_CLOSED, now, error=error, remedy=remedy, said_at=update.at
        )
        return Consequence(account.sender, heard, _event(account, EventName.HALTED, at, update, error=error))
    if update.event in OPENED:
        heard = Heard(_lane(account, update), Signal.TEMPLATE_OPENED, now, said_at=update.at)
        return Consequence(account.sender, heard, _event(account, EventName.RESUMED, at, update))
    return None


def _category_changed(update: TemplateCategory, account: Account, now: float) -> Consequence:
    at = update.at if update.at is not None else now
    will = "will become" if update.impending else "has become"
    detail = f"its category {will} {update.category}: it is no authentication template any more, and can be held back"
    return Consequence(account.sender, None, _event(account, EventName.CATEGORY_CHANGED, at, update, detail=detail))


def _of_account(update: AccountChange, account: Account, now: float) -> Consequence:
    at = update.at if update.at is not None else now
    if update.blocked:
        error = Error(Kind.SENDER_HALTED, title=f"The account is blocked: {update.event}", detail=update.detail)
        return _halted(account, error, now, said_at=update.at)
    heard = Heard(_lane(account), Signal.ANSWERED, now, said_at=update.at)
    return Consequence(account.sender, heard, _event(account, EventName.RESUMED, at))


def _halted(account: Account, error: Error, now: float, *, said_at: float | None) -> Consequence:
    heard = Heard(_lane(account), Signal.SENDER_REFUSED, now, error=error, remedy=_ACCOUNT_REMEDY, said_at=said_at)
    at = now if said_at is None else said_at
    return Consequence(account.sender, heard, _event(account, EventName.HALTED, at, error=error))


def _lane(account: Account, of: TemplateStatus | None = None) -> Lane:
    """Name the sender, and the template where it is about one; nothing is sent on it."""
    template, language = (of.template, of.language) if of else ("", "")
    return Lane(
        account.sender, account.quota, "", template, language, rate=account.rate, latest_start=0.0, deadline=0.0
    )


def _event(
    account: Account,
    name: EventName,
    at: float,
    of: TemplateStatus | TemplateCategory | None = None,
    *,
    detail: str | None = None,
    error: Error | None = None,
) -> SenderEvent:
    about = name_concerned(account.sender, of.template if of else None, of.language if of else None)
    return SenderEvent(
        # By the provider's time, so that the same webhook once more is the same event.
        event_id=f"{about}/{name}/{round(at * 1000)}",
        sender=account.sender,
        name=name,
        at=datetime.fromtimestamp(at, UTC),
        template=of.template if of else None,
        language=of.language if of else None,
        detail=detail,
        error=_result_error(error) if error else None,
    )


def _result_error(error: Error) -> ResultError:
    return ResultError(
        kind=error.kind.value,
        code=error.code,
        title=error.title,
        detail=error.detail,
        http_status=error.http_status,
        provider_trace_id=error.provider_trace_id,
    )
