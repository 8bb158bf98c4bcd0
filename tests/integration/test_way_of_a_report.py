"""The way of a report: what the world hears of a message after the provider took it, in whatever order that comes."""

from __future__ import annotations

import itertools
from contextlib import suppress
from typing import TYPE_CHECKING, Final

import pytest

from otpost_worker.updates import (
    Posted,
)
from ports_in_memory import ACCEPTED_LATER, LOST, NOW, Crash, World, envelope
from reports_in_memory import Reporting, new_world, report, sent, told

if TYPE_CHECKING:
    from ledger_implementations import Implementation

THREE: Final = ("sent", "delivered", "read")
# When each happened, by the provider's clock; the job was made at NOW.
TIMES: Final = {"sent": NOW + 1, "delivered": NOW + 4, "read": NOW + 60}
LATENCIES_MS: Final = {"sent": 1000, "delivered": 4000, "read": 60000}


# Sent, delivered, read


@pytest.mark.parametrize("order", list(itertools.permutations(THREE)), ids="-".join)
async def test_each_report_is_one_event_with_its_own_time_in_whatever_order_and_how_often_it_comes(
    place: Implementation, order: tuple[str, ...]
) -> None:
    world, reporting = await sent(place)
    for number, status in enumerate([*order, *order, *reversed(order)]):
        await reporting.post(report(status, TIMES[status]), token=f"post-{number}")
    expected = ["job-1/1/1/accepted", *(f"job-1/1/1/{status}" for status in order)]
    assert [event.id for event in world.broker.events] == expected
    for status in THREE:
        event = told(world, f"job-1/1/1/{status}")
        assert event["latency_ms"] == LATENCIES_MS[status]
        assert (event["provider_message_id"], event["to"], event["attempt"]) == ("wamid.one", "12*******31", 1)


async def test_a_report_without_our_own_word_is_matched_by_the_id_of_the_message(place: Implementation) -> None:
    world, reporting = await sent(place)
    await reporting.post(report("delivered", NOW + 4, callback=None), token="post-1")
    assert world.heard == ["job-1/1/1/accepted", "job-1/1/1/delivered"]


async def test_the_same_report_twice_in_one_post_is_one_event(place: Implementation) -> None:
    world, reporting = await sent(place)
    await reporting.post(report("sent", NOW + 1), report("sent", NOW + 1), report("read", NOW + 9), token="post-1")
    assert [event.id for event in world.broker.events] == [
        "job-1/1/1/accepted", "job-1/1/1/sent", "job-1/1/1/read",
    ]  # fmt: skip


async def test_a_read_without_a_delivered_is_the_delivery(place: Implementation) -> None:
    world, reporting = await sent(place)
    await reporting.post(report("read", NOW + 9), token="post-1")
    await reporting.post(report("failed", NOW + 10, code=131026), token="post-2")
    (watch,) = [one for _, one, _ in world.broker.watches]
    await reporting.check(watch)
    assert world.heard == ["job-1/1/1/accepted", "job-1/1/1/read"]
    assert world.letters == []


@pytest.mark.parametrize("point", [("before", "event"), ("after", "event"), ("before", "record"), ("after", "record")])
async def test_a_process_that_dies_on_the_way_of_a_report_leaves_its_event_told(
    place: Implementation, point: tuple[str, str]
) -> None:
    world, reporting = await sent(place)
    world.fate.crash_at = point
    await reporting.post(report("delivered", NOW + 4), token="post-1")
    assert world.fate.crashes == 1
    assert world.heard == ["job-1/1/1/accepted", "job-1/1/1/delivered"]


# Reports that settle


@pytest.mark.parametrize("status", THREE)
async def test_a_report_settles_an_attempt_whose_answer_was_lost_and_stops_the_resend(
    place: Implementation, status: str
) -> None:
    world = new_world(place, LOST)
    await world.deliver(envelope())
    reporting = Reporting(world)
    await reporting.post(report(status, TIMES[status]), token="post-1")
    await world.run()
    assert world.provider.callbacks == ["job-1"]
    assert world.heard == ["job-1/1/1/retrying", "job-1/1/1/accepted", f"job-1/1/1/{status}"]
    assert [one for _, one, _ in world.broker.watches][:1] == ([] if status != "sent" else [world.broker.watches[0][1]])


async def test_a_report_that_overtakes_the_answer_and_the_answer_tell_the_same_end(place: Implementation) -> None:
    world = new_world(place)
    reporting = Reporting(world)

    async def report_first() -> None:
        await reporting.post(report("delivered", NOW + 1), token="post-1")

    world.provider.on_request = report_first
    world.put(envelope())
    await world.run()
    ((later, delay_s),) = world.broker.postponed
    assert (world.heard, delay_s) == (["job-1/1/1/accepted"], 1.0)
    await reporting.take(later)
    assert world.heard == ["job-1/1/1/accepted", "job-1/1/1/delivered"]
    assert world.provider.callbacks == ["job-1"]


@pytest.mark.parametrize("status", THREE)
async def test_a_report_in_place_of_an_answer_that_died_with_its_worker_settles_it_before_anybody_sends_once_more(
    place: Implementation, status: str
) -> None:
    world = new_world(place, ACCEPTED_LATER)
    reporting = Reporting(world)
    world.fate.crash_at = ("after", "request")
    with suppress(Crash):
        await world.deliver(envelope())
    await reporting.post(report(status, NOW + 1), token="post-1")
    while world.heard == []:
        later, delay_s = world.broker.postponed[-1]
        world.clock.reach(world.clock.now + delay_s)
        await reporting.take(later)
    assert round(world.clock.now - NOW, 3) == 10.1
    # The broker delivers the job once more, as it was not acknowledged.
    world.put(envelope())
    await world.run()
    assert world.heard == ["job-1/1/1/accepted", f"job-1/1/1/{status}"]
    assert world.provider.callbacks == ["job-1"]


async def test_a_failure_that_overtakes_the_answer_waits_for_it(place: Implementation) -> None:
    world = new_world(place)
    reporting = Reporting(world)

    async def report_first() -> None:
        await reporting.post(report("failed", NOW + 1, code=131026), token="post-1")

    world.provider.on_request = report_first
    world.put(envelope())
    await world.run()
    assert world.heard == ["job-1/1/1/accepted"]
    ((later, delay_s),) = world.broker.postponed
    assert delay_s == 1.0
    await reporting.take(later)
    assert world.heard == ["job-1/1/1/accepted", "job-1/1/1/undelivered"]


async def test_a_failure_that_waits_for_an_answer_comes_again_before_anybody_sends_once_more(
    place: Implementation,
) -> None:
    world = new_world(place, ACCEPTED_LATER)
    reporting = Reporting(world)
    # The worker dies with the answer; its lease lasts for 10 s, and the next request would be due 5 s after that.
    world.fate.crash_at = ("after", "request")
    with suppress(Crash):
        await world.deliver(envelope())
    await reporting.post(report("failed", NOW + 1, code=131049), token="post-1")
    for _ in range(4):
        later, delay_s = world.broker.postponed[-1]
        world.clock.reach(world.clock.now + delay_s)
        await reporting.take(later)
    assert [round(delay_s, 3) for _, delay_s in world.broker.postponed] == [1.0, 2.0, 4.0, 3.1]
    assert world.heard == ["job-1/1/1/retrying"]
    ((copy, wait_s),) = world.waiting
    assert (copy.attempt, round(wait_s)) == (2, 30)


async def test_a_failure_stands_for_the_answer_that_was_lost_and_counts_as_no_resend(place: Implementation) -> None:
    world = new_world(place, LOST, LOST, ACCEPTED_LATER)
    await world.deliver(envelope())
    reporting = Reporting(world)
    await reporting.post(report("failed", NOW + 1, code=131049), token="post-1")
    await world.run()
    # A second answer that is lost would end a job whose first one is unknown as well.
    assert world.provider.callbacks == ["job-1", "job-1/1/2", "job-1/1/3"]
    assert world.heard == ["job-1/1/1/retrying", "job-1/1/2/retrying", "job-1/1/3/accepted"]
    assert world.clock.now == NOW + 35.0


async def test_a_permanent_failure_in_place_of_the_answer_ends_the_job_as_failed(place: Implementation) -> None:
    world = new_world(place, LOST)
    await world.deliver(envelope())
    reporting = Reporting(world)
    world.fate.crash_at = ("after", "record")
    await reporting.post(report("failed", NOW + 1, code=131026), token="post-1")
    await world.run()
    assert world.provider.callbacks == ["job-1"]
    assert world.heard == ["job-1/1/1/retrying", "job-1/1/1/failed"]
    assert world.letters == ["recipient"]


# Failures that are tried again


async def test_what_is_worth_it_is_taken_back_and_sent_once_more_in_growing_steps(place: Implementation) -> None:
    world, reporting = await sent(place)
    await reporting.post(report("failed", NOW + 2, code=131049), token="post-1")
    assert told(world, "job-1/1/1/retrying")["retry_in_s"] == 30.0
    await world.run()
    assert world.provider.callbacks == ["job-1", "job-1/1/2"]
    await reporting.post(report("failed", NOW + 40, callback="job-1/1/2", code=131049), token="post-2")
    assert told(world, "job-1/1/2/retrying")["retry_in_s"] == 60.0
    await world.run()
    await reporting.post(report("delivered", NOW + 99, callback="job-1/1/3"), token="post-3")
    assert world.heard == [
        "job-1/1/1/accepted", "job-1/1/1/retrying", "job-1/1/2/accepted", "job-1/1/2/retrying", "job-1/1/3/accepted",
        "job-1/1/3/delivered",
    ]  # fmt: skip
    assert world.letters == []


async def test_the_retry_carries_the_code_sealed_and_the_provider_gets_it_as_it_was(place: Implementation) -> None:
    world, reporting = await sent(place)
    await reporting.post(report("failed", NOW + 2, code=131016), token="post-1")
    ((copy, _),) = world.waiting
    assert b"493817" not in copy.body
    await world.run()
    assert [message.code for message in world.provider.requests] == ["493817", "493817"]


@pytest.mark.parametrize(
    "point",
    [(when, arrow) for arrow in ("record", "event", "next home") for when in ("before", "after")],
    ids=" ".join,
)
async def test_a_process_that_dies_while_it_takes_back_leaves_one_retry_and_one_end(
    place: Implementation, point: tuple[str, str]
) -> None:
    world, reporting = await sent(place)
    world.fate.crash_at = point
    await reporting.post(report("failed", NOW + 2, code=131049), token="post-1")
    assert world.fate.crashes == 1
    await world.run()
    assert world.heard == ["job-1/1/1/accepted", "job-1/1/1/retrying", "job-1/1/2/accepted"]
    assert world.provider.callbacks == ["job-1", "job-1/1/2"]


async def test_a_delivery_that_is_reported_after_all_stops_the_retry(place: Implementation) -> None:
    world, reporting = await sent(place)
    await reporting.post(report("failed", NOW + 2, code=131049), token="post-1")
    await reporting.post(report("delivered", NOW + 3), token="post-2")
    await world.run()
    assert world.provider.callbacks == ["job-1"]
    assert world.heard == ["job-1/1/1/accepted", "job-1/1/1/retrying", "job-1/1/1/delivered"]
    # The end is told once more: the one before was taken back.
    assert [event.id for event in world.broker.events].count("job-1/1/1/accepted") >= 2


async def test_nothing_is_taken_back_where_another_attempt_stands_accepted(place: Implementation) -> None:
    world = new_world(place, LOST, ACCEPTED_LATER)
    world.put(envelope())
    await world.run()
    reporting = Reporting(world)
    await reporting.post(report("failed", NOW + 9, code=131049), token="post-1")
    await world.run()
    assert world.provider.callbacks == ["job-1", "job-1/1/2"]
    assert world.heard == ["job-1/1/1/retrying", "job-1/1/2/accepted"]


# Reports of nobody's job


async def pauses_until_nothing_comes_again(world: World, reporting: Reporting) -> list[float]:
    pauses: list[float] = []
    while len(pauses) < len(world.broker.postponed):
        later, delay_s = world.broker.postponed[-1]
        pauses.append(delay_s)
        await reporting.take(later)
    return pauses


@pytest.mark.parametrize("callback", ["job-9", None])
async def test_a_report_of_a_job_that_is_not_known_comes_again_in_growing_pauses_and_not_for_ever(
    place: Implementation, callback: str | None
) -> None:
    world = new_world(place)
    reporting = Reporting(world)
    await reporting.post(report("delivered", NOW + 1, callback=callback), token="post-1")
    assert await pauses_until_nothing_comes_again(world, reporting) == [1.0, 4.0, 15.0, 40.0]
    assert world.broker.events == []
    assert world.metrics.registry.get_sample_value("otpost_webhook_reports_total", {"what": "stranger"}) == 1.0


async def test_a_report_of_a_known_job_comes_again_for_longer(place: Implementation) -> None:
    world, reporting = await sent(place)
    await reporting.post(report("delivered", NOW + 1, callback="job-1/1/2"), token="post-1")
    pauses = await pauses_until_nothing_comes_again(world, reporting)
    assert pauses == [1.0, 2.0, 4.0, 8.0, 15.0, 30.0, 60.0, 120.0]
    assert world.heard == ["job-1/1/1/accepted"]


async def test_a_report_that_was_early_is_told_once_whatever_comes_again(place: Implementation) -> None:
    world = new_world(place)
    reporting = Reporting(world)
    early = report("sent", NOW + 1)
    await reporting.post(early, token="post-1")
    world.put(envelope())
    await world.run()
    ((later, _),) = world.broker.postponed
    # The broker delivers the post once more, as it does where an acknowledgement was lost.
    await reporting.post(early, token="post-1")
    await reporting.take(later)
    await reporting.take(Posted(later.body, later.token, later.tries))
    assert world.heard == ["job-1/1/1/accepted", "job-1/1/1/sent"]
