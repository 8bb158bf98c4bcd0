"""Webhook bodies: what users write and tap, several updates in one, what is ignored, and bodies that are none."""

from __future__ import annotations

import json

import pytest

from otpost_worker.updates import (
    Ignored,
    MessageReport,
    NotRequested,
    Preference,
    ProviderError,
    Reported,
    ServiceTrouble,
    TemplateQuality,
    Update,
)
from otpost_worker.webhook_bodies import read_updates
from webhook_samples import NUMBER_ID, SENT, WAMID, body_of, body_of_statuses

# What users write and tap


def button(**changed: object) -> dict[str, object]:
    return {
        "from": "12015553931",
        "id": "wamid.HBgLMTIwMTU1NTM5MzEVAgASGBQ",
        "timestamp": "1753919111",
        "type": "button",
        "context": {"from": "15550783881", "id": WAMID},
        "button": {"payload": "DID_NOT_REQUEST_CODE", "text": "I didn't request a code"},
    } | changed


def inbound(message: object) -> list[Update]:
    return read_updates(body_of({"metadata": {"phone_number_id": NUMBER_ID}, "messages": [message]}))


def test_a_code_that_was_not_requested_is_told_by_the_message_that_held_it() -> None:
    assert inbound(button()) == [NotRequested(WAMID, 1753919111.0, NUMBER_ID)]
    assert inbound(button(type=None, timestamp=None)) == [NotRequested(WAMID, None, NUMBER_ID)]


@pytest.mark.parametrize(
    ("message", "what"),
    [
        (button(context={}), "button without a message"),
        (button(context=None), "button without a message"),
        (button(context={"id": ""}), "button without a message"),
        (button(button={"payload": "Unsubscribe", "text": "DID_NOT_REQUEST_CODE"}), "message button"),
        (button(button=None), "message button"),
        (button(button=None, type="text", text={"body": "DID_NOT_REQUEST_CODE"}), "message text"),
        (button(button=None, type=5), "message unnamed"),
        ("DID_NOT_REQUEST_CODE", "malformed messages"),
    ],
)
def test_other_messages_to_us_are_ignored_and_nothing_of_them_is_kept(message: object, what: str) -> None:
    assert inbound(message) == [Ignored(what)]


def test_a_users_preference_is_its_value_alone() -> None:
    preferences = [
        {"wa_id": "16505551234", "category": "marketing_messages", "value": "stop", "timestamp": 1731705721},
        {"wa_id": "16505551234", "value": "RESUME"},
        {"wa_id": "16505551234", "value": None},
    ]
    assert read_updates(body_of({"user_preferences": preferences}, "user_preferences")) == [
        Preference("stop"),
        Preference("resume"),
        Ignored("preference without a value"),
    ]


# Several in one body


def test_a_thousand_reports_in_several_entries_and_changes_are_all_read_in_their_order() -> None:
    def change(numbers: range) -> dict[str, object]:
        return {"field": "messages", "value": {"statuses": [SENT | {"id": f"wamid.{one}"} for one in numbers]}}

    entries = [
        {"id": "1", "changes": [change(range(400)), change(range(400, 500))]},
        {"id": "2", "changes": [change(range(500, 1000))]},
    ]
    updates = read_updates(json.dumps({"entry": entries}).encode())
    assert updates == [MessageReport(Reported.SENT, f"wamid.{one}", "login-7261", 1750030073.0) for one in range(1000)]


def test_the_same_report_twice_is_read_twice() -> None:
    assert len(read_updates(body_of_statuses(SENT, SENT))) == 2


def test_what_is_malformed_does_not_keep_its_neighbours_from_being_read() -> None:
    good = MessageReport(Reported.SENT, WAMID, "login-7261", 1750030073.0)
    changes = [None, {"field": "messages", "value": {"statuses": [None, SENT, [SENT], "sent", 7]}}, "odd"]
    assert read_updates(json.dumps({"entry": [None, {"changes": changes}, []]}).encode()) == [
        good,
        Ignored("malformed entry"),
        Ignored("malformed changes"),
        Ignored("malformed statuses"),
    ]


@pytest.mark.parametrize(
    ("body", "read"),
    [
        (body_of({"errors": [7, {"code": 131042}]}), ServiceTrouble("102290129340398", None, ProviderError(131042))),
        (body_of({"user_preferences": [None, {"value": "stop"}]}, "user_preferences"), Preference("stop")),
    ],
    ids=["errors", "user_preferences"],
)
def test_a_malformed_member_is_ignored_beside_the_one_that_is_read(body: bytes, read: Update) -> None:
    updates = read_updates(body)
    assert updates[0] == read
    assert [type(update) for update in updates] == [type(read), Ignored]


def test_a_templates_quality_is_read_under_the_field_of_its_own() -> None:
    value = {
        "message_template_name": "login", "message_template_language": "de", "new_quality_score": "RED",
    }  # fmt: skip
    (update,) = read_updates(body_of(value, "message_template_quality_update"))
    assert update == TemplateQuality("102290129340398", "login", "de", "RED", None)


def test_what_stands_alone_where_a_list_belongs_is_a_list_of_one() -> None:
    body = {"entry": {"changes": {"field": "messages", "value": {"statuses": SENT}}}}
    assert read_updates(json.dumps(body).encode()) == [MessageReport(Reported.SENT, WAMID, "login-7261", 1750030073.0)]


@pytest.mark.parametrize(
    ("body", "updates"),
    [
        ({}, [Ignored("nothing")]),
        ({"entry": None}, [Ignored("nothing")]),
        ({"entry": []}, [Ignored("nothing")]),
        ({"entry": [{}]}, [Ignored("nothing")]),
        ({"entry": [{"changes": None}]}, [Ignored("nothing")]),
        ({"entry": [{"changes": [{"field": "messages", "value": {}}]}]}, [Ignored("nothing")]),
        ({"entry": [{"changes": [{"field": "messages", "value": {"statuses": []}}]}]}, [Ignored("nothing")]),
        ({"entry": "all"}, [Ignored("malformed entry")]),
        ({"entry": [{"changes": [{}]}]}, [Ignored("field unnamed without a value")]),
        ({"entry": [{"changes": [{"field": 5, "value": [1]}]}]}, [Ignored("field unnamed without a value")]),
        ({"entry": [{"changes": [{"field": "account_update"}]}]}, [Ignored("field account_update without a value")]),
        ([], [Ignored("no JSON object")]),
        ("entry", [Ignored("no JSON object")]),
        (None, [Ignored("no JSON object")]),
        (7, [Ignored("no JSON object")]),
    ],
)
def test_a_body_with_nothing_in_it_says_so(body: object, updates: list[Update]) -> None:
    assert read_updates(json.dumps(body).encode()) == updates


def test_reports_are_read_where_the_fields_name_is_missing() -> None:
    assert read_updates(body_of({"statuses": [SENT]}, None)) == [
        MessageReport(Reported.SENT, WAMID, "login-7261", 1750030073.0)
    ]


# What is ignored


@pytest.mark.parametrize(
    ("field", "what"),
    [
        ("group_lifecycle_update", "field group_lifecycle_update"),
        ("Group-Lifecycle Update", "field group_lifecycle_update"),
        ('x"} 1\notpost_jobs_total 9', "field x_1_otpost_jobs_total_9"),
        pytest.param("f" * 3_000_000, f"field {'f' * 40}", id="long"),
        ("\u00fcber\ud800", "field ber"),
    ],
)
def test_an_unknown_field_is_named_in_forty_letters_digits_and_underscores(field: str, what: str) -> None:
    assert read_updates(body_of({}, field)) == [Ignored(what)]


def test_one_kind_is_ignored_once_and_after_everything_else() -> None:
    played = SENT | {"status": "played"}
    assert read_updates(body_of_statuses(played, SENT, played, SENT | {"status": "deleted"}, SENT)) == [
        MessageReport(Reported.SENT, WAMID, "login-7261", 1750030073.0, None, NUMBER_ID),
        MessageReport(Reported.SENT, WAMID, "login-7261", 1750030073.0, None, NUMBER_ID),
        Ignored("status played"),
        Ignored("status deleted"),
    ]


def test_a_kind_that_was_seen_before_the_twentieth_keeps_its_name_after_it() -> None:
    statuses = [SENT | {"status": f"kind_{number}"} for number in range(20)]
    assert Ignored("further kinds") not in read_updates(body_of_statuses(*statuses, statuses[0]))


def test_a_body_cannot_make_more_than_twenty_one_kinds() -> None:
    updates = read_updates(body_of_statuses(*(SENT | {"status": f"odd_{one}"} for one in range(1000))))
    assert updates == [*(Ignored(f"status odd_{one}") for one in range(20)), Ignored("further kinds")]


# Bodies that are no JSON, and JSON that a decoder refuses


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"entry=1",
        b'{"entry": "\xff"}',
        b"\xef\xbb\xbf{}",
        b"\x1f\x8b\x08\x00",
        b"[" * 10_000 + b"]" * 10_000,
        b'{"entry":' * 10_000 + b"1" + b"}" * 10_000,
        b"[" * 3_000_000,
        b'{"odd": NaN}',
        b'{"odd": -Infinity}',
    ],
    ids=[
        "empty",
        "cut",
        "form",
        "latin-1",
        "mark",
        "gzip",
        "deep arrays",
        "deep objects",
        "open arrays",
        "NaN",
        "infinity",
    ],
)
def test_what_is_no_json_or_too_deep_is_ignored_as_such(body: bytes) -> None:
    assert read_updates(body) == [Ignored("no JSON object")]


@pytest.mark.parametrize(
    "odd",
    [
        rb'"name \ud83d"',
        rb'"\udc00"',
        b"1e999",
        b"9" * 5000,
        b"-" + b"9" * 5000,
        b"[" * 500 + b"]" * 500,
    ],
    ids=["half", "other half", "huge float", "huge", "hugely negative", "nested"],
)
def test_something_odd_beside_a_report_does_not_take_the_report_with_it(odd: bytes) -> None:
    report = json.dumps(SENT).encode()
    body = b'{"odd": %b, "entry": [{"changes": [{"field": "messages", "value": {"statuses": [%b]}}]}]}' % (odd, report)
    assert read_updates(body) == [MessageReport(Reported.SENT, WAMID, "login-7261", 1750030073.0)]
