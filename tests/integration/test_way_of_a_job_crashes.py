"""A worker dies before and after each arrow of the way of a job, and the next one goes on from there.

The order: claim, request, record, event, next home (the ladder or the dead letters), note of a dead letter,
acknowledge. Everything is real but broker and provider; see `World`.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import pytest

from otpost_worker.decision import Policy
from ports_in_memory import (
    ACCEPTED,
    ACCEPTED_LATER,
    LOST,
    NO_SUCH_NUMBER,
    TOKEN_REFUSED,
    UNAVAILABLE,
    Crash,
    World,
    envelope,
    job_body,
)

if TYPE_CHECKING:
    from pathlib import Path

    from ledger_implementations import Implementation
    from otpost_worker.outcome import Outcome
    from ports_in_memory import Point


RESEND: Final = Policy()


@dataclass(frozen=True)
class Story:
    """What the world saw of a job: its requests by attempt, its events (copies left out), its dead letters."""

    requests: tuple[str, ...]
    events: tuple[str, ...]
    letters: tuple[str, ...] = ()


@dataclass(frozen=True)
class Case:
    """One outcome: what the provider answers, the arrows that the job's first delivery goes through, and the stories.

    A crash changes the story only between claim and record: before the request it is `unsent`, and the claim's end
    makes it unknown although nothing left; after the request it is `lost`.
    """

    answers: tuple[Outcome, ...]
    arrows: tuple[str, ...]
    usual: Story
    unsent: Story | None = None
    lost: Story | None = None
    policy: Policy = RESEND
    body: bytes = job_body()


RETRYING_THEN_ACCEPTED: Final = ("job-1/1/1/retrying", "job-1/1/2/accepted")
ONCE: Final = ("job-1",)
TWICE: Final = ("job-1", "job-1/1/2")
SECOND_ONLY: Final = ("job-1/1/2",)
FIRST_RETRIES: Final = ("claim", "request", "record", "event", "next home", "acknowledge")
FIRST_HALTS: Final = ("claim", "request", "record", "event", "next home", "sender event", "acknowledge")
FIRST_FAILS: Final = ("claim", "request", "record", "event", "next home", "note", "acknowledge")

CASES: Final[dict[str, Case]] = {
    "accepted": Case(
        (ACCEPTED,),
        ("claim", "request", "record", "event", "acknowledge"),
        usual=Story(ONCE, ("job-1/1/1/accepted",)),
        unsent=Story(SECOND_ONLY, RETRYING_THEN_ACCEPTED),
        lost=Story(TWICE, RETRYING_THEN_ACCEPTED),
    ),
    "refused, then accepted": Case(
        (UNAVAILABLE, ACCEPTED),
        FIRST_RETRIES,
        usual=Story(TWICE, RETRYING_THEN_ACCEPTED),
        unsent=Story(("job-1/1/2", "job-1/1/3"), ("job-1/1/1/retrying", "job-1/1/2/retrying", "job-1/1/3/accepted")),
        lost=Story(TWICE, RETRYING_THEN_ACCEPTED),
    ),
    "refused for good": Case(
        (NO_SUCH_NUMBER,),
        FIRST_FAILS,
        usual=Story(ONCE, ("job-1/1/1/failed",), ("recipient",)),
        unsent=Story(SECOND_ONLY, ("job-1/1/1/retrying", "job-1/1/2/failed"), ("recipient",)),
        lost=Story(TWICE, ("job-1/1/1/retrying", "job-1/1/2/failed"), ("recipient",)),
    ),
    "refused too late for a retry": Case(
        (UNAVAILABLE,),
        ("claim", "request", "record", "event", "acknowledge"),
        usual=Story(ONCE, ("job-1/1/1/expired",)),
        # The claim's end, at 10 s, leaves no room for the 5 s after an unknown one: it may have arrived.
        unsent=Story((), ("job-1/1/1/failed",), ("unknown",)),
        lost=Story(ONCE, ("job-1/1/1/failed",), ("unknown",)),
        body=job_body(ttl_s=5.5),
    ),
    "answer lost, then accepted": Case(
        (LOST, ACCEPTED),
        FIRST_RETRIES,
        usual=Story(TWICE, RETRYING_THEN_ACCEPTED),
        # The attempt that never left is the first unknown one, the lost answer the second.
        unsent=Story(SECOND_ONLY, ("job-1/1/1/retrying", "job-1/1/2/failed"), ("unknown",)),
        lost=Story(TWICE, RETRYING_THEN_ACCEPTED),
    ),
    "answer lost twice": Case(
        (LOST, LOST, ACCEPTED_LATER),
        FIRST_RETRIES,
        usual=Story(TWICE, ("job-1/1/1/retrying", "job-1/1/2/failed"), ("unknown",)),
        unsent=Story(SECOND_ONLY, ("job-1/1/1/retrying", "job-1/1/2/failed"), ("unknown",)),
        lost=Story(TWICE, ("job-1/1/1/retrying", "job-1/1/2/failed"), ("unknown",)),
    ),
    "answer lost, policy fail": Case(
        (LOST, ACCEPTED),
        ("claim", "request", "record", "next home", "acknowledge"),
        usual=Story(ONCE, ("job-1/1/1/failed",), ("unknown",)),
        unsent=Story((), ("job-1/1/1/failed",), ("unknown",)),
        lost=Story(ONCE, ("job-1/1/1/failed",), ("unknown",)),
        policy=Policy(resend_unknown=False),
    ),
    "halted, then accepted": Case(
        (TOKEN_REFUSED, ACCEPTED),
        FIRST_HALTS,
        usual=Story(TWICE, RETRYING_THEN_ACCEPTED),
        unsent=Story(("job-1/1/2", "job-1/1/3"), ("job-1/1/1/retrying", "job-1/1/2/retrying", "job-1/1/3/accepted")),
        lost=Story(TWICE, RETRYING_THEN_ACCEPTED),
    ),
    "expired at once": Case(
        (ACCEPTED,),
        ("claim", "record", "event", "acknowledge"),
        usual=Story((), ("job-1/1/1/expired",)),
        body=job_body(ttl_s=4),
    ),
    "no job at all": Case(
        (ACCEPTED,),
        ("record", "event", "next home", "note", "acknowledge"),
        usual=Story((), ("job-1/1/1/failed",), ("invalid_job",)),
        body=job_body(to="nobody"),
    ),
}
UNSENT: Final = (("after", "claim"), ("before", "request"))
ANSWER_LOST: Final = (("after", "request"), ("before", "record"))


def points(case: Case) -> list[Point]:
    return [(when, arrow) for arrow in case.arrows for when in ("before", "after")]


def story_of(case: Case, point: Point) -> Story:
    """The story by the point of the crash."""
    if case.unsent is not None and point in UNSENT:
        return case.unsent
    if case.lost is not None and point in ANSWER_LOST:
        return case.lost
    return case.usual


CRASHES: Final = [
    pytest.param(case, point, id=f"{name}, {' '.join(point)}") for name, case in CASES.items() for point in points(case)
]


def told(world: World) -> Story:
    return Story(tuple(world.provider.callbacks), tuple(world.heard), tuple(world.letters))


def new_world(place: Path | Implementation, case: Case) -> World:
    world = World(place, answers=case.answers, policy=case.policy)
    world.put(envelope(case.body))
    return world


def check_promises(world: World) -> None:
    """What holds whatever happens: one end a run, no attempt requested twice, the code twice only after an unknown."""
    assert len(world.ends) == 1, world.heard
    assert len(set(world.provider.callbacks)) == len(world.provider.callbacks)
    assert (len(world.letters) == 1) == world.ends[0].endswith("/failed")
    assert world.waiting == []


async def check_that_it_is_over(world: World, case: Case) -> None:
    """A further copy of the job gets the recorded end again, and no request."""
    requests, ends = list(world.provider.callbacks), list(world.ends)
    before = len(world.broker.events)
    world.put(envelope(case.body))
    await world.run()
    assert world.broker.event_ids[before:] == ends
    assert world.provider.callbacks == requests


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
async def test_the_way_without_a_crash(place: Implementation, case: Case) -> None:
    world = new_world(place, case)
    await world.run()
    assert told(world) == case.usual
    assert len(world.broker.events) == len(case.usual.events)
    first = world.fate.passed[: 2 * len(case.arrows)]
    assert first == points(case)


@pytest.mark.parametrize(("case", "point"), CRASHES)
async def test_a_crash_at_each_arrow(place: Implementation, case: Case, point: Point) -> None:
    world = new_world(place, case)
    world.fate.crash_at = point
    await world.run()
    assert world.fate.crashes == 1
    assert told(world) == story_of(case, point)
    check_promises(world)
    await check_that_it_is_over(world, case)


async def crashed_at(folder: Path, case: Case, first: int, second: int) -> World:
    """Crash at the point of that number, and again so many points later; both count through the job's whole life."""
    world = new_world(folder / "ledger.db", case)
    world.fate.crash_at_number = first
    world.fate.crash_again_after = second
    await world.run()
    return world


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
async def test_two_crashes_anywhere_leave_every_promise_standing(tmp_path: Path, case: Case) -> None:
    first = 0
    crashes = 2
    while crashes:
        first += 1
        for later in (2, 7):
            folder = tmp_path / f"{first}-{later}"
            folder.mkdir()
            world = await crashed_at(folder, case, first, later)
            check_promises(world)
            assert len(world.provider.requests) <= len(case.answers) + 1
            crashes = world.fate.crashes
            if not crashes:
                break
    assert first > 2 * len(case.arrows)


async def test_an_end_that_is_told_while_the_ledger_is_away_is_unknown_if_its_worker_dies_before_the_record(
    place: Implementation,
) -> None:
    """Two faults at once, and the one way to two ends: who waits for the end of a job does not wait for the ledger."""
    world = World(place)
    world.unavailable["record"] = 99
    world.fate.crash_at = ("after", "event")
    with pytest.raises(Crash):
        await world.deliver(envelope())
    for recording in world.backgrounds:
        recording.cancel()
    await asyncio.gather(*world.backgrounds, return_exceptions=True)
    world.backgrounds.clear()
    world.unavailable.clear()
    world.put(envelope())
    await world.run()
    assert world.heard == ["job-1/1/1/accepted", "job-1/1/1/retrying", "job-1/1/2/accepted"]
    assert world.provider.callbacks == ["job-1", "job-1/1/2"]
