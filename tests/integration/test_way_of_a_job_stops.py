"""The way of a job where its worker stops or its sender is halted: neither is a failure of the job."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final

from ports_in_memory import ACCEPTED, NOW, TOKEN_REFUSED, World, envelope, job_body

if TYPE_CHECKING:
    from pathlib import Path

    from otpost_worker.outcome import Outcome

# Only a hung test takes as long.
PATIENCE_S: Final = 20.0


def new_world(folder: Path, *answers: Outcome) -> World:
    return World(folder / "ledger.db", answers=answers or (ACCEPTED,))


async def test_a_stop_between_claim_and_request_releases_the_claim_and_hands_the_job_back_unchanged(
    tmp_path: Path,
) -> None:
    world = new_world(tmp_path)
    job = envelope(attempt=1, counted=0, drops=1, traceparent="00-1-2-03")
    world.after_claim = world.stopping.set
    await world.deliver(job)
    assert world.provider.requests == []
    assert world.broker.handed_back == [job]
    assert world.broker.events == []
    # The next worker needs no lease to end: the same attempt is free again.
    world.after_claim = None
    world.stopping.clear()
    await world.run()
    assert world.clock.now == NOW
    assert world.provider.callbacks == ["job-1"]
    assert world.heard == ["job-1/1/1/accepted"]


async def test_a_stop_does_not_wait_for_a_ledger_to_release_a_claim(tmp_path: Path) -> None:
    world = new_world(tmp_path)
    world.after_claim = world.stopping.set
    world.unavailable["release"] = 1_000
    async with asyncio.timeout(PATIENCE_S):
        await world.deliver(envelope())
    assert world.provider.requests == []
    assert world.broker.handed_back == [envelope()]


async def test_a_worker_that_stops_takes_no_claim(tmp_path: Path) -> None:
    world = new_world(tmp_path)
    world.stopping.set()
    await world.deliver(envelope())
    assert world.broker.handed_back == [envelope()]
    assert world.fate.passed == [("before", "next home"), ("after", "next home")]


async def test_a_request_that_is_under_way_when_the_worker_stops_is_finished(tmp_path: Path) -> None:
    world = new_world(tmp_path)

    async def stop() -> None:
        world.stopping.set()

    world.provider.on_request = stop
    await world.deliver(envelope())
    assert world.broker.handed_back == []
    assert world.heard == ["job-1/1/1/accepted"]


async def test_a_halted_sender_puts_its_jobs_on_the_ladder_unchanged_for_30_s(tmp_path: Path) -> None:
    world = new_world(tmp_path, TOKEN_REFUSED, ACCEPTED)
    await world.deliver(envelope())
    other = envelope(job_body(id="job-2"))
    await world.deliver(other)
    assert world.broker.delays[1] == (other, 30.0)
    assert world.provider.callbacks == ["job-1"]
    assert world.heard == ["job-1/1/1/retrying"]


async def test_a_halt_and_its_end_are_told_once_each(tmp_path: Path) -> None:
    world = new_world(tmp_path, TOKEN_REFUSED, TOKEN_REFUSED, ACCEPTED, ACCEPTED)
    await world.deliver(envelope())
    await world.run()
    await world.deliver(envelope(job_body(id="job-2")))
    assert world.provider.callbacks == ["job-1", "job-1/1/2", "job-1/1/3", "job-2"]
    assert [(news.change, news.at - NOW) for news in world.news] == [("halted", 0.0), ("resumed", 16.0)]
    assert [event.event_id for event in world.broker.sender_events] == [
        "default/halted/1795464000000",
        "default/resumed/1795464016000",
    ]
    assert world.broker.sender_events[0].error is not None
    assert world.broker.sender_events[0].error.code == 190


async def test_a_probe_reads_the_token_again_first(tmp_path: Path) -> None:
    world = new_world(tmp_path, TOKEN_REFUSED, TOKEN_REFUSED, ACCEPTED)
    await world.deliver(envelope())
    assert world.provider.renewals == 0
    await world.run()
    assert world.provider.renewals == 2


async def test_a_halted_senders_job_has_a_last_chance_and_comes_back_at_its_deadline(tmp_path: Path) -> None:
    world = new_world(tmp_path, TOKEN_REFUSED)
    await world.deliver(envelope())
    job = envelope(job_body(id="job-2", ttl_s=11))
    await world.deliver(job)
    world.clock.reach(NOW + 4)
    await world.deliver(job)
    # The last moment to start is 5 s before the deadline; 2 s before it the sender might have gone on.
    assert [delay_s for other, delay_s in world.broker.delays if other == job] == [4.0, 7.0]
    world.clock.reach(NOW + 11)
    await world.deliver(job)
    assert world.heard == ["job-1/1/1/retrying", "job-2/1/1/expired"]


async def test_a_sender_refused_between_claim_and_request_releases_the_claim(tmp_path: Path) -> None:
    world = new_world(tmp_path, TOKEN_REFUSED)
    # The second job's start is half a second after the first one's, whose answer comes meanwhile.
    world.rate = 2.0
    answer, begun = asyncio.Event(), asyncio.Event()

    async def hold_the_answer() -> None:
        begun.set()
        await answer.wait()

    claims = 0

    def answer_after_the_second_claim() -> None:
        nonlocal claims
        claims += 1
        if claims == 2:
            answer.set()

    world.provider.on_request = hold_the_answer
    world.after_claim = answer_after_the_second_claim
    second = envelope(job_body(id="job-2"))
    async with world.ledger() as ledger, asyncio.timeout(PATIENCE_S):
        way = world.deliverer(ledger)
        first = asyncio.create_task(way.deliver(envelope()))
        await begun.wait()
        await asyncio.gather(first, way.deliver(second))
    assert world.provider.callbacks == ["job-1"]
    assert (second, 30.0) in world.broker.delays
