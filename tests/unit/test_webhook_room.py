"""What a receiver has in hand is bounded by the number of bodies and by their bytes."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from job_strategies import PROPERTY
from otpost_worker.webhook_room import Body, Room


def nothing() -> None:
    """What a body does that has to make room, where that is not asked."""


def body(room: Room, *, size: int = 0, whole: bool = False) -> Body:
    """One that came into the room, with so many bytes."""
    came = room.enter(nothing)
    assert came is not None
    assert room.take(came, size)
    if whole:
        assert room.finish(came)
    return came


def test_no_more_whole_bodies_than_that_are_in_hand_at_once() -> None:
    room = Room(most_bodies=2, most_bytes=100)
    first, _ = body(room, whole=True), body(room, whole=True)
    assert room.enter(nothing) is None
    room.leave(first)
    assert room.enter(nothing) is not None
    assert room.bodies == 2


def test_bytes_count_together_and_what_does_not_fit_takes_nothing() -> None:
    room = Room(most_bodies=2, most_bytes=100)
    first, second = body(room, size=60, whole=True), body(room)
    assert (room.take(second, 41), room.take(second, 40), room.take(second, 1)) == (False, True, False)
    room.leave(first)
    assert (room.bodies, room.bytes) == (1, 40)


def test_the_first_that_is_not_whole_makes_room_once() -> None:
    room, gone = Room(most_bodies=3, most_bytes=100), list[str]()
    body(room, whole=True)
    first = room.enter(lambda: gone.append("first"))
    second = room.enter(lambda: gone.append("second"))
    assert first is not None
    assert second is not None
    assert (room.take(first, 10), room.take(second, 20)) == (True, True)
    body(room, size=5)
    assert gone == ["first"]
    assert (room.bodies, room.bytes) == (3, 25)
    # What it does afterwards changes nothing.
    assert (room.take(first, 1), room.finish(first)) == (False, False)
    room.leave(first)
    assert (room.bodies, room.bytes) == (3, 25)
    assert not first.has_place


def test_bytes_make_room_only_for_a_body_that_came_later() -> None:
    room, gone = Room(most_bodies=3, most_bytes=100), list[str]()
    first = room.enter(lambda: gone.append("first"))
    second = room.enter(lambda: gone.append("second"))
    assert first is not None
    assert second is not None
    assert (room.take(first, 50), room.take(second, 40)) == (True, True)
    assert not room.take(first, 20)
    assert gone == []
    assert room.take(second, 20)
    assert gone == ["first"]
    assert room.bytes == 60


@PROPERTY
@given(st.lists(st.tuples(st.sampled_from(["enter", "take", "finish", "leave"]), st.integers(0, 50)), max_size=80))
def test_the_limits_hold_whatever_comes_and_all_is_given_back(steps: list[tuple[str, int]]) -> None:
    room, came, taken = Room(most_bodies=3, most_bytes=100), list[Body](), dict[Body, int]()
    for what, number in steps:
        one = came[number % len(came)] if came else None
        if what == "enter":
            new = room.enter(nothing)
            if new is not None:
                came.append(new)
                taken[new] = 0
        elif one is not None:
            match what:
                case "take":
                    taken[one] += number if room.take(one, number) else 0
                case "finish":
                    room.finish(one)
                case "leave":
                    room.leave(one)
        present = [one for one in came if one.has_place]
        assert room.bodies == len(present) <= 3
        assert room.bytes == sum(taken[one] for one in present) <= 100
    for one in came:
        room.leave(one)
    assert (room.bodies, room.bytes) == (0, 0)
