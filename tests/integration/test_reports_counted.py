"""What is counted and logged of a webhook, so that an operator can see what comes, and what of it is of no use."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from structlog.testing import capture_logs

from otpost_worker.sender_reports import Account
from otpost_worker.updates import (
    AccountChange,
    Ignored,
    NotRequested,
    Posted,
    Preference,
)
from ports_in_memory import ACCEPTED, ACCEPTED_LATER, LOST, NOW, World
from reports_in_memory import Reporting, report, sent

if TYPE_CHECKING:
    from ledger_implementations import Implementation
    from otpost_worker.updates import Update


def counted(world: World, what: str) -> float:
    return world.metrics.registry.get_sample_value("otpost_webhook_reports_total", {"what": what}) or 0.0


async def one_worker_takes(reporting: Reporting, *bodies: tuple[Update, ...]) -> list[dict[str, object]]:
    """Let one worker take a webhook after the other; returns what it logged."""
    async with reporting.world.ledger() as ledger:
        reports = reporting.reports(ledger)
        with capture_logs() as logged:
            for number, updates in enumerate(bodies):
                await reports.take(Posted(reporting.body_of(updates), f"post-{number}"))
    return [{key: value for key, value in line.items() if key != "log_level"} for line in logged]


async def test_what_is_of_no_use_is_counted_each_time_and_logged_once_of_each_kind(place: Implementation) -> None:
    world = World(place)
    texts, played = Ignored("message text"), Ignored("status played")
    logged = await one_worker_takes(Reporting(world), (texts, played), (texts,), (played, texts))
    assert counted(world, "ignored") == 5.0
    assert logged == [
        {"event": "webhook.ignored", "what": "message text"}, {"event": "webhook.ignored", "what": "status played"},
    ]  # fmt: skip


async def test_no_more_than_a_hundred_kinds_are_logged(place: Implementation) -> None:
    world = World(place)
    kinds = [(Ignored(f"field kind_{number}"),) for number in range(103)]
    assert len(await one_worker_takes(Reporting(world), *kinds)) == 100
    assert counted(world, "ignored") == 103.0


async def test_what_concerns_senders_or_nobody_wishes_and_complaints_are_counted_each(place: Implementation) -> None:
    world, reporting = await sent(place)
    change = AccountChange("102", "DISABLED_UPDATE", blocked=False, detail=None, at=NOW + 5)
    await one_worker_takes(reporting, (change, change), (Preference("stop"),), (NotRequested("wamid.one", NOW + 9),))
    assert [counted(world, what) for what in ("sender", "preference", "not_requested")] == [2.0, 1.0, 1.0]


async def test_an_account_that_is_none_of_ours_is_warned_of_once(place: Implementation) -> None:
    world = World(place)
    reporting = Reporting(world)
    reporting.accounts = (Account("default", "102", "106540352242922", 80.0, "default"),)

    def change(account_id: str | None) -> tuple[Update, ...]:
        return (AccountChange(account_id, "DISABLED_UPDATE", blocked=False, detail=None, at=NOW + 5),)

    logged = await one_worker_takes(reporting, change("999"), change("102"), change("999"), change("998"))
    warned = [line["account_id"] for line in logged if line["event"] == "webhook.concerns_nobody"]
    assert warned == ["999", "998"]


async def test_reports_are_counted_by_what_they_are_and_copies_as_such(place: Implementation) -> None:
    world, reporting = await sent(place)
    await one_worker_takes(
        reporting,
        (report("sent", NOW + 1), report("sent", NOW + 1)),
        (report("delivered", NOW + 4),),
        (report("delivered", NOW + 4, callback="job-1/1/2"),),
        (report("failed", NOW + 5, code=131026),),
    )
    assert {what: counted(world, what) for what in ("sent", "delivered", "read", "failed", "copy", "early")} == {
        "sent": 1.0, "delivered": 1.0, "read": 0.0, "failed": 1.0, "copy": 1.0, "early": 1.0,
    }  # fmt: skip


async def test_a_check_counts_as_silence_only_where_there_was_some(place: Implementation) -> None:
    world, reporting = await sent(place)
    ((_, watch, _),) = world.broker.watches
    await reporting.check(watch)
    await reporting.check(watch, token="check-2")
    assert counted(world, "silence") == 1.0


async def test_a_failure_is_logged_with_the_job_and_counted_with_its_sender_and_its_code(place: Implementation) -> None:
    world, reporting = await sent(place, LOST, ACCEPTED_LATER)
    logged = await one_worker_takes(reporting, (report("failed", NOW + 9, callback="job-1/1/2", code=131026),))
    (line,) = [one for one in logged if one["event"] == "message.failed"]
    assert line == {
        "event": "message.failed", "job_id": "job-1", "run": 1, "attempt": 2, "sender": "default", "kind": "recipient",
        "code": 131026,
    }  # fmt: skip
    labels = {"sender": "default", "kind": "recipient", "code": "131026"}
    assert world.metrics.registry.get_sample_value("otpost_reported_failures_total", labels) == 1.0


async def test_a_report_and_a_complaint_without_a_time_happened_when_they_came(place: Implementation) -> None:
    world, reporting = await sent(place, ACCEPTED)
    world.clock.reach(NOW + 7)
    await reporting.post(report("delivered", None), NotRequested("wamid.one", None), token="post-1")
    (delivered,) = [event for event in world.broker.events if event.status == "delivered"]
    assert b'"at":"2026-11-23T20:00:07.000Z"' in delivered.body
    assert [event.at.timestamp() for event in world.broker.sender_events] == [NOW + 7]


async def test_only_the_first_delivery_of_a_message_is_measured(place: Implementation) -> None:
    world, reporting = await sent(place)
    await reporting.post(report("sent", NOW + 1), token="post-1")
    await reporting.post(report("delivered", NOW + 4), token="post-2")
    await reporting.post(report("read", NOW + 60), token="post-3")
    measured = world.metrics.registry.get_sample_value("otpost_delivery_latency_seconds_sum", {"sender": "default"})
    assert measured == 4.0


async def test_what_is_taken_back_is_counted_once_with_its_sender(place: Implementation) -> None:
    world, reporting = await sent(place)
    await reporting.post(report("failed", NOW + 2, code=131049), token="post-1")
    await reporting.post(report("failed", NOW + 2, code=131049), token="post-1")
    assert world.metrics.registry.get_sample_value("otpost_taken_back_total", {"sender": "default"}) == 1.0


async def test_our_own_word_for_an_attempt_counts_before_the_id_of_a_message(place: Implementation) -> None:
    world, reporting = await sent(place)
    named_otherwise = replace(report("delivered", NOW + 4), message_id="wamid.nobody")
    await reporting.post(named_otherwise, token="post-1")
    assert world.heard == ["job-1/1/1/accepted", "job-1/1/1/delivered"]
    assert world.broker.postponed == []


async def test_reports_of_one_job_in_one_post_are_told_in_their_order(place: Implementation) -> None:
    world, reporting = await sent(place)
    named = [replace(report(status, NOW + 4), message_id=f"wamid.{status}") for status in ("read", "sent", "delivered")]
    await reporting.post(*named, token="post-1")
    assert world.heard == ["job-1/1/1/accepted", "job-1/1/1/read", "job-1/1/1/sent", "job-1/1/1/delivered"]
