"""Finding out: the broker over AMQP, the ledger, the provider. Each question is bounded, and none hides the others."""

from __future__ import annotations

import asyncio
from contextlib import aclosing
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Final, TypeVar

from yarl import URL

from otpost import declaring, provisioning, rabbitmq
from otpost.errors import BrokerUnreachable, OtpostError
from otpost.result import Status
from otpost.results import read_kept_results
from otpost.topology import CHECKS, DEAD, DROPPED, WEBHOOKS, job_queue
from otpost.urls import visible_url
from otpost_worker.brokers.rabbitmq.foreign import tolerate_foreign_messages
from otpost_worker.brokers.rabbitmq.ledger_mark import compare_ledger
from otpost_worker.clocks import clock_offset_s
from otpost_worker.doctor.facts import BrokerFacts, Heard, LedgerFacts, LedgerTrouble, NotAsked, ProviderFacts
from otpost_worker.ledger.reading import open_to_read, visible
from otpost_worker.outcome import Kind
from otpost_worker.ports import LedgerUnavailable, NoLedger
from otpost_worker.providers.cloud_api_health import NoAnswer, health_of
from otpost_worker.providers.http import Reply, get

if TYPE_CHECKING:
    from collections.abc import Awaitable, Collection, Iterable, Mapping
    from datetime import datetime

    import aiohttp
    from aio_pika.abc import AbstractConnection

    from otpost.declaring import QueueState
    from otpost.differences import Finding as Difference
    from otpost.result import OtpResult
    from otpost.topology import Topology
    from otpost_worker.ports import Clock
    from otpost_worker.providers.cloud_api import CloudApiAccount

T = TypeVar("T")

_CONNECT_TIMEOUT_S: Final = 5.0
_QUESTION_TIMEOUT_S: Final = 10.0
# Of what was accepted longer ago than the second, and not before the first, a report should have come.
_HEARD_WITHIN: Final = timedelta(hours=1)
_REPORTED_WITHIN: Final = timedelta(minutes=2)
# As many as are read in a second or two.
_MOST_RESULTS: Final = 20_000


@dataclass(frozen=True, slots=True)
class NoBroker:
    """The broker does not let us in: *why*, as ``BrokerUnreachable`` says it."""

    why: str


async def ask_broker(
    url: str, wanted: Topology, senders: Iterable[str], *, ledger: str | None
) -> BrokerFacts | NoBroker:
    """Ask for everything that AMQP tells; *ledger*: the identity of ours, None where there is none."""
    try:
        connection = await rabbitmq.connect(url, name="otpost doctor", timeout_s=_CONNECT_TIMEOUT_S)
    except BrokerUnreachable as error:
        return NoBroker(str(error))
    try:
        product, version = rabbitmq.server_of(connection)
        names = [*map(job_queue, senders), DEAD, DROPPED, WEBHOOKS, CHECKS]
        return BrokerFacts(
            visible_url(url),
            product,
            version,
            await _answer(_differences(connection, wanted)),
            await _answer(_queues(connection, names)),
            await _answer(compare_ledger(connection, ledger)),
        )
    finally:
        await rabbitmq.close_quietly(connection)


async def ask_results(url: str, senders: Collection[str], *, now: datetime) -> Heard | NotAsked:
    """Read the last results of *senders* until one is a report, some thousands of them at the most."""
    return await _answer(_heard(url, senders, now))


async def _heard(url: str, senders: Collection[str], now: datetime) -> Heard:
    tolerate_foreign_messages()
    begin, accepted, read = now - _HEARD_WITHIN, 0, 0
    results = read_kept_results(url, begin, timeout_s=_CONNECT_TIMEOUT_S, on_unreadable=lambda _: None)
    async with aclosing(results):
        async for result in results:
            read += 1
            # The stream is entered at a chunk, whose first results may be older than what was asked for.
            if result.sender not in senders or result.at < begin:
                continue
            if _is_reported(result):
                return Heard(_HEARD_WITHIN.total_seconds(), accepted, reported=True)
            accepted += result.status is Status.ACCEPTED and result.at < now - _REPORTED_WITHIN
            if read >= _MOST_RESULTS:
                break
    return Heard(_HEARD_WITHIN.total_seconds(), accepted, reported=False)


def _is_reported(result: OtpResult) -> bool:
    """Tell whether it is the provider's report that made it."""
    if result.status is Status.UNDELIVERED:
        return result.error is not None and result.error.kind != Kind.NO_REPORT
    return result.status in (Status.SENT, Status.DELIVERED, Status.READ)


async def _answer(question: Awaitable[T]) -> T | NotAsked:
    try:
        async with asyncio.timeout(_QUESTION_TIMEOUT_S):
            return await question
    except TimeoutError:
        return NotAsked(f"the broker did not answer within {_QUESTION_TIMEOUT_S:g} s; is it overloaded?")
    except OtpostError as error:
        return NotAsked(str(error))


async def _differences(connection: AbstractConnection, wanted: Topology) -> tuple[Difference, ...]:
    return tuple(await provisioning.verify(connection, wanted, timeout_s=_QUESTION_TIMEOUT_S))


async def _queues(connection: AbstractConnection, names: Iterable[str]) -> Mapping[str, QueueState | None]:
    return {name: await declaring.inspect_queue(connection, name, timeout_s=_QUESTION_TIMEOUT_S) for name in names}


async def ask_ledger(url: str, rates: Mapping[str, float], quotas: Mapping[str, str]) -> LedgerFacts | LedgerTrouble:
    """Look into the ledger."""
    where = visible(url)
    try:
        async with asyncio.timeout(_QUESTION_TIMEOUT_S), open_to_read(url) as ledger:
            reports = await ledger.report(rates, quotas)
            return LedgerFacts(where, ledger.identity, ledger.writable, reports, ledger.warnings)
    except NoLedger as error:
        return LedgerTrouble(where, str(error), missing=True)
    except LedgerUnavailable as error:
        return LedgerTrouble(where, str(error), missing=False)
    except TimeoutError:
        why = f"the ledger did not answer within {_QUESTION_TIMEOUT_S:g} s; does another program hold it?"
        return LedgerTrouble(where, why, missing=False)


async def ask_provider(
    sender: str, account: CloudApiAccount, session: aiohttp.ClientSession, *, clock: Clock
) -> ProviderFacts:
    """Ask the provider how the sender's number is; it sends nothing."""
    url = URL(f"{account.api_base.rstrip('/')}/{account.api_version}/{account.phone_number_id}")
    sent_at = clock()
    headers = {"Authorization": f"Bearer {account.access_token}"}
    reply = await get(session, url.with_query(fields="health_status"), headers)
    if not isinstance(reply, Reply):
        return ProviderFacts(sender, str(url), NoAnswer(reply.error.detail or "no answer"), None)
    health = health_of(reply.status, reply.body, token_source=account.token_source)
    offset_s = clock_offset_s(reply.headers.get("Date"), sent_at=sent_at, received_at=clock())
    return ProviderFacts(sender, str(url), health, offset_s)
