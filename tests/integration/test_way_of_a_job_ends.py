"""The way of a job to its end on bad days: in doubt about an earlier attempt, or with a ledger that comes back late."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final

import pytest

from otpost_worker.decision import Bury, Expire
from otpost_worker.outcome import Error, Kind
from ports_in_memory import CODE, LOST, NO_SUCH_NUMBER, NOW, UNAVAILABLE, World, copy_of, envelope

if TYPE_CHECKING:
    from pathlib import Path

    from ledger_implementations import Implementation
    from otpost_worker.deliver import Ending

# Both by the reader of what the broker dropped.
OUT_OF_TIME: Final = Expire(None)
TOO_OFTEN: Final = Bury(Error(Kind.DELIVERY_LIMIT, title="Delivery limit"))
NOWHERE: Final = Bury(Error(Kind.NO_SENDER, title="No such sender"))


@pytest.mark.parametrize(
    ("ending", "at", "reason"),
    [
        pytest.param(OUT_OF_TIME, NOW + 30, "unknown", id="the broker's time for it was over"),
        pytest.param(TOO_OFTEN, NOW + 400, "unknown", id="it came back too often, and is too late"),
        pytest.param(None, NOW + 400, "unknown", id="it is too late"),
        pytest.param(TOO_OFTEN, NOW + 30, "delivery_limit", id="it came back too often"),
        pytest.param(NOWHERE, NOW + 400, "no_sender", id="nobody has its sender"),
    ],
)
async def test_a_job_that_may_have_arrived_never_ends_as_expired(
    tmp_path: Path, ending: Ending | None, at: float, reason: str
) -> None:
    world = World(tmp_path / "ledger.db", answers=[LOST, UNAVAILABLE])
    async with world.ledger() as ledger:
        way = world.deliverer(ledger)
        await way.deliver(envelope())
        world.clock.reach(NOW + 5)
        await way.deliver(copy_of(envelope(), 2, counted=1))
        world.clock.reach(at)
        await way.deliver(copy_of(envelope(), 3, counted=2), ending=ending)
    assert world.ends == ["job-1/1/3/failed"]
    assert world.letters == [reason]


async def test_a_dead_letter_that_is_there_before_its_end_is_recorded_is_noted_behind_it(place: Implementation) -> None:
    world = World(place, answers=[NO_SUCH_NUMBER])
    # The ledger is back for the note, and before it has been told the end.
    world.unavailable["record"] = 1
    await world.deliver(envelope())
    async with world.ledger() as ledger:
        (run,) = await ledger.story("job-1")
    assert run.buried
    assert CODE.encode() not in await asyncio.to_thread(place.remains)
    await world.deliver(envelope())
    assert [letter.reason for _, letter in world.broker.letters] == ["recipient"]
