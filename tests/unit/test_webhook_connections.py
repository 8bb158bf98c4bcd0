"""Which connection makes room for another is decided by who had a request in hand last."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from job_strategies import PROPERTY
from otpost_worker.webhook_answers import HangUp
from otpost_worker.webhook_connections import Limits, Phase, Places, overdue


def test_nobody_leaves_while_there_is_a_place() -> None:
    places = Places[str](2)
    assert (places.take("a"), places.take("b")) == (None, None)
    assert places.taken == 2


def test_who_waits_for_the_longest_time_leaves() -> None:
    places = Places[str](2)
    places.take("a")
    places.take("b")
    places.begin("a")
    places.rest("a")
    assert places.take("c") == "b"
    places.leave("b")
    assert places.take("d") == "a"


def test_who_has_a_request_in_hand_stays_and_a_new_one_leaves_where_all_have() -> None:
    places = Places[str](2)
    for one in ("a", "b"):
        places.take(one)
        places.begin(one)
    assert places.take("c") == "c"
    places.leave("c")
    places.rest("b")
    assert places.take("d") == "b"


def test_who_has_left_is_not_asked_to_leave_again() -> None:
    places = Places[str](1)
    places.take("a")
    places.leave("a")
    places.leave("a")
    places.rest("a")
    assert places.take("b") is None
    assert places.take("c") == "b"


@PROPERTY
@given(st.lists(st.tuples(st.sampled_from(["take", "begin", "rest", "leave"]), st.integers(0, 9)), max_size=80))
def test_there_are_never_more_than_places_once_who_has_to_leave_has_left(steps: list[tuple[str, int]]) -> None:
    places, present, busy = Places[int](3), set[int](), set[int]()
    for what, one in steps:
        if what == "take" and one not in present:
            present.add(one)
            leaving = places.take(one)
            assert (leaving is None) == (len(present) <= 3)
            if leaving is not None:
                assert leaving in present - busy
                places.leave(leaving)
                present.remove(leaving)
        elif one in present:
            match what:
                case "begin":
                    places.begin(one)
                    busy.add(one)
                case "rest":
                    places.rest(one)
                    busy.discard(one)
                case "leave":
                    places.leave(one)
                    present.remove(one)
                    busy.discard(one)
        assert places.taken == len(present) <= 3


def test_a_request_on_its_way_has_10_s_and_an_idle_connection_75() -> None:
    limits = Limits()
    assert {phase: limits.lasts_s(phase) for phase in Phase} == {
        Phase.ASKING: 10,
        Phase.UNREAD: 10,
        Phase.ANSWERING: 30,
        Phase.IDLE: 75,
    }


def test_every_end_but_that_of_an_idle_connection_is_told() -> None:
    assert {phase: overdue(phase) for phase in Phase} == {
        Phase.ASKING: HangUp.NO_REQUEST,
        Phase.UNREAD: HangUp.UNREAD,
        Phase.ANSWERING: HangUp.UNREAD,
        Phase.IDLE: None,
    }
