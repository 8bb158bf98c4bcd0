"""What answers say about a sender: what begins and ends holds, cuts and pauses, and what is news."""

from __future__ import annotations

from dataclasses import replace
from typing import Final

import pytest

from otpost_worker.outcome import Accepted, Error, Kind, Outcome, Refused, Unknown
from otpost_worker.pacing import Cut, Hold, Lane
from otpost_worker.standing import Change, Heard, News, Signal, Standing, hear, hear_outcome, signal_of

NOW: Final = 1_795_464_000.0
LANE: Final = Lane(
    "default", "app", "+12015553931", "verification_code", "en_US", 80.0, latest_start=NOW + 295, deadline=NOW + 300
)
HOLD: Final = Hold(NOW - 10, NOW - 5)
HALTED: Final = Standing(sender_hold=HOLD)


def heard(signal: Signal, *, begun_at: float = NOW - 0.1, pause_s: float | None = None) -> Heard:
    return Heard(LANE, signal, begun_at, pause_s)


def changes(news: tuple[News, ...]) -> list[tuple[str, str | None]]:
    return [(one.change.value, one.template) for one in news]


@pytest.mark.parametrize(
    ("outcome", "signal"),
    [
        (Accepted("wamid.1"), "accepted"),
        (Refused(Error(Kind.THROUGHPUT, code=130429)), "throttled"),
        (Refused(Error(Kind.QUOTA, code=80007)), "quota"),
        (Refused(Error(Kind.SENDER_HALTED, code=190)), "sender_refused"),
        # The token that it had is not in use any more.
        (Refused(Error(Kind.SENDER_HALTED, code=190), outdated=True), "nothing"),
        (Refused(Error(Kind.TEMPLATE, code=132001)), "template_refused"),
        (Refused(Error(Kind.RECIPIENT, code=131026)), "answered"),
        (Refused(Error(Kind.BAD_REQUEST, code=100)), "answered"),
        (Refused(Error(Kind.PAIR_LIMIT, code=131056)), "pair_limited"),
        (Refused(Error(Kind.USER_LIMIT, code=131049)), "answered"),
        # Meta's own code for trouble: somebody is there.
        (Refused(Error(Kind.UNAVAILABLE, code=131000, http_status=500)), "nothing"),
        (Refused(Error(Kind.UNAVAILABLE, http_status=503)), "unanswered"),
        (Refused(Error(Kind.UNAVAILABLE)), "unanswered"),
        (Refused(Error(Kind.NO_SENDER)), "nothing"),
        (Unknown(Error(Kind.UNKNOWN)), "unanswered"),
        # An answer came, though nobody could read it.
        (Unknown(Error(Kind.UNKNOWN, http_status=200)), "nothing"),
    ],
)
def test_what_an_outcome_says_of_its_sender(outcome: Outcome, signal: str) -> None:
    assert signal_of(outcome) == signal


def test_a_refusal_of_the_sender_halts_it_and_is_news_once() -> None:
    standing, news = hear(heard(Signal.SENDER_REFUSED), Standing(), now=NOW)
    assert standing == Standing(sender_hold=Hold(NOW, NOW + 5))
    assert changes(news) == [("halted", None)]
    assert hear(heard(Signal.SENDER_REFUSED), standing, now=NOW + 1) == (standing, ())


@pytest.mark.parametrize("signal", [Signal.ACCEPTED, Signal.ANSWERED, Signal.PAIR_LIMITED])
def test_an_answer_to_a_request_that_began_after_the_halt_ends_it(signal: Signal) -> None:
    standing, news = hear(heard(signal), HALTED, now=NOW)
    assert standing.sender_hold is None
    assert changes(news) == [("resumed", None)]


@pytest.mark.parametrize("signal", list(Signal))
def test_what_was_under_way_when_the_halt_began_does_not_end_it(signal: Signal) -> None:
    standing, _ = hear(heard(signal, begun_at=NOW - 10.1), HALTED, now=NOW)
    assert standing.sender_hold == HOLD


def test_a_hold_from_before_the_clock_was_set_back_is_ended_by_any_answer() -> None:
    ahead = Hold(NOW + 3600, NOW + 10, 1)
    held = Standing(sender_hold=ahead, template_hold=ahead)
    assert hear(heard(Signal.ACCEPTED), held, now=NOW)[0] == Standing()
    assert hear(heard(Signal.ANSWERED), held, now=NOW)[0] == Standing(template_hold=ahead)


@pytest.mark.parametrize("signal", [Signal.NOTHING, Signal.UNANSWERED, Signal.SENDER_REFUSED])
def test_these_do_not_end_a_halt(signal: Signal) -> None:
    assert hear(heard(signal), HALTED, now=NOW)[0].sender_hold == HOLD


def test_a_template_that_is_refused_is_held_alone_and_ends_the_senders_halt() -> None:
    standing, news = hear(heard(Signal.TEMPLATE_REFUSED), HALTED, now=NOW)
    assert standing == Standing(template_hold=Hold(NOW, NOW + 5))
    assert changes(news) == [("resumed", None), ("halted", "verification_code")]
    assert hear(heard(Signal.TEMPLATE_REFUSED), standing, now=NOW + 1) == (standing, ())


def test_a_held_template_is_released_by_an_acceptance_alone() -> None:
    held = Standing(template_hold=HOLD)
    assert hear(heard(Signal.ANSWERED), held, now=NOW) == (held, ())
    assert hear(heard(Signal.ACCEPTED, begun_at=NOW - 11), held, now=NOW) == (held, ())
    standing, news = hear(heard(Signal.ACCEPTED), held, now=NOW)
    assert (standing, changes(news)) == (Standing(), [("resumed", "verification_code")])


BY_REPORT: Final = replace(HOLD, by_report=True)


def test_a_refusal_by_report_halts_and_an_acceptance_alone_does_not_end_that() -> None:
    told = replace(heard(Signal.SENDER_REFUSED), by_report=True)
    standing, news = hear(told, Standing(), now=NOW)
    assert (standing.sender_hold, changes(news)) == (Hold(NOW, NOW + 5, by_report=True), [("halted", None)])
    taken, news = hear(heard(Signal.ACCEPTED, begun_at=NOW + 5), standing, now=NOW + 5)
    assert (taken.sender_hold, news) == (Hold(NOW, NOW + 5, by_report=True, cleared_at=NOW + 5), ())
    assert hear(heard(Signal.ACCEPTED, begun_at=NOW + 15), taken, now=NOW + 34.9) == (taken, ())


def test_what_was_taken_for_half_a_minute_without_a_complaint_ends_it() -> None:
    cleared = Standing(sender_hold=replace(BY_REPORT, cleared_at=NOW - 30))
    standing, news = hear(heard(Signal.ACCEPTED), cleared, now=NOW)
    assert (standing, changes(news)) == (Standing(), [("resumed", None)])


def test_a_further_refusal_by_report_takes_back_what_acceptances_have_shown() -> None:
    cleared = Standing(sender_hold=replace(BY_REPORT, cleared_at=NOW - 30))
    refused = replace(heard(Signal.SENDER_REFUSED), by_report=True)
    assert hear(refused, cleared, now=NOW) == (Standing(sender_hold=BY_REPORT), ())
    assert hear(refused, HALTED, now=NOW) == (Standing(sender_hold=BY_REPORT), ())


def test_a_probe_that_is_reported_as_sent_ends_it_at_once() -> None:
    held = Standing(sender_hold=BY_REPORT, template_hold=BY_REPORT)
    standing, news = hear(replace(heard(Signal.ACCEPTED), by_report=True), held, now=NOW)
    assert (standing, changes(news)) == (Standing(), [("resumed", None), ("resumed", "verification_code")])
    early = replace(heard(Signal.ACCEPTED, begun_at=NOW - 11), by_report=True)
    assert hear(early, held, now=NOW) == (held, ())


def test_a_template_that_is_refused_by_report_is_held_in_the_same_way() -> None:
    refused = replace(heard(Signal.TEMPLATE_REFUSED), by_report=True)
    standing, _ = hear(refused, Standing(), now=NOW)
    assert standing.template_hold == Hold(NOW, NOW + 5, by_report=True)
    taken, _ = hear(heard(Signal.ACCEPTED, begun_at=NOW + 5), standing, now=NOW + 5)
    assert taken.template_hold == replace(standing.template_hold, cleared_at=NOW + 5)
    assert hear(heard(Signal.ACCEPTED, begun_at=NOW + 36), taken, now=NOW + 36)[0] == Standing()


def test_what_was_cleared_before_the_clock_was_set_back_is_cleared_from_now_on() -> None:
    ahead = Standing(sender_hold=replace(BY_REPORT, cleared_at=NOW + 3600))
    standing, _ = hear(heard(Signal.ACCEPTED), ahead, now=NOW)
    assert standing.sender_hold == replace(BY_REPORT, cleared_at=NOW)


def test_20_requests_in_a_row_without_an_answer_halt_the_sender() -> None:
    standing = Standing()
    for _ in range(19):
        standing, nothing = hear(heard(Signal.UNANSWERED), standing, now=NOW)
        assert (standing.sender_hold, nothing) == (None, ())
    standing, news = hear(heard(Signal.UNANSWERED), standing, now=NOW)
    assert standing.sender_hold == Hold(NOW, NOW + 5)
    assert changes(news) == [("halted", None)]


@pytest.mark.parametrize(
    "signal", [Signal.ACCEPTED, Signal.ANSWERED, Signal.PAIR_LIMITED, Signal.THROTTLED, Signal.QUOTA]
)
def test_any_answer_in_between_begins_the_count_anew(signal: Signal) -> None:
    assert hear(heard(signal), Standing(unanswered=19), now=NOW)[0].unanswered == 0


def test_too_many_messages_halve_the_rate_and_say_the_new_one() -> None:
    standing, news = hear(heard(Signal.THROTTLED), Standing(), now=NOW)
    assert standing.cut == Cut(40.0, NOW)
    assert [(one.change, one.rate) for one in news] == [(Change.SLOWED, 40.0)]
    late = heard(Signal.THROTTLED, begun_at=NOW - 1)
    assert hear(late, standing, now=NOW + 0.5) == (standing, ())


def test_a_quota_pauses_as_long_as_the_provider_says() -> None:
    standing, news = hear(heard(Signal.QUOTA, pause_s=420), Standing(), now=NOW)
    assert (standing.quota_until, standing.quota_pauses) == (NOW + 420, 1)
    assert [(one.change, one.until) for one in news] == [(Change.PAUSED, NOW + 420)]


@pytest.mark.parametrize(("before", "pause_s"), [(0, 60), (1, 120), (2, 240), (3, 480), (4, 900), (50, 900)])
def test_a_quota_of_unknown_length_pauses_60_s_doubling_up_to_15_minutes(before: int, pause_s: float) -> None:
    standing, _ = hear(heard(Signal.QUOTA), Standing(quota_pauses=before), now=NOW)
    assert standing.quota_until == NOW + pause_s


def test_a_second_refusal_within_a_pause_only_lengthens_it_where_the_provider_says_so() -> None:
    paused = Standing(quota_until=NOW + 60, quota_pauses=1)
    assert hear(heard(Signal.QUOTA), paused, now=NOW) == (paused, ())
    longer, news = hear(heard(Signal.QUOTA, pause_s=300), paused, now=NOW)
    assert (longer, news) == (replace(paused, quota_until=NOW + 300), ())
    assert hear(heard(Signal.QUOTA, pause_s=5), paused, now=NOW) == (paused, ())


def test_an_acceptance_makes_the_next_pause_a_first_one() -> None:
    assert hear(heard(Signal.ACCEPTED), Standing(quota_pauses=3), now=NOW)[0].quota_pauses == 0


@pytest.mark.parametrize(("failures", "pause_s"), [(0, 1), (1, 4), (2, 16), (3, 64)])
def test_a_refused_recipient_waits_four_times_as_long_each_time_from_when_it_was_refused(
    failures: int, pause_s: float
) -> None:
    outcome = Refused(Error(Kind.PAIR_LIMIT, code=131056))
    told = hear_outcome(outcome, LANE, booked_at=NOW - 2, started_at=NOW - 1, ended_at=NOW, pair_failures=failures)
    assert (told.begun_at, told.pair_until) == (NOW - 1, NOW + pause_s)


@pytest.mark.parametrize(
    ("outcome", "pair_until"),
    [
        (Refused(Error(Kind.PAIR_LIMIT, code=131056), not_before_s=30), NOW + 30),
        (Refused(Error(Kind.QUOTA, code=80007), not_before_s=30), None),
        (Accepted("wamid.1"), None),
    ],
)
def test_a_recipient_waits_as_long_as_the_provider_asks_and_only_where_it_is_the_recipient(
    outcome: Outcome, pair_until: float | None
) -> None:
    told = hear_outcome(outcome, LANE, booked_at=NOW, started_at=NOW, ended_at=NOW, pair_failures=0)
    assert told.pair_until == pair_until
