"""The worker process: enters its resources, runs its one TaskGroup, and stops in order."""

from __future__ import annotations

import asyncio
import random
import secrets
import time
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial
from typing import TYPE_CHECKING, Any, Final

import structlog

from otpost.errors import OtpostError
from otpost.topology import DROPPED, job_queue, topology
from otpost_worker import ending
from otpost_worker.accounts import account_of
from otpost_worker.brokers.rabbitmq.intake import Incoming, Intake, Subscription
from otpost_worker.brokers.rabbitmq.messages import envelope_of
from otpost_worker.brokers.rabbitmq.outbox import Outbox
from otpost_worker.brokers.rabbitmq.reconnecting import Reconnecting
from otpost_worker.clocks import ClockWatch
from otpost_worker.decision import Policy
from otpost_worker.deliver import Deliverer, Sender
from otpost_worker.dropped import DroppedReader, foreign_sender, read_drop
from otpost_worker.envelope import Defaults
from otpost_worker.health import Readiness, serve_health
from otpost_worker.keyfile import keys_in_force
from otpost_worker.keyring import Keyring
from otpost_worker.last_resort import LastResort
from otpost_worker.ledger.opening import open_ledger
from otpost_worker.ledger.watched import WatchedLedger
from otpost_worker.metrics import Metrics
from otpost_worker.outage_log import OutageLog
from otpost_worker.ports import LedgerUnavailable
from otpost_worker.providers.cloud_api import PROVIDER, CloudApi
from otpost_worker.providers.http import open_session
from otpost_worker.report_intake import checks_due, delivery_reports, watch_of, webhooks
from otpost_worker.senders import SenderWatch
from otpost_worker.worker import InFlight, RestingPlaces, job_key
from otpost_worker.wrapping import UNWRAPPED

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    import aiohttp

    from otpost_worker.health import Check
    from otpost_worker.ports import Clock
    from otpost_worker.settings import SenderSettings, Settings
    from otpost_worker.wrapping import Wrappers

_DROPPED_PREFETCH: Final = 20
# A confirm takes milliseconds; a broker that restarts is back sooner than it is worth to move jobs elsewhere.
_PUBLISHING_SLOW_S: Final = 5.0
# What a stop waits for after the grace period.
_LAST_ANSWERS_S: Final = 5.0

_log = structlog.get_logger("otpost.app")


async def run_worker(
    settings: Settings, *, stopping: asyncio.Event, at_once: asyncio.Event, wrappers: Wrappers = UNWRAPPED
) -> bool:
    """Take jobs until *stopping*, then finish what is in hand; *at_once* cuts that short.

    *wrappers* are put around the ports. Returns whether every job in hand came to its end or was handed back.

    :raises LedgerUnavailable: the ledger cannot be opened. :raises BrokerUnreachable: the broker refuses us.
    :raises TopologyDiffers: what is declared there is not what is needed. :raises LedgerDiffers: its workers use
    another ledger. :raises PortTaken: the health server's. :raises KeyUnavailable: there is no key to seal with, or
    its file cannot be used.
    """
    name, clock = f"otpost worker {secrets.token_hex(3)}", wrappers.clock(time.time)
    async with AsyncExitStack() as resources:
        kept = await resources.enter_async_context(open_ledger(settings.ledger_url.get_secret_value(), clock=clock))
        ledger, codes = WatchedLedger(kept), _codes(settings)
        session = await resources.enter_async_context(
            open_session(
                connections=settings.concurrency * len(settings.senders),
                connect_timeout_s=settings.http_connect_timeout_s,
                timeout_s=settings.http_timeout_s,
            )
        )
        metrics, readiness = Metrics(settings.configured), Readiness()
        if settings.http_port is not None:
            await resources.enter_async_context(
                serve_health(settings.http_host, settings.http_port, readiness, metrics)
            )
        url, away = settings.broker_url.get_secret_value(), OutageLog("broker")
        reconnecting = Reconnecting(random.random, away, metrics)
        outbox = await resources.enter_async_context(
            _left_in_time(Outbox(url, name=name, reconnecting=reconnecting), at_once)
        )
        broker, asked = wrappers.broker(outbox), wrappers.ledger(ledger)
        tasks = await resources.enter_async_context(asyncio.TaskGroup())
        in_flight = InFlight(tasks)
        metrics.watch_in_flight(lambda: len(in_flight))
        watch = ClockWatch(PROVIDER)
        metrics.watch_clock("provider", lambda: watch.offset_s)
        senders = {
            key: _sender(key, one, session, watch, settings, clock=clock, wrappers=wrappers)
            for key, one in settings.senders.items()
        }
        sender_watch = SenderWatch(senders, ledger, metrics)
        deliverer = partial(
            Deliverer,
            ledger=asked,
            broker=broker,
            codes=codes,
            observer=metrics,
            clock=clock,
            random=random.random,
            stopping=stopping,
            background=in_flight.background,
            tell=sender_watch.hear,
        )
        ours = {name: deliverer(sender) for name, sender in senders.items()}
        in_reports = InFlight(tasks)
        reports = delivery_reports(
            settings,
            policy=_policy(settings),
            ledger=asked,
            broker=broker,
            codes=codes,
            metrics=metrics,
            clock=clock,
            background=in_reports.background,
            tell=sender_watch.hear,
        )
        dropped = DroppedReader(
            broker,
            lambda sender: ours.get(sender) or deliverer(foreign_sender(sender)),
            last_resort=LastResort(broker, asked, codes, metrics, clock),
        )
        intake = Intake(
            url,
            name=name,
            topology=topology(settings.senders),
            mode=settings.topology,
            ledger=ledger.identity,
            subscriptions=(
                *(_jobs(sender, way, in_flight, settings.concurrency, wrappers) for sender, way in ours.items()),
                _dropped(dropped, in_flight, wrappers),
                webhooks(reports, in_reports, wrappers),
                checks_due(reports, in_reports, wrappers),
            ),
            reconnecting=reconnecting,
            idle=lambda: len(in_flight) == len(in_reports) == 0,
        )
        readiness.checks.update(_checks(stopping, intake, outbox, ledger, away))
        readiness.notices["senders"] = lambda: sender_watch.notices
        readiness.notices["clock"] = lambda: watch.trouble
        drained = asyncio.Event()
        consuming = tasks.create_task(_consume(intake, stopping=stopping, drained=drained))
        keeping = [tasks.create_task(work) for work in (kept.keep_small(), sender_watch.run())]
        await stopping.wait()
        if not consuming.done():  # what kept it from working at all is told by whoever started it
            _log.info("stopping", in_hand=len(in_flight))
        loop = asyncio.get_running_loop()
        grace_over = loop.time() + settings.shutdown_grace_s
        # What the broker delivers until it has cancelled the consumers is handed back like the rest.
        await _either(intake.quiet, at_once, within_s=settings.shutdown_grace_s)
        clean = await in_flight.drain(max(0.0, grace_over - loop.time()), at_once=at_once)
        # What is cut short here comes once more, and nothing of it is told twice.
        await in_reports.drain(max(0.0, grace_over - loop.time()), at_once=at_once)
        drained.set()
        for task in keeping:
            task.cancel()
        # A broker that does not answer is not waited for any longer, as if there had been a second signal.
        loop.call_later(_LAST_ANSWERS_S, at_once.set)
        await _ended(consuming, at_once)
        failure = None if consuming.cancelled() else consuming.result()
        # Only what a broker that was late has delivered meanwhile.
        clean = await in_flight.drain(0.0, at_once=at_once) and clean
        await in_reports.drain(0.0, at_once=at_once)
    if failure is not None:
        raise failure
    _log.info("stopped", clean=clean)
    return clean


def _codes(settings: Settings) -> Keyring:
    given = settings.private_keys
    return Keyring(keys_in_force(given.get_secret_value() if given else None, settings.ledger_url.get_secret_value()))


def _checks(
    stopping: asyncio.Event, intake: Intake, outbox: Outbox, ledger: WatchedLedger, away: OutageLog
) -> dict[str, Check]:
    """What has to hold before this process can be given work; each tells what is wrong."""

    async def running() -> str | None:
        return "the worker is stopping" if stopping.is_set() else None

    async def connected() -> str | None:
        return None if intake.connected.is_set() else away.trouble or "there is no connection to the broker yet"

    async def consuming() -> str | None:
        if intake.ready.is_set():
            return None
        why = away.trouble if intake.connected.is_set() else None
        return "no queue is consumed" + (f": {why}" if why else "")

    async def publishing() -> str | None:
        waited_s = outbox.unconfirmed_for_s
        if waited_s <= _PUBLISHING_SLOW_S:
            return None
        return (
            f"a message has waited {waited_s:.0f} s for the broker's confirm; "
            "does the broker block publishers (memory or disk alarm)?"
        )

    async def recording() -> str | None:
        try:
            await ledger.check()
        except LedgerUnavailable as error:
            return str(error)
        # It may let itself be read, but not be written.
        return ledger.trouble

    return {
        "running": running,
        "broker": connected,
        "consumers": consuming,
        "publishing": publishing,
        "ledger": recording,
    }


async def _either(one: asyncio.Event, other: asyncio.Event, *, within_s: float) -> None:
    waits = {asyncio.ensure_future(one.wait()), asyncio.ensure_future(other.wait())}
    try:
        await asyncio.wait(waits, timeout=within_s, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for wait in waits:
            wait.cancel()


async def _ended(task: asyncio.Task[Any], at_once: asyncio.Event) -> None:
    """Wait for the end of *task*; once *at_once*, cancel it, and whatever it still asks the broker for then."""
    hurry = asyncio.ensure_future(at_once.wait())
    try:
        await asyncio.wait({task, hurry}, return_when=asyncio.FIRST_COMPLETED)
        await ending.cancel(task)
    finally:
        hurry.cancel()


@asynccontextmanager
async def _left_in_time(outbox: Outbox, at_once: asyncio.Event) -> AsyncIterator[Outbox]:
    """Enter *outbox*, and leave it without waiting for the broker once *at_once*."""
    async with AsyncExitStack() as entered:
        yield await entered.enter_async_context(outbox)
        await _ended(asyncio.create_task(entered.pop_all().aclose()), at_once)


async def _consume(intake: Intake, *, stopping: asyncio.Event, drained: asyncio.Event) -> OtpostError | None:
    """Consume; what cannot be mended by waiting stops the worker, but lets the jobs in hand finish first."""
    try:
        await intake.run(stopping=stopping, drained=drained)
    except OtpostError as failure:
        stopping.set()
        return failure
    return None


def _jobs(sender: str, way: Deliverer, in_flight: InFlight, prefetch: int, wrappers: Wrappers) -> Subscription:
    places = RestingPlaces(prefetch)

    def take(incoming: Incoming) -> None:
        envelope = envelope_of(incoming.message, sender)
        in_flight.take(job_key(envelope), wrappers.settling(incoming), partial(way.deliver, envelope), places=places)

    return Subscription(job_queue(sender), prefetch, take)


def _dropped(reader: DroppedReader, in_flight: InFlight, wrappers: Wrappers) -> Subscription:
    places = RestingPlaces(_DROPPED_PREFETCH)

    def take(incoming: Incoming) -> None:
        message = incoming.message
        drop = read_drop(message.routing_key or "", dict(message.header.properties.headers or {}))
        envelope = envelope_of(message, drop.sender)
        delivery = wrappers.settling(incoming)
        in_flight.take((DROPPED, job_key(envelope)), delivery, partial(reader.end, envelope, drop), places=places)

    return Subscription(DROPPED, _DROPPED_PREFETCH, take)


def _policy(settings: Settings) -> Policy:
    return Policy(
        timeout_s=settings.http_timeout_s,
        max_attempts=settings.max_attempts,
        resend_unknown=settings.unknown_outcome == "resend",
    )


def _sender(
    name: str,
    one: SenderSettings,
    session: aiohttp.ClientSession,
    clock_watch: ClockWatch,
    settings: Settings,
    *,
    clock: Clock,
    wrappers: Wrappers,
) -> Sender:
    return Sender(
        name=name,
        provider=wrappers.provider(CloudApi(account_of(name, one), session, clock=clock, clock_watch=clock_watch)),
        defaults=Defaults(one.template, one.language),
        policy=_policy(settings),
        rate=one.rate,
        quota=settings.quota_of(name),
        watch=watch_of(one),
    )
