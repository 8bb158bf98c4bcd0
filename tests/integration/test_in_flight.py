"""The table of the jobs in hand: a redelivery joins its job, nothing is acknowledged before its time, and draining."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

import pytest

from otpost_worker.ledger.sqlite import SqliteLedger
from otpost_worker.worker import InFlight, job_key, pause_after_crash_s
from ports_in_memory import UNAVAILABLE, World, envelope, job_body

if TYPE_CHECKING:
    from pathlib import Path

    from otpost_worker.envelope import Envelope
    from otpost_worker.outcome import Outcome

PATIENCE_S: Final = 20.0


@dataclass
class Delivery:
    """A delivery as the test sees it."""

    is_lost: bool = False
    fate: list[str] = field(default_factory=list)
    settled: asyncio.Event = field(default_factory=asyncio.Event)

    async def acknowledge(self) -> bool:
        self.fate.append("acknowledged")
        self.settled.set()
        return True

    async def requeue(self) -> None:
        self.fate.append("requeued")
        self.settled.set()


class Way:
    """A way of a job that ends when the test says so."""

    def __init__(self) -> None:
        self.begun = 0
        self.begin = asyncio.Event()
        self.end = asyncio.Event()
        self.error: Exception | None = None

    async def __call__(self) -> None:
        self.begun += 1
        self.begin.set()
        await self.end.wait()
        if self.error is not None:
            raise self.error


async def settle(*deliveries: Delivery) -> None:
    async with asyncio.timeout(PATIENCE_S):
        for delivery in deliveries:
            await delivery.settled.wait()


async def test_a_job_is_acknowledged_when_its_way_is_over_and_not_before() -> None:
    async with asyncio.TaskGroup() as tasks:
        in_flight, delivery, way = InFlight(tasks), Delivery(), Way()
        in_flight.take("job", delivery, way)
        await asyncio.wait_for(way.begin.wait(), PATIENCE_S)
        assert delivery.fate == []
        assert len(in_flight) == 1
        way.end.set()
        await settle(delivery)
    assert delivery.fate == ["acknowledged"]
    assert len(in_flight) == 0


async def test_a_redelivery_joins_the_job_that_is_still_in_hand() -> None:
    async with asyncio.TaskGroup() as tasks:
        in_flight, first, again, way = InFlight(tasks), Delivery(), Delivery(), Way()
        in_flight.take("job", first, way)
        await asyncio.wait_for(way.begin.wait(), PATIENCE_S)
        first.is_lost = True
        in_flight.take("job", again, way)
        assert len(in_flight) == 1
        assert again.fate == []
        way.end.set()
        await settle(first, again)
    assert way.begun == 1
    assert (first.fate, again.fate) == (["acknowledged"], ["acknowledged"])


async def test_a_second_message_of_a_job_in_hand_is_not_acknowledged_with_it() -> None:
    async with asyncio.TaskGroup() as tasks:
        in_flight, first, other, way, others_way = InFlight(tasks), Delivery(), Delivery(), Way(), Way()
        in_flight.take("job", first, way)
        await asyncio.wait_for(way.begin.wait(), PATIENCE_S)
        # The first one can still be acknowledged, so this is no redelivery of it.
        in_flight.take("job", other, others_way)
        way.end.set()
        await settle(first)
        assert other.fate == []
        others_way.end.set()
        await settle(other)
    assert (way.begun, others_way.begun) == (1, 1)
    assert (first.fate, other.fate) == (["acknowledged"], ["acknowledged"])


async def test_only_one_message_is_taken_for_the_redelivery_of_a_lost_one() -> None:
    async with asyncio.TaskGroup() as tasks:
        in_flight, way, others_way = InFlight(tasks), Way(), Way()
        lost, again, other = Delivery(), Delivery(), Delivery()
        in_flight.take("job", lost, way)
        await asyncio.wait_for(way.begin.wait(), PATIENCE_S)
        lost.is_lost = True
        in_flight.take("job", again, way)
        in_flight.take("job", other, others_way)
        way.end.set()
        await settle(lost, again)
        assert other.fate == []
        others_way.end.set()
        await settle(other)
    assert (way.begun, others_way.begun) == (1, 1)


async def test_a_delivery_after_the_end_begins_the_way_anew() -> None:
    async with asyncio.TaskGroup() as tasks:
        in_flight, first, again, way = InFlight(tasks), Delivery(), Delivery(), Way()
        way.end.set()
        in_flight.take("job", first, way)
        await settle(first)
        in_flight.take("job", again, way)
        await settle(again)
    assert way.begun == 2


async def test_a_crash_of_the_way_gives_every_delivery_back_and_harms_no_other_job() -> None:
    async with asyncio.TaskGroup() as tasks:
        in_flight, first, again, other = InFlight(tasks), Delivery(is_lost=True), Delivery(), Delivery()
        bad, good = Way(), Way()
        bad.error = KeyError("a bug")
        in_flight.take("bad", first, bad)
        in_flight.take("good", other, good)
        await asyncio.wait_for(bad.begin.wait(), PATIENCE_S)
        first.is_lost = True
        in_flight.take("bad", again, bad)
        bad.end.set()
        await settle(first, again)
        assert other.fate == []
        good.end.set()
        await settle(other)
    assert (first.fate, again.fate, other.fate) == (["requeued"], ["requeued"], ["acknowledged"])
    assert len(in_flight) == 0


async def test_a_delivery_that_comes_while_its_job_is_acknowledged_begins_anew_and_harms_nobody() -> None:
    class Slow(Delivery):
        async def acknowledge(self) -> bool:
            in_flight.take("job", again, second)
            await asyncio.wait_for(second.begin.wait(), PATIENCE_S)
            return await super().acknowledge()

    first, again, way, second = Slow(), Delivery(), Way(), Way()
    way.end.set()
    async with asyncio.TaskGroup() as tasks:
        in_flight = InFlight(tasks)
        in_flight.take("job", first, way)
        await settle(first)
        second.end.set()
        await settle(again)
    assert (first.fate, again.fate) == (["acknowledged"], ["acknowledged"])


# Crashing again and again


async def test_a_job_that_crashes_again_and_again_is_given_back_later_each_time() -> None:
    asked: list[int] = []

    def no_pause(crashes: int) -> float:
        asked.append(crashes)
        return 0.0

    async def crash() -> None:
        raise KeyError("a bug")

    async def work() -> None:
        return

    async with asyncio.TaskGroup() as tasks:
        in_flight = InFlight(tasks, pause_s=no_pause)
        for job, way in (("a", crash), ("a", crash), ("b", crash), ("a", crash), ("a", work), ("a", crash)):
            delivery = Delivery()
            in_flight.take(job, delivery, way)
            await settle(delivery)
    # The third crash of "a" comes after the first of "b"; then "a" has had a good day, and begins anew.
    assert asked == [1, 2, 1, 3, 1]


def test_the_pause_after_a_crash_doubles_from_half_a_second_to_half_a_minute() -> None:
    pauses = [pause_after_crash_s(crashes) for crashes in (1, 2, 3, 4, 5, 6, 7, 8, 20, 10**6)]
    assert pauses == [0.5, 1.0, 2.0, 4.0, 8.0, 16.0, 30.0, 30.0, 30.0, 30.0]


async def test_a_job_that_rests_after_a_crash_holds_up_no_other_and_is_given_back_at_once_when_the_worker_stops() -> (
    None
):
    async def crash() -> None:
        resting.set()
        raise KeyError("a bug")

    resting, bad, again, good, way = asyncio.Event(), Delivery(), Delivery(), Delivery(), Way()
    way.end.set()
    async with asyncio.TaskGroup() as tasks:
        in_flight = InFlight(tasks, pause_s=lambda _: PATIENCE_S * 100)
        in_flight.take("bad", bad, crash)
        await asyncio.wait_for(resting.wait(), PATIENCE_S)
        in_flight.take("good", good, way)
        await settle(good)
        # A redelivery of the one that rests joins it, and does not crash once more.
        bad.is_lost = True
        resting.clear()
        in_flight.take("bad", again, crash)
        assert len(in_flight) == 1
        assert (bad.fate, again.fate) == ([], [])
        async with asyncio.timeout(PATIENCE_S):
            assert await in_flight.drain(PATIENCE_S, at_once=asyncio.Event()) is True
    assert (good.fate, bad.fate, again.fate) == (["acknowledged"], ["requeued"], ["requeued"])
    assert not resting.is_set()


# Draining


async def test_draining_waits_for_what_is_in_hand_and_says_that_all_came_to_its_end() -> None:
    async with asyncio.TaskGroup() as tasks:
        in_flight, delivery, way = InFlight(tasks), Delivery(), Way()
        in_flight.take("job", delivery, way)
        draining = asyncio.create_task(in_flight.drain(PATIENCE_S, at_once=asyncio.Event()))
        await asyncio.wait_for(way.begin.wait(), PATIENCE_S)
        assert not draining.done()
        way.end.set()
        assert await draining is True
    assert delivery.fate == ["acknowledged"]


@pytest.mark.parametrize("hurry", [False, True], ids=["grace over", "second signal"])
async def test_what_does_not_end_in_time_is_cancelled_and_neither_acknowledged_nor_requeued(hurry: bool) -> None:  # noqa: FBT001 - a parameter
    async with asyncio.TaskGroup() as tasks:
        in_flight, delivery, way, at_once = InFlight(tasks), Delivery(), Way(), asyncio.Event()
        in_flight.take("job", delivery, way)
        draining = asyncio.create_task(in_flight.drain(PATIENCE_S * 3 if hurry else 0.01, at_once=at_once))
        await asyncio.wait_for(way.begin.wait(), PATIENCE_S)
        if hurry:
            at_once.set()
        assert await asyncio.wait_for(draining, PATIENCE_S) is False
    # The broker delivers it again when the connection closes.
    assert delivery.fate == []


async def test_draining_waits_for_background_work_too() -> None:
    async with asyncio.TaskGroup() as tasks:
        in_flight, way = InFlight(tasks), Way()
        in_flight.background(way())
        draining = asyncio.create_task(in_flight.drain(PATIENCE_S, at_once=asyncio.Event()))
        await asyncio.wait_for(way.begin.wait(), PATIENCE_S)
        assert not draining.done()
        way.end.set()
        assert await draining is True


async def test_background_work_that_crashes_takes_nothing_with_it() -> None:
    delivery, way, background = Delivery(), Way(), Way()
    background.error = TypeError("string exceeds maximum length of 255 bytes")
    background.end.set()
    async with asyncio.TaskGroup() as tasks:
        in_flight = InFlight(tasks)
        in_flight.take("job-1", delivery, way)
        in_flight.background(background())
        await asyncio.wait_for(background.begin.wait(), PATIENCE_S)
        way.end.set()
        assert await in_flight.drain(PATIENCE_S, at_once=asyncio.Event()) is True
    assert delivery.fate == ["acknowledged"]


async def test_draining_nothing_is_over_at_once() -> None:
    async with asyncio.TaskGroup() as tasks:
        assert await asyncio.wait_for(InFlight(tasks).drain(600, at_once=asyncio.Event()), PATIENCE_S) is True


# Which deliveries are the same


def test_copies_of_one_step_are_the_same_and_all_else_is_not() -> None:
    one = envelope(attempt=2)
    assert job_key(one) == job_key(envelope(attempt=2, counted=1, drops=1))
    others = [envelope(attempt=3), envelope(attempt=2, run=2), envelope(job_body(id="job-2"), attempt=2)]
    assert all(job_key(other) != job_key(one) for other in others)


# With a queue behind it


class Bouncing(World):
    """A world whose queue delivers a job to this very worker as soon as it is stored, before it has confirmed it."""

    def __init__(self, ledger_file: Path, in_flight: InFlight, ledger: SqliteLedger, answer: Outcome) -> None:
        super().__init__(ledger_file, answers=[answer])
        self.deliveries: list[Delivery] = []
        self._in_flight = in_flight
        self._way = self.deliverer(ledger)

    def put(self, envelope: Envelope, delay_s: float = 0.0) -> None:
        super().put(envelope, delay_s)
        self.take(envelope)

    def take(self, envelope: Envelope) -> None:
        if len(self.deliveries) < 10:
            self.deliveries.append(Delivery())
            self._in_flight.take(job_key(envelope), self.deliveries[-1], lambda: self._way.deliver(envelope))

    @property
    def stored(self) -> int:
        """How many copies the queue still has: one for each that was put, less those acknowledged."""
        put = 1 + len(self.broker.handed_back) + len(self.broker.delays)
        return put - sum("acknowledged" in delivery.fate for delivery in self.deliveries)


async def test_a_job_that_is_handed_back_is_not_lost_when_its_copy_returns_before_the_confirm(tmp_path: Path) -> None:
    file = tmp_path / "ledger.db"
    async with SqliteLedger(file) as ledger, asyncio.TaskGroup() as tasks:
        in_flight = InFlight(tasks)
        world = Bouncing(file, in_flight, ledger, UNAVAILABLE)
        world.stopping.set()
        world.take(envelope())
        await in_flight.drain(PATIENCE_S, at_once=asyncio.Event())
    assert world.provider.requests == []
    assert world.stored == 1


async def test_a_job_that_waits_unchanged_is_not_lost_when_its_copy_returns_before_the_confirm(tmp_path: Path) -> None:
    # The ladder's confirm is late by more than its delay: a worker that was paused, or a broker that was slow.
    file = tmp_path / "ledger.db"
    async with asyncio.TaskGroup() as tasks:
        in_flight = InFlight(tasks)
        clock = World(file).clock
        async with SqliteLedger(file, clock=clock) as ledger:
            world = Bouncing(file, in_flight, ledger, UNAVAILABLE)
            world.take(envelope(job_body(not_before="2026-11-23T20:00:30Z")))
            await in_flight.drain(PATIENCE_S, at_once=asyncio.Event())
    assert world.provider.requests == []
    assert world.stored == 1
