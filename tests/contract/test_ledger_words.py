"""What every ledger keeps of what is said of senders by webhook: the newest word counts, and each is told once."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from otpost_worker.outcome import Error, Kind
from otpost_worker.pacing import Lane
from otpost_worker.standing import Heard, Said, Signal, Topic
from ports_in_memory import NOW, Clock

if TYPE_CHECKING:
    from ledger_implementations import OpenLedger


def said(signal: Signal, at: float | None = None, template: str = "login") -> Heard:
    lane = Lane("default", "default", "", template, "en_US", 80.0, 0.0, 0.0)
    error = Error(Kind.TEMPLATE, title="paused")
    return Heard(lane, signal, NOW, error=error, said=None if at is None else Said(Topic.STATUS, at))


async def held(ledger: OpenLedger) -> list[str | None]:
    report = (await ledger.report({"default": 80.0}, {"default": "default"}))["default"]
    return [hold.template for hold in report.holds]


async def test_a_template_is_closed_and_opened_once_each(ledger: OpenLedger) -> None:
    closed = [await ledger.hear(said(Signal.TEMPLATE_CLOSED)) for _ in range(2)]
    assert [[(news.change.value, news.template, news.at) for news in told] for told in closed] == [
        [("halted", "login", NOW)], [],
    ]  # fmt: skip
    assert await held(ledger) == ["login"]
    opened = [await ledger.hear(said(Signal.TEMPLATE_OPENED)) for _ in range(2)]
    assert [[(news.change.value, news.template) for news in told] for told in opened] == [[("resumed", "login")], []]
    assert await held(ledger) == []


async def test_what_is_said_of_a_template_says_nothing_of_its_sender(ledger: OpenLedger) -> None:
    await ledger.hear(said(Signal.SENDER_REFUSED))
    await ledger.hear(said(Signal.TEMPLATE_CLOSED))
    assert await held(ledger) == [None, "login"]
    await ledger.hear(said(Signal.TEMPLATE_OPENED))
    assert await held(ledger) == [None]
    (news,) = await ledger.hear(said(Signal.ANSWERED))
    assert (news.change.value, news.template, await held(ledger)) == ("resumed", None, [])


async def test_the_same_word_once_more_is_the_same_news_and_changes_nothing(ledger: OpenLedger, clock: Clock) -> None:
    first = await ledger.hear(said(Signal.TEMPLATE_CLOSED, NOW - 5))
    assert [(news.change.value, news.template, news.at) for news in first] == [("halted", "login", NOW)]
    opened = await ledger.hear(said(Signal.TEMPLATE_OPENED, NOW - 4))
    clock.reach(NOW + 60)
    assert await ledger.hear(said(Signal.TEMPLATE_OPENED, NOW - 4)) == opened
    assert [(news.change.value, news.at) for news in opened] == [("resumed", NOW)]


async def test_what_comes_behind_a_newer_word_says_nothing(ledger: OpenLedger) -> None:
    await ledger.hear(said(Signal.TEMPLATE_CLOSED, NOW - 5))
    await ledger.hear(said(Signal.TEMPLATE_OPENED, NOW - 4))
    assert await ledger.hear(said(Signal.TEMPLATE_CLOSED, NOW - 5)) == ()
    assert await held(ledger) == []
    await ledger.hear(said(Signal.TEMPLATE_CLOSED, NOW - 1))
    assert await ledger.hear(said(Signal.TEMPLATE_OPENED, NOW - 4)) == ()
    assert await held(ledger) == ["login"]


async def test_the_same_thing_said_anew_is_no_news_and_counts_from_then_on(ledger: OpenLedger) -> None:
    await ledger.hear(said(Signal.TEMPLATE_CLOSED, NOW - 5))
    assert await ledger.hear(said(Signal.TEMPLATE_CLOSED, NOW - 1)) == ()
    # It was opened between the two, which nobody heard in time.
    assert await ledger.hear(said(Signal.TEMPLATE_OPENED, NOW - 3)) == ()
    assert await held(ledger) == ["login"]


async def test_another_word_of_the_same_second_counts_as_it_comes(ledger: OpenLedger) -> None:
    await ledger.hear(said(Signal.TEMPLATE_CLOSED, NOW - 5))
    (news,) = await ledger.hear(said(Signal.TEMPLATE_OPENED, NOW - 5))
    assert (news.change.value, await held(ledger)) == ("resumed", [])


async def test_a_word_about_one_template_is_none_about_another(ledger: OpenLedger) -> None:
    await ledger.hear(said(Signal.TEMPLATE_OPENED, NOW - 1))
    await ledger.hear(said(Signal.TEMPLATE_CLOSED, NOW - 5, "signup"))
    await ledger.hear(said(Signal.SENDER_REFUSED, NOW - 9, ""))
    assert await held(ledger) == [None, "signup"]


async def test_a_word_without_a_time_always_counts(ledger: OpenLedger) -> None:
    await ledger.hear(said(Signal.TEMPLATE_OPENED, NOW - 1))
    await ledger.hear(said(Signal.TEMPLATE_CLOSED))
    assert await held(ledger) == ["login"]


async def test_a_word_is_forgotten_when_no_webhook_can_repeat_it_any_more(ledger: OpenLedger, clock: Clock) -> None:
    await ledger.hear(said(Signal.TEMPLATE_OPENED, NOW - 1))
    clock.reach(NOW + 8 * 24 * 3600 + 1)
    await ledger.forget()
    await ledger.hear(said(Signal.TEMPLATE_CLOSED, NOW - 2))
    assert await held(ledger) == ["login"]


# What an operator should know


def noted(topic: Topic, at: float, notice: str | None, template: str = "login") -> Heard:
    lane = Lane("default", "default", "", template, "en_US" if template else "", 80.0, 0.0, 0.0)
    return Heard(lane, Signal.NOTED, NOW, said=Said(topic, at, notice))


async def notices(ledger: OpenLedger) -> list[tuple[str, str | None, str | None, str, float]]:
    report = (await ledger.report({"default": 80.0}, {"default": "default"}))["default"]
    return [(str(one.topic), one.template, one.language, one.text, one.at) for one in report.notices]


async def test_a_notice_is_shown_until_something_newer_is_said_on_its_topic(ledger: OpenLedger) -> None:
    assert await ledger.hear(noted(Topic.QUALITY, NOW - 9, "its quality is RED")) == ()
    await ledger.hear(noted(Topic.CATEGORY, NOW - 8, "it is MARKETING"))
    await ledger.hear(noted(Topic.ACCOUNT, NOW - 7, "violation", template=""))
    assert await notices(ledger) == [
        ("account", None, None, "violation", NOW - 7),
        ("category", "login", "en_US", "it is MARKETING", NOW - 8),
        ("quality", "login", "en_US", "its quality is RED", NOW - 9),
    ]
    await ledger.hear(noted(Topic.QUALITY, NOW - 10, "its quality is YELLOW"))
    await ledger.hear(noted(Topic.CATEGORY, NOW - 2, None))
    assert [text for _, _, _, text, _ in await notices(ledger)] == ["violation", "its quality is RED"]


async def test_a_notice_is_forgotten_after_eight_days(ledger: OpenLedger, clock: Clock) -> None:
    await ledger.hear(noted(Topic.QUALITY, NOW, "its quality is RED"))
    clock.reach(NOW + 8 * 24 * 3600 - 1)
    assert len(await notices(ledger)) == 1
    clock.reach(NOW + 8 * 24 * 3600)
    assert await notices(ledger) == []


async def test_a_notice_holds_nothing_and_ends_no_count_of_requests_without_an_answer(ledger: OpenLedger) -> None:
    lost = replace(said(Signal.UNANSWERED, template=""), error=Error(Kind.UNAVAILABLE, title="nobody answers"))
    for _ in range(19):
        await ledger.hear(lost)
    await ledger.hear(noted(Topic.ACCOUNT, NOW, "violation", template=""))
    assert await held(ledger) == []
    (news,) = await ledger.hear(lost)
    assert news.change.value == "halted"
