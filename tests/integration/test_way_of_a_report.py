"""The way of a report: what the world hears of a message after the provider took it, in whatever order that comes."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING, Final

import orjson
import pytest

from otpost_worker.deliver import WatchTimes
from otpost_worker.outcome import Accepted
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
from ports_in_memory import ACCEPTED, ACCEPTED_LATER, LOST, NOW, World, envelope, job_body
from reports_in_memory import Reporting, report

if TYPE_CHECKING:
    from ledger_implementations import Implementation
    from otpost_worker.outcome import Outcome

WATCH: Final = WatchTimes(sent_s=630.0, held_s=30.0)
THREE: Final = ("sent", "delivered", "read")
# When each happened, by the provider's clock; the job was made at NOW.
TIMES: Final = {"sent": NOW + 1, "delivered": NOW + 4, "read": NOW + 60}
LATENCIES_MS: Final = {"sent": 1000, "delivered": 4000, "read": 60000}


def new_world(place: Implementation, *answers: Outcome) -> World:
    world = World(place, answers=answers or (ACCEPTED,))
    world.watch = WATCH
    return world


async def sent(place: Implementation, *answers: Outcome) -> tuple[World, Reporting]:
    """A job that has gone its way, as far as that goes at once."""
    world = new_world(place, *answers)
    world.put(envelope())
    await world.run()
    return world, Reporting(world)


def told(world: World, event_id: str) -> dict[str, object]:
    """The event as the world got it, the last copy of it."""
    found: dict[str, object] = orjson.loads(
        next(one.body for one in reversed(world.broker.events) if one.id == event_id)
    )
    return found


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
    assert world.heard == ["job-1/1/1/accepted", "job-1/1/1/delivered"]
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


# What webhooks say of senders


def template(event: str, *, account: str | None = "102290129340398", at: float | None = NOW + 5) -> TemplateStatus:
    return TemplateStatus(account, "verification_code", "en_US", event, "NONE", at)


async def holds(world: World) -> list[tuple[str | None, str | None]]:
    async with world.ledger() as ledger:
        report_ = (await ledger.report({"default": 80.0}, {"default": "default"}))["default"]
    return [(hold.template, hold.language) for hold in report_.holds]


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
        f"default/halted/{round(NOW + 5) * 1000}",
        f"default/resumed/{round(NOW + 9) * 1000}",
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
