"""How the senders are doing, watched: said once in the log, counted, shown; and a new token noticed.

Holds live in the ledger, so every worker learns of what another one met.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final

import structlog

from otpost.times import rfc3339
from otpost_worker.ports import LedgerUnavailable
from otpost_worker.standing import Change

if TYPE_CHECKING:
    from collections.abc import Mapping

    from otpost_worker.deliver import Sender
    from otpost_worker.metrics import Metrics
    from otpost_worker.ports import HoldReport, SenderReport, Standings
    from otpost_worker.standing import News

LOOK_EVERY_S: Final = 2.0

Concerned = tuple[str, str | None, str | None]

_log = structlog.get_logger("otpost.senders")


class SenderWatch:
    """Watches *senders*; what it saw last is in *notices*, by sender."""

    def __init__(self, senders: Mapping[str, Sender], standings: Standings, metrics: Metrics) -> None:
        self._senders = senders
        self._standings = standings
        self._metrics = metrics
        self._held: dict[Concerned, HoldReport] = {}
        # Those with a new token of which the ledger could not be told yet.
        self._to_probe: frozenset[str] = frozenset()
        self._look = asyncio.Event()
        self.notices: dict[str, str] = {}

    def hear(self, news: News) -> None:
        """Take note of what this process has brought about."""
        match news.change:
            case Change.SLOWED:
                _log.warning("sender.slowed", sender=news.sender, rate=news.rate, code=_code(news))
            case Change.PAUSED if news.until is not None:
                _log.warning("sender.paused", sender=news.sender, until=rfc3339(news.until), code=_code(news))
            case _:
                self._look.set()

    async def run(self) -> None:
        """Look now and then, and at once where something is new; for ever."""
        while True:
            try:
                await self.look()
            except LedgerUnavailable:
                # Whoever has a job in hand meets the same trouble, and says so.
                self._look.clear()
            try:
                async with asyncio.timeout(LOOK_EVERY_S):
                    await self._look.wait()
            except TimeoutError:
                continue

    async def look(self) -> None:
        """Look once: tell what is new, and let a sender try again whose token was replaced.

        :raises LedgerUnavailable: nothing can be seen.
        """
        self._look.clear()
        rates = {name: sender.rate for name, sender in self._senders.items()}
        quotas = {name: sender.quota for name, sender in self._senders.items()}
        reports = await self._standings.report(rates, quotas)
        for name, report in reports.items():
            self._metrics.set_standing(name, report)
        halted_before = {name for name, template, _ in self._held if template is None}
        self._tell(reports)
        self.notices = {name: notice for name, report in reports.items() if (notice := describe(report))}
        halted = [name for name, report in reports.items() if any(hold.template is None for hold in report.holds)]
        for name in halted_before.difference(halted):
            # Whatever is new has been tried, and would be taken for news in the next halt.
            await self._senders[name].provider.take_renewal()
        renewed = [name for name in halted if await self._senders[name].provider.take_renewal()]
        if renewed:
            _log.info("token.renewed", senders=renewed)
        self._to_probe = self._to_probe.intersection(halted).union(renewed)
        if self._to_probe:
            await self._standings.probe_soon(sorted(self._to_probe))
            self._to_probe = frozenset()

    def _tell(self, reports: Mapping[str, SenderReport]) -> None:
        held = {(name, hold.template, hold.language): hold for name, report in reports.items() for hold in report.holds}
        for concerned in self._held.keys() - held.keys():
            _log.info("sender.resumed", **_named(concerned))
        for concerned, hold in held.items():
            known = self._held.get(concerned)
            if known is None or known.hold.since != hold.hold.since:
                defaults = self._senders[concerned[0]].defaults
                if hold.is_met_by(defaults.template, defaults.language):
                    _log.error("sender.halted", **_named(concerned), **_reason(hold))
                else:
                    _log.warning("sender.halted", **_named(concerned), **_reason(hold))
        self._held = held


def _code(news: News) -> int | None:
    return news.error.code if news.error else None


def _named(concerned: Concerned) -> dict[str, str]:
    words = zip(("sender", "template", "language"), concerned, strict=True)
    return {word: name for word, name in words if name is not None}


def _reason(hold: HoldReport) -> dict[str, object]:
    error = hold.error
    return {
        "code": error.code if error else None,
        "http_status": error.http_status if error else None,
        "title": error.title if error else None,
        "detail": error.detail if error else None,
        "remedy": hold.remedy,
        "next_probe": rfc3339(hold.hold.probe_at),
    }


def describe(report: SenderReport) -> str | None:
    """Say in a sentence what keeps a sender from sending as usual; None where nothing does."""
    parts = [_describe_hold(hold) for hold in report.holds]
    if report.quota_until is not None:
        parts.append(f"the quota is used up until {rfc3339(report.quota_until)}")
    return "; ".join(parts) or None


def _describe_hold(hold: HoldReport) -> str:
    what = "halted" if hold.template is None else f"template {hold.template} ({hold.language}) held back"
    error = hold.error
    why = "" if error is None else f": {error.title}" + (f" (code {error.code})" if error.code is not None else "")
    remedy = f"; {hold.remedy}" if hold.remedy else ""
    return (
        f"{what} since {rfc3339(hold.hold.since)}{why}; a job tries again from {rfc3339(hold.hold.probe_at)} on{remedy}"
    )
