"""Messages that the provider took and never delivered: what it says of them, and what follows from its silence."""

from __future__ import annotations

from typing import TYPE_CHECKING

import orjson
import pytest

from otpost_worker.outcome import Accepted
from ports_in_memory import ACCEPTED, ACCEPTED_LATER, NOW, World, envelope, job_body
from reports_in_memory import Reporting, new_world, report, sent, told

if TYPE_CHECKING:
    from ledger_implementations import Implementation


# Failures that are final


async def test_what_is_permanent_is_undelivered_and_a_dead_letter_without_a_readable_code(
    place: Implementation,
) -> None:
    world, reporting = await sent(place)
    await reporting.post(report("failed", NOW + 2, code=131026), token="post-1")
    assert world.heard == ["job-1/1/1/accepted", "job-1/1/1/undelivered"]
    event = told(world, "job-1/1/1/undelivered")
    assert event["error"] == {
        "kind": "recipient", "code": 131026, "title": "Not delivered", "detail": None, "http_status": None,
        "provider_trace_id": None,
    }  # fmt: skip
    ((buried, letter),) = world.broker.letters
    assert (letter.reason, letter.attempt) == ("recipient", 1)
    assert b"493817" not in buried.body
    assert orjson.loads(buried.body)["id"] == "job-1"


async def test_what_would_come_too_late_is_undelivered_at_once(place: Implementation) -> None:
    world = new_world(place)
    world.put(envelope(job_body(ttl_s=33)))
    await world.run()
    reporting = Reporting(world)
    await reporting.post(report("failed", NOW + 2, code=131049), token="post-1")
    assert world.heard == ["job-1/1/1/accepted", "job-1/1/1/undelivered"]
    assert world.letters == ["user_limit"]
    assert world.waiting == []


async def test_a_failure_never_overrules_a_delivery(place: Implementation) -> None:
    world, reporting = await sent(place)
    await reporting.post(report("delivered", NOW + 2), token="post-1")
    await reporting.post(report("failed", NOW + 3, code=131049), token="post-2")
    await world.run()
    assert world.heard == ["job-1/1/1/accepted", "job-1/1/1/delivered"]
    assert world.letters == []


async def test_a_delivery_after_it_was_given_up_is_told_and_a_replay_of_its_letter_sends_nothing(
    place: Implementation,
) -> None:
    world, reporting = await sent(place)
    await reporting.post(report("failed", NOW + 2, code=131026), token="post-1")
    await reporting.post(report("delivered", NOW + 3), token="post-2")
    assert world.heard == ["job-1/1/1/accepted", "job-1/1/1/undelivered", "job-1/1/1/delivered"]
    ((buried, _),) = world.broker.letters
    world.put(envelope(buried.body, run=2))
    await world.run()
    assert world.provider.callbacks == ["job-1"]


@pytest.mark.parametrize(
    "point",
    [(when, arrow) for arrow in ("record", "event", "next home", "note") for when in ("before", "after")],
    ids=" ".join,
)
async def test_a_process_that_dies_while_it_gives_up_leaves_one_event_and_the_dead_letter(
    place: Implementation, point: tuple[str, str]
) -> None:
    world, reporting = await sent(place)
    world.fate.crash_at = point
    await reporting.post(report("failed", NOW + 2, code=131026), token="post-1")
    assert world.fate.crashes == 1
    assert world.heard == ["job-1/1/1/accepted", "job-1/1/1/undelivered"]
    assert world.letters == ["recipient"]


async def test_a_dead_letter_of_what_was_given_up_can_be_replayed(place: Implementation) -> None:
    world, reporting = await sent(place, ACCEPTED, ACCEPTED_LATER)
    await reporting.post(report("failed", NOW + 2, code=131026), token="post-1")
    ((buried, _),) = world.broker.letters
    world.put(envelope(buried.body, run=2))
    await world.run()
    assert world.provider.callbacks == ["job-1", "job-1/2/1"]
    assert world.heard[-1] == "job-1/2/1/accepted"


# Silence


async def test_an_accepted_job_is_looked_at_again_after_its_time_to_live(place: Implementation) -> None:
    world, _ = await sent(place)
    ((job_id, watch, delay_s),) = world.broker.watches
    assert (job_id, watch.run, watch.attempt, delay_s) == ("job-1", 1, 1, 630.0)


async def test_what_the_provider_holds_is_looked_at_sooner(place: Implementation) -> None:
    world, _ = await sent(place, Accepted("wamid.held", "held_for_quality_assessment"))
    ((_, _, delay_s),) = world.broker.watches
    assert delay_s == 30.0
    assert told(world, "job-1/1/1/accepted")["message_status"] == "held_for_quality_assessment"


async def test_silence_is_told_once_and_a_delivery_after_it_too(place: Implementation) -> None:
    world, reporting = await sent(place)
    ((_, watch, delay_s),) = world.broker.watches
    world.clock.reach(NOW + delay_s)
    await reporting.check(watch)
    await reporting.check(watch, token="check-2")
    event = told(world, "job-1/1/1/undelivered")
    assert isinstance(event["error"], dict)
    assert (event["error"]["kind"], event["latency_ms"]) == ("no_report", 630000)
    await reporting.post(report("delivered", NOW + 700), token="post-1")
    assert [one.id for one in world.broker.events] == [
        "job-1/1/1/accepted", "job-1/1/1/undelivered", "job-1/1/1/delivered",
    ]  # fmt: skip
    assert world.letters == []


@pytest.mark.parametrize("point", [("before", "event"), ("after", "event"), ("before", "record"), ("after", "record")])
async def test_a_process_that_dies_over_a_check_leaves_the_silence_told(
    place: Implementation, point: tuple[str, str]
) -> None:
    world, reporting = await sent(place)
    ((_, watch, _),) = world.broker.watches
    world.fate.crash_at = point
    await reporting.check(watch)
    assert world.fate.crashes == 1
    assert world.heard == ["job-1/1/1/accepted", "job-1/1/1/undelivered"]


@pytest.mark.parametrize("point", [("before", "watch"), ("after", "watch")])
async def test_no_job_is_acknowledged_before_its_check_is_on_the_ladder(
    place: Implementation, point: tuple[str, str]
) -> None:
    world = new_world(place)
    world.fate.crash_at = point
    world.put(envelope())
    await world.run()
    assert world.fate.crashes == 1
    assert world.provider.callbacks == ["job-1"]
    assert {watch for _, watch, _ in world.broker.watches} == {world.broker.watches[0][1]}


async def test_a_check_of_an_attempt_that_was_taken_back_says_nothing(place: Implementation) -> None:
    world, reporting = await sent(place)
    ((_, watch, _),) = world.broker.watches
    await reporting.post(report("failed", NOW + 2, code=131049), token="post-1")
    await reporting.check(watch)
    assert world.heard == ["job-1/1/1/accepted", "job-1/1/1/retrying"]


async def test_where_no_reports_come_nothing_is_kept_and_nothing_watched(place: Implementation) -> None:
    world = World(place)
    world.put(envelope())
    await world.run()
    assert world.broker.watches == []
    async with world.ledger() as ledger:
        story = await ledger.look_up("job-1")
    assert story is not None
    assert story.runs[0].envelope.body == b""
