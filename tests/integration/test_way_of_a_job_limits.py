"""The way of a job where its sender is at a limit or held: what was booked or refused before, and who is told."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final

from otpost_worker.outcome import Error, Kind, Refused
from ports_in_memory import ACCEPTED, NOW, TOKEN_REFUSED, World, envelope, job_body

if TYPE_CHECKING:
    from pathlib import Path

# Only a hung test takes as long.
PATIENCE_S: Final = 20.0
PAIR_LIMITED: Final = Refused(Error(Kind.PAIR_LIMIT, code=131056))
THROTTLED: Final = Refused(Error(Kind.THROUGHPUT, code=130429))


def note_requests(world: World) -> list[tuple[str, float]]:
    """Note which attempts are requested, and when, in seconds from the beginning."""
    requested: list[tuple[str, float]] = []

    async def note() -> None:
        requested.append((world.provider.callbacks[-1], round(world.clock.now - NOW, 3)))

    world.provider.on_request = note
    return requested


async def test_a_start_that_was_booked_before_the_rate_was_cut_does_not_cut_it_again(tmp_path: Path) -> None:
    world = World(tmp_path / "ledger.db", answers=[THROTTLED])
    # The second job's start is half a second after the first one's, whose answer comes meanwhile.
    world.rate = 2.0
    answer, begun, claims = asyncio.Event(), asyncio.Event(), 0

    async def hold_the_answer() -> None:
        begun.set()
        await answer.wait()

    def answer_after_the_second_claim() -> None:
        nonlocal claims
        claims += 1
        if claims == 2:
            world.clock.reach(NOW + 0.1)
            answer.set()

    world.provider.on_request = hold_the_answer
    world.after_claim = answer_after_the_second_claim
    async with world.ledger() as ledger, asyncio.timeout(PATIENCE_S):
        way = world.deliverer(ledger)
        first = asyncio.create_task(way.deliver(envelope()))
        await begun.wait()
        second = asyncio.create_task(way.deliver(envelope(job_body(id="job-2"))))
        await first
        world.clock.reach(NOW + 0.5)
        await second
    assert world.provider.callbacks == ["job-1", "job-2"]
    assert [(news.change, news.rate) for news in world.news] == [("slowed", 1.0)]


async def test_a_sender_resumes_though_the_clock_was_set_back_while_it_was_halted(tmp_path: Path) -> None:
    world = World(tmp_path / "ledger.db", answers=[TOKEN_REFUSED, ACCEPTED])
    async with world.ledger() as ledger, asyncio.timeout(PATIENCE_S):
        way = world.deliverer(ledger)
        await way.deliver(envelope())
        world.clock.now -= 3600
        # The first is the probe; the second is nothing special any more.
        for job_id, to in (("job-2", "+12025550188"), ("job-3", "+12025550199")):
            await way.deliver(envelope(job_body(id=job_id, to=to, created_at="2026-11-23T19:00:00Z")))
    assert world.provider.callbacks == ["job-1", "job-2", "job-3"]
    assert [news.change for news in world.news] == ["halted", "resumed"]


async def test_a_claim_of_before_the_clock_was_set_back_is_not_waited_for_as_long_as_that(tmp_path: Path) -> None:
    world = World(tmp_path / "ledger.db")

    def set_back() -> None:
        world.clock.now -= 3600

    world.after_claim = set_back
    async with asyncio.timeout(PATIENCE_S):
        await world.deliver(envelope())
    assert world.provider.callbacks == ["job-1"]


async def test_a_claim_that_is_granted_before_the_last_moment_to_start_but_heard_of_after_it_is_not_used(
    tmp_path: Path,
) -> None:
    world = World(tmp_path / "ledger.db")
    # The deadline is in 300 s, and a request may take 5 s of them.
    world.clock.reach(NOW + 294.9)
    world.after_claim = lambda: world.clock.reach(NOW + 295.1)
    async with asyncio.timeout(PATIENCE_S):
        await world.deliver(envelope())
    assert world.provider.callbacks == []
    assert world.heard == ["job-1/1/1/expired"]
    assert world.waiting == []


async def test_a_job_whose_recipients_turn_comes_too_late_expires_at_once(tmp_path: Path) -> None:
    world = World(tmp_path / "ledger.db")
    # All of its recipient's burst start at once.
    world.rate = 1000.0
    async with world.ledger() as ledger, asyncio.timeout(PATIENCE_S):
        way = world.deliverer(ledger)
        for number in range(45):
            await way.deliver(envelope(job_body(id=f"job-{number}")))
        # The turn is in 6.5 s; of 11 s until the deadline the request may take 5.
        await way.deliver(envelope(job_body(id="late", ttl_s=11)))
    assert len(world.provider.callbacks) == 45
    assert world.heard[45:] == ["late/1/1/expired"]
    assert world.waiting == []


async def test_a_refused_recipients_other_jobs_wait_behind_the_refused_one_and_make_no_refused_request(
    tmp_path: Path,
) -> None:
    world = World(tmp_path / "ledger.db", answers=[PAIR_LIMITED, ACCEPTED])
    requested = note_requests(world)
    async with asyncio.timeout(PATIENCE_S):
        await world.deliver(envelope())
        await world.deliver(envelope(job_body(id="job-2")))
        await world.deliver(envelope(job_body(id="job-3", to="+12025550188")))
        await world.run()
    assert requested == [("job-1", 0.0), ("job-3", 0.0), ("job-1/1/2", 1.0), ("job-2", 7.5)]
    assert world.ends == ["job-3/1/1/accepted", "job-1/1/2/accepted", "job-2/1/1/accepted"]


async def test_a_retry_that_is_refused_again_waits_four_times_as_long_with_everybody_behind_it(tmp_path: Path) -> None:
    world = World(tmp_path / "ledger.db", answers=[PAIR_LIMITED, PAIR_LIMITED, ACCEPTED])
    requested = note_requests(world)
    async with asyncio.timeout(PATIENCE_S):
        await world.deliver(envelope())
        retry, _ = world.waiting[0]
        world.clock.reach(NOW + 1)
        await world.deliver(retry)
        await world.deliver(envelope(job_body(id="job-2")))
        await world.run()
    assert requested == [("job-1", 0.0), ("job-1/1/2", 1.0), ("job-1/1/3", 5.0), ("job-2", 11.5)]


async def test_a_recipient_waits_though_the_refused_job_has_no_time_left_to_be_tried_again(tmp_path: Path) -> None:
    world = World(tmp_path / "ledger.db", answers=[PAIR_LIMITED, ACCEPTED])
    requested = note_requests(world)
    async with asyncio.timeout(PATIENCE_S):
        # Its request may take 5 s of its 5.5 s.
        await world.deliver(envelope(job_body(ttl_s=5.5)))
        await world.deliver(envelope(job_body(id="job-2")))
        await world.run()
    assert world.ends == ["job-1/1/1/expired", "job-2/1/1/accepted"]
    assert requested == [("job-1", 0.0), ("job-2", 1.5)]
