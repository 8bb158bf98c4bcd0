"""The table of the contract's fifth section, cell by cell, written out by hand."""

from __future__ import annotations

from typing import Any, Final

import pytest

from otpost_worker.attempts import (
    Acknowledge,
    Action,
    Attempt,
    Claim,
    Conclude,
    Known,
    PublishEnd,
    RecordUnknown,
    RepeatStep,
    Run,
    State,
    Wait,
    Wish,
    judge,
)

NOW: Final = 1000.0
SOON: Final = 1007.5
BEFORE: Final = 999.5
# The ledger's run and its highest attempt in every cell.
RUN: Final = 4
HIGHEST: Final = 3
STATES: Final = {
    "claimed, lease open": Attempt(HIGHEST, State.CLAIMED, lease_until=SOON),
    "claimed, lease lapsed": Attempt(HIGHEST, State.CLAIMED, lease_until=BEFORE),
    "claimed, lease ends now": Attempt(HIGHEST, State.CLAIMED, lease_until=NOW),
    "unknown, not due": Attempt(HIGHEST, State.UNKNOWN, due_at=SOON),
    "unknown, due": Attempt(HIGHEST, State.UNKNOWN, due_at=BEFORE),
    "unknown, due now": Attempt(HIGHEST, State.UNKNOWN, due_at=NOW),
    "refused, not due": Attempt(HIGHEST, State.REFUSED, due_at=SOON),
    "refused, due": Attempt(HIGHEST, State.REFUSED, due_at=BEFORE),
    "refused, due now": Attempt(HIGHEST, State.REFUSED, due_at=NOW),
    "taken back, not due": Attempt(HIGHEST, State.TAKEN_BACK, due_at=SOON),
    "taken back, due": Attempt(HIGHEST, State.TAKEN_BACK, due_at=BEFORE),
    "taken back, due now": Attempt(HIGHEST, State.TAKEN_BACK, due_at=NOW),
}
ACK: Final = Acknowledge()
REPEAT: Final = RepeatStep(HIGHEST)
UNKNOWN_NOW: Final = RecordUnknown(HIGHEST)
# row: (n < h, n = h, n > h) for an ordinary delivery of the same run
TABLE: Final[dict[str, tuple[Action, Action, Action]]] = {
    "claimed, lease open": (ACK, Wait(SOON), Wait(SOON)),
    "claimed, lease lapsed": (ACK, UNKNOWN_NOW, UNKNOWN_NOW),
    "claimed, lease ends now": (ACK, UNKNOWN_NOW, UNKNOWN_NOW),
    "unknown, not due": (ACK, REPEAT, Wait(SOON)),
    "unknown, due": (ACK, REPEAT, Claim()),
    "unknown, due now": (ACK, REPEAT, Claim()),
    "refused, not due": (ACK, REPEAT, Wait(SOON)),
    "refused, due": (ACK, REPEAT, Claim()),
    "refused, due now": (ACK, REPEAT, Claim()),
    "taken back, not due": (ACK, REPEAT, Wait(SOON)),
    "taken back, due": (ACK, REPEAT, Claim()),
    "taken back, due now": (ACK, REPEAT, Claim()),
}
COLUMNS: Final = {"n<h": HIGHEST - 1, "n=h": HIGHEST, "n>h": HIGHEST + 1}
# What a worker may wish for beside sending: the cells where a claim stands become this instead.
WISHES: Final[dict[str, tuple[dict[str, Any], Action, Action]]] = {
    # name: (the wish, in place of a claim after a refusal, in place of a claim after an unknown)
    "plain": ({}, Claim(), Claim()),
    "policy fail": ({"resend": False}, Claim(), Conclude(after_unknown=True)),
    "late": ({"late": True}, Conclude(after_unknown=False), Conclude(after_unknown=True)),
    "held": ({"hold_until": SOON}, Wait(SOON), Wait(SOON)),
    "held until now": ({"hold_until": NOW}, Claim(), Claim()),
    "to be ended": ({"end": True}, Conclude(after_unknown=False), Conclude(after_unknown=True)),
    "late and held": (
        {"late": True, "hold_until": SOON},
        Conclude(after_unknown=False),
        Conclude(after_unknown=True),
    ),
    "policy fail and held": ({"resend": False, "hold_until": SOON}, Wait(SOON), Conclude(after_unknown=True)),
}


def wish(attempt: int, run: int = RUN, **more: Any) -> Wish:  # noqa: ANN401 - the rest of a wish
    return Wish(run, attempt, **more)


def known(row: str, *, standing_run: int | None = None) -> Known:
    return Known(Run(RUN, ended=False, highest=STATES[row]), standing_run)


@pytest.mark.parametrize("name", WISHES)
@pytest.mark.parametrize("column", COLUMNS)
@pytest.mark.parametrize("row", TABLE)
def test_a_run_under_way(row: str, column: str, name: str) -> None:
    more, after_refusal, after_unknown = WISHES[name]
    expected = TABLE[row][list(COLUMNS).index(column)]
    if expected == Claim():
        expected = after_unknown if row.startswith("unknown") else after_refusal
    assert judge(known(row), wish(COLUMNS[column], **more), now=NOW) == expected


@pytest.mark.parametrize("row", TABLE)
def test_attempts_far_from_the_highest_are_no_other_case(row: str) -> None:
    assert judge(known(row), wish(1), now=NOW) == Acknowledge()
    assert judge(known(row), wish(HIGHEST + 9), now=NOW) == TABLE[row][2]


@pytest.mark.parametrize("attempt", COLUMNS.values(), ids=COLUMNS)
@pytest.mark.parametrize(
    "highest", [None, *STATES.values(), Attempt(HIGHEST, State.SETTLED)], ids=["no attempt", *STATES, "settled"]
)
def test_a_run_that_has_ended_gets_its_end_again(highest: Attempt | None, attempt: int) -> None:
    ended = Known(Run(RUN, ended=True, highest=highest))
    for name, (more, _, _) in WISHES.items():
        assert judge(ended, wish(attempt, **more), now=NOW) == PublishEnd(RUN), name


@pytest.mark.parametrize("attempt", [1, 2, 3])
@pytest.mark.parametrize("nothing", [Known(), Known(Run(RUN, ended=False, highest=None))], ids=["no row", "released"])
@pytest.mark.parametrize("name", WISHES)
def test_no_row(nothing: Known, attempt: int, name: str) -> None:
    more, expected, _ = WISHES[name]
    assert judge(nothing, wish(attempt, **more), now=NOW) == expected


@pytest.mark.parametrize("attempt", COLUMNS.values(), ids=COLUMNS)
@pytest.mark.parametrize("row", TABLE)
def test_a_replay_is_like_no_row_whatever_the_run_before_it_does(row: str, attempt: int) -> None:
    for name, (more, expected, _) in WISHES.items():
        assert judge(known(row), wish(attempt, run=RUN + 1, **more), now=NOW) == expected, name


@pytest.mark.parametrize("name", WISHES)
@pytest.mark.parametrize("run", [RUN + 1, RUN + 7])
def test_a_replay_of_a_run_that_failed_is_like_no_row(run: int, name: str) -> None:
    more, expected, _ = WISHES[name]
    failed = Known(Run(RUN, ended=True, highest=Attempt(HIGHEST, State.SETTLED)))
    assert judge(failed, wish(1, run=run, **more), now=NOW) == expected


@pytest.mark.parametrize("name", WISHES)
@pytest.mark.parametrize("standing_run", [RUN, RUN - 1, 1])
def test_a_replay_behind_a_run_that_stands_gets_that_end_and_sends_nothing(standing_run: int, name: str) -> None:
    latest = Run(RUN, ended=True, highest=Attempt(HIGHEST, State.SETTLED))
    replay = wish(1, run=RUN + 1, **WISHES[name][0])
    assert judge(Known(latest, standing_run), replay, now=NOW) == PublishEnd(standing_run)


def test_a_replay_behind_a_run_that_stands_sends_nothing_even_where_a_later_run_is_under_way() -> None:
    assert judge(known("refused, due", standing_run=2), wish(1, run=RUN + 1), now=NOW) == PublishEnd(2)


@pytest.mark.parametrize("name", WISHES)
@pytest.mark.parametrize("column", COLUMNS)
@pytest.mark.parametrize("row", TABLE)
def test_a_replay_under_way_sends_nothing_more_once_a_run_before_it_stands(row: str, column: str, name: str) -> None:
    expected = TABLE[row][list(COLUMNS).index(column)]
    if expected == Claim():
        expected = PublishEnd(2)
    more = WISHES[name][0]
    assert judge(known(row, standing_run=2), wish(COLUMNS[column], **more), now=NOW) == expected


def test_a_replay_whose_claim_was_released_sends_nothing_once_a_run_before_it_stands() -> None:
    assert judge(Known(Run(RUN, ended=False, highest=None), 2), wish(1), now=NOW) == PublishEnd(2)


@pytest.mark.parametrize("attempt", [1, HIGHEST, HIGHEST + 1])
@pytest.mark.parametrize("name", WISHES)
def test_a_copy_of_an_earlier_run_gets_the_end_of_the_latest(attempt: int, name: str) -> None:
    ended = Known(Run(RUN, ended=True, highest=None))
    assert judge(ended, wish(attempt, run=RUN - 1, **WISHES[name][0]), now=NOW) == PublishEnd(RUN)


@pytest.mark.parametrize("attempt", COLUMNS.values(), ids=COLUMNS)
@pytest.mark.parametrize("row", TABLE)
def test_a_copy_of_an_earlier_run_is_dropped_while_the_latest_is_under_way(row: str, attempt: int) -> None:
    for name, (more, _, _) in WISHES.items():
        assert judge(known(row), wish(attempt, run=RUN - 1, **more), now=NOW) == Acknowledge(), name
