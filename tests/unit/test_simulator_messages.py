"""The simulator judges a send request by Meta's rules.

Expected codes are written by hand from Meta's documentation.
"""

from __future__ import annotations

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from otpost_worker.simulator.errors import ErrorAnswer
from otpost_worker.simulator.messages import Message, glimpse, parse_json, read_message
from send_requests import BODY, BODY_TEXT, BUTTON, BUTTON_TEXT, GONE, changed, send_request


def refused(payload: object) -> tuple[int, int]:
    answer = read_message(payload)
    assert isinstance(answer, ErrorAnswer), answer
    return answer.code, answer.http_status


def test_a_good_request_is_read_as_what_a_handset_would_show() -> None:
    assert read_message(send_request()) == Message(
        to="+12015553931",
        wa_id="12015553931",
        prepended=False,
        code="493817",
        template="verification_code",
        language="en_US",
        callback="job-1",
    )


@pytest.mark.parametrize(
    "path_and_value",
    [
        (("recipient_type",), GONE),
        (("biz_opaque_callback_data",), GONE),
        (("biz_opaque_callback_data",), "x" * 512),
        (("template", "language", "policy"), "deterministic"),
        (("template", "language", "code"), "fil"),
        (("template", "name"), "a" * 512),
        ((*BUTTON, "index"), 0),
        (("context",), {"message_id": "wamid.x"}),
    ],
)
def test_what_meta_leaves_open_is_taken(path_and_value: tuple[tuple[str | int, ...], object]) -> None:
    assert isinstance(read_message(changed(*path_and_value)), Message)


@pytest.mark.parametrize("code", ["1", "J$FpnYnP", "123456789012345", "12 34", "12   34", "código"])
def test_codes_that_meta_allows_are_taken(code: str) -> None:
    assert isinstance(read_message(send_request(code=code)), Message)


@pytest.mark.parametrize(
    ("path", "value", "code", "status"),
    [
        (("messaging_product",), GONE, 100, 400),
        (("messaging_product",), "sms", 100, 400),
        (("recipient_type",), "person", 100, 400),
        (("recipient_type",), "group", 131009, 400),
        (("to",), GONE, 100, 400),
        (("to",), 12015553931, 100, 400),
        (("to",), "+1201", 131009, 400),
        (("to",), "+1234567890123456", 131009, 400),
        (("to",), "+02015553931", 131009, 400),
        (("to",), "+1201555393x", 131009, 400),
        (("to",), "+1201555393\u0661", 131009, 400),
        (("to",), "+12015553931,+12015553932", 131009, 400),
        (("to",), "", 131009, 400),
        (("type",), GONE, 131051, 400),
        (("type",), "text", 131051, 400),
        (("biz_opaque_callback_data",), 7, 100, 400),
        (("biz_opaque_callback_data",), "x" * 513, 100, 400),
        (("biz_opaque_calback_data",), "job-1", 100, 400),
        (("template",), GONE, 131008, 400),
        (("template",), "verification_code", 100, 400),
        (("template", "name"), GONE, 131008, 400),
        (("template", "name"), ["a"], 100, 400),
        (("template", "name"), "Verification", 132001, 404),
        (("template", "name"), "a" * 513, 132001, 404),
        (("template", "namespace"), "x", 100, 400),
        (("template", "language"), GONE, 131008, 400),
        (("template", "language"), "en_US", 100, 400),
        (("template", "language", "code"), GONE, 131008, 400),
        (("template", "language", "code"), "en-US", 132001, 404),
        (("template", "language", "policy"), "fallback", 100, 400),
        (("template", "components"), GONE, 132000, 400),
        (("template", "components"), {}, 100, 400),
        (("template", "components"), [], 132000, 400),
        (BUTTON, GONE, 131008, 400),
        (BODY, GONE, 132000, 400),
        (BUTTON, {"type": "body", "parameters": []}, 132018, 400),
        (BUTTON, {"type": "header", "parameters": []}, 132018, 400),
        (BUTTON, {"type": "footer"}, 100, 400),
        (BUTTON, "button", 100, 400),
        ((*BUTTON, "sub_type"), GONE, 131008, 400),
        ((*BUTTON, "sub_type"), "quick_reply", 132018, 400),
        ((*BUTTON, "index"), GONE, 131008, 400),
        ((*BUTTON, "index"), "1", 132018, 400),
        ((*BUTTON, "index"), False, 100, 400),
        ((*BODY, "index"), "0", 100, 400),
        ((*BODY, "parameters"), [], 132000, 400),
        ((*BUTTON, "parameters"), [], 132000, 400),
        ((*BODY, "parameters"), "493817", 100, 400),
        ((*BODY, "parameters", 0), {"type": "image", "image": {}}, 132012, 400),
        ((*BODY, "parameters", 0, "type"), GONE, 131008, 400),
        (BODY_TEXT, GONE, 131008, 400),
        (BODY_TEXT, "", 131008, 400),
        (BODY_TEXT, 493817, 100, 400),
        (BUTTON_TEXT, "493818", 132018, 400),
    ],
)
def test_each_violation_gets_metas_code_and_status(
    path: tuple[str | int, ...], value: object, code: int, status: int
) -> None:
    assert refused(changed(path, value)) == (code, status)


@pytest.mark.parametrize(
    "code",
    [
        "1234567890123456", "12\n34", "12\t34", "12\r34", "12    34", "12\U0001f600",
        "http://x.yz", "www.x.yz", "bit.ly/abc", "T.ME/x", "see:a-1.info/",
    ],
)  # fmt: skip
def test_codes_that_meta_forbids_are_a_template_validation_error(code: str) -> None:
    assert refused(send_request(code=code)) == (132018, 400)


def test_a_business_scoped_user_id_cannot_get_a_one_time_password() -> None:
    message = changed(("to",), GONE)
    assert refused({**message, "recipient": "US.13491208655302741918"}) == (131062, 400)


@pytest.mark.parametrize("to", ["+1 (201) 555-3931", "+1.201.555.3931", "(+1)2015553931"])
def test_peoples_punctuation_in_a_number_is_taken_out(to: str) -> None:
    message = read_message(send_request(to=to))
    assert isinstance(message, Message)
    assert (message.wa_id, message.prepended, message.to) == ("12015553931", False, to)


def test_without_a_plus_the_message_goes_to_a_stranger_under_the_business_numbers_country_code() -> None:
    message = read_message(send_request(to="4915123456789"), country_code="44")
    assert isinstance(message, Message)
    assert (message.wa_id, message.prepended) == ("444915123456789", True)


@pytest.mark.parametrize("payload", [None, [], "x", 7, True, {}])
def test_a_payload_that_is_no_object_lacks_its_first_parameter(payload: object) -> None:
    assert refused(payload) == (100, 400)


@pytest.mark.parametrize("body", [b"", b"{", b"\xff\xfe", b"[" * 5000, b'{"a":1e999}', b'{"a":"\\ud800"}'])
def test_a_body_that_is_not_json_is_an_invalid_parameter(body: bytes) -> None:
    answer = parse_json("application/json", body)
    assert isinstance(answer, ErrorAnswer)
    assert (answer.code, answer.http_status) == (100, 400)


def test_json_under_another_content_type_is_not_read() -> None:
    assert isinstance(parse_json("text/plain", orjson.dumps(send_request())), ErrorAnswer)


ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=9), inner, max_size=3),
    max_leaves=6,
)
PLACES: list[tuple[str | int, ...]] = [
    ("to",), ("type",), ("recipient_type",), ("messaging_product",), ("biz_opaque_callback_data",),
    ("template",), ("template", "name"), ("template", "components"),
    ("template", "language"), ("template", "language", "code"),
    BODY, (*BODY, "type"), (*BODY, "parameters"), (*BODY, "parameters", 0, "type"), BODY_TEXT,
    BUTTON, (*BUTTON, "type"), (*BUTTON, "parameters", 0), (*BUTTON, "sub_type"), (*BUTTON, "index"),
    BUTTON_TEXT,
]  # fmt: skip


@given(path=st.sampled_from(PLACES), value=ANYTHING)
def test_any_value_at_any_place_gets_an_answer(path: tuple[str | int, ...], value: object) -> None:
    payload = changed(path, value)
    assert isinstance(read_message(payload), Message | ErrorAnswer)
    glimpse(payload)
