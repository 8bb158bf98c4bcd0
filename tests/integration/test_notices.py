"""What webhooks say of templates, numbers and accounts that begins or ends no hold: events, a log line, a notice."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import pytest

from otpost_worker.sender_reports import Account
from otpost_worker.updates import (
    AccountChange,
    NotRequested,
    NumberChange,
    TemplateCategory,
    TemplateQuality,
    TemplateStatus,
    Update,
)
from ports_in_memory import NOW, World, envelope
from reports_in_memory import Reporting, report

if TYPE_CHECKING:
    from ledger_implementations import Implementation

WABA: Final = "102290129340398"
AT: Final = NOW + 5
AT_MS: Final = round(NOW * 1000) + 5000


def quality(score: str, at: float | None = AT) -> TemplateQuality:
    return TemplateQuality(WABA, "verification_code", "en_US", score, at)


def category(name: str, at: float = AT, *, impending: bool = False) -> TemplateCategory:
    return TemplateCategory(WABA, "verification_code", "en_US", name, impending=impending, at=at)


def account(event: str, detail: str | None = None, at: float = AT, *, grave: bool = True) -> AccountChange:
    return AccountChange(WABA, event, blocked=None, detail=detail, at=at, grave=grave)


def number(event: str, *, grave: bool | None, at: float = AT) -> NumberChange:
    return NumberChange(WABA, "+1 555-078-3881", event, "limit TIER_2K", at, grave)


async def reported(place: Implementation, *updates: Update) -> World:
    world = World(place)
    reporting = Reporting(world)
    for index, update in enumerate(updates):
        await reporting.post(update, token=f"post-{index}")
    return world


async def notices(world: World) -> list[str]:
    async with world.ledger() as ledger:
        told = (await ledger.report({"default": 80.0}, {"default": "default"}))["default"]
    assert told.holds == ()
    return [one.text for one in told.notices]


def events(world: World) -> list[tuple[str, str | None, str | None]]:
    return [(event.event_id, event.template, event.detail) for event in world.broker.sender_events]


RED: Final = "its quality is RED: it may be paused or disabled"
FLAGGED: Final = "its quality is FLAGGED (LOW_QUALITY), to be disabled on May 1, 2026: it may be paused or disabled"
MARKETING: Final = "its category has become MARKETING: it is no authentication template any more, and can be held back"
OF_TEMPLATE: Final = "default/verification_code/en_US"


@pytest.mark.parametrize(
    ("update", "event_id", "template", "detail", "is_notice"),
    [
        (quality("RED"), f"{OF_TEMPLATE}/quality_changed/{AT_MS}", "verification_code", RED, True),
        (
            quality("GREEN"), f"{OF_TEMPLATE}/quality_changed/{AT_MS}", "verification_code", "its quality is GREEN",
            False,
        ),
        (
            TemplateStatus(
                WABA, "verification_code", "en_US", "FLAGGED", "LOW_QUALITY", AT, "to be disabled on May 1, 2026"
            ),
            f"{OF_TEMPLATE}/quality_changed/{AT_MS}", "verification_code", FLAGGED, True,
        ),
        (
            category("MARKETING"), f"{OF_TEMPLATE}/category_changed/done/{AT_MS}", "verification_code", MARKETING, True,
        ),
        (
            category("AUTHENTICATION"), f"{OF_TEMPLATE}/category_changed/done/{AT_MS}", "verification_code",
            "its category has become AUTHENTICATION", False,
        ),
        (
            account("ACCOUNT_VIOLATION", "SCAM"), f"default/account_changed/account_violation/{AT_MS}", None,
            "ACCOUNT_VIOLATION, SCAM", True,
        ),
        (
            account("DISABLED_UPDATE", "SCHEDULE_FOR_DISABLE on May 1, 2026"),
            f"default/account_changed/disabled_update/{AT_MS}", None,
            "DISABLED_UPDATE, SCHEDULE_FOR_DISABLE on May 1, 2026", True,
        ),
        (
            account("BUSINESS_CAPABILITY_UPDATE", "max_phone_numbers_per_waba 25", grave=False),
            f"default/account_changed/business_capability_update/{AT_MS}", None,
            "BUSINESS_CAPABILITY_UPDATE, max_phone_numbers_per_waba 25", False,
        ),
        (
            number("FLAGGED", grave=True), f"default/number_changed/flagged/3881/{AT_MS}", None,
            "number 15*******81, FLAGGED, limit TIER_2K", True,
        ),
        (
            number("THROUGHPUT_UPGRADE", grave=None), f"default/number_changed/throughput_upgrade/3881/{AT_MS}", None,
            "number 15*******81, THROUGHPUT_UPGRADE, limit TIER_2K", False,
        ),
        (
            NumberChange(WABA, None, "PIN_CHANGED", None, AT, grave=True),
            f"default/number_changed/pin_changed/{AT_MS}", None, "a number, PIN_CHANGED", True,
        ),
    ],
)  # fmt: skip
async def test_each_is_an_event_of_its_sender_and_a_notice_where_an_operator_should_see_to_it(
    place: Implementation, update: Update, event_id: str, template: str | None, detail: str, *, is_notice: bool
) -> None:
    world = await reported(place, update, update)
    assert set(events(world)) == {(event_id, template, detail)}
    assert await notices(world) == ([detail] if is_notice else [])


@pytest.mark.parametrize(
    ("bad", "good"),
    [
        (quality("RED"), quality("YELLOW", AT + 1)),
        (category("MARKETING"), category("AUTHENTICATION", AT + 1)),
        (number("FLAGGED", grave=True), number("UNFLAGGED", grave=False, at=AT + 1)),
    ],
)
async def test_a_notice_is_taken_back_by_what_is_said_later_whenever_that_comes(
    place: Implementation, bad: Update, good: Update
) -> None:
    assert await notices(await reported(place, bad, good)) == []
    assert await notices(await reported(place, good, bad)) == []


async def test_notices_of_two_numbers_and_of_two_alerts_stand_beside_each_other(place: Implementation) -> None:
    other = NumberChange(WABA, "+1 555-078-4000", "UNFLAGGED", None, AT + 1, grave=False)
    world = await reported(
        place,
        number("FLAGGED", grave=True),
        other,
        account("OBA_REJECTED", at=AT + 1),
        account("PARTNER_REMOVED", at=AT),
    )
    assert await notices(world) == ["OBA_REJECTED", "PARTNER_REMOVED", "number 15*******81, FLAGGED, limit TIER_2K"]


async def test_an_alert_is_taken_back_when_it_is_resolved(place: Implementation) -> None:
    resolved = account("OBA_REJECTED", "RESOLVED", AT + 1, grave=False)
    assert await notices(await reported(place, account("OBA_REJECTED"), resolved)) == []


async def test_that_an_account_will_be_disabled_is_taken_back_when_it_is_reinstated(place: Implementation) -> None:
    scheduled = account("DISABLED_UPDATE", "SCHEDULE_FOR_DISABLE")
    reinstated = AccountChange(WABA, "DISABLED_UPDATE", blocked=False, detail="REINSTATE", at=AT + 1)
    assert await notices(await reported(place, scheduled, reinstated)) == []


async def test_what_says_nothing_of_a_numbers_quality_takes_no_warning_of_it_back(place: Implementation) -> None:
    flagged, upgraded = number("FLAGGED", grave=True), number("THROUGHPUT_UPGRADE", grave=None, at=AT + 1)
    assert len(await notices(await reported(place, flagged, upgraded))) == 1


async def test_nothing_is_said_of_senders_of_other_accounts(place: Implementation) -> None:
    world = World(place)
    reporting = Reporting(world)
    reporting.accounts = (Account("default", "1", "1", 80.0, "default"), Account("other", "2", "2", 80.0, "other"))
    updates: tuple[Update, ...] = (quality("RED"), category("MARKETING"), account("X"), number("Y", grave=True))
    for index, update in enumerate(updates):
        await reporting.post(update, token=f"post-{index}")
    assert (events(world), await notices(world)) == ([], [])


async def test_a_failure_that_only_marketing_meets_is_a_notice_about_the_jobs_template(place: Implementation) -> None:
    world = World(place)
    world.put(envelope())
    await world.run()
    await Reporting(world).post(report("failed", NOW + 2, code=131049), token="post-1")
    assert await notices(world) == [
        "a message failed with 131049, which only MARKETING templates can meet: see its category"
    ]


async def test_each_is_logged_and_warned_of_where_an_operator_should_see_to_it(
    place: Implementation, capsys: pytest.CaptureFixture[str]
) -> None:
    world = World(place)
    world.put(envelope())
    await world.run()
    reporting = Reporting(world)
    await reporting.post(quality("RED"), token="post-1")
    await reporting.post(quality("GREEN"), token="post-2")
    await reporting.post(NotRequested("wamid.one", NOW + 9), token="post-3")
    logged = [line for line in capsys.readouterr().out.splitlines() if "sender.told" in line]
    assert [("[warning" in line, "quality_changed" in line) for line in logged] == [
        (True, True), (False, True), (True, False),
    ]  # fmt: skip
    assert "job_id=job-1" in logged[2]
