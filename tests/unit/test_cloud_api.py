"""The Cloud API without a network: the request's JSON, and what every shape of an answer means."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Final, cast

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st
from multidict import CIMultiDict, CIMultiDictProxy

from job_strategies import CODES, DIGITS, PROPERTY
from otpost_worker.deliver import Deliverer
from otpost_worker.envelope import Defaults, Envelope, Parcel, open_envelope
from otpost_worker.keyring import Keyring
from otpost_worker.outcome import Accepted, Outcome, Refused, Unknown
from otpost_worker.ports import Message, Ticket
from otpost_worker.providers.cloud_api import (
    CloudApiAccount,
    outcome_of,
    request_body,
)
from otpost_worker.providers.http import Reply
from otpost_worker.webhook_bodies import attempt_of
from ports_in_memory import KEY

FIXTURES: Final = Path(__file__).parents[1] / "fixtures"
NOW: Final = 1769860800.0  # Sat, 31 Jan 2026 12:00:00 GMT
MESSAGE: Final = Message("+12015553931", "493817", "verification_code", "en_US", "otp:01J9Z6:1")


def answer(
    status: int, body: bytes | dict[str, Any] | None, headers: dict[str, str] | None = None, message: Message = MESSAGE
) -> Outcome:
    content = json.dumps(body).encode() if isinstance(body, dict) else body
    reply = Reply(status, CIMultiDictProxy(CIMultiDict(headers or {})), content)
    return outcome_of(reply, message, now=NOW)


def refused(
    status: int, body: bytes | dict[str, Any] | None, headers: dict[str, str] | None = None, message: Message = MESSAGE
) -> Refused:
    outcome = answer(status, body, headers, message)
    assert isinstance(outcome, Refused)
    return outcome


def error(**fields: object) -> dict[str, Any]:
    return {"error": fields}


def fixture(name: str) -> bytes:
    return (FIXTURES / name).read_bytes()


# The request


def test_the_request_is_the_one_that_meta_documents() -> None:
    assert json.loads(request_body(MESSAGE)) == {
        "messaging_product": "whatsapp",
        "recipient_type": "individual",
        "to": "+12015553931",
        "biz_opaque_callback_data": "otp:01J9Z6:1",
        "type": "template",
        "template": {
            "name": "verification_code",
            "language": {"code": "en_US"},
            "components": [
                {"type": "body", "parameters": [{"type": "text", "text": "493817"}]},
                {
                    "type": "button",
                    "sub_type": "url",
                    "index": "0",
                    "parameters": [{"type": "text", "text": "493817"}],
                },
            ],
        },
    }


@PROPERTY
@given(DIGITS, CODES)
def test_the_number_keeps_its_plus_and_the_code_goes_twice(digits: str, code: str) -> None:
    body = json.loads(request_body(Message("+" + digits, code, "t", "en", "job-1")))
    assert body["to"] == "+" + digits
    texts = [component["parameters"][0]["text"] for component in body["template"]["components"]]
    assert texts == [code, code]
    assert body["biz_opaque_callback_data"] == "job-1"


@pytest.mark.parametrize(
    ("run", "attempt", "callback"),
    [(1, 1, "job-1"), (1, 2, "job-1/1/2"), (2, 1, "job-1/2/1"), (3, 12, "job-1/3/12")],
)
def test_the_callback_is_the_jobs_id_and_from_the_second_attempt_on_says_which(
    run: int, attempt: int, callback: str
) -> None:
    body = b'{"id":"job-1","to":"12015553931","code":"493817","created_at":"2026-01-31T12:00:00Z"}'
    parcel = open_envelope(Envelope(body, "default"), Defaults("t", "en"), now=NOW)
    assert isinstance(parcel, Parcel)
    # The rule needs nothing of the deliverer but its keys.
    deliverer = cast("Deliverer", SimpleNamespace(_codes=Keyring((KEY,))))
    message = Deliverer._message(deliverer, parcel, Ticket("job-1", run, attempt, "token"))
    assert (message.callback, message.to, message.code) == (callback, "+12015553931", "493817")
    assert attempt_of(callback) == ("job-1", run, attempt)


def test_neither_a_message_nor_an_account_shows_its_secrets() -> None:
    shown = f"{MESSAGE!r} {MESSAGE} {CloudApiAccount('106540352242922', 'EAAtoken')!r}"
    for secret in ("493817", "2015553931", "EAAtoken"):
        assert secret not in shown
    assert "106540352242922" in shown


# Success


@pytest.mark.parametrize(
    ("name", "message_id"),
    [
        ("restfb/message-response.json", "wamid.foobar"),
        ("restfb/message-response-phone-precedence.json", "wamid.foobar"),
        ("whatsapp-business-java-api/message.json", "wamid.gBGGSFcCNEOPAgkO_KJ55r4w_ww"),
    ],
)
def test_an_answer_with_an_id_is_an_acceptance(name: str, message_id: str) -> None:
    assert answer(200, fixture(name)) == Accepted(message_id)


@pytest.mark.parametrize(
    ("status", "told"),
    [
        ("accepted", None), (None, None), (7, None), ("paused", "paused"), ("PAUSED", "paused"),
        ("held_for_quality_assessment", "held_for_quality_assessment"),
        ("for +12015553931", "unknown"), ("", "unknown"), ("x" * 65, "unknown"),
    ],
)  # fmt: skip
def test_a_message_that_is_not_passed_on_at_once_is_held(status: object, told: str | None) -> None:
    body = {"messages": [{"id": "wamid.X", "message_status": status}]}
    for code in (200, 201, 202):
        assert answer(code, body) == Accepted("wamid.X", told)


@pytest.mark.parametrize(
    "body",
    [
        b"",
        None,
        b"<html>",
        b"\xff\xfe",
        b'{"messages": [{"id": ',
        b"[]",
        b"null",
        {},
        {"messages": None},
        {"messages": []},
        {"messages": {}},
        {"messages": [None]},
        {"messages": ["wamid.X"]},
        {"messages": [{}]},
        {"messages": [{"id": ""}]},
        {"messages": [{"id": 7}]},
        {"error": {"code": 190}},
    ],
)
def test_a_success_without_an_id_is_unknown(body: bytes | dict[str, Any] | None) -> None:
    outcome = answer(200, body, {"x-fb-trace-id": "Abc"})
    assert isinstance(outcome, Unknown)
    assert (outcome.error.kind, outcome.error.http_status) == ("unknown", 200)
    assert outcome.error.provider_trace_id == "Abc"


# Refusals


def test_a_refusal_is_told_with_all_that_meta_says() -> None:
    body = error(
        message="(#130429) Rate limit hit",
        type="OAuthException",
        code=130429,
        error_data={"messaging_product": "whatsapp", "details": "Cloud API message throughput has been reached."},
        error_subcode=2494055,
        fbtrace_id="Az8or2yhqkZfEZ-_4Qn_Bam",
    )
    told = refused(400, body, {"x-fb-trace-id": "other"}).error
    assert (told.kind, told.code, told.http_status) == ("throughput", 130429, 400)
    assert told.title == "(#130429) Rate limit hit"
    assert told.detail == "Cloud API message throughput has been reached."
    assert told.provider_trace_id == "Az8or2yhqkZfEZ-_4Qn_Bam"


@pytest.mark.parametrize(
    ("name", "status", "kind", "code", "trace_id"),
    [
        ("restfb/exampleErrorNew.json", 401, "sender_halted", 190, "EJplcsCHuLu"),
        (
            "whatsapp-business-java-api/phoneNumberNotFoundError.json",
            400,
            "sender_halted",
            100,
            "AeadGx6xI8M9EVqcy11ynej",
        ),
        ("whatsapp-business-java-api/verifyCodeError.json", 400, "bad_request", 136025, "AlUVfPbGecEVqld9CAPMk53"),
    ],
)
def test_bodies_that_others_recorded_are_understood(
    name: str, status: int, kind: str, code: int, trace_id: str
) -> None:
    told = refused(status, fixture(name)).error
    assert (told.kind, told.code, told.provider_trace_id) == (kind, code, trace_id)
    assert told.detail is None


@pytest.mark.parametrize(
    ("status", "body", "kind", "code"),
    [
        pytest.param(400, error(code="131026"), "recipient", 131026, id="code as text"),
        pytest.param(400, error(code="100", error_subcode="33"), "sender_halted", 100, id="subcode as text"),
        pytest.param(400, error(code="12x"), "bad_request", None, id="code that is no number"),
        pytest.param(400, error(code=True), "bad_request", None, id="code true"),
        pytest.param(400, error(code=131026.0), "bad_request", None, id="code as float"),
        pytest.param(400, error(code=None), "bad_request", None, id="code null"),
        pytest.param(400, error(code=100, error_subcode=34), "bad_request", 100, id="another subcode"),
        pytest.param(500, error(code=3), "sender_halted", 3, id="permission error with HTTP 500"),
        pytest.param(400, {"error": "oops"}, "bad_request", None, id="error as text"),
        pytest.param(500, {"error": "oops"}, "unavailable", None, id="error as text, HTTP 500"),
        pytest.param(500, b"<html><body>Sorry</body></html>", "unavailable", None, id="HTML, HTTP 500"),
        pytest.param(502, b"<html>502 Bad Gateway</html>", "unavailable", None, id="HTML, HTTP 502"),
        pytest.param(503, b"", "unavailable", None, id="empty, HTTP 503"),
        pytest.param(504, None, "unavailable", None, id="too large to read, HTTP 504"),
        pytest.param(408, b"", "unavailable", None, id="request timeout"),
        pytest.param(429, b"", "throughput", None, id="empty, HTTP 429"),
        pytest.param(400, b"", "bad_request", None, id="empty, HTTP 400"),
        pytest.param(413, b"", "bad_request", None, id="empty, HTTP 413"),
        pytest.param(401, b"", "sender_halted", None, id="empty, HTTP 401"),
        pytest.param(403, b"<html>", "sender_halted", None, id="HTML, HTTP 403"),
        pytest.param(404, b"<html>", "sender_halted", None, id="HTML, HTTP 404"),
        pytest.param(407, b"", "sender_halted", None, id="a proxy that wants a password"),
        pytest.param(307, b"", "sender_halted", None, id="redirect"),
        pytest.param(400, error(code=999999), "bad_request", 999999, id="unknown code, HTTP 400"),
        pytest.param(429, error(code=999999), "unavailable", 999999, id="unknown code, HTTP 429"),
        pytest.param(500, error(code=999999), "unavailable", 999999, id="unknown code, HTTP 500"),
        pytest.param(400, error(code=999999, is_transient=True), "unavailable", 999999, id="unknown code, transient"),
        pytest.param(400, error(code=999999, is_transient="yes"), "bad_request", 999999, id="transient as text"),
        pytest.param(400, error(message="wait", is_transient=True), "unavailable", None, id="no code, transient"),
        pytest.param(400, error(code=100, is_transient=True), "bad_request", 100, id="known code, transient"),
    ],
)
def test_odd_shapes_of_errors_are_judged_all_the_same(
    status: int, body: bytes | dict[str, Any] | None, kind: str, code: int | None
) -> None:
    told = refused(status, body).error
    assert (told.kind, told.code, told.http_status) == (kind, code, status)
    assert told.title


@pytest.mark.parametrize(
    ("status", "body", "listed"),
    [
        pytest.param(400, error(code=131009), True, id="known code"),
        pytest.param(400, error(code=100, error_subcode=33), True, id="known by its subcode"),
        pytest.param(500, error(code=131020), True, id="groups"),
        pytest.param(500, error(code=131041), True, id="131041"),
        pytest.param(500, error(code=131199), False, id="before the groups"),
        pytest.param(500, error(code=131200), True, id="the first of the groups"),
        pytest.param(500, error(code=131299), True, id="the last of the groups"),
        pytest.param(500, error(code=131300), False, id="behind the groups"),
        pytest.param(500, error(code=137999), False, id="before calling"),
        pytest.param(500, error(code=138000), True, id="the first of calling"),
        pytest.param(500, error(code=139999), True, id="the last of calling"),
        pytest.param(500, error(code=140000), False, id="behind calling"),
        pytest.param(500, error(code=147005), True, id="usernames"),
        pytest.param(400, error(code=2388040), True, id="making templates"),
        pytest.param(503, b"", True, id="no code at all"),
        pytest.param(400, error(code=999999), False, id="unknown code, HTTP 400"),
        pytest.param(500, error(code=999999), False, id="unknown code, HTTP 500"),
    ],
)
def test_a_code_that_the_table_does_not_know_is_marked(status: int, body: bytes | dict[str, Any], listed: bool) -> None:  # noqa: FBT001 - a case
    assert refused(status, body).listed is listed


@pytest.mark.parametrize(
    ("data", "detail"),
    [
        ({"details": "why"}, "why"),
        ("plain text", "plain text"),
        ({"details": 7}, None),
        ({}, None),
        ([], None),
        (7, None),
        ("", None),
    ],
)
def test_details_come_as_object_or_text_or_not_at_all(data: object, detail: str | None) -> None:
    assert refused(400, error(code=100, message="m", error_data=data)).error.detail == detail


@pytest.mark.parametrize("header", ["x-fb-trace-id", "X-FB-Request-ID", "x-fb-debug"])
def test_a_trace_id_is_taken_from_a_header_where_the_body_has_none(header: str) -> None:
    assert refused(500, b"<html>", {header: "Abc"}).error.provider_trace_id == "Abc"
    assert refused(500, error(code=2, fbtrace_id=""), {header: "Abc"}).error.provider_trace_id == "Abc"
    assert refused(500, b"").error.provider_trace_id is None


def test_long_texts_are_cut() -> None:
    told = refused(400, error(code=100, message="m" * 9000, error_data="d" * 9000, fbtrace_id="t" * 9000)).error
    assert (told.title, told.detail, told.provider_trace_id) == ("m" * 300, "d" * 300, "t" * 300)


# What an answer repeats of the message


@pytest.mark.parametrize(
    "text",
    [
        "Param text '493817' is invalid",
        "(#131026) cannot deliver to 12015553931",
        "cannot deliver to +12015553931: 493817493817",
        "x" * 297 + "493817",
    ],
)
def test_what_an_answer_repeats_of_the_message_is_not_told(text: str) -> None:
    told = repr(refused(400, error(code=100, message=text, error_data={"details": text})))
    told += repr(refused(400, error(code=100, message=text, error_data=text)))
    assert "493817" not in told
    assert "2015553931" not in told


def test_a_code_that_is_part_of_the_number_hides_the_number_as_well() -> None:
    message = Message("+12015553931", "1201", "t", "en", "job-1")
    told = refused(400, error(code=100, message="cannot deliver 1201 to 12015553931"), message=message).error
    assert told.title is not None
    assert "5553931" not in told.title
    assert "1201" not in told.title


@PROPERTY
@given(st.from_regex(r"[A-Z]{4}[0-9]{4}", fullmatch=True), DIGITS.filter(lambda d: len(d) > 9), st.text(max_size=5))
def test_no_text_of_an_answer_gives_code_or_number_away(code: str, digits: str, between: str) -> None:
    text = f"{between}{code}{between}{digits}{between}+{digits}{code}"
    message = Message("+" + digits, code, "t", "en", "job-1")
    told = repr(refused(400, error(code=100, message=text, error_data={"details": text}), message=message))
    assert code not in told
    assert digits not in told


# What is kept can be written


def test_a_trace_header_that_is_no_text_is_kept_as_far_as_it_can_be_written() -> None:
    # How aiohttp hands on bytes that are no UTF-8.
    told = refused(503, b"{}", {"x-fb-trace-id": "A\udce9\udcff-ä9"})
    assert told.error.provider_trace_id == "A??-?9"
    assert orjson.loads(orjson.dumps(told.error))["provider_trace_id"] == "A??-?9"


def test_half_a_character_makes_an_answer_that_cannot_be_understood() -> None:
    taken = rb'{"messages":[{"id":"wamid.\ud800"}]}'
    assert isinstance(answer(200, taken), Unknown)
    assert refused(400, rb'{"error":{"code":100,"message":"\udfff"}}').error.title == "HTTP status 400"


_TEXTS: Final = st.text(st.characters(codec="utf-8")) | st.text(
    st.characters(min_codepoint=0xDC80, max_codepoint=0xDCFF)
)


@PROPERTY
@given(
    st.sampled_from([200, 400, 503]),
    st.binary() | st.builds(lambda text: json.dumps({"error": {"message": text, "fbtrace_id": text}}).encode(), _TEXTS),
    st.dictionaries(st.sampled_from(["x-fb-trace-id", "x-fb-debug", "Retry-After"]), _TEXTS),
)
def test_whatever_the_provider_says_can_be_written_into_a_result(
    status: int, body: bytes, headers: dict[str, str]
) -> None:
    assert orjson.dumps(answer(status, body, headers))
