"""The simulator's webhooks without a network: bodies as Meta writes them, signatures, plans, what is remembered."""

from __future__ import annotations

from random import Random
from typing import Any, Final

import orjson
import pytest

from otpost_worker.simulator import PLANS, Plan, Report, Reports, SimulatorOptions, Step, WebhookSettings
from otpost_worker.simulator.behaviour import Accept, magic
from otpost_worker.simulator.cloud import Arrival, Cloud
from otpost_worker.simulator.rules import parse_rule
from otpost_worker.simulator.webhooks.bodies import signature, statuses, written
from otpost_worker.simulator.webhooks.planning import TakenMessage, planned
from otpost_worker.simulator.webhooks.settings import parse_settings
from send_requests import send_request
from simulator_caller import SCHEMAS, conforms

SETTINGS: Final = WebhookSettings(url="http://127.0.0.1:1/webhook", secret="s3cret")
WAMID: Final = "wamid.HBgLMTY1MDU1NTEyMzQVAgARGBI0QUQ2MjA4NEYyRkExNjMyREUA"
PRICING: Final = {"billable": True, "pricing_model": "PMP", "type": "regular", "category": "authentication"}


def report(status: str, timestamp: int, **others: object) -> Report:
    fields: dict[str, Any] = {
        "seq": 1,
        "message_id": WAMID,
        "callback": "job-1",
        "status": status,
        "timestamp": timestamp,
        "at": float(timestamp),
        "phone_number_id": "106540352242922",
        "recipient": "16505551234",
    }
    return Report(**(fields | others))


# Bodies


def test_a_delivery_is_told_as_meta_does_from_v24_on() -> None:
    body = orjson.loads(written(statuses(SETTINGS, [report("delivered", 1750030076, priced=True)])))
    value = body["entry"][0]["changes"][0]["value"]
    user_id = value["contacts"][0].pop("user_id")
    assert user_id.startswith("US.")
    assert body == {
        "object": "whatsapp_business_account",
        "entry": [
            {
                "id": "102290129340398",
                "changes": [
                    {
                        "field": "messages",
                        "value": {
                            "messaging_product": "whatsapp",
                            "metadata": {
                                "display_phone_number": "15550783881",
                                "phone_number_id": "106540352242922",
                            },
                            "contacts": [{"profile": {"name": "Zoë M."}, "wa_id": "16505551234"}],
                            "statuses": [
                                {
                                    "id": WAMID,
                                    "status": "delivered",
                                    "timestamp": "1750030076",
                                    "recipient_id": "16505551234",
                                    "biz_opaque_callback_data": "job-1",
                                    "pricing": PRICING,
                                }
                            ],
                        },
                    }
                ],
            }
        ],
    }


def test_a_failure_brings_metas_error_and_no_contact_and_no_price() -> None:
    body = statuses(SETTINGS, [report("failed", 1750030075, code=131049, callback=None)])
    value = body["entry"][0]["changes"][0]["value"]
    assert value.keys() == {"messaging_product", "metadata", "statuses"}
    assert value["statuses"] == [
        {
            "id": WAMID,
            "status": "failed",
            "timestamp": "1750030075",
            "recipient_id": "16505551234",
            "errors": [
                {
                    "code": 131049,
                    "title": "This message was not delivered to maintain healthy ecosystem engagement.",
                    "message": "This message was not delivered to maintain healthy ecosystem engagement.",
                    "error_data": {
                        "details": "In order to maintain a healthy ecosystem engagement, the message failed to be "
                        "delivered."
                    },
                    "href": "https://developers.facebook.com/docs/whatsapp/cloud-api/support/error-codes/",
                }
            ],
        }
    ]


def test_several_statuses_share_a_body_with_a_change_for_each_number() -> None:
    several = [
        report("sent", 1, recipient="49151"),
        report("read", 2, phone_number_id="2", recipient="33600"),
        report("failed", 3, code=1, recipient="49152"),
        report("delivered", 4, recipient="49151"),
    ]
    body = statuses(SETTINGS, several)
    changes = body["entry"][0]["changes"]
    assert [change["value"]["metadata"]["phone_number_id"] for change in changes] == ["106540352242922", "2"]
    assert [one["timestamp"] for one in changes[0]["value"]["statuses"]] == ["1", "3", "4"]
    # One contact each, and none for who was told of a failure alone.
    assert [contact["wa_id"] for contact in changes[0]["value"]["contacts"]] == ["49151"]


@pytest.mark.parametrize("status", ["sent", "delivered", "read", "failed"])
def test_every_status_fits_metas_own_openapi(status: str) -> None:
    body = statuses(SETTINGS, [report(status, 1750030076, code=131026 if status == "failed" else None, priced=True)])
    told = orjson.loads(written(body))
    assert told.keys() == {"object", "entry"}
    for entry in told["entry"]:
        assert entry.keys() >= {"id", "changes"}
        for change in entry["changes"]:
            assert change["field"] == "messages"
            conforms(change["value"], SCHEMAS["StatusMessageValue"])


def test_what_is_not_ascii_is_escaped_before_it_is_signed() -> None:
    raw = written(statuses(SETTINGS, [report("sent", 1, callback="jöb")]))
    assert raw.isascii()
    assert rb'"biz_opaque_callback_data":"j\u00f6b"' in raw
    assert orjson.loads(raw)["entry"][0]["changes"][0]["value"]["statuses"][0]["biz_opaque_callback_data"] == "jöb"


def test_the_signature_is_that_of_openssl() -> None:
    # printf '%s' '{"object":"whatsapp_business_account"}' | openssl dgst -sha256 -hmac s3cret
    assert (
        signature("s3cret", b'{"object":"whatsapp_business_account"}')
        == "sha256=911fd0aa272ad28e30ab013c69b6fd0dcf41e3fbb4cca5a48a4bf3be4544ff57"
    )


# Plans


def planned_of(
    plan: Plan, settings: WebhookSettings = SETTINGS, seed: int = 0
) -> list[tuple[str, int, tuple[float, ...]]]:
    message = TakenMessage(WAMID, "job-1", "1", "12015553931", 1000.0)
    found = planned(message, plan, settings, Random(seed), first_seq=7)  # noqa: S311 - repeatable
    assert [one.report.seq for one in found] == list(range(7, 7 + len(found)))
    return [(one.report.status, one.report.timestamp, one.post_after_s) for one in found]


def test_a_report_says_when_it_happened_and_not_when_it_was_posted() -> None:
    plan = Plan("mine", (Step("sent", 1.5, late_s=30), Step("delivered", 2.5, times=2)))
    assert planned_of(plan) == [("sent", 1001, (31.5,)), ("delivered", 1002, (2.5, 2.5))]


def test_disorder_is_the_same_for_the_same_seed_and_another_for_another() -> None:
    shuffled = WebhookSettings(url=SETTINGS.url, secret="s", duplicates=3, shuffle_s=5.0)
    plan = Plan("mine", tuple(Step("delivered", 0.0, until_s=60.0) for _ in range(20)))
    one, again, other = (planned_of(plan, shuffled, seed) for seed in (1, 1, 2))
    assert one == again != other
    posts = [len(moments) for _, _, moments in one]
    assert (min(posts), max(posts)) == (1, 4)
    assert all(0 <= moment <= 65 for _, _, moments in one for moment in moments)
    assert len({timestamp for _, timestamp, _ in one}) > 5


def test_a_price_comes_with_sent_and_with_the_first_of_delivered_and_read() -> None:
    message, chance = TakenMessage(WAMID, None, "1", "1", 0.0), Random(0)  # noqa: S311 - no chance is taken here
    plan = Plan("mine", tuple(Step(status) for status in ("sent", "sent", "read", "delivered", "failed")))
    priced = [one.report.priced for one in planned(message, plan, SETTINGS, chance, first_seq=1)]
    assert priced == [True, False, True, False, False]


@pytest.mark.parametrize(
    ("wa_id", "message_status", "times", "statuses"),
    [
        ("99030000001", "accepted", 0, ["sent", "delivered"]),
        ("99032200001", "accepted", 2, []),
        ("99034000001", "accepted", 0, ["delivered"]),
        ("99035000001", "accepted", 0, ["sent", "read"]),
        ("99036000001", "accepted", 0, ["sent", "delivered", "failed"]),
        ("99037000001", "accepted", 0, ["sent", "failed", "delivered"]),
        ("99040000001", "accepted", 0, ["sent", "delivered", "delivered", "delivered", "delivered"]),
        ("99042000001", "held_for_quality_assessment", 0, []),
        ("99043000001", "held_for_quality_assessment", 0, ["failed"]),
        ("9911310491", "accepted", 1, ["failed"]),
    ],
)
def test_990_from_30_on_and_991_ask_for_what_is_reported(
    wa_id: str, message_status: str, times: int, statuses: list[str]
) -> None:
    wanted = magic(wa_id)
    assert wanted is not None
    assert wanted.plan is not None
    assert isinstance(wanted.behaviour, Accept)
    assert (wanted.behaviour.message_status, wanted.times) == (message_status, times)
    assert [step.status for step in wanted.plan.steps] == statuses


def plans_of(cloud: Cloud, to: str, count: int) -> list[Plan | None]:
    arrival = Arrival("v25.0", "123", "Bearer t", "application/json", orjson.dumps(send_request(to=to)))
    return [cloud.receive(arrival, at=1e9, now=0.0).plan for _ in range(count)]


def test_a_number_that_fails_by_webhook_is_delivered_as_everybody_after_so_many_attempts() -> None:
    first, second, third = plans_of(Cloud(SimulatorOptions(), b"salt!"), "+991131049200001", 3)
    assert first == second == Plan("failed", (Step("failed", 0.2, code=131049),))
    assert third is None


def test_a_rule_has_a_plan_of_its_own_or_that_of_everybody() -> None:
    cloud = Cloud(SimulatorOptions(), b"salt!")
    cloud.rules.add(parse_rule({"times": 1, "webhooks": {"steps": [{"status": "read", "after_s": 2}]}}))
    cloud.rules.add(parse_rule({"times": 1, "webhooks": "never"}))
    cloud.rules.add(parse_rule({"times": 1}))
    assert plans_of(cloud, "+991131049000001", 3) == [Plan("custom", (Step("read", 2.0),)), Plan("never"), None]


# What it remembers


def test_reports_are_found_by_message_and_by_callback_until_they_are_dropped() -> None:
    reports = Reports(limit=2)
    for seq, (message_id, callback) in enumerate([("a", "job-1"), ("b", "job-1"), ("b", None)], start=1):
        reports.add(report("sent", 1, seq=seq, message_id=message_id, callback=callback))
    assert [one.seq for one in reports.entries()] == [2, 3]
    assert [one.seq for one in reports.of_callback("job-1")] == [2]
    assert (reports.of_message("a"), len(reports.of_message("b")), reports.total) == ([], 2, 3)


def test_only_the_first_200_makes_a_report_answered() -> None:
    reports = Reports(limit=9)
    told = report("sent", 1, planned=2)
    reports.add(told)
    for at, answer in enumerate([None, 503, 200, 200]):
        reports.note(told, answer, at=float(at))
    assert (told.posts, told.answered, told.first_answered_at, told.last_answer) == (4, 2, 2.0, 200)
    assert reports.stats() == {"reports": 1, "by_status": {"sent": 1}, "answered": 1, "given_up": 0}


# Settings


def test_settings_that_are_not_named_stay_and_the_secret_is_never_shown() -> None:
    changed = parse_settings({"plan": "read", "retry": {"first_s": 0.05}, "secret": None}, SETTINGS)
    assert (changed.url, changed.secret, changed.plan) == (SETTINGS.url, "s3cret", PLANS["read"])
    assert (changed.retry.first_s, changed.retry.factor) == (0.05, 2.0)
    assert "s3cret" not in repr(changed)
    assert "s3cret" not in orjson.dumps(changed.visible()).decode()
    assert parse_settings({"url": None}, changed).url is None
