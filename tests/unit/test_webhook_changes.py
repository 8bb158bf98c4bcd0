"""What webhooks say of templates, accounts and numbers, and what of it blocks an account."""

from __future__ import annotations

from typing import Any, Final

import pytest

from otpost_worker.updates import (
    AccountChange,
    Ignored,
    NumberChange,
    TemplateCategory,
    TemplateQuality,
    TemplateStatus,
    Update,
)
from otpost_worker.webhook_bodies import read_updates
from webhook_samples import body_of

WABA: Final = "102290129340398"
AT: Final = 1751247548.0
TEMPLATE: Final[dict[str, Any]] = {
    "message_template_id": 1689556908129832,
    "message_template_name": "verification_code",
    "message_template_language": "en-US",
}


def read(field: str, value: dict[str, Any]) -> Update:
    (update,) = read_updates(body_of(value, field, time=1751247548))
    return update


# Templates


def status_of(**value: object) -> Update:
    return read("message_template_status_update", TEMPLATE | value)


def test_a_pause_without_a_reason_is_explained_by_its_title() -> None:
    paused = status_of(
        event="PAUSED", reason="NONE", other_info={"title": "FIRST_PAUSE", "description": "Low quality."}
    )
    assert paused == TemplateStatus(
        WABA, "verification_code", "en_US", "PAUSED", "FIRST_PAUSE", AT, detail="Low quality"
    )


@pytest.mark.parametrize(
    ("event", "reason", "known"),
    [
        ("approved", None, ("APPROVED", None)),
        ("DISABLED", "abusive_content", ("DISABLED", "ABUSIVE_CONTENT")),
        ("PENDING_DELETION", "none", ("PENDING_DELETION", None)),
        ("Pending deletion", 7, ("PENDING_DELETION", None)),
        ("NEWER THAN THIS!", "", ("NEWER_THAN_THIS", None)),
    ],
)
def test_a_templates_event_and_reason_are_in_capitals(
    event: object, reason: object, known: tuple[str, str | None]
) -> None:
    assert status_of(event=event, reason=reason) == TemplateStatus(WABA, "verification_code", "en_US", *known, AT)


@pytest.mark.parametrize("field", ["message_template_status_update", "message_template_quality_update"])
def test_a_quality_is_known_by_its_keys_under_either_field(field: str) -> None:
    value = TEMPLATE | {"previous_quality_score": "GREEN", "new_quality_score": "red"}
    assert read(field, value) == TemplateQuality(WABA, "verification_code", "en_US", "RED", AT)


def test_an_impending_category_is_the_correct_one_and_a_done_one_the_new_one() -> None:
    impending = {"new_category": "AUTHENTICATION", "correct_category": "MARKETING", "category_update_timestamp": 1}
    done = {"previous_category": "AUTHENTICATION", "new_category": "marketing"}
    assert read("template_category_update", TEMPLATE | impending) == TemplateCategory(
        WABA, "verification_code", "en_US", "MARKETING", impending=True, at=AT
    )
    assert read("template_category_update", TEMPLATE | done) == TemplateCategory(
        WABA, "verification_code", "en_US", "MARKETING", impending=False, at=AT
    )


@pytest.mark.parametrize(
    ("told", "language"),
    [
        ("en-US", "en_US"),
        ("en_US", "en_US"),
        ("EN-us", "en_US"),
        ("de", "de"),
        ("fil", "fil"),
        ("prs-AF", "prs_AF"),
        ("zh-Hant-HK", "zh_Hant_HK"),
    ],
)
def test_a_language_is_written_as_in_jobs(told: str, language: str) -> None:
    assert status_of(event="APPROVED", message_template_language=told) == TemplateStatus(
        WABA, "verification_code", language, "APPROVED", None, AT
    )


@pytest.mark.parametrize(
    ("value", "what"),
    [
        ({"message_template_name": None, "event": "PAUSED"}, "template without name or language"),
        ({"message_template_name": "n" * 513, "event": "PAUSED"}, "template without name or language"),
        ({"message_template_language": "", "event": "PAUSED"}, "template without name or language"),
        ({"message_template_language": ["en"], "event": "PAUSED"}, "template without name or language"),
        ({"event": None, "new_category": 5}, "template without news"),
        ({}, "template without news"),
    ],
)
def test_of_a_template_that_cannot_be_named_or_did_not_change_nothing_is_said(
    value: dict[str, object], what: str
) -> None:
    assert status_of(**value) == Ignored(what)


# Accounts


@pytest.mark.parametrize(
    ("value", "blocked", "detail"),
    [
        ({"event": "DISABLED_UPDATE", "ban_info": {"waba_ban_state": "DISABLE"}}, True, "DISABLE"),
        ({"event": "disabled_update", "ban_info": {"waba_ban_state": "disable"}}, True, "DISABLE"),
        (
            {
                "event": "DISABLED_UPDATE",
                "ban_info": {"waba_ban_state": "SCHEDULE_FOR_DISABLE", "waba_ban_date": "May 1, 2026"},
            },
            None,
            "SCHEDULE_FOR_DISABLE on May 1, 2026",
        ),
        ({"event": "DISABLED_UPDATE", "ban_info": {"waba_ban_state": "REINSTATE"}}, False, "REINSTATE"),
        ({"event": "DISABLED_UPDATE", "ban_info": {"waba_ban_state": "SOMETHING"}}, None, "SOMETHING"),
        ({"event": "DISABLED_UPDATE", "ban_info": None}, None, None),
        ({"event": "ACCOUNT_VIOLATION", "violation_info": {"violation_type": "SCAM"}}, None, "SCAM"),
        ({"event": "ACCOUNT_VIOLATION"}, None, None),
        ({"event": "ACCOUNT_DELETED"}, True, None),
        ({"event": "ACCOUNT_OFFBOARDED"}, True, None),
        ({"event": "ACCOUNT_RECONNECTED"}, False, None),
        ({"event": "PARTNER_REMOVED", "disconnection_info": {"reason": "CHANGE_NUMBER"}}, None, "CHANGE_NUMBER"),
        ({"event": "SOMETHING_NEW"}, None, None),
    ],
)
def test_an_account_is_blocked_where_it_cannot_send_and_free_where_it_can_again(
    value: dict[str, Any],
    blocked: bool | None,  # noqa: FBT001 - a case
    detail: str | None,
) -> None:
    grave = blocked is None and value["event"] != "SOMETHING_NEW"
    assert read("account_update", value) == AccountChange(
        WABA, value["event"].upper(), blocked=blocked, detail=detail, at=AT, grave=grave
    )


def restricted(*restrictions: object) -> Update:
    return read("account_update", {"event": "ACCOUNT_RESTRICTION", "restriction_info": list(restrictions)})


@pytest.mark.parametrize(
    "kind",
    [
        "RESTRICTED_ADD_PHONE_NUMBER_ACTION",
        "RESTRICTED_BIZ_INITIATED_AND_USER_INITIATED_CALLING",
        "RESTRICTED_BUSINESS_INITIATED_CALLING",
        "RESTRICTED_CUSTOMER_INITIATED_MESSAGING",
        "RESTRICTED_DIRECT_SEND_UTILITY_TEMPLATES",
        "RESTRICTED_UTILITY_TEMPLATES",
    ],
)
def test_a_restriction_of_something_else_than_messages_blocks_nothing(kind: str) -> None:
    assert restricted({"restriction_type": kind}) == AccountChange(
        WABA, "ACCOUNT_RESTRICTION", blocked=None, detail=kind, at=AT, grave=True
    )


def test_a_restriction_of_messages_blocks_until_it_ends_whatever_stands_beside_it() -> None:
    assert restricted(
        None,
        {"restriction_type": 7, "expiration": 1751300000},
        {
            "restriction_type": "restricted_biz_initiated_messaging",
            "expiration": "1751247600",
            "remediation": "Review your practices, or call +1 (650) 555-1234.",
        },
        {"restriction_type": "RESTRICTED_UTILITY_TEMPLATES", "expiration": "<TIMESTAMP>"},
    ) == AccountChange(
        WABA,
        "ACCOUNT_RESTRICTION",
        blocked=True,
        detail="RESTRICTED_BIZ_INITIATED_MESSAGING until 2025-06-30T01:40:00.000Z; Review your practices, or call ***; "
        "RESTRICTED_UTILITY_TEMPLATES",
        at=AT,
        until=1751247600.0,
    )


def test_a_detail_is_cut_however_many_restrictions_there_are() -> None:
    update = restricted(*({"restriction_type": f"RESTRICTED_{one}"} for one in range(5000)))
    assert isinstance(update, AccountChange)
    assert update.detail == "; ".join(f"RESTRICTED_{one}" for one in range(10))


def test_the_account_of_a_partners_event_is_the_one_that_it_is_about() -> None:
    value = {"event": "PARTNER_REMOVED", "waba_info": {"waba_id": 980198427658004, "owner_business_id": "2329417887"}}
    assert read("account_update", value) == AccountChange(
        "980198427658004", "PARTNER_REMOVED", blocked=None, detail=None, at=AT, grave=True
    )


@pytest.mark.parametrize(
    ("field", "value", "update"),
    [
        (
            "account_review_update",
            {"decision": "rejected"},
            AccountChange(WABA, "ACCOUNT_REVIEW_UPDATE", blocked=None, detail="REJECTED", at=AT, grave=True),
        ),
        (
            "account_review_update",
            {"decision": "APPROVED"},
            AccountChange(WABA, "ACCOUNT_REVIEW_UPDATE", blocked=None, detail="APPROVED", at=AT),
        ),
        (
            "account_alerts",
            {"alert_info": {"alert_severity": "INFORMATIONAL", "alert_type": "OBA_APPROVED"}},
            AccountChange(WABA, "OBA_APPROVED", blocked=None, detail="INFORMATIONAL", at=AT),
        ),
        (
            "account_alerts",
            {"alert_info": {"alert_severity": "CRITICAL", "alert_status": "RESOLVED", "alert_type": "OBA_REJECTED"}},
            AccountChange(WABA, "OBA_REJECTED", blocked=None, detail="CRITICAL; RESOLVED", at=AT),
        ),
        (
            "account_alerts",
            {
                "entity_type": "PHONE_NUMBER",
                "entity_id": 106540352242922,
                "alert_info": {
                    "alert_severity": "WARNING",
                    "alert_status": "ACTIVE",
                    "alert_type": "INCREASED_CAPABILITIES_ELIGIBILITY_DEFERRED",
                    "alert_description": "The limit of 16505551111 is not raised.",
                },
            },
            AccountChange(
                WABA,
                "INCREASED_CAPABILITIES_ELIGIBILITY_DEFERRED",
                blocked=None,
                detail="PHONE_NUMBER; WARNING; ACTIVE; The limit of *** is not raised",
                at=AT,
                grave=True,
            ),
        ),
        (
            "account_alerts",
            {"entity_type": "WABA", "alert_severity": "CRITICAL", "alert_type": "OBA_REJECTED", "alert_info": None},
            AccountChange(WABA, "OBA_REJECTED", blocked=None, detail="WABA; CRITICAL", at=AT, grave=True),
        ),
        (
            "business_capability_update",
            {"max_daily_conversations_per_business": "TIER_2K", "max_phone_numbers_per_waba": 25, "other": 1},
            AccountChange(
                WABA,
                "BUSINESS_CAPABILITY_UPDATE",
                blocked=None,
                detail="max_daily_conversations_per_business TIER_2K; max_phone_numbers_per_waba 25",
                at=AT,
            ),
        ),
        (
            "business_capability_update",
            {"max_daily_conversation_per_phone": -1},
            AccountChange(
                WABA, "BUSINESS_CAPABILITY_UPDATE", blocked=None, detail="max_daily_conversation_per_phone -1", at=AT
            ),
        ),
        (
            "phone_number_quality_update",
            {
                "display_phone_number": 15550783881,
                "event": "ONBOARDING",
                "current_limit": "TIER_2K",
                "old_limit": "TIER_NOT_SET",
                "max_daily_conversations_per_business": "TIER_2K",
            },
            NumberChange(WABA, "15550783881", "ONBOARDING", "limit TIER_2K; before TIER_NOT_SET; a day TIER_2K", AT),
        ),
        (
            "phone_number_quality_update",
            {"display_phone_number": None, "event": "FLAGGED"},
            NumberChange(WABA, None, "FLAGGED", None, AT, grave=True),
        ),
        (
            "phone_number_quality_update",
            {"display_phone_number": "15550783881", "event": "UNFLAGGED"},
            NumberChange(WABA, "15550783881", "UNFLAGGED", None, AT, grave=False),
        ),
        (
            "security",
            {"display_phone_number": "15550783881", "event": "PIN_CHANGED", "requester": "Jane 16505551111"},
            NumberChange(WABA, "15550783881", "PIN_CHANGED", None, AT, grave=True),
        ),
        ("account_update", {"event": 7}, Ignored("account_update without an event")),
        ("account_review_update", {}, Ignored("account_review_update without a decision")),
        ("account_alerts", {"alert_info": {}}, Ignored("account_alerts without a type")),
        (
            "business_capability_update",
            {"max_phone_numbers_per_waba": True},
            Ignored("business_capability_update without a limit"),
        ),
        ("phone_number_quality_update", {}, Ignored("phone_number_quality_update without an event")),
        ("security", {"event": None}, Ignored("security without an event")),
    ],
)
def test_what_else_is_said_of_accounts_and_numbers(field: str, value: dict[str, Any], update: Update) -> None:
    assert read(field, value) == update


@pytest.mark.parametrize(
    ("field", "value", "grave"),
    [
        ("account_review_update", {"decision": "APPROVED"}, False),
        ("account_review_update", {"decision": "PENDING"}, False),
        ("account_review_update", {"decision": "DEFERRED"}, True),
        ("account_alerts", {"alert_severity": "WARNING", "alert_status": "ACTIVE"}, True),
        ("account_alerts", {"alert_severity": "CRITICAL"}, True),
        ("account_alerts", {"alert_severity": "INFORMATIONAL", "alert_status": "ACTIVE"}, False),
        ("account_alerts", {"alert_severity": "CRITICAL", "alert_status": "RESOLVED"}, False),
        ("account_alerts", {"alert_severity": "WARNING", "alert_status": "DISMISSED"}, False),
        ("phone_number_quality_update", {"event": "DOWNGRADE"}, True),
        ("phone_number_quality_update", {"event": "UPGRADE"}, False),
        ("phone_number_quality_update", {"event": "ONBOARDING"}, None),
    ],
)
def test_an_operator_is_told_of_what_is_bad_and_lasts(field: str, value: dict[str, Any], grave: object) -> None:
    update = read(field, {"alert_type": "OBA_REJECTED", **value})
    assert isinstance(update, AccountChange | NumberChange)
    assert update.grave is grave


@pytest.mark.parametrize("length", [40, 41])
def test_a_display_number_is_kept_whole_up_to_forty_characters(length: int) -> None:
    update = read("security", {"event": "PIN_CHANGED", "display_phone_number": "1" * length})
    assert isinstance(update, NumberChange)
    assert update.display_number == ("1" * 40 if length == 40 else None)


def test_the_time_and_the_account_are_the_entrys_and_may_be_missing() -> None:
    (update,) = read_updates(body_of({"event": "ACCOUNT_DELETED"}, "account_update", id=None, time="soon"))
    assert update == AccountChange(None, "ACCOUNT_DELETED", blocked=True, detail=None, at=None)
