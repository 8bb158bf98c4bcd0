"""What reports say of a sender whose messages are taken and fail afterwards, or did so long ago."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from otpost_worker.outcome import Accepted
from otpost_worker.updates import NotRequested, ProviderError, ServiceTrouble
from ports_in_memory import ACCEPTED, NOW, World, envelope, job_body
from reports_in_memory import Reporting, holds, new_world, report, sent

if TYPE_CHECKING:
    from ledger_implementations import Implementation
    from otpost_worker.outcome import Outcome


def sender_events(world: World) -> list[tuple[str, str | None]]:
    return [(event.name.value, event.template) for event in world.broker.sender_events]


async def probed(place: Implementation, *answers: Outcome) -> tuple[World, Reporting]:
    """A sender that a failure by webhook has halted, and whose probe was accepted."""
    world, reporting = await sent(place, *answers)
    await reporting.post(report("failed", NOW + 2, code=131042), token="post-1")
    world.clock.reach(NOW + 8)
    await world.deliver(envelope(job_body(id="job-2", to="+12015553932")))
    return world, reporting


async def test_a_halt_that_came_by_webhook_outlives_an_acceptance_and_ends_when_the_probe_is_reported_as_sent(
    place: Implementation,
) -> None:
    world, reporting = await probed(place, ACCEPTED, Accepted("wamid.probe"))
    assert "job-2/1/1/accepted" in world.heard
    assert await holds(world) == [(None, None)]
    await reporting.post(report("sent", NOW + 9, callback="job-2"), token="post-2")
    assert await holds(world) == []
    assert sender_events(world) == [("halted", None), ("resumed", None)]


async def test_a_probe_that_fails_by_webhook_as_well_is_no_further_halt(place: Implementation) -> None:
    world, reporting = await probed(place, ACCEPTED, Accepted("wamid.probe"))
    await reporting.post(report("failed", NOW + 9, callback="job-2", code=131042), token="post-2")
    assert await holds(world) == [(None, None)]
    assert sender_events(world) == [("halted", None)]


async def test_a_failure_that_is_told_late_says_nothing_of_the_sender_today(place: Implementation) -> None:
    world, reporting = await sent(place)
    world.clock.reach(NOW + 303)
    await reporting.post(report("failed", NOW + 2, code=131042), token="post-1")
    assert (await holds(world), sender_events(world)) == ([], [])


@pytest.mark.parametrize("code", [131042, 131049])
async def test_a_failure_of_what_was_delivered_says_nothing_of_the_sender(place: Implementation, code: int) -> None:
    world, reporting = await sent(place)
    await reporting.post(report("delivered", NOW + 1), token="post-1")
    await reporting.post(report("failed", NOW + 2, code=code), token="post-2")
    await reporting.post(report("failed", NOW + 2, code=code), token="post-2")
    assert (await holds(world), sender_events(world)) == ([], [])


@pytest.mark.parametrize(("code", "event"), [(131042, "halted"), (130429, "slowed"), (80007, "slowed")])
async def test_trouble_that_belongs_to_no_message_counts_as_if_an_answer_had_told_it(
    place: Implementation, code: int, event: str
) -> None:
    world, reporting = await sent(place)
    await reporting.post(ServiceTrouble("102", "106540352242922", ProviderError(code, "Trouble")), token="post-1")
    assert sender_events(world) == [(event, None)]


async def test_trouble_that_says_nothing_of_the_sender_is_no_event(place: Implementation) -> None:
    world, reporting = await sent(place)
    await reporting.post(ServiceTrouble("102", None, ProviderError(131016, "Trouble")), token="post-1")
    assert (await holds(world), sender_events(world)) == ([], [])


async def test_who_did_not_ask_for_a_code_of_a_message_that_is_not_known_yet_is_told_later(
    place: Implementation,
) -> None:
    world = new_world(place)
    reporting = Reporting(world)
    await reporting.post(NotRequested("wamid.one", NOW + 1), token="post-1")
    ((later, delay_s),) = world.broker.postponed
    assert (delay_s, world.broker.sender_events) == (1.0, [])
    world.put(envelope())
    await world.run()
    await reporting.take(later)
    assert [(event.name.value, event.job_id) for event in world.broker.sender_events] == [
        ("code_not_requested", "job-1")
    ]
