"""What webhooks say of templates, accounts and numbers [pure]; each function reads the value of one change.

Source: ``whatsapp.md``, section 4.3, and where that is silent Meta's pages ``webhooks/reference/account_update`` and
``embedded-signup/reconnect…`` of September 2026.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from otpost.times import rfc3339
from otpost_worker.masking import MAX_TEXT, without_numbers
from otpost_worker.updates import (
    AccountChange,
    Ignored,
    NumberChange,
    TemplateCategory,
    TemplateQuality,
    TemplateStatus,
)
from otpost_worker.webhook_values import capitals, exact, identifier, language, line, member, members, moment

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

# The one restriction that keeps a one-time password from being sent: the business may not begin a conversation. Others
# forbid calls, answers to customers, new numbers, or templates of another category.
_NO_MESSAGES: Final = "RESTRICTED_BIZ_INITIATED_MESSAGING"
# How many of a list's members a detail may name.
_MAX_NAMED: Final = 10
_MAX_TEMPLATE: Final = 512
_REVIEWED_WELL: Final = frozenset({"APPROVED", "PENDING"})
# The others inform.
_GRAVE_ALERTS: Final = frozenset({"CRITICAL", "WARNING"})
_OVER: Final = frozenset({"RESOLVED", "DISMISSED"})
# What says whether the number sends as before.
_NUMBER_EVENTS: Final = {"FLAGGED": True, "DOWNGRADE": True, "UNFLAGGED": False, "UPGRADE": False}
# For dates and limits, which are texts without a number that could be called, and for the business's own number.
_MAX_WORDS: Final = 40


@dataclass(frozen=True, slots=True)
class Around:
    """What stands around a change: the account's id, and when the provider says that it happened."""

    account_id: str | None
    at: float | None


def template_change(
    value: Mapping[str, Any], around: Around
) -> TemplateStatus | TemplateCategory | TemplateQuality | Ignored:
    """Read what became of a template.

    By its keys and not by its field: Meta documents a quality under ``message_template_status_update`` too.
    """
    template = exact(value.get("message_template_name"), _MAX_TEMPLATE)
    spoken = language(value.get("message_template_language"))
    if template is None or spoken is None:
        return Ignored("template without name or language")
    if quality := capitals(value.get("new_quality_score")):
        return TemplateQuality(around.account_id, template, spoken, quality, around.at)
    if event := capitals(value.get("event")):
        return TemplateStatus(
            around.account_id, template, spoken, event, _reason(value), around.at, detail=_template_detail(value)
        )
    # While a change is impending, ``new_category`` is the one that the template still has.
    correct, new = capitals(value.get("correct_category")), capitals(value.get("new_category"))
    if category := correct or new:
        return TemplateCategory(around.account_id, template, spoken, category, correct is not None, around.at)
    return Ignored("template without news")


def _reason(value: Mapping[str, Any]) -> str | None:
    reason = capitals(value.get("reason"))
    if reason is not None and reason != "NONE":
        return reason
    # FIRST_PAUSE, RATE_LIMITING_PAUSE, UNPAUSE …: why an event without a reason came about.
    return capitals(member(value, "other_info").get("title"))


def _template_detail(value: Mapping[str, Any]) -> str | None:
    rejection = member(value, "rejection_info")
    day = line(member(value, "disable_info").get("disable_date"), _MAX_WORDS)
    return _together(
        (
            f"to be disabled on {day}" if day else None,
            without_numbers(rejection.get("reason")),
            without_numbers(rejection.get("recommendation")),
            without_numbers(member(value, "other_info").get("description")),
        )
    )


def account_update(value: Mapping[str, Any], around: Around) -> AccountChange | Ignored:
    """Read what became of an account, and whether it may still send.

    Blocked are an account that is deleted; one that is disabled (``DISABLE``; with ``SCHEDULE_FOR_DISABLE`` it will be,
    and still may send); one that may not begin conversations; and one whose number is off the Cloud API while its phone
    is replaced (``ACCOUNT_OFFBOARDED``: Meta says that sends fail until ``ACCOUNT_RECONNECTED``). A violation is a
    warning. A partner's loss of access says nothing of ours; if it is ours, the next request will be refused.
    """
    event = capitals(value.get("event"))
    blocked: bool | None = None
    until: float | None = None
    detail: str | None = None
    grave = False
    match event:
        case None:
            return Ignored("account_update without an event")
        case "ACCOUNT_DELETED" | "ACCOUNT_OFFBOARDED":
            blocked = True
        case "ACCOUNT_RECONNECTED":
            blocked = False
        case "ACCOUNT_VIOLATION":
            detail, grave = capitals(member(value, "violation_info").get("violation_type")), True
        case "DISABLED_UPDATE":
            ban = member(value, "ban_info")
            state, day = capitals(ban.get("waba_ban_state")), line(ban.get("waba_ban_date"), _MAX_WORDS)
            blocked = {"DISABLE": True, "REINSTATE": False}.get(state or "")
            detail, grave = _together((state, f"on {day}" if day else None), " "), blocked is None
        case "ACCOUNT_RESTRICTION":
            blocked, until, detail = _restrictions(value)
            grave = blocked is None
        case "PARTNER_REMOVED":
            detail, grave = capitals(member(value, "disconnection_info").get("reason")), True
        case _:
            # Prices, partners, countries, terms: nothing that could stop a message.
            pass
    # Of what concerns a partner, the entry's id is the partner's.
    account_id = identifier(member(value, "waba_info").get("waba_id")) or around.account_id
    return AccountChange(account_id, event, blocked, detail, around.at, until, grave)


def _restrictions(value: Mapping[str, Any]) -> tuple[bool | None, float | None, str | None]:
    """Read whether the account is blocked by a restriction, until when, and all of them in words."""
    blocked: bool | None = None
    until: float | None = None
    words: list[str | None] = []
    for restriction in members(value, "restriction_info"):
        if isinstance(restriction, Ignored):
            continue
        kind, ends_at = capitals(restriction.get("restriction_type")), moment(restriction.get("expiration"))
        if kind is None:
            continue
        if kind == _NO_MESSAGES:
            blocked, until = True, ends_at
        words += [
            f"{kind} until {rfc3339(ends_at)}" if ends_at is not None else kind,
            without_numbers(restriction.get("remediation")),
        ]
    return blocked, until, _together(words)


def account_review(value: Mapping[str, Any], around: Around) -> AccountChange | Ignored:
    """Read how a review of the account ended: APPROVED, REJECTED, PENDING, DEFERRED."""
    decision = capitals(value.get("decision"))
    if decision is None:
        return Ignored("account_review_update without a decision")
    grave = decision not in _REVIEWED_WELL
    return AccountChange(around.account_id, "ACCOUNT_REVIEW_UPDATE", None, decision, around.at, grave=grave)


def account_alert(value: Mapping[str, Any], around: Around) -> AccountChange | Ignored:
    """Read an alert about the account, a number or the business; older samples have no ``alert_info`` around it."""
    alert = member(value, "alert_info") or value
    event = capitals(alert.get("alert_type"))
    if event is None:
        return Ignored("account_alerts without a type")
    severity, status = capitals(alert.get("alert_severity")), capitals(alert.get("alert_status"))
    detail = _together(
        (capitals(value.get("entity_type")), severity, status, without_numbers(alert.get("alert_description")))
    )
    grave = severity in _GRAVE_ALERTS and status not in _OVER
    return AccountChange(around.account_id, event, None, detail, around.at, grave=grave)


def capability_update(value: Mapping[str, Any], around: Around) -> AccountChange | Ignored:
    """Read the account's limits: a number, or a tier such as ``TIER_2K``; -1 is none."""
    limits = _together(
        f"{limit} {held}"
        for limit in (
            "max_daily_conversation_per_phone",
            "max_daily_conversations_per_business",
            "max_phone_numbers_per_business",
            "max_phone_numbers_per_waba",
        )
        if (held := line(value.get(limit), _MAX_WORDS))
    )
    if limits is None:
        return Ignored("business_capability_update without a limit")
    return AccountChange(around.account_id, "BUSINESS_CAPABILITY_UPDATE", None, limits, around.at)


def number_quality(value: Mapping[str, Any], around: Around) -> NumberChange | Ignored:
    """Read what became of a number: FLAGGED, UNFLAGGED, ONBOARDING, THROUGHPUT_UPGRADE … and its limits."""
    event = capitals(value.get("event"))
    if event is None:
        return Ignored("phone_number_quality_update without an event")
    limits = {
        "limit": capitals(value.get("current_limit")),
        "before": capitals(value.get("old_limit")),
        "a day": line(value.get("max_daily_conversations_per_business"), _MAX_WORDS),
    }
    detail = _together(f"{what} {limit}" for what, limit in limits.items() if limit)
    grave = _NUMBER_EVENTS.get(event)
    return NumberChange(around.account_id, _display_number(value), event, detail, around.at, grave)


def security(value: Mapping[str, Any], around: Around) -> NumberChange | Ignored:
    """Read what was done to a number's PIN: PIN_CHANGED, PIN_RESET_REQUEST, PIN_REQUEST_SUCCESS; not by whom."""
    event = capitals(value.get("event"))
    if event is None:
        return Ignored("security without an event")
    return NumberChange(around.account_id, _display_number(value), event, None, around.at, grave=True)


def _display_number(value: Mapping[str, Any]) -> str | None:
    return exact(value.get("display_phone_number"), _MAX_WORDS)


def _together(words: Iterable[str | None], between: str = "; ") -> str | None:
    said = [word.removesuffix(".") for word in words if word]
    return between.join(said[:_MAX_NAMED])[:MAX_TEXT] or None
