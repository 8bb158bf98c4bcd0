"""What a receiver has in hand is bounded by the number of bodies and by their bytes."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from job_strategies import PROPERTY
from otpost_worker.webhook_room import Room


def test_no_more_bodies_than_that_are_in_hand_at_once() -> None:
    room = Room(most_bodies=2, most_bytes=100)
    assert (room.enter(), room.enter(), room.enter()) == (True, True, False)
    room.leave(0)
    assert room.enter()
    assert room.bodies == 2


def test_bytes_count_together_and_what_does_not_fit_takes_nothing() -> None:
    room = Room(most_bodies=2, most_bytes=100)
    assert room.enter()
    assert room.enter()
    assert (room.take(60), room.take(41), room.take(40), room.take(1)) == (True, False, True, False)
    room.leave(60)
    assert (room.bodies, room.bytes) == (1, 40)


@PROPERTY
@given(st.lists(st.tuples(st.booleans(), st.integers(0, 50)), max_size=60))
def test_the_limits_hold_whatever_comes_and_all_is_given_back(steps: list[tuple[bool, int]]) -> None:
    room, taken = Room(most_bodies=3, most_bytes=100), list[int]()
    for comes, size in steps:
        if comes and room.enter():
            taken.append(size if room.take(size) else 0)
        elif taken:
            room.leave(taken.pop())
        assert room.bodies == len(taken) <= 3
        assert room.bytes == sum(taken) <= 100
    for size in taken:
        room.leave(size)
    assert (room.bodies, room.bytes) == (0, 0)
