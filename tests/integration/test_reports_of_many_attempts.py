"""Reports about a job with several attempts or lives: none of them costs it its end, or makes it a code too many."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import replace
from random import Random
from typing import TYPE_CHECKING

import pytest

from otpost_worker.outcome import Accepted
from otpost_worker.updates import Posted
from ports_in_memory import ACCEPTED, ACCEPTED_LATER, LOST, NOW, UNAVAILABLE, Crash, World, envelope, job_body
from reports_in_memory import Reporting, holds, new_world, report, sent

if TYPE_CHECKING:
    from ledger_implementations import Implementation
    from otpost_worker.envelope import Envelope
    from otpost_worker.outcome import Outcome
    from otpost_worker.updates import MessageReport


async def reported_while_the_second_is_in_flight(
    place: Implementation, told: MessageReport, *answers: Outcome, ttl_s: int = 300
) -> tuple[World, Reporting]:
    """A job whose first answer is lost; its second attempt is in flight when something is reported of the first."""
    world = new_world(place, LOST, *answers)
    reporting = Reporting(world)

    async def during_the_second() -> None:
        if len(world.provider.requests) == 2:
            await reporting.post(told, token="post-1")

    world.provider.on_request = during_the_second
    world.put(envelope(job_body(ttl_s=ttl_s)))
    await world.run()
    return world, reporting


@pytest.mark.parametrize(("code", "ttl_s"), [(131026, 300), (131049, 300), (131049, 30)])
async def test_a_failure_of_an_earlier_attempt_ends_nothing_while_a_later_one_is_in_flight(
    place: Implementation, code: int, ttl_s: int
) -> None:
    failed = report("failed", NOW + 6, code=code)
    world, _ = await reported_while_the_second_is_in_flight(place, failed, ACCEPTED_LATER, ttl_s=ttl_s)
    assert world.provider.callbacks == ["job-1", "job-1/1/2"]
    assert world.ends == ["job-1/1/2/accepted"]
    assert world.letters == []


async def test_a_report_of_an_earlier_attempt_ends_nothing_while_a_later_one_is_in_flight_and_takes_nothing_back(
    place: Implementation,
) -> None:
    world, reporting = await reported_while_the_second_is_in_flight(
        place, report("sent", NOW + 1), ACCEPTED_LATER, Accepted("wamid.three")
    )
    ((later, _),) = world.broker.postponed
    await reporting.take(later)
    assert world.ends == ["job-1/1/2/accepted"]
    assert world.heard[-1] == "job-1/1/1/sent"
    world.clock.reach(world.clock.now + 20)
    await reporting.post(report("failed", NOW + 9, code=131016), token="post-2")
    await world.run()
    assert world.provider.callbacks == ["job-1", "job-1/1/2"]


async def test_a_replay_of_what_failed_as_unknown_and_was_delivered_after_all_sends_nothing(
    place: Implementation,
) -> None:
    world, reporting = await sent(place, LOST, LOST)
    assert world.ends == ["job-1/1/2/failed"]
    await reporting.post(report("delivered", NOW + 9, callback="job-1/1/2"), token="post-1")
    ((buried, _),) = world.broker.letters
    world.put(envelope(buried.body, run=2))
    await world.run()
    assert world.provider.callbacks == ["job-1", "job-1/1/2"]
    assert world.heard == ["job-1/1/1/retrying", "job-1/1/2/failed", "job-1/1/2/delivered"]


async def test_a_replay_that_waits_for_its_retry_is_not_sent_once_the_run_before_it_was_delivered(
    place: Implementation,
) -> None:
    world, reporting = await sent(place, ACCEPTED, UNAVAILABLE, ACCEPTED_LATER)
    await reporting.post(report("failed", NOW + 2, code=131026), token="post-1")
    ((buried, _),) = world.broker.letters
    await world.deliver(envelope(buried.body, run=2))
    await reporting.post(report("delivered", NOW + 3), token="post-2")
    await world.run()
    assert world.provider.callbacks == ["job-1", "job-1/2/1"]
    assert world.heard[-2:] == ["job-1/2/1/retrying", "job-1/1/1/delivered"]
    assert world.waiting == []


async def test_what_fails_behind_later_attempts_is_given_up_and_never_lost(place: Implementation) -> None:
    world = new_world(place, LOST, UNAVAILABLE, UNAVAILABLE, ACCEPTED_LATER)
    reporting = Reporting(world)
    world.put(envelope())
    for _ in range(3):
        copy, wait_s = world.waiting[0]
        world.clock.reach(world.clock.now + wait_s)
        world.take_first()
        await world.deliver(copy)
    await reporting.post(report("sent", NOW + 1), token="post-1")
    await world.run()
    assert world.ends == ["job-1/1/1/accepted"]
    await reporting.post(report("failed", NOW + 2, code=131016), token="post-2")
    await world.run()
    assert world.heard[-1] == "job-1/1/1/undelivered"
    assert world.letters == ["unavailable"]


async def test_a_failure_counts_where_the_other_attempt_that_was_taken_has_failed_too(place: Implementation) -> None:
    world, reporting = await sent(place, LOST, ACCEPTED_LATER)
    await reporting.post(replace(report("sent", NOW + 1), message_id="wamid.first"), token="post-1")
    await reporting.post(report("failed", NOW + 2, code=131026), token="post-2")
    await reporting.post(report("failed", NOW + 9, callback="job-1/1/2", code=131026), token="post-3")
    assert world.heard[-1] == "job-1/1/2/undelivered"


async def test_a_webhook_that_comes_again_when_the_retry_is_over_begins_no_other(place: Implementation) -> None:
    world, reporting = await sent(place, ACCEPTED, ACCEPTED_LATER)
    await reporting.post(report("failed", NOW + 2, code=131049), token="post-1")
    await world.run()
    await reporting.post(report("delivered", NOW + 40, callback="job-1/1/2"), token="post-2")
    before = list(world.heard)
    await reporting.post(report("failed", NOW + 2, code=131049), token="post-1")
    assert world.waiting == []
    assert (world.heard, world.letters) == (before, [])


@pytest.mark.parametrize("status", ["sent", "delivered"])
@pytest.mark.parametrize("point", [("after", "record"), ("before", "event"), ("after", "event")])
async def test_a_late_report_of_a_lost_attempt_tells_no_second_end_also_when_it_comes_again_after_a_crash(
    place: Implementation, point: tuple[str, str], status: str
) -> None:
    world, reporting = await sent(place, LOST, ACCEPTED_LATER)
    world.fate.crash_at = point
    await reporting.post(report(status, NOW + 9), token="post-1")
    assert world.fate.crashes == 1
    assert world.ends == ["job-1/1/2/accepted"]
    assert world.heard == ["job-1/1/1/retrying", "job-1/1/2/accepted", f"job-1/1/1/{status}"]


async def test_one_id_stands_for_one_event_where_an_unknown_attempt_is_settled_and_then_taken_back(
    place: Implementation,
) -> None:
    world = new_world(place, LOST, ACCEPTED_LATER)
    await world.deliver(envelope())
    reporting = Reporting(world)
    await reporting.post(report("sent", NOW + 1), token="post-1")
    await reporting.post(report("failed", NOW + 2, code=131049), token="post-2")
    await world.run()
    assert world.heard == [
        "job-1/1/1/retrying", "job-1/1/1/accepted", "job-1/1/1/sent", "job-1/1/2/accepted",
    ]  # fmt: skip


async def test_a_retry_that_was_written_down_and_told_to_nobody_is_told_when_the_attempt_is_taken_back(
    place: Implementation,
) -> None:
    world = new_world(place, LOST, ACCEPTED_LATER)
    world.fate.crash_at = ("before", "event")
    with suppress(Crash):
        await world.deliver(envelope())
    reporting = Reporting(world)
    await reporting.post(report("sent", NOW + 1), token="post-1")
    await reporting.post(report("failed", NOW + 2, code=131049), token="post-2")
    await world.run()
    assert world.heard == [
        "job-1/1/1/accepted", "job-1/1/1/sent", "job-1/1/1/retrying", "job-1/1/2/accepted",
    ]  # fmt: skip


async def test_that_an_attempt_was_taken_back_is_told_before_the_end_that_a_report_of_an_earlier_one_brings(
    place: Implementation,
) -> None:
    world, reporting = await sent(place, LOST, ACCEPTED_LATER)
    failed = Posted(reporting.body_of((report("failed", NOW + 7, callback="job-1/1/2", code=131049),)), "post-1")
    # The worker dies when it has written down that the second attempt is taken back, and told nobody.
    world.fate.crash_at = ("after", "record")
    async with world.ledger() as ledger:
        with suppress(Crash):
            await reporting.reports(ledger).take(failed)
    await reporting.post(report("sent", NOW + 1), token="post-2")
    await reporting.take(failed)
    assert world.heard == [
        "job-1/1/1/retrying", "job-1/1/2/accepted", "job-1/1/2/retrying", "job-1/1/1/accepted", "job-1/1/1/sent",
    ]  # fmt: skip
    assert world.waiting == []


async def test_nothing_is_taken_back_where_an_earlier_attempt_was_reported_as_sent(place: Implementation) -> None:
    world, reporting = await sent(place, LOST, ACCEPTED_LATER)
    await reporting.post(report("sent", NOW + 1), token="post-1")
    await reporting.post(report("failed", NOW + 7, callback="job-1/1/2", code=131049), token="post-2")
    assert world.waiting == []
    assert world.provider.callbacks == ["job-1", "job-1/1/2"]


@pytest.mark.parametrize("seed", range(5))
async def test_an_acceptance_that_is_told_again_is_told_in_the_same_words(place: Implementation, seed: int) -> None:
    dice = Random(seed)  # noqa: S311 - to be repeated, not to be secret
    world = new_world(place, Accepted("wamid.one", "held_for_quality_assessment"))
    world.clock.now = NOW + 1 + dice.random()
    world.put(envelope(job_body(created_at=f"2026-11-23T20:00:00.{dice.randrange(10**6):06d}Z")))
    await world.run()
    reporting = Reporting(world)
    world.clock.now += 1 + dice.random()
    await reporting.post(report("failed", NOW + 2, code=131049), token="post-1")
    await reporting.post(report("delivered", NOW + 3), token="post-2")
    # `heard` itself holds copies of one event against each other.
    assert world.heard == ["job-1/1/1/accepted", "job-1/1/1/retrying", "job-1/1/1/delivered"]
    assert [event.id for event in world.broker.events].count("job-1/1/1/accepted") == 2


async def test_what_was_delivered_before_it_could_be_buried_leaves_no_letter_and_no_code(place: Implementation) -> None:
    world, reporting = await sent(place)
    # The worker dies between writing down that it is given up and burying it.
    world.fate.crash_at = ("after", "record")
    async with world.ledger() as ledger:
        with suppress(Crash):
            body = reporting.body_of((report("failed", NOW + 2, code=131026),))
            await reporting.reports(ledger).take(Posted(body, "post-1"))
    await reporting.post(report("delivered", NOW + 3), token="post-2")
    await reporting.post(report("failed", NOW + 2, code=131026), token="post-1")
    assert world.letters == []
    async with world.ledger() as ledger:
        story = await ledger.look_up("job-1")
    assert story is not None
    assert story.runs[0].envelope.body == b""


@pytest.mark.parametrize("code", [131042, 132015])
async def test_a_failure_by_webhook_halts_whom_it_would_halt_in_an_answer(place: Implementation, code: int) -> None:
    world, reporting = await sent(place)
    await reporting.post(report("failed", NOW + 2, code=code), token="post-1")
    assert len(await holds(world)) == 1
    assert [event.name.value for event in world.broker.sender_events] == ["halted"]


async def test_an_empty_copy_is_never_put_on_the_ladder(place: Implementation) -> None:
    copies: list[Envelope] = []
    world, reporting = await sent(place, ACCEPTED, ACCEPTED_LATER)
    await reporting.post(report("failed", NOW + 2, code=131049), token="post-1")
    copies += [copy for copy, _ in world.waiting]
    await world.run()
    await reporting.post(report("delivered", NOW + 40, callback="job-1/1/2"), token="post-2")
    for copy in copies:
        await world.deliver(copy)
    assert all(copy.body for copy, _ in world.broker.delays)
    assert world.provider.callbacks == ["job-1", "job-1/1/2"]
