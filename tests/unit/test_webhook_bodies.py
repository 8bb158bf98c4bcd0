"""Webhook bodies: reports on messages, what users tap, what is ignored, and bodies that are none."""

from __future__ import annotations

import json
from typing import Any, Final

import pytest
from hypothesis import given
from hypothesis import strategies as st

from job_strategies import IDS, PROPERTY
from otpost_worker.updates import (
    Ignored,
    MessageReport,
    NotRequested,
    Preference,
    ProviderError,
    Reported,
    ServiceTrouble,
    Update,
)
from otpost_worker.webhook_bodies import attempt_of, minimal_body, read_updates
from webhook_samples import body_of, body_of_statuses

NUMBER_ID: Final = "106540352242922"
WAMID: Final = "wamid.HBgLMTIwMTU1NTM5MzEVAgARGBI0QUQ2MjA4NEYyRkExNjMyREUA"
SENT: Final[dict[str, Any]] = {
    "id": WAMID,
    "status": "sent",
    "timestamp": "1750030073",
    "recipient_id": "12015553931",
    "biz_opaque_callback_data": "login-7261",
}


def report_of(**changed: object) -> Update:
    (update,) = read_updates(body_of_statuses(SENT | changed))
    return update


def error_of(*errors: object) -> ProviderError | None:
    update = report_of(status="failed", errors=list(errors))
    assert isinstance(update, MessageReport)
    return update.error


# Reports on messages


def test_a_report_tells_the_message_the_attempt_and_the_moment() -> None:
    assert report_of() == MessageReport(Reported.SENT, WAMID, "login-7261", 1750030073.0, None, NUMBER_ID)


@pytest.mark.parametrize(
    ("word", "status"),
    [
        ("sent", Reported.SENT),
        ("DELIVERED", Reported.DELIVERED),
        (" Read ", Reported.READ),
        ("failed", Reported.FAILED),
    ],
)
def test_a_status_is_known_in_any_case(word: str, status: Reported) -> None:
    update = report_of(status=word)
    assert isinstance(update, MessageReport)
    assert update.status is status


@pytest.mark.parametrize(
    ("status", "what"),
    [
        ("played", "status played"),
        ("Captured!\n", "status captured"),
        (3, "status unnamed"),
        (None, "status unnamed"),
        (["sent"], "status unnamed"),
        ("", "status unnamed"),
    ],
)
def test_a_status_of_no_use_is_ignored_by_its_name(status: object, what: str) -> None:
    assert report_of(status=status) == Ignored(what)


@pytest.mark.parametrize(
    ("timestamp", "at"),
    [
        ("1750030073", 1750030073.0),
        (1750030073, 1750030073.0),
        (1750030073.5, 1750030073.5),
        ("1750030073.25", 1750030073.25),
        ("1000000000", 1000000000.0),
        ("999999999", None),
        (4102444800, 4102444800.0),
        (4102444801, None),
        ("253402300799", None),  # the end of the year 9999
        (1750030073000, None),  # milliseconds
        (-1750030073, None),
        ("-1750030073", None),
        ("+1750030073", None),
        ("1e9", None),
        ("\u0661\u0667\u0665\u0660\u0660\u0663\u0660\u0660\u0667\u0663", None),
        ("TIMESTAMP", None),
        ("", None),
        pytest.param(10**400, None, id="huge"),
        (True, None),
        (None, None),
        (["1750030073"], None),
        ({"seconds": 1750030073}, None),
    ],
)
def test_a_timestamp_is_seconds_in_a_string_or_a_number_and_anything_absurd_is_none(
    timestamp: object, at: float | None
) -> None:
    update = report_of(timestamp=timestamp)
    assert isinstance(update, MessageReport)
    assert update.at == at


@pytest.mark.parametrize(
    ("message_id", "known"),
    [
        (WAMID, WAMID),
        (7261, "7261"),
        ("", None),
        ("wamid.with space", None),
        ("wamid.\u00e9", None),
        ("wamid.\ud800", None),
        pytest.param("w" * 512, "w" * 512, id="longest"),
        pytest.param("w" * 513, None, id="too long"),
        (True, None),
        (1.5, None),
        ([WAMID], None),
        (None, None),
    ],
)
def test_a_message_id_is_printable_ascii_or_not_there(message_id: object, known: str | None) -> None:
    assert report_of(id=message_id) == MessageReport(Reported.SENT, known, "login-7261", 1750030073.0, None, NUMBER_ID)


@pytest.mark.parametrize(
    ("callback", "known"),
    [
        ("login-7261/2/3", "login-7261/2/3"),
        (7261, "7261"),
        ("some data", "some data"),
        ("", None),
        ("login\n7261", None),
        ("login-\udc00", None),
        pytest.param("c" * 512, "c" * 512, id="longest"),
        pytest.param("c" * 513, None, id="too long"),
        (False, None),
        ({}, None),
    ],
)
def test_callback_data_is_kept_as_a_whole_or_not_at_all(callback: object, known: str | None) -> None:
    assert report_of(biz_opaque_callback_data=callback) == MessageReport(
        Reported.SENT, WAMID, known, 1750030073.0, None, NUMBER_ID
    )


def test_a_report_with_neither_an_id_nor_callback_data_is_ignored() -> None:
    assert report_of(id=None, biz_opaque_callback_data="") == Ignored("status without an id")


def test_a_number_id_may_be_a_number_and_may_be_missing() -> None:
    def number_id_of(metadata: object) -> object:
        (update,) = read_updates(body_of({"metadata": metadata, "statuses": [SENT]}))
        assert isinstance(update, MessageReport)
        return update.number_id

    assert number_id_of({"phone_number_id": 106540352242922}) == NUMBER_ID
    assert number_id_of({}) is None
    assert number_id_of(None) is None
    assert number_id_of([{"phone_number_id": NUMBER_ID}]) is None


# Errors


@pytest.mark.parametrize(
    ("code", "known"),
    [
        (131026, 131026),
        ("131026", 131026),
        (131026.0, 131026),
        (0, 0),
        (-1, -1),
        (131026.5, None),
        (1e300, None),
        (10**19, None),
        ("131026a", None),
        ("", None),
        (True, None),
        (None, None),
        ([131026], None),
    ],
)
def test_an_errors_code_is_an_integer_in_whatever_type(code: object, known: int | None) -> None:
    assert error_of({"code": code, "title": "Message undeliverable"}) == ProviderError(known, "Message undeliverable")


@pytest.mark.parametrize(
    ("error", "title", "detail"),
    [
        ({"title": "A", "message": "B", "error_data": {"details": "C"}}, "A", "C"),
        ({"message": "B"}, "B", None),
        ({"title": "", "message": "B", "error_data": "C"}, "B", "C"),
        ({"title": 7, "message": None, "error_data": {"details": ["C"]}}, None, None),
        ({"title": "A" * 400}, "A" * 300, None),
        ({"title": "one\r\ntwo\x1b[31m\ud800"}, "one  two [31m", None),
        ({}, None, None),
    ],
)
def test_an_errors_texts_are_cut_lines_without_control_characters(
    error: dict[str, object], title: str | None, detail: str | None
) -> None:
    assert error_of({"code": 131026} | error) == ProviderError(131026, title, detail)


@pytest.mark.parametrize(
    ("told", "kept"),
    [
        ("Recipient 12015553931 is not on WhatsApp", "Recipient *** is not on WhatsApp"),
        ("Recipient +1 (201) 555-3931.", "Recipient ***."),
        ("to=+49.151.2345678", "to=***"),
        ("\u0661\u0662\u0660\u0661\u0665\u0665\u0665\u0663\u0669\u0663\u0661 unknown", "*** unknown"),
        (f"message {WAMID} dropped", "message *** dropped"),
        ("parameter '493817' is too long", "parameter '***' is too long"),
        ("parameter J9FpnYnP refused", "parameter *** refused"),
        ("(#131026) Message undeliverable", "(#131026) Message undeliverable"),
        ("131026: more than 24 hours", "131026: more than 24 hours"),
        ("(#131047) Message undeliverable", "(***) Message undeliverable"),
    ],
)
def test_an_errors_texts_hold_no_number_no_message_id_and_nothing_that_could_be_a_code(told: str, kept: str) -> None:
    error = {"code": 131026, "title": told, "error_data": {"details": told}}
    assert error_of(error) == ProviderError(131026, kept, kept)
    assert error_of(error | {"title": None, "message": told}) == ProviderError(131026, kept, kept)


def test_the_first_error_with_a_code_counts() -> None:
    assert error_of("odd", {"title": "A"}, {"code": 131000, "title": "B"}, {"code": 2}) == ProviderError(131000, "B")
    assert error_of({"title": "A"}, {"title": "B"}) == ProviderError(None, "A")


@pytest.mark.parametrize("errors", [None, [], "131026", [None, 7], 131026])
def test_a_failure_without_a_readable_error_is_a_failure_all_the_same(errors: object) -> None:
    assert report_of(status="failed", errors=errors) == MessageReport(
        Reported.FAILED, WAMID, "login-7261", 1750030073.0, None, NUMBER_ID
    )


def test_only_a_failure_has_an_error() -> None:
    assert report_of(status="delivered", errors=[{"code": 131026}]) == MessageReport(
        Reported.DELIVERED, WAMID, "login-7261", 1750030073.0, None, NUMBER_ID
    )


def test_an_error_that_belongs_to_no_message_is_trouble_of_the_service() -> None:
    value = {
        "metadata": {"phone_number_id": NUMBER_ID},
        "errors": [{"code": 130429, "title": "Rate limit hit", "error_data": {"details": "Too many messages"}}],
    }
    assert read_updates(body_of(value)) == [
        ServiceTrouble("102290129340398", NUMBER_ID, ProviderError(130429, "Rate limit hit", "Too many messages"))
    ]


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


# One report written again


def test_a_report_is_written_as_a_body_of_its_own_without_any_phone_number() -> None:
    error = ProviderError(131049, "Not delivered", "To maintain a healthy ecosystem")
    report = MessageReport(Reported.FAILED, "wamid.x", "login-7261/1/2", 1750030073.0, error, NUMBER_ID)
    assert json.loads(minimal_body(report)) == {
        "object": "whatsapp_business_account",
        "entry": [
            {
                "changes": [
                    {
                        "field": "messages",
                        "value": {
                            "messaging_product": "whatsapp",
                            "metadata": {"phone_number_id": NUMBER_ID},
                            "statuses": [
                                {
                                    "id": "wamid.x",
                                    "status": "failed",
                                    "timestamp": "1750030073",
                                    "biz_opaque_callback_data": "login-7261/1/2",
                                    "errors": [
                                        {
                                            "code": 131049,
                                            "title": "Not delivered",
                                            "error_data": {"details": "To maintain a healthy ecosystem"},
                                        }
                                    ],
                                }
                            ],
                        },
                    }
                ]
            }
        ],
    }


@PROPERTY
@given(
    status=st.sampled_from(Reported),
    ids=st.tuples(st.none() | IDS, st.none() | IDS).filter(any),
    at=st.none() | st.integers(1_000_000_000, 4_102_444_800) | st.floats(1_000_000_000, 4_102_444_800),
    code=st.none() | st.integers(-1, 10**9),
    title=st.none() | st.text(max_size=400),
    detail=st.none() | st.text(max_size=400) | st.from_regex(r"[0-9a-z#().+ -]{0,400}"),
    failed=st.booleans(),
    number_id=st.none() | IDS,
)
def test_a_report_that_was_read_is_read_from_its_own_body_as_it_was(  # noqa: PLR0917 - by name, from hypothesis
    status: Reported,
    ids: tuple[str | None, str | None],
    at: float | None,
    code: int | None,
    title: str | None,
    detail: str | None,
    failed: bool,  # noqa: FBT001
    number_id: str | None,
) -> None:
    error = ProviderError(code, title, detail) if failed else None
    (report,) = read_updates(minimal_body(MessageReport(status, *ids, at, error, number_id)))
    assert isinstance(report, MessageReport)
    assert (report.status, report.message_id, report.callback) == (status, *ids)
    assert (report.at, report.number_id) == (at, number_id)
    assert read_updates(minimal_body(report)) == [report]


# Our own word for an attempt


@pytest.mark.parametrize(
    ("callback", "attempt"),
    [
        ("login-7261", ("login-7261", 1, 1)),
        ("a", ("a", 1, 1)),
        ("a" * 64, ("a" * 64, 1, 1)),
        ("otp:01J9Z6:1", ("otp:01J9Z6:1", 1, 1)),
        ("login-7261/1/2", ("login-7261", 1, 2)),
        ("login-7261/2/1", ("login-7261", 2, 1)),
        ("2/10/1000000", ("2", 10, 1_000_000)),
        ("login-7261/1/1", None),
        ("login-7261/1/1000001", None),
        ("login-7261/99999999999999999999/2", None),
        ("login-7261/0/2", None),
        ("login-7261/1/0", None),
        ("login-7261/01/2", None),
        ("login-7261/+1/2", None),
        ("login-7261/-1/2", None),
        ("login-7261/1_0/2", None),
        ("login-7261/ 1/2", None),
        ("login-7261/1/2 ", None),
        ("login-7261/1/2\n", None),
        ("login-7261/1/\u0662", None),
        ("login-7261/1.0/2", None),
        ("login-7261/0x1/2", None),
        ("login-7261//2", None),
        ("login-7261/1", None),
        ("login-7261/", None),
        ("login-7261/1/2/3", None),
        ("/1/2", None),
        ("", None),
        ("/", None),
        ("some data", None),
        ("login-7261\n", None),
        ("a" * 65, None),
        ("a" * 65 + "/1/2", None),
        ("caf\u00e9", None),
    ],
)
def test_callback_data_names_an_attempt_or_nothing(callback: str, attempt: tuple[str, int, int] | None) -> None:
    assert attempt_of(callback) == attempt
