"""When a request may start: the arithmetic of bookings, rates, holds. Times count from NOW; expected values by hand."""

from __future__ import annotations

from dataclasses import replace
from typing import Final

import pytest
from hypothesis import given
from hypothesis import strategies as st

from otpost_worker.pacing import (
    Cut,
    Full,
    Go,
    Held,
    Hold,
    Lane,
    NoRoom,
    TakeTurn,
    Track,
    begin_hold,
    book,
    current_rate,
    cut_rate,
    pace,
    probe_pause_s,
    put_off,
)

NOW: Final = 1_795_464_000.0
LANE: Final = Lane(
    "default", "default", "+12015553931", "verification_code", "en_US", 80.0, latest_start=NOW + 295, deadline=NOW + 300
)
# The recipient owes for 45 messages: the burst is used up.
SPENT: Final = Track(pair_paid_until=NOW + 270)


def go(lane: Lane = LANE, track: Track | None = None, *, at: float = 0.0) -> Go:
    found = pace(lane, track or Track(), now=NOW + at)
    assert isinstance(found, Go), found
    return found


def test_a_lane_does_not_show_its_recipient() -> None:
    assert repr(LANE) == "Lane(sender='default', template='verification_code', language='en_US')"


# Bookings


def test_after_a_rest_a_burst_starts_at_once_and_then_one_an_interval() -> None:
    starts, paid = [], 0.0
    for _ in range(5):
        start, paid = book(paid, 100.0, interval_s=6.0, burst=3)
        starts.append(start)
    assert starts == [100.0, 100.0, 100.0, 106.0, 112.0]


def test_waiting_pays_a_second_a_second() -> None:
    _, paid = book(0.0, 100.0, interval_s=6.0, burst=1)
    assert book(paid, 103.0, interval_s=6.0, burst=1) == (106.0, 112.0)
    assert book(paid, 106.0, interval_s=6.0, burst=1) == (106.0, 112.0)
    assert book(paid, 200.0, interval_s=6.0, burst=1) == (200.0, 206.0)


@given(
    st.lists(st.floats(min_value=0, max_value=30), min_size=1, max_size=60),
    st.floats(min_value=0.01, max_value=10),
    st.integers(min_value=1, max_value=50),
)
def test_no_bookings_ever_cross_the_limit_in_any_span(pauses: list[float], interval_s: float, burst: int) -> None:
    now, paid, starts = 0.0, 0.0, []
    for pause in pauses:
        now += pause
        start, paid = book(paid, now, interval_s=interval_s, burst=burst)
        starts.append(start)
    assert starts == sorted(starts)
    for first, begin in enumerate(starts):
        for last in range(first, len(starts)):
            allowed = burst + (starts[last] - begin) / interval_s
            assert last - first + 1 <= allowed + 1e-6


# The sender's rate


def test_an_idle_sender_sends_at_once() -> None:
    found = go()
    assert (found.start_at, found.sender_paid_until, found.is_probe) == (NOW, NOW + 0.0125, False)


def test_eight_start_at_once_at_80_a_second_and_the_others_an_80th_apart() -> None:
    track, starts = Track(), []
    for number in range(12):
        found = go(replace(LANE, recipient=f"+1201555{number:04}"), track)
        starts.append(round(found.start_at - NOW, 4))
        track = Track(sender_paid_until=found.sender_paid_until)
    assert starts == [0.0] * 8 + [0.0125, 0.025, 0.0375, 0.05]


def test_a_start_beyond_the_horizon_is_not_booked_and_is_to_be_asked_for_again_halfway_there() -> None:
    # 8 intervals of burst are 0.1 s, so that the next start is 0.9125 s away; it is asked for 0.4 s before.
    found = pace(LANE, Track(sender_paid_until=NOW + 1.0), now=NOW)
    assert isinstance(found, Full)
    assert found.until - NOW == pytest.approx(0.5125, abs=0.0001)
    last = go(LANE, Track(sender_paid_until=NOW + 0.88))
    assert last.start_at - NOW == pytest.approx(0.7925, abs=0.0001)


def test_a_sender_whose_clock_was_set_back_goes_on_at_its_rate() -> None:
    track, starts = Track(sender_paid_until=NOW + 3600), []
    for _ in range(3):
        found = go(LANE, track)
        starts.append(round(found.start_at - NOW, 4))
        track = Track(sender_paid_until=found.sender_paid_until)
    # Without a burst: what went out just before is not known.
    assert starts == [0.0125, 0.025, 0.0375]


def test_what_another_worker_has_booked_at_a_lower_rate_is_waited_for() -> None:
    # One a second, as far ahead as anybody books.
    assert isinstance(pace(LANE, Track(sender_paid_until=NOW + 1.8), now=NOW), Full)


def test_a_cut_from_before_the_clock_was_set_back_is_over_and_the_next_one_counts() -> None:
    ahead = Cut(40.0, NOW + 3600)
    assert current_rate(80.0, ahead, NOW) == 80
    assert cut_rate(80.0, ahead, now=NOW, begun_at=NOW - 1) == Cut(40.0, NOW)


@pytest.mark.parametrize(
    ("after_s", "rate"),
    [(0.0, 40.0), (4.9, 40.0), (5.0, 48.0), (10.0, 56.0), (24.9, 72.0), (25.0, 80.0), (999.0, 80.0)],
)
def test_a_rate_that_was_cut_grows_back_by_a_tenth_every_5_s(after_s: float, rate: float) -> None:
    assert current_rate(80.0, Cut(40.0, NOW), NOW + after_s) == rate


def test_a_refusal_halves_the_rate_and_so_does_the_next_one() -> None:
    first = cut_rate(80.0, None, now=NOW, begun_at=NOW - 1)
    assert first == Cut(40.0, NOW)
    assert cut_rate(80.0, first, now=NOW + 2, begun_at=NOW + 1) == Cut(20.0, NOW + 2)


def test_refusals_of_requests_that_began_before_the_cut_change_nothing() -> None:
    assert cut_rate(80.0, Cut(40.0, NOW), now=NOW + 0.2, begun_at=NOW - 0.1) is None
    assert cut_rate(80.0, Cut(40.0, NOW), now=NOW + 0.2, begun_at=NOW) is None


def test_the_rate_never_falls_below_one_a_second_or_what_the_sender_has_anyway() -> None:
    assert cut_rate(80.0, Cut(1.0, NOW), now=NOW + 1, begun_at=NOW + 0.5) == Cut(1.0, NOW + 1)
    assert cut_rate(0.5, None, now=NOW, begun_at=NOW - 1) == Cut(0.5, NOW)


def test_a_cut_rate_is_what_bookings_cost() -> None:
    assert go(LANE, Track(cut=Cut(40.0, NOW))).sender_paid_until == NOW + 0.025


# The recipient


def test_45_messages_go_to_one_recipient_at_once_and_the_46th_waits_6_s_and_a_bit() -> None:
    track = Track()
    for _ in range(45):
        found = go(LANE, track)
        assert found.start_at == NOW
        track = Track(pair_paid_until=found.pair_paid_until)
    assert pace(LANE, track, now=NOW) == TakeTurn(NOW + 6.5, NOW + 276)


def test_those_who_wait_for_one_recipient_have_turns_6_s_apart() -> None:
    track, turns = SPENT, []
    for _ in range(3):
        found = pace(LANE, track, now=NOW)
        assert isinstance(found, TakeTurn)
        turns.append(found.start_at - NOW)
        track = Track(pair_paid_until=found.pair_paid_until)
    assert turns == [6.5, 12.5, 18.5]


def test_a_turn_that_was_booked_is_not_paid_twice() -> None:
    found = go(LANE, Track(pair_paid_until=NOW + 276, turn=NOW + 6.5), at=6.5)
    assert (found.start_at, found.pair_paid_until) == (NOW + 6.5, NOW + 276)


def test_a_job_that_comes_before_its_turn_gets_the_same_turn_again() -> None:
    waiting = Track(pair_paid_until=NOW + 276, turn=NOW + 6.5)
    assert pace(LANE, waiting, now=NOW + 3) == TakeTurn(NOW + 6.5, NOW + 276)
    # So near that it waits with its claim.
    assert go(LANE, waiting, at=5.8).start_at == NOW + 6.5


def test_a_turn_that_is_5_s_old_is_booked_anew() -> None:
    booked = Track(pair_paid_until=NOW + 276, turn=NOW + 6.5)
    assert go(LANE, booked, at=11.5).pair_paid_until == NOW + 276
    # 264.4 s are owed by then, 6 more would be 0.4 s too many.
    assert pace(LANE, booked, now=NOW + 11.6) == TakeTurn(NOW + 12.5, NOW + 282)


def test_a_turn_after_the_last_moment_to_start_is_not_booked() -> None:
    assert pace(replace(LANE, latest_start=NOW + 6.4), SPENT, now=NOW) == NoRoom()
    assert isinstance(pace(replace(LANE, latest_start=NOW + 6.5), SPENT, now=NOW), TakeTurn)


# Holds and quotas


def test_a_hold_lets_nothing_through_before_its_probe() -> None:
    held = Track(sender_hold=begin_hold(NOW))
    assert pace(LANE, held, now=NOW) == Held(NOW + 30)
    assert pace(LANE, held, now=NOW + 4.99) == Held(NOW + 34.99)


def test_a_hold_from_before_the_clock_was_set_back_is_probed_at_once() -> None:
    ahead, probed = Hold(NOW + 3600, NOW + 3605), Hold(NOW + 3600, NOW + 10, 1)
    assert go(LANE, Track(sender_hold=ahead)).sender_hold == probed
    assert go(LANE, Track(template_hold=ahead)).template_hold == probed
    # The longest pause is no sign of that.
    assert isinstance(pace(LANE, Track(sender_hold=Hold(NOW, NOW + 300, 6)), now=NOW), Held)


@pytest.mark.parametrize(
    ("latest_start", "deadline", "until"),
    [
        (32.0, 37.0, 30.0),
        # 2 s before its last moment to start, when the sender may go on again.
        (31.9, 36.9, 29.9),
        (4.0, 9.0, 2.0),
        # Too near for that: it comes back to end.
        (3.9, 8.9, 8.9),
        (-1.0, 4.0, 4.0),
    ],
)
def test_a_held_job_comes_back_for_its_last_chance_or_to_end(
    latest_start: float, deadline: float, until: float
) -> None:
    lane = replace(LANE, latest_start=NOW + latest_start, deadline=NOW + deadline)
    for track in (Track(template_hold=begin_hold(NOW)), Track(quota_until=NOW + 600)):
        found = pace(lane, track, now=NOW)
        assert isinstance(found, Held)
        assert found.until - NOW == pytest.approx(until)


def test_the_probe_is_one_request_and_the_next_one_comes_later() -> None:
    found = go(LANE, Track(sender_hold=begin_hold(NOW)), at=5)
    assert found.is_probe
    assert found.sender_hold == Hold(NOW, NOW + 15, 1)
    # Its answer may be the one that ends the hold, so that the others come back soon.
    probed = Track(sender_hold=found.sender_hold)
    assert pace(LANE, probed, now=NOW + 5) == Held(NOW + 7)
    assert pace(LANE, probed, now=NOW + 6.9) == Held(NOW + 8.9)
    assert pace(LANE, probed, now=NOW + 7) == Held(NOW + 37)
    assert pace(replace(LANE, deadline=NOW + 6), probed, now=NOW + 5) == Held(NOW + 6)


def test_a_probe_that_has_to_wait_for_something_else_leaves_the_hold_as_it_is() -> None:
    assert isinstance(pace(LANE, replace(SPENT, sender_hold=Hold(NOW - 60, NOW)), now=NOW), TakeTurn)


def test_a_template_and_its_sender_are_probed_together() -> None:
    found = go(LANE, Track(sender_hold=Hold(NOW - 60, NOW), template_hold=Hold(NOW - 60, NOW, 2)))
    assert (found.sender_hold, found.template_hold) == (Hold(NOW - 60, NOW + 10, 1), Hold(NOW - 60, NOW + 40, 3))


def test_probes_come_at_growing_intervals() -> None:
    assert [probe_pause_s(probes) for probes in range(8)] == [5, 10, 20, 40, 80, 160, 300, 300]
    assert probe_pause_s(100_000) == 300


def test_a_quota_that_is_used_up_lets_nothing_through_until_its_end_is_near() -> None:
    assert pace(LANE, Track(quota_until=NOW + 600), now=NOW) == Held(NOW + 30)
    assert pace(LANE, Track(quota_until=NOW + 7), now=NOW) == Held(NOW + 7)
    assert go(LANE, Track(quota_until=NOW)).start_at == NOW


# A recipient that was refused


@pytest.mark.parametrize(
    ("paid_until", "latest_start", "paid", "turn"),
    [
        # Nothing else is owed: the burst counts as used up at the pause's end, the retry has the last of its 45 places.
        (NOW + 6, NOW + 295, NOW + 4 + 270, NOW + 4),
        (NOW + 100, NOW + 295, NOW + 4 + 270, NOW + 4),
        # It was the last of the burst, or itself a retry.
        (NOW + 270, NOW + 295, NOW + 4 + 270, NOW + 4),
        # The retry, which nobody makes, pays nothing.
        (NOW + 6, None, NOW + 4 + 264, None),
        (NOW + 6, NOW + 3.9, NOW + 4 + 264, None),
        # Somebody has the turn in 3 s already, in 4 s, in 6 s, or one far ahead.
        (NOW + 3 + 270, NOW + 295, NOW + 9 + 270, NOW + 9.5),
        (NOW + 4 + 270, NOW + 295, NOW + 10 + 270, NOW + 10.5),
        (NOW + 6 + 270, NOW + 295, NOW + 12 + 270, NOW + 12.5),
        (NOW + 500, NOW + 295, NOW + 506, NOW + 236.5),
        (NOW + 500, NOW + 236, NOW + 500, None),
        (NOW + 500, None, NOW + 500, None),
    ],
)
def test_a_refused_recipient_owes_all_it_can_and_the_retry_is_the_first_or_behind_who_has_booked(
    paid_until: float, latest_start: float | None, paid: float, turn: float | None
) -> None:
    assert put_off(paid_until, NOW + 4, begun_at=NOW, latest_start=latest_start) == (paid, turn)


def test_a_recipient_that_is_refused_again_and_again_gets_its_retry_and_then_one_every_six_seconds() -> None:
    track = Track(pair_paid_until=NOW + 6)
    for begun_at, until in ((0, 1), (1, 5), (5, 21)):
        paid, turn = put_off(track.pair_paid_until, NOW + until, begun_at=NOW + begun_at, latest_start=NOW + 295)
        retry = go(track=Track(pair_paid_until=paid, turn=turn), at=until)
        assert retry.start_at == NOW + until
        track = Track(pair_paid_until=retry.pair_paid_until)
    assert pace(LANE, track, now=NOW + 21) == TakeTurn(NOW + 27.5, NOW + 297)
