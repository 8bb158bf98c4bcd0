"""How long the Cloud API asks to wait: Retry-After and the usage header, whatever stands in them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Final

import pytest
from hypothesis import given
from hypothesis import strategies as st
from multidict import CIMultiDict, CIMultiDictProxy

from job_strategies import PROPERTY
from otpost_worker.outcome import Refused
from otpost_worker.ports import Message
from otpost_worker.providers.cloud_api import outcome_of, quota_pause_s, retry_after_s
from otpost_worker.providers.http import Reply

USAGE_HEADER: Final = Path(__file__).parents[1] / "fixtures/restfb/header-business.json"
NOW: Final = 1769860800.0  # Sat, 31 Jan 2026 12:00:00 GMT
DAY: Final = 86400.0


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        (None, None),
        ("2", 2.0),
        (" 120 ", 120.0),
        ("0", 0.0),
        ("1.5", 1.5),
        ("999999999", DAY),
        ("99999999999999999999", None),
        ("-1", None),
        ("1e5", None),
        ("soon", None),
        ("", None),
        ("\u0663", None),
        ("Sat, 31 Jan 2026 12:00:30 GMT", 30.0),
        ("Sat, 31 Jan 2026 13:00:30 +0100", 30.0),
        ("Saturday, 31-Jan-26 12:00:30 GMT", 30.0),
        ("Sat, 31 Jan 2026 11:59:59 GMT", None),
        ("Sat, 31 Jan 2026 12:00:00 GMT", None),
        ("Fri, 31 Dec 9999 23:59:59 GMT", DAY),
        ("Sat, 32 Jan 2026 12:00:30 GMT", None),
        ("Sat, 31 Jan 2026 12:00:30 +99999999", None),
    ],
)
def test_retry_after_is_seconds_or_a_date_and_anything_else_is_not_there(
    value: str | None, seconds: float | None
) -> None:
    assert retry_after_s(value, now=NOW) == seconds


@PROPERTY
@given(
    st.text(max_size=40)
    | st.from_regex(r"[A-Z][a-z]{2}, [0-9]{1,5} [A-Z][a-z]{2} [0-9]{1,9} [0-9:]{1,9} [+-][0-9]{1,9}")
)
def test_no_retry_after_breaks_anything(value: str) -> None:
    seconds = retry_after_s(value, now=NOW)
    assert seconds is None or 0 <= seconds <= DAY


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        (None, None),
        ("", None),
        ("garbage", None),
        ("[1]", None),
        ("{}", None),
        ('{"1":{}}', None),
        ('{"1":[{"estimated_time_to_regain_access":3}]}', 180.0),
        ('{"1":[{"estimated_time_to_regain_access":0.5}]}', 30.0),
        ('{"1":[{"estimated_time_to_regain_access":0}]}', None),
        ('{"1":[{"estimated_time_to_regain_access":-3}]}', None),
        ('{"1":[{"estimated_time_to_regain_access":"3"}]}', None),
        ('{"1":[{"estimated_time_to_regain_access":true}]}', None),
        ('{"1":[{"estimated_time_to_regain_access":9999999}]}', None),
        ('{"1":[{"estimated_time_to_regain_access":5000}]}', DAY),
        ('{"1":[{"call_count":100},7,null],"2":[{"estimated_time_to_regain_access":2}],"3":[]}', 120.0),
        (
            (
                '{"1":[{"estimated_time_to_regain_access":1},{"estimated_time_to_regain_access":4}],'
                '"2":[{"estimated_time_to_regain_access":2}]}'
            ),
            240.0,
        ),
    ],
)
def test_a_usage_header_tells_minutes_and_the_longest_counts(value: str | None, seconds: float | None) -> None:
    assert quota_pause_s(value) == seconds


def test_a_usage_header_that_others_recorded_is_understood() -> None:
    # Ten minutes stand in it.
    assert quota_pause_s(USAGE_HEADER.read_text(encoding="utf-8")) == 600.0


@PROPERTY
@given(st.text(max_size=40))
def test_no_usage_header_breaks_anything(value: str) -> None:
    quota_pause_s(value)
    quota_pause_s(json.dumps({"1": [{"estimated_time_to_regain_access": value}, value]}))


USAGE: Final = {"x-business-use-case-usage": '{"1":[{"estimated_time_to_regain_access":3}]}'}


@pytest.mark.parametrize(
    ("status", "code", "headers", "asked_s"),
    [
        pytest.param(400, 80007, USAGE, 180.0, id="quota with a usage header"),
        pytest.param(400, 80007, {**USAGE, "Retry-After": "7"}, 180.0, id="quota with both: the provider's own word"),
        pytest.param(400, 80007, {"Retry-After": "7"}, 7.0, id="quota with Retry-After alone"),
        pytest.param(400, 80007, {}, None, id="quota with neither"),
        pytest.param(500, 131000, USAGE, None, id="usage headers matter to quotas only"),
        pytest.param(503, 131000, {"Retry-After": "7"}, 7.0, id="Retry-After"),
        pytest.param(500, 131057, {}, 15.0, id="maintenance takes a while"),
        pytest.param(500, 131057, {"Retry-After": "7"}, 15.0, id="maintenance: the longer one"),
        pytest.param(500, 131057, {"Retry-After": "70"}, 70.0, id="maintenance: the longer one, the other way"),
    ],
)
def test_a_pause_is_what_the_provider_asks_for(
    status: int, code: int, headers: dict[str, str], asked_s: float | None
) -> None:
    answer = json.dumps({"error": {"code": code}}).encode()
    reply = Reply(status, CIMultiDictProxy(CIMultiDict(headers)), answer)
    outcome = outcome_of(reply, Message("+12015553931", "493817", "t", "en", "job-1"), now=NOW)
    assert isinstance(outcome, Refused)
    assert outcome.not_before_s == asked_s
