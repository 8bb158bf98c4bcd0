"""The way of a job whose outcome comes after its lease: what others have concluded meanwhile stands."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from ports_in_memory import ACCEPTED, ACCEPTED_LATER, LOST, NO_SUCH_NUMBER, NOW, UNAVAILABLE, World, envelope

if TYPE_CHECKING:
    from pathlib import Path

    from otpost_worker.outcome import Outcome


def new_world(folder: Path, *answers: Outcome) -> World:
    return World(folder / "ledger.db", answers=answers or (ACCEPTED,))


async def overtaken(world: World, *, by: Outcome, until: float = NOW + 11) -> None:
    """Deliver a job whose request takes so long that its lease ends, and another worker takes it further meanwhile."""

    async def others_go_on() -> None:
        world.provider.on_request = None
        first, world.provider.answers = world.provider.answers, [by]
        world.clock.reach(until)
        world.put(envelope())
        async with world.ledger() as ledger:
            # As far as it goes without waiting on the ladder.
            await world.deliverer(ledger).deliver(envelope())
        world.provider.answers = first

    world.provider.on_request = others_go_on
    await world.deliver(envelope())


async def test_a_late_acceptance_settles_an_unknown_attempt(tmp_path: Path) -> None:
    world = new_world(tmp_path, ACCEPTED)
    await overtaken(world, by=ACCEPTED_LATER)
    assert world.heard == ["job-1/1/1/retrying", "job-1/1/1/accepted"]
    # The retry that is still on the ladder finds the end and sends nothing.
    await world.run()
    assert world.provider.callbacks == ["job-1"]
    assert world.ends == ["job-1/1/1/accepted"]


@pytest.mark.parametrize("late", [UNAVAILABLE, NO_SUCH_NUMBER, LOST], ids=["retry", "failed", "unknown"])
async def test_a_late_outcome_that_is_no_acceptance_changes_nothing(tmp_path: Path, late: Outcome) -> None:
    world = new_world(tmp_path, late, ACCEPTED)
    await overtaken(world, by=ACCEPTED)
    assert world.broker.event_ids == ["job-1/1/1/retrying"]
    assert [copy.attempt for copy, _ in world.broker.delays] == [2]
    assert world.letters == []
    await world.run()
    assert world.ends == ["job-1/1/2/accepted"]
    assert world.provider.callbacks == ["job-1", "job-1/1/2"]


@pytest.mark.parametrize(
    "late", [ACCEPTED, UNAVAILABLE, NO_SUCH_NUMBER, LOST], ids=["accepted", "retry", "failed", "unknown"]
)
async def test_the_first_recorded_end_stands_whatever_comes_later(tmp_path: Path, late: Outcome) -> None:
    world = new_world(tmp_path, late)
    # 300 s later nothing may follow an unknown attempt: the run ends as failed while the first worker still waits.
    await overtaken(world, by=LOST, until=NOW + 300)
    await world.run()
    assert world.heard == ["job-1/1/1/failed"]
    assert world.letters == ["unknown"]


@pytest.mark.parametrize("late", [ACCEPTED, UNAVAILABLE], ids=["accepted", "expired"])
async def test_an_outcome_after_the_end_leads_to_no_event(tmp_path: Path, late: Outcome) -> None:
    world = new_world(tmp_path, late)
    await overtaken(world, by=LOST, until=NOW + 300)
    assert world.broker.event_ids == ["job-1/1/1/failed"]
