"""What webhooks say of a sender and not of one message [pure]: holds and releases, and what becomes an event."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final, assert_never

from otpost.errors import InvalidJob
from otpost.event import EventName, SenderEvent
from otpost.job import OtpJob
from otpost.result import mask_number
from otpost_worker.envelope import Defaults
from otpost_worker.outcome import Error, Kind
from otpost_worker.pacing import Lane
from otpost_worker.standing import Heard, Said, Signal, Topic, hear_outcome
from otpost_worker.steps import name_concerned, result_error
from otpost_worker.updates import (
    AccountChange,
    NumberChange,
    ServiceTrouble,
    TemplateCategory,
    TemplateQuality,
    TemplateStatus,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from otpost_worker.envelope import Envelope
    from otpost_worker.outcome import Refused
    from otpost_worker.updates import OfAccount, ProviderError, Update

    _OfTemplate = TemplateStatus | TemplateCategory | TemplateQuality

# A template in any of these cannot be sent (whatsapp.md, section 4); the others say nothing against it.
CLOSED: Final = frozenset(
    {"PAUSED", "DISABLED", "REJECTED", "LOCKED", "LIMIT_EXCEEDED", "PENDING_DELETION", "DELETED", "ARCHIVED"}
)
OPENED: Final = frozenset({"APPROVED", "REINSTATED", "UNARCHIVED"})
# It can still be sent, and will be disabled unless its quality gets better.
WARNED: Final = frozenset({"FLAGGED"})
# The receiver may have been down for an hour, and the provider repeats itself for days.
FRESH_S: Final = 300.0
AUTHENTICATION: Final = "AUTHENTICATION"
_OF_SENDERS: Final = frozenset({Signal.SENDER_REFUSED, Signal.THROTTLED, Signal.QUOTA})
# That somebody answers was known from the answer itself.
_SAY_NOTHING: Final = frozenset({Signal.NOTHING, Signal.ANSWERED, Signal.UNANSWERED})
_BAD_QUALITY: Final = frozenset({"RED", "LOW"})
_PIN: Final = "PIN_"
_TEMPLATE_REMEDY: Final = (
    "see the template in Meta's WhatsApp Manager; another approved one may be named in OTPOST_TEMPLATE"
)
_ACCOUNT_REMEDY: Final = "see the account in Meta's WhatsApp Manager and Business Support Home"
_REMEDIES: Final = {Kind.SENDER_HALTED: _ACCOUNT_REMEDY, Kind.TEMPLATE: _TEMPLATE_REMEDY}


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
    """What follows for one sender: *event* for the world, and what its ledger is to hear, if anything.

    Where a hold begins or ends with it, the event goes out only if that was news to the ledger. Without an *event* it
    is that of the news.
    """

    sender: str
    heard: Heard | None
    event: SenderEvent | None

    @property
    def holds_or_releases(self) -> bool:
        """Whether it can begin or end a hold."""
        return self.heard is not None and self.heard.signal is not Signal.NOTED

    @property
    def is_grave(self) -> bool:
        """Whether an operator should see to it, although it holds nothing."""
        return self.heard is not None and self.heard.said is not None and self.heard.said.notice is not None


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
    """Judge *update*; nothing follows from those that concern no sender."""
    match update:
        case ServiceTrouble(account_id, number_id):
            senders = concerned(accounts, account_id=account_id, number_id=number_id)
            found = (_troubled(refusal_of(update.error), one, now) for one in senders)
            return [one for one in found if one is not None]
        case TemplateStatus() | TemplateCategory() | TemplateQuality() | NumberChange() | AccountChange():
            found = (_judge(update, one, now) for one in concerned(accounts, account_id=update.account_id))
            return [one for one in found if one is not None]
        case _:
            return []


def concerns_nobody(update: OfAccount, accounts: Iterable[Account]) -> bool:
    """Tell whether *update* is about none of *accounts*."""
    number_id = update.number_id if isinstance(update, ServiceTrouble) else None
    return not concerned(accounts, account_id=update.account_id, number_id=number_id)


def _troubled(refused: Refused, account: Account, now: float) -> Consequence | None:
    """Judge trouble that belongs to no message: as if an answer had told it, where it concerns the sender at all."""
    refused = replace(refused, remedy=_REMEDIES.get(refused.error.kind, refused.remedy))
    lane = _lane(account)
    heard = hear_outcome(refused, lane, booked_at=now, started_at=now, ended_at=now, pair_failures=0)
    if heard.signal not in _OF_SENDERS:
        return None
    return Consequence(account.sender, replace(heard, by_report=True), None)


def _judge(
    update: TemplateStatus | TemplateCategory | TemplateQuality | NumberChange | AccountChange,
    account: Account,
    now: float,
) -> Consequence | None:
    match update:
        case TemplateStatus():
            return _of_template(update, account, now)
        case TemplateCategory():
            return _category_changed(update, account, now)
        case TemplateQuality():
            return _quality_changed(update, account, now, update.quality, grave=update.quality in _BAD_QUALITY)
        case NumberChange():
            return _number_changed(update, account, now)
        case AccountChange():
            return _of_account(update, account, now)
        case _:  # pragma: no cover
            assert_never(update)


def hear_failure(
    refused: Refused, account: Account, envelope: Envelope, *, claimed_at: float, at: float, now: float
) -> Heard | None:
    """Take from a failure that was reported of a job what concerns its sender, as from an answer; None where nothing.

    *envelope*: the job's, with its body where that is kept. *claimed_at*: when its request began. *at*: when it failed;
    what comes late says nothing of how the sender is doing now.
    """
    if now - at > FRESH_S:
        return None
    lane = _lane_of_job(account, envelope, now)
    refused = replace(refused, remedy=_REMEDIES.get(refused.error.kind, refused.remedy))
    heard = hear_outcome(refused, lane, booked_at=claimed_at, started_at=claimed_at, ended_at=now, pair_failures=0)
    unknown_recipient = heard.signal is Signal.PAIR_LIMITED and not lane.recipient
    unknown_template = heard.signal is Signal.TEMPLATE_REFUSED and not lane.template
    if heard.signal in _SAY_NOTHING or unknown_recipient or unknown_template:
        return None
    return replace(heard, by_report=True)


def hear_success(account: Account, envelope: Envelope, *, claimed_at: float, now: float) -> Heard:
    """Take from the report that a message went out what it says of its sender: more than the answer had."""
    lane = _lane_of_job(account, envelope, now)
    # Of an unknown template nothing is said.
    signal = Signal.ACCEPTED if lane.template else Signal.ANSWERED
    return Heard(lane, signal, claimed_at, by_report=True)


def note_category(error: Error, account: Account, envelope: Envelope, *, at: float, now: float) -> Heard | None:
    """Take from a failure that only marketing templates can meet what an operator should know of the job's template.

    None where that is not known any more.
    """
    lane = _lane_of_job(account, envelope, now)
    notice = f"a message failed with {error.code}, which only MARKETING templates can meet: see its category"
    return Heard(lane, Signal.NOTED, now, said=Said(Topic.CATEGORY, at, notice)) if lane.template else None


def _lane_of_job(account: Account, envelope: Envelope, now: float) -> Lane:
    try:
        job = OtpJob.parse(envelope.body, now=now, published_at=envelope.published_at)
    except InvalidJob:  # it is not kept: neither its recipient nor its template is known
        job = None
    return Lane(
        account.sender,
        account.quota,
        job.to if job else "",
        (job.template if job else None) or account.defaults.template or "",
        (job.language if job else None) or account.defaults.language or "",
        rate=account.rate,
        latest_start=0.0,
        deadline=0.0,
    )


def category_changed(sender: str, error: Error, *, key: str, at: float) -> SenderEvent:
    """Say that a failure which only marketing templates can meet has met one of ours; *key* tells it from others."""
    return SenderEvent(
        event_id=f"{key}/{EventName.CATEGORY_CHANGED}",
        sender=sender,
        name=EventName.CATEGORY_CHANGED,
        at=datetime.fromtimestamp(at, UTC),
        detail="the provider treats the template as MARKETING: see its category in Meta's WhatsApp Manager",
        error=result_error(error),
    )


def _of_template(update: TemplateStatus, account: Account, now: float) -> Consequence | None:
    at, about = update.at if update.at is not None else now, update.event.lower()
    why = "" if update.reason in (None, "NONE") else f" ({update.reason})"
    if update.event in CLOSED:
        error = Error(Kind.TEMPLATE, title=f"The template is {update.event}{why}", detail=update.detail)
        remedy = _TEMPLATE_REMEDY
        said = Said(Topic.STATUS, at)
        heard = Heard(_lane(account, update), Signal.TEMPLATE_CLOSED, now, error=error, remedy=remedy, said=said)
        return Consequence(
            account.sender, heard, _event(account, EventName.HALTED, at, update, about=about, error=error)
        )
    if update.event in OPENED:
        heard = Heard(_lane(account, update), Signal.TEMPLATE_OPENED, now, said=Said(Topic.STATUS, at), by_report=True)
        return Consequence(account.sender, heard, _event(account, EventName.RESUMED, at, update, about=about))
    if update.event in WARNED:
        words = _words(f"{update.event}{why}", update.detail)
        return _quality_changed(update, account, now, words, grave=True)
    return None


def _category_changed(update: TemplateCategory, account: Account, now: float) -> Consequence:
    at = update.at if update.at is not None else now
    will = "will become" if update.impending else "has become"
    detail = f"its category {will} {update.category}"
    grave = update.category != AUTHENTICATION
    if grave:
        detail += ": it is no authentication template any more, and can be held back"
    said = Said(Topic.CATEGORY, at, detail if grave else None)
    heard = Heard(_lane(account, update), Signal.NOTED, now, said=said)
    about = "impending" if update.impending else "done"
    event = _event(account, EventName.CATEGORY_CHANGED, at, update, about=about, detail=detail)
    return Consequence(account.sender, heard, event)


def _quality_changed(
    update: TemplateQuality | TemplateStatus, account: Account, now: float, words: str, *, grave: bool
) -> Consequence:
    at = update.at if update.at is not None else now
    detail = f"its quality is {words}" + (": it may be paused or disabled" if grave else "")
    said = Said(Topic.QUALITY, at, detail if grave else None)
    heard = Heard(_lane(account, update), Signal.NOTED, now, said=said)
    event = _event(account, EventName.QUALITY_CHANGED, at, update, detail=detail)
    return Consequence(account.sender, heard, event)


def _number_changed(update: NumberChange, account: Account, now: float) -> Consequence:
    at = update.at if update.at is not None else now
    digits = "".join(one for one in update.display_number or "" if one.isdecimal())
    detail = _words(f"number {mask_number(digits)}" if digits else "a number", update.event, update.detail)
    event, ends = update.event.lower(), digits[-4:]
    # What was done to its PIN is no word about its quality, nor taken back by one; nor is one number another one.
    topic = f"{Topic.ACCOUNT}:{event}:{ends}" if update.event.startswith(_PIN) else f"{Topic.NUMBER}:{ends}"
    said = None if update.grave is None else Said(topic, at, detail if update.grave else None)
    heard = Heard(_lane(account), Signal.NOTED, now, said=said) if said else None
    about = "/".join(part for part in (event, ends) if part)
    return Consequence(account.sender, heard, _event(account, EventName.NUMBER_CHANGED, at, about=about, detail=detail))


def _account_changed(update: AccountChange, account: Account, at: float, now: float) -> Consequence:
    detail = _words(update.event, update.detail)
    # That it will be disabled is taken back by its being disabled, and by its being reinstated.
    topic = Topic.STATUS if update.event == "DISABLED_UPDATE" else f"{Topic.ACCOUNT}:{update.event.lower()}"
    said = Said(topic, at, detail if update.grave else None)
    heard = Heard(_lane(account), Signal.NOTED, now, said=said)
    event = _event(account, EventName.ACCOUNT_CHANGED, at, about=update.event.lower(), detail=detail)
    return Consequence(account.sender, heard, event)


def _words(*said: str | None) -> str:
    return ", ".join(word for word in said if word)


def _of_account(update: AccountChange, account: Account, now: float) -> Consequence | None:
    at = update.at if update.at is not None else now
    if update.blocked is None:
        return _account_changed(update, account, at, now)
    if update.until is not None and update.until <= now:
        # It comes days late, and is over.
        return None
    said, about = Said(Topic.STATUS, at), update.event.lower()
    if update.blocked:
        error = Error(Kind.SENDER_HALTED, title=f"The account is blocked: {update.event}", detail=update.detail)
        heard = Heard(_lane(account), Signal.SENDER_REFUSED, now, error=error, remedy=_ACCOUNT_REMEDY, said=said)
        return Consequence(account.sender, heard, _event(account, EventName.HALTED, at, about=about, error=error))
    heard = Heard(_lane(account), Signal.ANSWERED, now, said=said, by_report=True)
    return Consequence(account.sender, heard, _event(account, EventName.RESUMED, at, about=about))


def _lane(account: Account, of: _OfTemplate | None = None) -> Lane:
    """Name the sender, and the template where it is about one; nothing is sent on it."""
    template, language = (of.template, of.language) if of else ("", "")
    return Lane(
        account.sender, account.quota, "", template, language, rate=account.rate, latest_start=0.0, deadline=0.0
    )


def _event(
    account: Account,
    name: EventName,
    at: float,
    of: _OfTemplate | None = None,
    *,
    about: str | None = None,
    detail: str | None = None,
    error: Error | None = None,
) -> SenderEvent:
    concerned_one = name_concerned(account.sender, of.template if of else None, of.language if of else None)
    named = f"{name}/{about}" if about else name
    return SenderEvent(
        # By the provider's time, so that the same webhook once more is the same event.
        event_id=f"{concerned_one}/{named}/{round(at * 1000)}",
        sender=account.sender,
        name=name,
        at=datetime.fromtimestamp(at, UTC),
        template=of.template if of else None,
        language=of.language if of else None,
        detail=detail,
        error=result_error(error) if error else None,
    )
