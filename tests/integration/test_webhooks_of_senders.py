"""What webhooks say of senders, templates and users: whom they hold and release, and what the world hears of it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from otpost_worker.sender_reports import Account
from otpost_worker.updates import (
    AccountChange,
    Ignored,
    NotRequested,
    Posted,
    Preference,
    TemplateCategory,
    TemplateStatus,
)
from ports_in_memory import ACCEPTED, ACCEPTED_LATER, NOW, World, envelope, job_body
from reports_in_memory import holds, report, sent

if TYPE_CHECKING:
    from ledger_implementations import Implementation


def template(event: str, *, account: str | None = "102290129340398", at: float | None = NOW + 5) -> TemplateStatus:
    return TemplateStatus(account, "verification_code", "en_US", event, "NONE", at)


def sender_events(world: World) -> list[tuple[str, str | None]]:
    return [(event.name.value, event.template) for event in world.broker.sender_events]


@pytest.mark.parametrize("event", ["PAUSED", "DISABLED", "REJECTED", "PENDING_DELETION", "DELETED", "ARCHIVED"])
async def test_a_template_that_cannot_be_sent_is_held_and_released_when_it_can(
    place: Implementation, event: str
) -> None:
    world, reporting = await sent(place)
    await reporting.post(template(event), token="post-1")
    assert await holds(world) == [("verification_code", "en_US")]
    world.put(envelope(job_body(id="job-2")))
    await world.deliver(world.waiting[0][0])
    assert world.provider.callbacks == ["job-1"]
    await reporting.post(template("APPROVED"), token="post-2")
    assert await holds(world) == []
    assert sender_events(world) == [("halted", "verification_code"), ("resumed", "verification_code")]


async def test_an_old_pause_that_comes_again_behind_its_end_holds_nothing(place: Implementation) -> None:
    world, reporting = await sent(place)
    await reporting.post(template("PAUSED", at=NOW + 5), token="post-1")
    await reporting.post(template("REINSTATED", at=NOW + 9), token="post-2")
    await reporting.post(template("PAUSED", at=NOW + 5), token="post-3")
    assert await holds(world) == []
    assert sender_events(world) == [("halted", "verification_code"), ("resumed", "verification_code")]


@pytest.mark.parametrize("point", [("after", "record"), ("before", "sender event"), ("after", "sender event")])
@pytest.mark.parametrize("last", ["PAUSED", "REINSTATED"])
async def test_a_process_that_dies_over_a_word_about_a_template_leaves_its_event_told(
    place: Implementation, point: tuple[str, str], last: str
) -> None:
    world, reporting = await sent(place)
    words = {"PAUSED": ("halted", NOW + 5), "REINSTATED": ("resumed", NOW + 9)}
    for event, (_, at) in words.items():
        world.fate.crash_at = point if event == last else None
        await reporting.post(template(event, at=at), token=f"post-{event}")
    assert world.fate.crashes == 1
    told_once = list({event.event_id: event.name.value for event in world.broker.sender_events}.values())
    assert told_once == ["halted", "resumed"]


@pytest.mark.parametrize("event", ["IN_APPEAL", "PENDING", "WHATEVER"])
async def test_what_says_nothing_against_a_template_holds_nothing(place: Implementation, event: str) -> None:
    world, reporting = await sent(place)
    await reporting.post(template(event), token="post-1")
    assert (await holds(world), sender_events(world)) == ([], [])


async def test_an_approval_of_what_was_never_held_is_no_event(place: Implementation) -> None:
    world, reporting = await sent(place)
    await reporting.post(template("APPROVED"), token="post-1")
    assert sender_events(world) == []


async def test_a_template_that_is_approved_says_nothing_of_a_halted_sender(place: Implementation) -> None:
    world, reporting = await sent(place)
    await reporting.post(AccountChange("102", "DISABLED_UPDATE", blocked=True, detail=None, at=NOW + 5), token="post-1")
    await reporting.post(template("PAUSED"), token="post-2")
    await reporting.post(template("APPROVED"), token="post-3")
    assert await holds(world) == [(None, None)]


async def test_an_account_that_is_blocked_halts_its_sender_until_it_is_reinstated(place: Implementation) -> None:
    world, reporting = await sent(place)
    blocked = AccountChange("102", "DISABLED_UPDATE", blocked=True, detail="DISABLE", at=NOW + 5)
    await reporting.post(blocked, token="post-1")
    await reporting.post(blocked, token="post-2")
    assert await holds(world) == [(None, None)]
    reinstated = AccountChange("102", "DISABLED_UPDATE", blocked=False, detail="REINSTATE", at=NOW + 9)
    await reporting.post(reinstated, token="post-3")
    assert await holds(world) == []
    assert {event.event_id for event in world.broker.sender_events} == {
        f"default/halted/disabled_update/{round(NOW + 5) * 1000}",
        f"default/resumed/disabled_update/{round(NOW + 9) * 1000}",
    }


@pytest.mark.parametrize(("until", "is_held"), [(NOW - 1, False), (NOW + 3600, True), (None, True)])
async def test_a_block_that_is_over_when_it_is_told_of_halts_nobody(
    place: Implementation, until: float | None, is_held: object
) -> None:
    world, reporting = await sent(place)
    blocked = AccountChange("102", "ACCOUNT_RESTRICTION", blocked=True, detail=None, at=NOW - 5, until=until)
    await reporting.post(blocked, token="post-1")
    assert bool(await holds(world)) == is_held


@pytest.mark.parametrize(("account", "is_held"), [("102", True), ("103", False), (None, False)])
async def test_only_the_senders_of_that_account_are_meant(
    place: Implementation, account: str | None, is_held: object
) -> None:
    world, reporting = await sent(place)
    reporting.accounts = (
        Account("default", "102", "1", 80.0, "default"),
        Account("other", "104", "2", 80.0, "other"),
    )
    await reporting.post(template("PAUSED", account=account), token="post-1")
    assert bool(await holds(world)) == is_held


async def test_a_template_of_another_category_is_an_event_of_its_sender(place: Implementation) -> None:
    world, reporting = await sent(place)
    category = TemplateCategory("102", "verification_code", "en_US", "MARKETING", impending=False, at=NOW + 5)
    await reporting.post(category, token="post-1")
    await reporting.post(category, token="post-2")
    (event,) = {event.event_id: event for event in world.broker.sender_events}.values()
    assert (event.name.value, event.sender, event.template) == ("category_changed", "default", "verification_code")
    assert await holds(world) == []


async def test_a_failure_that_only_marketing_meets_says_that_the_category_has_changed(place: Implementation) -> None:
    world, reporting = await sent(place)
    await reporting.post(report("failed", NOW + 2, code=131049), token="post-1")
    (event,) = world.broker.sender_events
    assert (event.name.value, event.event_id) == ("category_changed", "job-1/1/1/category_changed")
    assert event.error is not None
    assert event.error.code == 131049


@pytest.mark.parametrize("point", [("after", "record"), ("before", "event"), ("before", "sender event")])
async def test_a_process_that_dies_behind_a_failure_leaves_told_what_it_says_of_the_sender(
    place: Implementation, point: tuple[str, str]
) -> None:
    world, reporting = await sent(place)
    world.fate.crash_at = point
    await reporting.post(report("failed", NOW + 2, code=131042), token="post-1")
    assert world.fate.crashes == 1
    assert await holds(world) == [(None, None)]


async def test_what_is_taken_back_is_counted_so_that_ends_add_up_to_jobs(place: Implementation) -> None:
    world, reporting = await sent(place, ACCEPTED, ACCEPTED_LATER)
    await reporting.post(report("failed", NOW + 2, code=131049), token="post-1")
    await world.run()
    count = world.metrics.registry.get_sample_value
    assert count("otpost_results_total", {"sender": "default", "status": "accepted"}) == 2.0
    assert count("otpost_taken_back_total", {"sender": "default"}) == 1.0
    assert count("otpost_jobs_received_total", {"sender": "default"}) == 1.0


async def test_failures_are_counted_by_kind_and_code(
    place: Implementation,
) -> None:
    world, reporting = await sent(place)
    await reporting.post(report("failed", NOW + 2, code=131026), token="post-1")
    labels = {"sender": "default", "kind": "recipient", "code": "131026"}
    assert world.metrics.registry.get_sample_value("otpost_reported_failures_total", labels) == 1.0


async def test_who_did_not_ask_for_a_code_is_told_with_the_job(place: Implementation) -> None:
    world, reporting = await sent(place)
    await reporting.post(NotRequested("wamid.one", NOW + 30), NotRequested("wamid.nobody", NOW + 30), token="post-1")
    (event,) = world.broker.sender_events
    assert (event.name.value, event.job_id, event.sender) == ("code_not_requested", "job-1", "default")


async def test_what_is_of_no_use_is_counted_each_time_and_logged_once_for_each_kind(
    place: Implementation, capsys: pytest.CaptureFixture[str]
) -> None:
    world, reporting = await sent(place)
    async with world.ledger() as ledger:
        reports = reporting.reports(ledger)
        for what in ("message text", "field flows", "message text", "message text"):
            await reports.take(Posted(reporting.body_of((Ignored(what),)), what))
    logged = [line for line in capsys.readouterr().out.splitlines() if "webhook.ignored" in line]
    assert [line.split("what=")[1].strip() for line in logged] == ["'message text'", "'field flows'"]
    counted = world.metrics.registry.get_sample_value("otpost_webhook_reports_total", {"what": "ignored"})
    assert counted == 4.0


async def test_wishes_about_marketing_are_counted_and_hold_nothing(place: Implementation) -> None:
    world, reporting = await sent(place)
    await reporting.post(Preference("stop"), token="post-1")
    assert (await holds(world), sender_events(world)) == ([], [])
    counted = world.metrics.registry.get_sample_value("otpost_webhook_reports_total", {"what": "preference"})
    assert counted == 1.0
