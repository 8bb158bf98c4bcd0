"""Webhooks that a test asks the simulator for: each as Meta writes it, and what makes no sense is said to make none."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import orjson
import pytest

from otpost_worker.simulator import WebhookSettings
from otpost_worker.simulator.control import ControlError
from otpost_worker.simulator.rules import parse_rule
from otpost_worker.simulator.webhooks.plans import parse_plan
from otpost_worker.simulator.webhooks.settings import parse_settings
from otpost_worker.simulator.webhooks.telling import Body, Known, StatusOf, parse_telling
from simulator_caller import SCHEMAS, conforms

if TYPE_CHECKING:
    from collections.abc import Callable

SETTINGS: Final = WebhookSettings(url="http://127.0.0.1:1/webhook", secret="s3cret")
WAMID: Final = "wamid.HBgLMTY1MDU1NTEyMzQVAgARGBI0QUQ2MjA4NEYyRkExNjMyREUA"


def told(**what: object) -> dict[str, Any]:
    telling = parse_telling(what, SETTINGS, lambda _, __: None, at=1751247548.9)
    assert isinstance(telling.what, Body)
    body = orjson.loads(telling.what.body)
    assert body["object"] == "whatsapp_business_account"
    (entry,) = body["entry"]
    assert entry["id"] == "102290129340398"
    (change,) = entry["changes"]
    return {"time": entry.get("time"), **change}


def test_a_paused_template_is_told_as_in_metas_example() -> None:
    change = told(template_status={"name": "verification_code", "event": "PAUSED", "title": "FIRST_PAUSE"})
    assert isinstance(change["value"].pop("message_template_id"), int)
    assert change == {
        "time": 1751247548,
        "field": "message_template_status_update",
        "value": {
            "event": "PAUSED",
            "message_template_name": "verification_code",
            "message_template_language": "en-US",
            "reason": "NONE",
            "message_template_category": "AUTHENTICATION",
            "other_info": {"title": "FIRST_PAUSE", "description": "FIRST_PAUSE"},
        },
    }


def test_a_category_is_told_as_changed_or_a_day_ahead() -> None:
    template = {"name": "otp", "language": "pt_BR"}
    done = told(template_category={**template, "new_category": "MARKETING", "previous_category": "AUTHENTICATION"})
    done["value"].pop("message_template_id")
    assert done == {
        "time": 1751247548,
        "field": "template_category_update",
        "value": {
            "message_template_name": "otp",
            "message_template_language": "pt-BR",
            "new_category": "MARKETING",
            "previous_category": "AUTHENTICATION",
        },
    }
    ahead = told(template_category={**template, "new_category": "AUTHENTICATION", "correct_category": "MARKETING"})
    assert ahead["value"]["new_category"] == "AUTHENTICATION"
    assert ahead["value"]["correct_category"] == "MARKETING"
    assert ahead["value"]["category_update_timestamp"] == 1751333948


@pytest.mark.parametrize(
    ("what", "field", "value"),
    [
        (
            {"account": {"event": "DISABLED_UPDATE", "ban_state": "DISABLE", "ban_date": "April 17, 2025"}},
            "account_update",
            {"event": "DISABLED_UPDATE", "ban_info": {"waba_ban_state": "DISABLE", "waba_ban_date": "April 17, 2025"}},
        ),
        (
            {"account": {"event": "ACCOUNT_VIOLATION", "violation_type": "ADULT"}},
            "account_update",
            {"event": "ACCOUNT_VIOLATION", "violation_info": {"violation_type": "ADULT"}},
        ),
        (
            {
                "account": {
                    "event": "ACCOUNT_RESTRICTION",
                    "restrictions": ["RESTRICTED_BIZ_INITIATED_MESSAGING"],
                    "expiration": 1748540794,
                }
            },
            "account_update",
            {
                "event": "ACCOUNT_RESTRICTION",
                "restriction_info": [
                    {"restriction_type": "RESTRICTED_BIZ_INITIATED_MESSAGING", "expiration": 1748540794}
                ],
            },
        ),
        (
            {"number": {"event": "THROUGHPUT_UPGRADE", "current_limit": "TIER_UNLIMITED"}},
            "phone_number_quality_update",
            {
                "display_phone_number": "15550783881",
                "event": "THROUGHPUT_UPGRADE",
                "current_limit": "TIER_UNLIMITED",
            },
        ),
        (
            {"change": {"field": "security", "value": {"event": "PIN_CHANGED"}}},
            "security",
            {"event": "PIN_CHANGED"},
        ),
    ],
)
def test_account_and_number_are_told_as_the_fixtures_show_them(
    what: dict[str, object], field: str, value: dict[str, object]
) -> None:
    assert told(**what) == {"time": 1751247548, "field": field, "value": value}


def test_a_quality_a_preference_and_an_error_of_the_system_can_be_told() -> None:
    quality = told(template_quality={"name": "otp", "new": "RED", "previous": "YELLOW"})
    assert quality["field"] == "message_template_quality_update"
    assert (quality["value"]["previous_quality_score"], quality["value"]["new_quality_score"]) == ("YELLOW", "RED")
    wish = told(preference={"to": "+16505551234", "value": "stop"})
    assert (wish["time"], wish["field"]) == (None, "user_preferences")
    assert wish["value"]["user_preferences"] == [
        {
            "wa_id": "16505551234",
            "detail": "User requested to stop marketing messages",
            "category": "marketing_messages",
            "value": "stop",
            "timestamp": 1751247548,
        }
    ]
    trouble = told(error={"code": 130429})
    assert (trouble["time"], trouble["field"]) == (None, "messages")
    assert trouble["value"]["errors"][0]["code"] == 130429
    assert "statuses" not in trouble["value"]


def test_the_button_names_the_message_with_the_code() -> None:
    known = Known(WAMID, "job-1", "106540352242922", "16505551234")
    asked = {"not_requested": {"callback": "job-1"}}
    telling = parse_telling(
        asked, SETTINGS, lambda _, callback: known if callback == "job-1" else None, at=1750091045.0
    )
    assert isinstance(telling.what, Body)
    (change,) = orjson.loads(telling.what.body)["entry"][0]["changes"]
    (tapped,) = change["value"]["messages"]
    assert tapped == {
        "context": {"from": "15550783881", "id": WAMID},
        "from": "16505551234",
        "id": f"{WAMID}.1750091045",
        "timestamp": "1750091045",
        "type": "button",
        "button": {"payload": "DID_NOT_REQUEST_CODE", "text": "I didn't request a code"},
    }
    conforms(change["value"]["contacts"][0], SCHEMAS["ContactProfile"])


def test_any_bytes_can_be_told_and_signed_badly() -> None:
    telling = parse_telling({"body_base64": "/w==", "signature": "wrong"}, SETTINGS, lambda _, __: None, at=0.0)
    assert (telling.what, telling.signature, telling.retry) == (Body("raw", b"\xff"), "wrong", False)
    plain = parse_telling({"body": "{", "signature_header": "sha256=ä"}, SETTINGS, lambda _, __: None, at=0.0)
    assert (plain.what, plain.signature_header, plain.retry) == (Body("raw", b"{"), "sha256=ä", False)


def test_a_status_can_be_told_of_a_message_that_nobody_sent() -> None:
    asked = {"status": {"message_id": "wamid.X", "status": "failed", "timestamp": 5}}
    telling = parse_telling(asked, SETTINGS, lambda _, __: None, at=0.0)
    assert telling.what == StatusOf(Known("wamid.X"), "failed", 5, 131026)


# Control requests that make no sense


def tell(**what: object) -> object:
    return parse_telling(what, SETTINGS, lambda _, __: None, at=0.0)


@pytest.mark.parametrize(
    ("bad", "said"),
    [
        (lambda: parse_plan("sent", "plan"), "there are delivered, read, never"),
        (lambda: parse_plan({}, "plan"), "steps is missing"),
        (lambda: parse_plan({"steps": [{"status": "played"}]}, "plan"), "plan: steps[0]: status must be one of sent"),
        (lambda: parse_plan({"steps": [{"status": "sent", "code": 1}]}, "plan"), "code goes with the status failed"),
        (lambda: parse_plan({"steps": [{"status": "sent", "after_s": 2, "until_s": 1}]}, "p"), "not be less than"),
        (
            lambda: parse_plan({"steps": [{"status": "sent", "after_s": 1, "before_answer": True}]}, "p"),
            "means at once",
        ),
        (lambda: parse_plan({"steps": [{"status": "sent"}] * 51}, "p"), "at most 50"),
        (lambda: parse_rule({"webhooks": 7}), "the rule: webhooks must be a JSON object"),
        (lambda: parse_settings({"url": "ftp://x"}, SETTINGS), "url must begin with http"),
        (lambda: parse_settings({"url": "http://x"}, WebhookSettings()), "secret must not be empty"),
        (lambda: parse_settings({"batch": 1001}, SETTINGS), "batch must be a whole number from 1 to 1000"),
        (lambda: parse_settings({"retry": {"first": 1}}, SETTINGS), "webhooks: retry has no field 'first'"),
        (tell, "exactly one of template_status"),
        (lambda: tell(body="", account={}), "exactly one of template_status"),
        (lambda: tell(account={}), "account: event is missing"),
        (lambda: tell(status={"status": "sent"}), "exactly one of message_id and callback"),
        (lambda: tell(status={"status": "sent", "callback": "job-9"}), 'no message with the callback "job-9"'),
        (lambda: tell(body_base64="?"), "must be base64"),
        (lambda: tell(body="", signature="good"), "signature must be one of right, wrong, none"),
        (lambda: tell(body="", signature_header="a\r\nb: c"), "on one line"),
        (lambda: tell(error={}), "code is missing"),
    ],
)
def test_a_bad_request_about_webhooks_is_told_what_to_write_instead(bad: Callable[[], object], said: str) -> None:
    with pytest.raises(ControlError) as caught:
        bad()
    assert said in str(caught.value)
