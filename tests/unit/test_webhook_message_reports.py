"""Reports on messages in webhook bodies: how each is read, with its error, and written again; whose it is."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from job_strategies import IDS, PROPERTY
from otpost_worker.updates import (
    Ignored,
    MessageReport,
    NotRequested,
    ProviderError,
    Reported,
    ServiceTrouble,
    Update,
)
from otpost_worker.webhook_bodies import attempt_of, minimal_body, read_updates
from webhook_samples import NUMBER_ID, SENT, WAMID, body_of, body_of_statuses


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
    failed: bool,  # noqa: FBT001 - a case
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


@pytest.mark.parametrize("at", [None, 1764000000.0, 1764000000.25])
@pytest.mark.parametrize("number_id", [None, "106540352242922"])
def test_a_tap_on_not_requested_is_read_back_as_it_was(at: float | None, number_id: str | None) -> None:
    tap = NotRequested("wamid.HBgLMTIwMTU1NTM5MzEVAgARGBI5", at, number_id)
    assert read_updates(minimal_body(tap)) == [tap]
