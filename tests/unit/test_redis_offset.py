"""How far Redis's clock is ahead, as a worker learns it from answers whose way took time."""

from __future__ import annotations

import pytest

from otpost_worker.ledger.redis.offset import ClockOffset


def learnt(*answers: tuple[float, float, float]) -> float:
    """The offset after these answers: what Redis's clock showed, when it was asked, when it had answered."""
    offset = ClockOffset()
    for told, sent_at, received_at in answers:
        offset.learn(told, sent_at=sent_at, received_at=received_at)
    return offset.seconds


def test_before_the_first_answer_there_is_none() -> None:
    assert ClockOffset().seconds == 0.0
    assert ClockOffset().to_redis(100.5) == 100.5


@pytest.mark.parametrize("told", [1000.0, 1000.5, 1001.0])
def test_clocks_that_may_agree_are_taken_to_agree(told: float) -> None:
    assert learnt((told, 1000.0, 1001.0)) == 0.0


def test_the_offset_is_the_smallest_that_explains_the_answer() -> None:
    # Between 99 and 100 s ahead; between 50 and 49 s behind.
    assert learnt((1100.0, 1000.0, 1001.0)) == 99.0
    assert learnt((951.0, 1000.0, 1001.0)) == -49.0


def test_an_answer_that_was_quicker_says_more_and_a_slow_one_no_less() -> None:
    quick, slow = (1100.0, 1000.0, 1000.25), (1110.0, 1008.0, 1012.0)
    assert learnt(slow) == 98.0
    assert learnt(quick) == 99.75
    assert learnt(slow, quick) == learnt(quick, slow) == 99.75


def test_a_clock_that_was_set_is_believed_with_the_next_answer() -> None:
    assert learnt((1100.0, 1000.0, 1000.0), (1010.0, 1010.0, 1010.5)) == 0.0
    assert learnt((1000.0, 1000.0, 1000.0), (5000.0, 1010.0, 1010.5)) == 3989.5


def test_a_workers_clock_that_is_set_back_while_it_waits_does_no_harm() -> None:
    assert learnt((1000.0, 1000.0, 990.0)) == 0.0


def test_times_are_translated_there_and_back() -> None:
    offset = ClockOffset()
    offset.learn(1100.0, sent_at=1000.0, received_at=1000.0)
    assert offset.to_redis(500.0) == 600.0
    assert offset.to_worker(600.0) == 500.0
