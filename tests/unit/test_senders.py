"""Watching the senders: what is said once, and a new token of which the ledger has to be told."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import aiohttp
import pytest
from structlog.testing import capture_logs

from otpost_worker.decision import Policy
from otpost_worker.deliver import Sender
from otpost_worker.envelope import Defaults
from otpost_worker.metrics import Metrics
from otpost_worker.outcome import Error, Kind
from otpost_worker.pacing import Hold
from otpost_worker.ports import HoldReport, LedgerUnavailable, SenderReport
from otpost_worker.providers.cloud_api import CloudApi, CloudApiAccount
from otpost_worker.senders import SenderWatch
from ports_in_memory import ACCEPTED, NOW, Clock, Fate, RecordingProvider

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from pathlib import Path

    from otpost_worker.ports import Provider

WELL: Final = SenderReport(80.0, None, ())
HALTED: Final = SenderReport(
    80.0, None, (HoldReport(Hold(NOW, NOW + 5), None, None, Error(Kind.SENDER_HALTED, 190, "Expired"), "a new token"),)
)


class Told:
    """Standings that are as the test says; `away` is how many of the next calls of `probe_soon` fail."""

    def __init__(self, report: SenderReport) -> None:
        self.now = report
        self.away = 0
        self.probed: list[list[str]] = []

    async def report(self, rates: Mapping[str, float], quotas: Mapping[str, str]) -> Mapping[str, SenderReport]:
        assert rates.keys() == quotas.keys() == {"default"}
        return {"default": self.now}

    async def probe_soon(self, senders: Iterable[str]) -> None:
        if self.away:
            self.away -= 1
            raise LedgerUnavailable("gone")
        self.probed.append(list(senders))


class Renewed(RecordingProvider):
    """A provider whose token is replaced once."""

    is_replaced = True

    async def renew(self) -> None:
        await super().renew()
        self.news, self.is_replaced = self.news or self.is_replaced, False


def watch(standings: Told, provider: Provider) -> SenderWatch:
    sender = Sender("default", provider, Defaults("t", "en"), Policy(), 80.0, "default")
    return SenderWatch({"default": sender}, standings, Metrics(["default"]))


async def test_a_halt_and_its_end_are_said_once_each() -> None:
    standings = Told(HALTED)
    watching = watch(standings, RecordingProvider([ACCEPTED], Fate()))
    with capture_logs() as said:
        for report in (HALTED, HALTED, WELL, WELL):
            standings.now = report
            await watching.look()
    assert [line["event"] for line in said] == ["sender.halted", "sender.resumed"]
    assert said[0]["remedy"] == "a new token"
    assert watching.notices == {}


@pytest.mark.parametrize(("template", "level"), [("t", "error"), ("newsletter", "warning")])
async def test_a_template_that_is_not_the_senders_own_is_no_error(template: str, level: str) -> None:
    closed = Error(Kind.TEMPLATE, title="The template is ARCHIVED")
    standings = Told(SenderReport(80.0, None, (HoldReport(Hold(NOW, NOW + 5), template, "en", closed, None),)))
    with capture_logs() as said:
        await watch(standings, RecordingProvider([ACCEPTED], Fate())).look()
    assert [(line["event"], line["log_level"]) for line in said] == [("sender.halted", level)]


async def test_a_new_token_is_tried_soon_by_a_sender_that_is_halted_alone() -> None:
    standings, provider = Told(WELL), Renewed([ACCEPTED], Fate())
    watching = watch(standings, provider)
    await watching.look()
    assert (provider.renewals, standings.probed) == (0, [])
    standings.now = HALTED
    await watching.look()
    await watching.look()
    assert (provider.renewals, standings.probed) == (2, [["default"]])


async def test_a_new_token_that_a_probe_has_read_already_is_tried_soon_all_the_same(tmp_path: Path) -> None:
    # The probe may find out nothing about it: a cut connection, or a wait for its start that ends with the worker.
    account = CloudApiAccount("1", "the-old-one", token_file=tmp_path / "token")
    (tmp_path / "token").write_text("the-new-one")
    async with aiohttp.ClientSession() as session:
        provider = CloudApi(account, session, clock=Clock())
        await provider.renew()
        standings = Told(HALTED)
        watching = watch(standings, provider)
        await watching.look()
        await watching.look()
    assert standings.probed == [["default"]]


async def test_a_new_token_with_which_a_sender_has_resumed_is_no_news_in_its_next_halt() -> None:
    standings, provider = Told(HALTED), Renewed([ACCEPTED], Fate())
    watching = watch(standings, provider)
    provider.is_replaced = False
    await watching.look()
    provider.is_replaced = True
    await provider.renew()  # by the probe that is accepted then
    for report in (WELL, HALTED):
        standings.now = report
        await watching.look()
    assert standings.probed == []


async def test_a_new_token_that_the_ledger_could_not_be_told_of_is_told_later() -> None:
    standings, provider = Told(HALTED), Renewed([ACCEPTED], Fate())
    standings.away = 1
    watching = watch(standings, provider)
    with pytest.raises(LedgerUnavailable):
        await watching.look()
    await watching.look()
    assert standings.probed == [["default"]]


async def test_a_new_token_of_a_sender_that_goes_on_meanwhile_is_no_news_any_more() -> None:
    standings, provider = Told(HALTED), Renewed([ACCEPTED], Fate())
    standings.away = 1
    watching = watch(standings, provider)
    with pytest.raises(LedgerUnavailable):
        await watching.look()
    for report in (WELL, HALTED):
        standings.now = report
        await watching.look()
    assert standings.probed == []
