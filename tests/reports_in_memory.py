"""The way of a report, around the way of a job: both on one ledger, each message taken until it can be acknowledged."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

import orjson

from fateful_ledger import FatefulLedger
from otpost_worker.deliver import WatchTimes
from otpost_worker.delivery_reports import DeliveryReports
from otpost_worker.envelope import Defaults
from otpost_worker.keyring import Keyring
from otpost_worker.outcome import Error, Kind, Refused
from otpost_worker.recording import Records
from otpost_worker.sender_reports import Account
from otpost_worker.settling import Settler
from otpost_worker.updates import MessageReport, Posted, ProviderError, Reported
from ports_in_memory import ACCEPTED, KEY, Crash, World, envelope

if TYPE_CHECKING:
    from collections.abc import Awaitable

    from ledger_implementations import Implementation, OpenLedger
    from otpost_worker.envelope import Watch
    from otpost_worker.outcome import Outcome
    from otpost_worker.updates import Update

WATCH: Final = WatchTimes(sent_s=630.0, held_s=30.0)
# What a failure means; the table itself has tests of its own.
KINDS: Final = {
    131026: Kind.RECIPIENT,
    131049: Kind.USER_LIMIT,
    131016: Kind.UNAVAILABLE,
    131042: Kind.SENDER_HALTED,
    130429: Kind.THROUGHPUT,
    80007: Kind.QUOTA,
    132015: Kind.TEMPLATE,
}


def report(status: str, at: float | None, *, callback: str | None = "job-1", code: int | None = None) -> MessageReport:
    """Make what the provider says of one message."""
    error = ProviderError(code, "Not delivered") if code is not None else None
    return MessageReport(Reported(status), "wamid.one" if callback is None else None, callback, at, error)


def new_world(place: Implementation, *answers: Outcome) -> World:
    """Make a world whose deliveries are watched."""
    world = World(place, answers=answers or (ACCEPTED,))
    world.watch = WATCH
    return world


@dataclass
class Reporting:
    """What posts and checks do in a world; a process that dies takes the same message again."""

    world: World
    posts: dict[bytes, tuple[Update, ...]] = field(default_factory=dict)
    accounts: tuple[Account, ...] = (
        Account("default", None, "106540352242922", 80.0, "default", Defaults("verification_code", "en_US")),
    )

    async def post(self, *updates: Update, token: str) -> None:
        """Let one webhook with these updates come."""
        await self.take(Posted(self.body_of(updates), token))

    async def take(self, posted: Posted) -> None:
        """Let a worker take it, and another one after each that dies."""
        await self._survive(lambda reports: reports.take(posted))

    async def check(self, watch: Watch, *, token: str = "check-1", job_id: str = "job-1") -> None:  # noqa: S107 - no secret
        """Let a check fall due."""
        await self._survive(lambda reports: reports.check(job_id, watch.run, watch.attempt, token))

    async def _survive(self, way: object) -> None:
        assert callable(way)
        while True:
            try:
                async with self.world.ledger() as ledger:
                    work: Awaitable[None] = way(self.reports(ledger))
                    await work
            except Crash:
                continue
            else:
                return

    def reports(self, ledger: OpenLedger) -> DeliveryReports:
        """Make the way of a report as a new worker would."""
        world, codes = self.world, Keyring((KEY,))
        fateful = FatefulLedger(ledger, world.fate, world.unavailable)
        records = Records(fateful, background=world.keep, tell=world.news.append)
        return DeliveryReports(
            ledger=fateful,
            broker=world.broker,
            codes=codes,
            records=records,
            settler=Settler(world.broker, codes, world.metrics, world.clock, records),
            observer=world.metrics,
            clock=world.clock,
            random=lambda: 1.0,
            read=lambda body: self.posts[body],
            write=lambda one: self.body_of((one,)),
            place_of=_place_of,
            refusal_of=lambda error: Refused(Error(KINDS[error.code or 0], error.code, error.title)),
            policy=world.policy,
            watch_s_of=lambda _: world.watch.sent_s if world.watch else None,
            provider="in memory",
            accounts=self.accounts,
            marketing_only=lambda code: code == 131049,
            tell=world.news.append,
        )

    def body_of(self, updates: tuple[Update, ...]) -> bytes:
        """Write a body that is read as these updates."""
        body = repr(updates).encode()
        self.posts[body] = updates
        return body


def _place_of(callback: str) -> tuple[str, int, int] | None:
    job_id, *rest = callback.split("/")
    return (job_id, int(rest[0]), int(rest[1])) if rest else (job_id, 1, 1)


async def sent(place: Implementation, *answers: Outcome) -> tuple[World, Reporting]:
    """Let a job go its way, as far as that goes at once."""
    world = new_world(place, *answers)
    world.put(envelope())
    await world.run()
    return world, Reporting(world)


def told(world: World, event_id: str) -> dict[str, object]:
    """Give the event as the world got it, the last copy of it."""
    found: dict[str, object] = orjson.loads(
        next(one.body for one in reversed(world.broker.events) if one.id == event_id)
    )
    return found


async def holds(world: World) -> list[tuple[str | None, str | None]]:
    """Name the template and the language of each hold."""
    async with world.ledger() as ledger:
        report_ = (await ledger.report({"default": 80.0}, {"default": "default"}))["default"]
    return [(hold.template, hold.language) for hold in report_.holds]
