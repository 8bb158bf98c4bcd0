"""The simulator's pure rooms: Meta's limits, magic recipients, rules, control requests.

Expected codes and times are written by hand from Meta's documentation, never computed by the code under test.
"""

from __future__ import annotations

import base64
from typing import TYPE_CHECKING

import orjson
import pytest

from otpost_worker.simulator.behaviour import BEHAVIOURS, Accept, Cut, Hang, Manner, Refuse, Reply, magic
from otpost_worker.simulator.cloud import Arrival, Cloud, SimulatorOptions, TemplateLists, Verdict, wamid
from otpost_worker.simulator.control import (
    ControlError,
    Page,
    Quota,
    parse_limits,
    parse_page,
    parse_quota,
    parse_templates,
    parse_token,
)
from otpost_worker.simulator.errors import error_answer, error_body, error_headers
from otpost_worker.simulator.journal import Entry, Journal
from otpost_worker.simulator.limits import Limits, LimitSettings
from otpost_worker.simulator.rules import parse_rule
from send_requests import changed, send_request

if TYPE_CHECKING:
    from collections.abc import Callable

AT = 1_790_000_000.0

# Limits


def test_a_number_may_send_one_seconds_worth_at_once_and_then_its_rate() -> None:
    limits = Limits(LimitSettings(rate=80, pair=False))
    burst = [limits.take("1", f"r{n}", 100.0) for n in range(81)]
    assert burst == [None] * 80 + ["throughput"]
    # 1/80 s buys one message, 10 s no more than one second's worth.
    assert [limits.take("1", "r", 100.0125), limits.take("1", "r", 100.0125)] == [None, "throughput"]
    assert [limits.take("1", "r", 110.0) for _ in range(81)].count(None) == 80


def test_each_number_has_a_throughput_of_its_own_and_zero_means_unlimited() -> None:
    limits = Limits(LimitSettings(rate=1, pair=False))
    assert [limits.take(number, "r", 5.0) for number in ("1", "1", "2")] == [None, "throughput", None]
    unlimited = Limits(LimitSettings(rate=0, pair=False))
    assert {unlimited.take("1", "r", 5.0) for _ in range(1000)} == {None}


def test_one_recipient_gets_45_at_once_and_then_one_every_6_seconds() -> None:
    limits = Limits(LimitSettings(rate=0))
    assert [limits.take("1", "r", 1000.0) for _ in range(46)] == [None] * 45 + ["pair"]
    assert limits.take("1", "r", 1005.9) == "pair"
    assert limits.take("1", "r", 1006.0) is None
    assert limits.take("1", "r", 1006.0) == "pair"


def test_the_burst_is_a_loan_that_takes_45_times_6_seconds_to_pay_back() -> None:
    limits = Limits(LimitSettings(rate=0))
    for _ in range(45):
        limits.take("1", "r", 1000.0)
    # 264 s later 44 of the 45 are paid back, 270 s later all of them.
    assert [limits.take("1", "r", 1264.0) for _ in range(45)].count(None) == 44
    other = Limits(LimitSettings(rate=0))
    for _ in range(45):
        other.take("1", "r", 1000.0)
    assert [other.take("1", "r", 1270.0) for _ in range(46)].count(None) == 45


def test_twenty_at_once_are_paid_back_after_two_minutes_as_in_metas_example() -> None:
    limits = Limits(LimitSettings(rate=0))
    for _ in range(20):
        limits.take("1", "r", 1000.0)
    assert [limits.take("1", "r", 1120.0) for _ in range(46)].count(None) == 45


def test_a_pair_limit_slows_neither_other_recipients_nor_other_numbers() -> None:
    limits = Limits(LimitSettings(rate=0, pair_burst=1))
    sends = [("1", "a"), ("1", "a"), ("1", "b"), ("2", "a")]
    assert [limits.take(number, recipient, 50.0) for number, recipient in sends] == [None, "pair", None, None]


def test_a_refused_message_counts_for_no_limit() -> None:
    limits = Limits(LimitSettings(rate=2, pair_burst=1))
    sends = [limits.take("1", recipient, 50.0) for recipient in ("a", "a", "a", "b", "c")]
    assert sends == [None, "pair", "pair", None, "throughput"]
    assert limits.take("1", "c", 50.5) is None


def test_debts_that_are_paid_are_forgotten() -> None:
    limits = Limits(LimitSettings(rate=0))
    for n in range(100_000):
        limits.take("1", f"r{n}", n / 100)
    # 600 pairs owe something at any time at 100 a second; without forgetting there would be 100,000.
    assert len(limits) < 2000
    idle = Limits(LimitSettings(rate=80, pair=False))
    for n in range(10_000):
        idle.take(f"number{n}", "r", float(n))
    assert len(idle) < 20


# Magic recipients and the answers they get


@pytest.mark.parametrize(
    ("wa_id", "code", "status", "times"),
    [
        ("9991304290", 130429, 400, 0),
        ("99913105620", 131056, 400, 2),
        ("999132001300001", 132001, 404, 3),
        ("9990001900", 190, 401, 0),
        ("9990000000", 0, 401, 0),
        ("9990000030", 3, 500, 0),
        ("9990000020", 2, 503, 0),
        ("9990002190", 219, 403, 0),
        ("9991310000", 131000, 500, 0),
        ("9991310450", 131045, 500, 0),
        ("9991310570", 131057, 500, 0),
        ("9991310310", 131031, 403, 0),
        ("9998877660", 887766, 400, 0),
    ],
)
def test_999_and_a_code_asks_for_that_error(wa_id: str, code: int, status: int, times: int) -> None:
    wanted = magic(wa_id)
    assert wanted is not None
    assert isinstance(wanted.behaviour, Refuse)
    error = wanted.behaviour.error
    assert (error.code, error.http_status, wanted.times) == (code, status, times)


@pytest.mark.parametrize("wa_id", ["12015553931", "99913042", "1999130429000", "9997", "9900112345678901", "990"])
def test_other_numbers_are_nothing_special(wa_id: str) -> None:
    assert magic(wa_id) is None


BEHAVIOUR_TABLE = {
    "01": Hang("hang", taken=False),
    "02": Cut("cut_before", taken=False),
    "03": Cut("cut_after", taken=True),
    "04": Accept("half_answer", Manner.HALF),
    "10": Accept(delay_s=1.0),
    "11": Accept(message_status="held_for_quality_assessment"),
    "15": Hang("hang_after", taken=True),
    "18": Accept(delay_s=3.0),
}
# Number: HTTP status, and whether a handset gets the message.
REPLY_TABLE = {
    "05": (200, True), "06": (500, False), "07": (503, False), "08": (307, False), "12": (400, False),
    "13": (200, True), "14": (429, False), "21": (200, True), "25": (200, True), "27": (500, False),
    "28": (502, False),
}  # fmt: skip


def test_990_and_a_number_asks_for_that_behaviour() -> None:
    for number, behaviour in BEHAVIOUR_TABLE.items():
        wanted = magic(f"990{number}212")
        assert wanted is not None
        assert (wanted.behaviour, wanted.times) == (behaviour, 2)
    for number, (status, taken) in REPLY_TABLE.items():
        reply = BEHAVIOURS[number][1]
        assert isinstance(reply, Reply)
        assert (reply.status, reply.taken) == (status, taken), number


def test_a_behaviour_that_does_not_exist_is_an_error_and_not_an_acceptance() -> None:
    wanted = magic("99077012345")
    assert wanted is not None
    assert isinstance(wanted.behaviour, Refuse)
    assert "no behaviour 77" in wanted.behaviour.error.message


def test_an_error_body_is_shaped_as_metas() -> None:
    answer = error_answer(130429, subcode=2494055, is_transient=True)
    assert error_body(answer, "Az8") == {
        "error": {
            "message": "(#130429) Rate limit hit",
            "type": "OAuthException",
            "code": 130429,
            "error_data": {
                "messaging_product": "whatsapp",
                "details": "Cloud API message throughput has been reached.",
            },
            "error_subcode": 2494055,
            "is_transient": True,
            "fbtrace_id": "Az8",
        }
    }


def test_a_quota_error_tells_in_minutes_when_calls_are_possible_again() -> None:
    headers = error_headers(error_answer(4, regain_minutes=3), "123")
    assert orjson.loads(headers["x-business-use-case-usage"])["123"][0]["estimated_time_to_regain_access"] == 3
    assert orjson.loads(headers["x-app-usage"])["call_count"] == 100


def test_a_wamid_is_base64_around_the_recipients_number_as_metas_are() -> None:
    one, two = wamid("12015553931", b"abcde", 1), wamid("12015553931", b"abcde", 2)
    assert one.startswith("wamid.HBgLMTIwMTU1NTM5MzEVAgARGBI")
    assert b"12015553931" in base64.b64decode(one.removeprefix("wamid."), validate=True)
    assert one != two


# The cloud: order of the checks, one state over many requests


def receive(cloud: Cloud, message: object, now: float = 0.0, sent: str | None = "Bearer t") -> Verdict:
    arrival = Arrival("v25.0", "123", sent, "application/json", orjson.dumps(message))
    return cloud.receive(arrival, at=AT + now, now=now)


def outcomes(cloud: Cloud, to: str, count: int) -> list[tuple[str, int | None]]:
    entries = [receive(cloud, send_request(to=to)).entry for _ in range(count)]
    return [(entry.outcome, entry.error_code) for entry in entries]


def test_the_first_requests_to_a_magic_number_fail_and_the_next_is_accepted() -> None:
    cloud = Cloud(SimulatorOptions(), b"salt!")
    assert outcomes(cloud, "+999131000200001", 4) == [("error", 131000)] * 2 + [("accepted", None)] * 2
    assert outcomes(cloud, "+999131000200002", 1) == [("error", 131000)]
    assert outcomes(cloud, "+9991310000", 3) == [("error", 131000)] * 3
    assert outcomes(cloud, "+99003100007", 2) == [("cut_after", None), ("accepted", None)]


def test_clearing_the_journal_starts_magic_numbers_again() -> None:
    cloud = Cloud(SimulatorOptions(), b"salt!")
    before = outcomes(cloud, "+9991310001", 2)
    cloud.clear()
    assert outcomes(cloud, "+9991310001", 2) == before == [("error", 131000), ("accepted", None)]


@pytest.mark.parametrize(
    ("sent", "code"), [(None, 104), ("", 104), ("Bearer ", 104), ("Basic dDp0", 104), ("Bearer other", 190)]
)
def test_a_wrong_token_is_refused_before_anything_else_and_still_recorded(sent: str | None, code: int) -> None:
    cloud = Cloud(SimulatorOptions(access_token="right"), b"salt!")
    verdict = receive(cloud, send_request(to="nonsense"), sent=sent)
    assert (verdict.entry.error_code, verdict.entry.http_status, verdict.entry.token_ok) == (code, 401, False)
    assert (verdict.entry.to, verdict.entry.refused_by, verdict.entry.taken) == ("nonsense", "token", False)


def test_the_right_token_is_taken() -> None:
    cloud = Cloud(SimulatorOptions(access_token="right"), b"salt!")
    assert receive(cloud, send_request(), sent="Bearer right").entry.outcome == "accepted"


def test_an_exhausted_quota_refuses_everybody_until_its_time_is_over() -> None:
    cloud = Cloud(SimulatorOptions(), b"salt!")
    cloud.exhaust(Quota(seconds=10, code=80007, minutes=2), now=100.0)
    during, after = receive(cloud, send_request(), now=109.9), receive(cloud, send_request(), now=110.0)
    assert (during.entry.error_code, during.entry.refused_by, after.entry.outcome) == (
        80007,
        "quota",
        "accepted",
    )


def test_limits_refuse_what_would_be_taken_and_spare_what_fails_anyway() -> None:
    cloud = Cloud(SimulatorOptions(rate=1, throttle_status=429), b"salt!")
    sends = [receive(cloud, send_request(to=to)).entry for to in ("+9991310000", "+12015553931", "+12015553932")]
    assert [entry.error_code for entry in sends] == [131000, None, 130429]
    assert (sends[2].http_status, sends[2].refused_by) == (429, "throughput")


def test_templates_on_a_list_are_refused_by_their_state() -> None:
    lists = TemplateLists(
        missing=frozenset({("verification_code", "de")}), paused=frozenset({("verification_code", "en_US")})
    )
    cloud = Cloud(SimulatorOptions(templates=lists), b"salt!")
    assert receive(cloud, send_request()).entry.error_code == 132015
    missing = receive(cloud, changed(("template", "language", "code"), "de")).entry
    assert (missing.error_code, missing.http_status) == (132001, 404)
    assert receive(cloud, changed(("template", "language", "code"), "fr")).entry.outcome == "accepted"
    cloud.templates = TemplateLists(disabled=frozenset({("verification_code", "*")}))
    assert receive(cloud, send_request()).entry.error_code == 132016


def test_a_rule_comes_before_the_magic_recipient_and_ends_after_its_times() -> None:
    cloud = Cloud(SimulatorOptions(), b"salt!")
    match = {"to_prefix": "+999", "phone_number_id": "123", "template": "verification_code"}
    cloud.rules.add(parse_rule({"match": match, "times": 2, "answer": {"error": 4, "http_status": 503}}))
    first, second, third = (receive(cloud, send_request(to="+9991310000")).entry for _ in range(3))
    assert [first.error_code, second.error_code, third.error_code] == [4, 4, 131000]
    assert first.http_status == 503
    assert cloud.rules.listed() == []


@pytest.mark.parametrize(
    "match", [{"to": "+12015553932"}, {"to_prefix": "+49"}, {"template": "other"}, {"phone_number_id": "124"}]
)
def test_a_rule_leaves_alone_what_it_does_not_match(match: dict[str, str]) -> None:
    cloud = Cloud(SimulatorOptions(), b"salt!")
    cloud.rules.add(parse_rule({"match": match, "answer": {"behaviour": "hang"}}))
    assert receive(cloud, send_request()).entry.outcome == "accepted"


def test_a_callback_that_holds_the_code_is_flagged_and_not_refused() -> None:
    cloud = Cloud(SimulatorOptions(), b"salt!")
    leak, clean = (receive(cloud, send_request(callback=callback)).entry for callback in ("otp-493817", "job-1"))
    assert [(entry.code_in_callback, entry.outcome) for entry in (leak, clean)] == [
        (True, "accepted"),
        (False, "accepted"),
    ]


# The journal


def entry(seq: int, callback: str | None = None) -> Entry:
    return Entry(seq, AT, "1", "accepted", taken=True, token_ok=True, callback=callback)


def test_the_journal_drops_its_oldest_and_goes_on_counting() -> None:
    journal = Journal(limit=3)
    for _ in range(5):
        journal.record(entry(journal.next_seq, callback="same"))
    assert [held.seq for held in journal.entries()] == [3, 4, 5]
    assert [held.seq for held in journal.entries(since=3, limit=1)] == [4]
    assert (journal.total, journal.taken, journal.dropped) == (5, 5, 2)
    assert journal.stats()["max_per_callback"] == 3


def test_numbers_go_on_after_a_clear_so_that_a_readers_place_stays_right() -> None:
    journal = Journal(limit=10)
    journal.record(entry(journal.next_seq))
    journal.clear()
    journal.record(entry(journal.next_seq))
    assert [held.seq for held in journal.entries(since=1)] == [2]
    assert journal.total == 1


# Control requests


def test_limits_that_are_not_named_stay_as_they_are() -> None:
    assert parse_limits({"rate": 5}, LimitSettings(pair=False)) == LimitSettings(rate=5.0, pair=False)


def test_a_query_is_read_with_defaults() -> None:
    assert parse_page({"since": "7", "timeout_s": "0.5"}) == Page(since=7, limit=10_000, timeout_s=0.5)


@pytest.mark.parametrize(
    ("bad", "said"),
    [
        (lambda: parse_rule([]), "must be a JSON object"),
        (lambda: parse_rule({"answers": {}}), "no field 'answers'"),
        (lambda: parse_rule({"times": 0}), "times must be a whole number from 1"),
        (lambda: parse_rule({"times": True}), "times must be a whole number"),
        (lambda: parse_rule({"delay_s": -1}), "delay_s must be a number from 0 to 120"),
        (lambda: parse_rule({"match": {"to": "12015553931"}}), "must be + and digits"),
        (lambda: parse_rule({"answer": {}}), "exactly one of error"),
        (lambda: parse_rule({"answer": {"error": 4, "status": 200}}), "exactly one of error"),
        (lambda: parse_rule({"answer": {"error": "4"}}), "error must be a whole number"),
        (lambda: parse_rule({"answer": {"behaviour": "explode"}}), "there are accept, hang"),
        (
            lambda: parse_rule({"answer": {"behaviour": "hang", "body": ""}}),
            "body does not go with behaviour",
        ),
        (lambda: parse_rule({"answer": {"status": 99}}), "status must be a whole number from 200 to 599"),
        (lambda: parse_rule({"answer": {"status": 200, "headers": {"a\r\nb": "c"}}}), "cannot be set"),
        (lambda: parse_rule({"answer": {"status": 200, "headers": {"a": "c\r\nd: e"}}}), "printable ASCII"),
        (
            lambda: parse_rule({"answer": {"status": 200, "headers": {"Content-Length": "9"}}}),
            "cannot be set",
        ),
        (lambda: parse_rule({"answer": {"error": 4, "retry_after": "1\n"}}), "printable ASCII"),
        (lambda: parse_limits({"rate": "80"}, LimitSettings()), "rate must be a number"),
        (lambda: parse_limits({"throttle_status": 200}, LimitSettings()), "from 400 to 599"),
        (lambda: parse_token({}), "access_token is missing"),
        (lambda: parse_token({"access_token": ""}), "write null"),
        (lambda: parse_quota({"code": 4}), "seconds is missing"),
        (lambda: parse_quota({"seconds": 1, "code": 190}), "4 or 80007"),
        (lambda: parse_templates({"missing": ["a"]}), "missing[0] must be a JSON object"),
        (lambda: parse_page({"since": "-1"}), "since must be a whole number"),
        (lambda: parse_page({"sinse": "1"}), "no field 'sinse'"),
        (lambda: parse_page({"timeout_s": "nan"}), "timeout_s must be a number"),
    ],
)
def test_a_bad_control_request_is_told_what_is_wrong_and_what_to_write(bad: Callable[[], object], said: str) -> None:
    with pytest.raises(ControlError) as caught:
        bad()
    assert said in str(caught.value)
