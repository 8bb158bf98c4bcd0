"""The way of a job to its end on bad days: in doubt about an earlier attempt, or with a ledger that comes back late."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final

import pytest

from otpost.sealing import PrivateKey
from otpost_worker.decision import Bury, Expire
from otpost_worker.outcome import Error, Kind
from ports_in_memory import CODE, LOST, NO_SUCH_NUMBER, NOW, UNAVAILABLE, World, copy_of, envelope, job_body

if TYPE_CHECKING:
    from pathlib import Path

    from ledger_implementations import Implementation
    from otpost_worker.deliver import Ending

# Both by the reader of what the broker dropped.
OUT_OF_TIME: Final = Expire(None)
TOO_OFTEN: Final = Bury(Error(Kind.DELIVERY_LIMIT, title="Delivery limit"))
FOR_ANOTHER: Final = PrivateKey(b"a key of somebody else: 32 bytes").public.seal(CODE.encode())
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


@pytest.mark.parametrize(
    ("first", "reason"),
    [
        pytest.param(job_body(code=None, sealed_code=FOR_ANOTHER), "no_key", id="a job that ended without an attempt"),
        pytest.param(job_body(otp=CODE), "invalid_job", id="a body that is no job either"),
    ],
)
async def test_an_invalid_body_under_a_known_id_is_a_dead_letter_without_a_result(
    place: Implementation, first: bytes, reason: str
) -> None:
    world = World(place)
    for body in (first, job_body(cod="typing error"), job_body(cod="another one")):
        await world.deliver(envelope(body))
    assert world.broker.event_ids == ["job-1/1/1/failed"]
    assert [letter.reason for _, letter in world.broker.letters] == [reason, "invalid_job", "invalid_job"]


@pytest.mark.parametrize("arrow", ["record", "event", "next home", "note"])
@pytest.mark.parametrize("when", ["before", "after"])
async def test_an_invalid_body_has_one_result_wherever_its_worker_dies(
    place: Implementation, when: str, arrow: str
) -> None:
    world = World(place)
    world.fate.crash_at = (when, arrow)
    world.put(envelope(job_body(otp=CODE)))
    await world.run()
    assert world.fate.crashes == 1
    assert world.heard == ["job-1/1/1/failed"]
    assert world.letters == ["invalid_job"]
