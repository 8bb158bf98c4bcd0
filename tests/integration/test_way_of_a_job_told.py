"""What is told of the way of a job: ends that nobody may mistake for others, letters, and each thing counted once."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final

import pytest

from known_states import prepare
from ledger_implementations import Memory
from otpost_worker.decision import Bury, Policy
from otpost_worker.ledger.memory import MemoryLedger
from otpost_worker.outcome import Error, Kind
from otpost_worker.ports import ClaimReply, ClaimRequest, Crowded, Entry, Noted, Ticket
from ports_in_memory import ACCEPTED, LOST, NOW, TOKEN_REFUSED, UNAVAILABLE, World, envelope, job_body

if TYPE_CHECKING:
    from otpost_worker.envelope import Envelope
    from otpost_worker.outcome import Outcome
    from ports_in_memory import Clock

# Only a hung test takes as long.
PATIENCE_S: Final = 20.0
GIVEN_BACK: Final = Bury(Error(Kind.DELIVERY_LIMIT))
MISDIRECTED: Final = Bury(Error(Kind.NO_SENDER))


@pytest.fixture
def world() -> World:
    return World(Memory())


async def end(world: World, job: Envelope, ending: Bury) -> None:
    """Let a worker end what the broker has dropped."""
    async with world.ledger() as ledger:
        await world.deliverer(ledger).deliver(job, ending=ending)


def counted(world: World, name: str, **labels: str) -> float | None:
    """How often it was counted, of the sender that all jobs here are for."""
    return world.metrics.registry.get_sample_value(f"otpost_{name}_total", {"sender": "default", **labels})


# Ends


@pytest.mark.parametrize(
    ("ending", "later_s", "heard", "letters"),
    [
        pytest.param(GIVEN_BACK, 300, ["job-1/1/1/failed"], ["delivery_limit"], id="given back, at its deadline"),
        pytest.param(GIVEN_BACK, 300.1, ["job-1/1/1/expired"], [], id="given back, past its deadline"),
        pytest.param(MISDIRECTED, 300.1, ["job-1/1/1/failed"], ["no_sender"], id="misdirected, past its deadline"),
    ],
)
async def test_what_was_dropped_is_only_late_past_its_deadline_unless_nobody_was_to_send_it_anyway(
    world: World, ending: Bury, later_s: float, heard: list[str], letters: list[str]
) -> None:
    world.clock.reach(NOW + later_s)
    await end(world, envelope(drops=2), ending)
    assert world.heard == heard
    assert world.letters == letters


async def test_a_job_without_time_for_another_attempt_fails_if_one_long_before_may_have_arrived(world: World) -> None:
    world.provider.answers = [LOST, UNAVAILABLE]
    await world.deliver(envelope())
    world.clock.reach(NOW + 5)
    await world.deliver(envelope(attempt=2, counted=1))
    world.clock.reach(NOW + 296)
    await world.deliver(envelope(attempt=3, counted=2))
    assert world.heard == ["job-1/1/1/retrying", "job-1/1/2/retrying", "job-1/1/3/failed"]
    assert world.letters == ["unknown"]


@pytest.mark.parametrize(("not_before", "waits_s"), [("20:04:55", 295.0), ("20:04:55.001", None)])
async def test_a_job_that_may_only_start_too_late_expires_at_once_and_not_when_it_may(
    world: World, not_before: str, waits_s: float | None
) -> None:
    # The deadline is 300 s after the beginning, the time-out of a request 5 s.
    job = envelope(job_body(not_before=f"2026-11-23T{not_before}Z"))
    await world.deliver(job)
    assert world.provider.requests == []
    assert world.broker.delays == ([] if waits_s is None else [(job, waits_s)])
    assert world.heard == (["job-1/1/1/expired"] if waits_s is None else [])


async def test_the_letter_of_another_body_under_a_failed_jobs_id_is_not_taken_for_the_jobs_own(world: World) -> None:
    # The job has failed, and its worker died before the dead letter was confirmed.
    await prepare(world.place, world.clock, "ended failed")
    await world.deliver(envelope(job_body(code=None), attempt=2))
    assert [letter.reason for _, letter in world.broker.letters] == ["invalid_job"]
    await world.deliver(envelope(attempt=2))
    assert [letter.reason for _, letter in world.broker.letters] == ["invalid_job", "recipient"]


# The next attempt


async def test_a_job_that_was_sent_has_its_chances_with_the_broker_anew(world: World) -> None:
    world.provider.answers = [UNAVAILABLE]
    await world.deliver(envelope(drops=2))
    assert [(copy.attempt, copy.drops) for copy, _ in world.broker.delays] == [(2, 0)]


class CrowdedLedger(MemoryLedger):
    """Has no room for a request; the second answer, 10 s later, says when there is some."""

    def __init__(self, clock: Clock, until: float) -> None:
        super().__init__(clock=clock)
        self._moved = clock
        self._until = until
        self._asked = 0

    async def claim(self, request: ClaimRequest) -> ClaimReply:  # noqa: ARG002 - the port's
        self._asked += 1
        if self._asked < 2:
            return Crowded(self._moved.now)
        self._moved.reach(NOW + 10)
        return Crowded(self._until)


@pytest.mark.parametrize(
    ("until", "waits_s"),
    [
        pytest.param(NOW + 10, 1.0, id="at once: a second all the same"),
        pytest.param(NOW + 70, 60.0, id="until there is room"),
        pytest.param(NOW + 400, 290.0, id="past the deadline: until then, to end in time"),
    ],
)
async def test_a_job_that_stood_in_line_in_vain_comes_back_when_there_is_room_or_at_its_deadline(
    world: World, until: float, waits_s: float
) -> None:
    async with asyncio.timeout(PATIENCE_S):
        await world.deliverer(CrowdedLedger(world.clock, until)).deliver(envelope())
    assert world.broker.delays == [(envelope(), waits_s)]


# A refusal of the sender that its ledger has not heard of yet


class SlowLedger(MemoryLedger):
    """Answers nobody before it is told to; what is asked of it is done at once."""

    def __init__(self, clock: Clock) -> None:
        super().__init__(clock=clock)
        self.recording, self.claimed = asyncio.Event(), asyncio.Event()
        self.may_record, self.may_answer = asyncio.Event(), asyncio.Event()
        self.may_answer.set()

    async def claim(self, request: ClaimRequest) -> ClaimReply:
        reply = await super().claim(request)
        self.claimed.set()
        await self.may_answer.wait()
        return reply

    async def record(self, ticket: Ticket, entry: Entry) -> Noted:
        self.recording.set()
        await self.may_record.wait()
        return await super().record(ticket, entry)


async def test_while_a_refusal_of_the_sender_is_being_recorded_no_other_job_is_sent(world: World) -> None:
    world.provider.answers = [TOKEN_REFUSED]
    ledger = SlowLedger(world.clock)
    way = world.deliverer(ledger)
    second = envelope(job_body(id="job-2"))
    async with asyncio.timeout(PATIENCE_S), asyncio.TaskGroup() as workers:
        workers.create_task(way.deliver(envelope()))
        await ledger.recording.wait()
        await way.deliver(second)
        assert world.provider.callbacks == ["job-1"]
        assert world.broker.delays == [(second, 1.0)]
        ledger.may_record.set()


async def test_a_claim_of_the_time_when_a_refusal_of_the_sender_was_being_recorded_is_not_used(world: World) -> None:
    world.provider.answers = [TOKEN_REFUSED]
    world.policy = Policy(start_tolerance_s=60)
    ledger = SlowLedger(world.clock)
    way = world.deliverer(ledger)
    second = envelope(job_body(id="job-2"))
    async with asyncio.timeout(PATIENCE_S), asyncio.TaskGroup() as workers:
        first = workers.create_task(way.deliver(envelope()))
        await ledger.recording.wait()
        world.clock.reach(NOW + 1)
        ledger.claimed.clear()
        ledger.may_answer.clear()
        workers.create_task(way.deliver(second))
        await ledger.claimed.wait()
        world.clock.reach(NOW + 2)
        ledger.may_record.set()
        await first
        ledger.may_answer.set()
    assert world.provider.callbacks == ["job-1"]
    assert (second, 30.0) in world.broker.delays


# What is counted


async def test_an_end_that_is_told_again_is_counted_apart(world: World) -> None:
    await world.deliver(envelope())
    await world.deliver(envelope())
    assert counted(world, "results", status="accepted") == 1
    assert counted(world, "results_repeated", status="accepted") == 1


async def test_a_claim_that_lapsed_is_counted_as_an_outcome_that_nobody_knows(world: World) -> None:
    await prepare(world.place, world.clock, "claimed")
    world.clock.reach(NOW + 20)
    await world.deliver(envelope(attempt=2, counted=1))
    assert counted(world, "unknown_outcomes") == 1


@pytest.mark.parametrize("later_s", [0, 296], ids=["sent", "too late on arrival"])
async def test_a_job_is_counted_once_however_often_it_comes(world: World, later_s: float) -> None:
    world.clock.reach(NOW + later_s)
    for _ in range(3):
        await world.deliver(envelope())
    assert counted(world, "jobs_received") == 1


async def test_what_is_no_job_is_counted_as_one_that_came_unless_its_id_is_another_jobs(world: World) -> None:
    await world.deliver(envelope(job_body(id="job-2", code=None)))
    assert counted(world, "jobs_received") == 1
    await world.deliver(envelope())
    await world.deliver(envelope(job_body(code=None)))
    assert counted(world, "jobs_received") == 2


@pytest.mark.parametrize("first", [UNAVAILABLE, LOST], ids=["refused", "unknown"])
@pytest.mark.parametrize("later_s", [10, 296], ids=["sent again", "too late"])
async def test_a_job_that_was_sent_before_is_not_counted_once_more(
    world: World, first: Outcome, later_s: float
) -> None:
    world.provider.answers = [first, ACCEPTED]
    await world.deliver(envelope())
    world.clock.reach(NOW + later_s)
    await world.deliver(envelope(attempt=2, counted=1))
    assert len(world.ends) == 1
    assert counted(world, "jobs_received") == 1


async def test_an_invalid_job_that_comes_twice_is_counted_once_and_its_end_told_again(world: World) -> None:
    for _ in range(2):
        await world.deliver(envelope(job_body(code=None)))
        world.clock.reach(NOW + 1)
    assert counted(world, "jobs_received") == 1
    assert counted(world, "results", status="failed") == 1
    assert counted(world, "results_repeated", status="failed") == 1
    assert counted(world, "dead_letters", reason="invalid_job") == 1
