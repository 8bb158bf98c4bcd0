"""What a worker takes beside jobs: what the provider has posted, and checks that fell due."""

from __future__ import annotations

import random
from functools import partial
from typing import TYPE_CHECKING, Final

import structlog

from otpost.topology import CHECKS, WEBHOOKS
from otpost_worker.brokers.rabbitmq.intake import Incoming, Subscription
from otpost_worker.brokers.rabbitmq.reports import check_of, posted_of
from otpost_worker.deliver import WatchTimes
from otpost_worker.delivery_reports import DeliveryReports
from otpost_worker.envelope import Defaults
from otpost_worker.providers.cloud_api import NAME, refusal_of_report
from otpost_worker.providers.cloud_api_codes import MARKETING_ONLY
from otpost_worker.recording import Records
from otpost_worker.sender_reports import Account
from otpost_worker.settling import Settler
from otpost_worker.webhook_bodies import attempt_of, minimal_body, read_updates
from otpost_worker.worker import InFlight, RestingPlaces

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from otpost_worker.brokers.rabbitmq.reports import Check
    from otpost_worker.decision import Policy
    from otpost_worker.ledger.watched import WholeLedger
    from otpost_worker.observer import Observer
    from otpost_worker.ports import Broker, Clock, Codes
    from otpost_worker.settings import SenderSettings, Settings
    from otpost_worker.standing import News
    from otpost_worker.wrapping import Wrappers

_PREFETCH: Final = 50
# A check that crashes rests for half a minute at the most: in all it comes back for more than an hour.
MOST_RETURNS: Final = 150
# What is delivered at the end of its time to live is reported a little later.
_BUFFER_S: Final = 30.0
# What the provider holds back for its quality may take hours: whoever waits should look elsewhere soon.
_HELD_S: Final = 30.0
# Of a sender that only other workers know: reports of it do come, as they come to this very worker.
_FOREIGN: Final = WatchTimes(600.0 + _BUFFER_S, _HELD_S)

_log = structlog.get_logger("otpost.reports")


def watch_of(sender: SenderSettings) -> WatchTimes | None:
    """Tell when it is looked whether the sender's messages were delivered; None where nobody could report that."""
    return WatchTimes(sender.message_ttl_s + _BUFFER_S, _HELD_S) if sender.app_secret else None


def accounts_of(settings: Settings) -> tuple[Account, ...]:
    """Name all senders that are configured as the provider does."""
    return tuple(
        Account(
            name,
            one.waba_id,
            one.phone_number_id,
            one.rate,
            settings.quota_of(name),
            Defaults(one.template, one.language),
        )
        for name, one in settings.configured.items()
    )


def delivery_reports(
    settings: Settings,
    *,
    policy: Policy,
    ledger: WholeLedger,
    broker: Broker,
    codes: Codes,
    metrics: Observer,
    clock: Clock,
    background: Callable[[Awaitable[None]], None],
    tell: Callable[[News], None],
) -> DeliveryReports:
    """Build the way of a report, by the Cloud API's table. All workers take the reports of all senders."""
    records = Records(ledger, background=background, tell=tell)
    watches = {name: watch_of(one) for name, one in settings.configured.items()}

    def watch_s_of(name: str) -> float | None:
        watch = watches.get(name, _FOREIGN)
        return watch.sent_s if watch else None

    return DeliveryReports(
        ledger=ledger,
        broker=broker,
        codes=codes,
        records=records,
        settler=Settler(broker, codes, metrics, clock, records),
        observer=metrics,
        clock=clock,
        random=random.random,
        read=read_updates,
        write=minimal_body,
        place_of=attempt_of,
        refusal_of=refusal_of_report,
        policy=policy,
        watch_s_of=watch_s_of,
        provider=NAME,
        accounts=accounts_of(settings),
        marketing_only=lambda code: code in MARKETING_ONLY,
        tell=tell,
    )


def webhooks(reports: DeliveryReports, in_flight: InFlight, wrappers: Wrappers) -> Subscription:
    """Take what the receiver was posted, and what comes back from the ladder."""
    places = RestingPlaces(_PREFETCH)

    def take(incoming: Incoming) -> None:
        posted = posted_of(incoming.message)
        key = (WEBHOOKS, posted.token, posted.tries)
        in_flight.take(key, wrappers.settling(incoming), partial(reports.take, posted), places=places)

    return Subscription(WEBHOOKS, _PREFETCH, take)


def checks_due(reports: DeliveryReports, in_flight: InFlight, wrappers: Wrappers) -> Subscription:
    """Take the checks whose time has come."""
    places = RestingPlaces(_PREFETCH)

    def take(incoming: Incoming) -> None:
        check = check_of(incoming.message)
        way = _nothing if check is None else partial(_look, reports, check)
        in_flight.take((CHECKS, check), wrappers.settling(incoming), way, places=places)

    return Subscription(CHECKS, _PREFETCH, take)


async def _look(reports: DeliveryReports, check: Check) -> None:
    """Make the check; one that crashes is given back, with pauses, until it has done so often enough."""
    try:
        await reports.check(check.job_id, check.run, check.attempt, check.token)
    except Exception as error:
        if check.returns < MOST_RETURNS:
            raise
        _log.error(
            "check.given_up", error=type(error).__name__, job_id=check.job_id, run=check.run, attempt=check.attempt
        )


async def _nothing() -> None:
    """What somebody else has put there is let go: it says nothing about any job."""
    _log.warning("check.unreadable")
