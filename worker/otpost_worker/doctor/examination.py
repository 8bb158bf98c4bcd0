"""All checks at once: facts in, findings out. Half of it may be down."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final

from otpost.differences import Trouble
from otpost.topology import RESULTS, topology
from otpost.urls import visible_url
from otpost_worker.doctor.asking import NoBroker, ask_broker, ask_ledger, ask_provider, ask_results
from otpost_worker.doctor.broker import judge_broker, unreachable
from otpost_worker.doctor.facts import LedgerFacts, NotAsked
from otpost_worker.doctor.findings import problem, warning
from otpost_worker.doctor.ledger import judge_ledger, judge_senders
from otpost_worker.doctor.management import ask_management, management_url
from otpost_worker.doctor.policies import judge_management
from otpost_worker.doctor.provider import judge_clock, judge_provider
from otpost_worker.doctor.webhooks import judge_expecting, judge_heard, judge_webhook_queues
from otpost_worker.providers.http import open_session

if TYPE_CHECKING:
    from collections.abc import Awaitable, Mapping

    from otpost.topology import Topology
    from otpost_worker.doctor.facts import BrokerFacts, DefaultTemplate, Expecting, LedgerTrouble, ProviderFacts
    from otpost_worker.doctor.findings import Finding
    from otpost_worker.providers.cloud_api import CloudApiAccount

_CONNECTIONS: Final = 10
_CONNECT_TIMEOUT_S: Final = 3.0
_PROVIDER_TIMEOUT_S: Final = 8.0


@dataclass(frozen=True, slots=True)
class Patient:
    """What is to be examined; *rates* and *quotas* as in ``ports.Standings``, *accounts* and *expecting* by sender.

    *templates*: the senders' defaults. *passive*: somebody else provides the queues. *management*: where the management
    API is, None for its usual place.
    """

    broker_url: str
    passive: bool
    management: str | None
    ledger_url: str
    rates: Mapping[str, float]
    quotas: Mapping[str, str]
    templates: Mapping[str, DefaultTemplate]
    accounts: Mapping[str, CloudApiAccount]
    expecting: Mapping[str, Expecting]


async def examine(patient: Patient) -> list[Finding]:
    """Make every check; what cannot be found out is a finding too, and hides nothing else."""
    ledger, providers = await asyncio.gather(
        ask_ledger(patient.ledger_url, patient.rates, patient.quotas), _ask_providers(patient)
    )
    return [
        *_judge_settings(patient),
        *await _safely("broker", _examine_broker(patient, ledger)),
        *(judge_senders(ledger.reports, patient.rates, patient.templates) if isinstance(ledger, LedgerFacts) else ()),
        *judge_expecting(patient.expecting),
        *(finding for facts in providers for finding in judge_provider(facts)),
        *judge_clock(providers),
    ]


async def _safely(check: str, findings: Awaitable[list[Finding]]) -> list[Finding]:
    try:
        return await findings
    except Exception as error:  # noqa: BLE001 - a fault of ours must not hide what the other checks found
        what = f"the check itself failed ({type(error).__name__}: {error})"
        return [problem("doctor", check, what, "this is a fault of otpost's: please report it")]


def _judge_settings(patient: Patient) -> list[Finding]:
    if patient.accounts:
        return []
    what = "no sender is configured here, so that neither job queues nor numbers are checked"
    remedy = "run it with a worker's settings: OTPOST_PHONE_NUMBER_ID and OTPOST_ACCESS_TOKEN, or OTPOST_SENDERS_FILE"
    return [warning("settings", "senders", what, remedy)]


async def _examine_broker(patient: Patient, ledger: LedgerFacts | LedgerTrouble) -> list[Finding]:
    url, senders = patient.broker_url, patient.accounts
    wanted = topology(senders)
    identity = ledger.identity if isinstance(ledger, LedgerFacts) else None
    facts = await ask_broker(url, wanted, senders, ledger=identity)
    if isinstance(facts, NoBroker):
        return [unreachable(visible_url(url), facts.why), *judge_ledger(ledger, None)]
    where = management_url(url, patient.management)
    return [
        *judge_broker(facts, senders, passive=patient.passive),
        *judge_webhook_queues(facts, patient.expecting),
        *await _safely("deliveries", _examine_results(patient, facts)),
        *await _safely("policies", _examine_management(url, where, wanted)),
        *judge_ledger(ledger, facts.ledger),
    ]


async def _examine_results(patient: Patient, facts: BrokerFacts) -> list[Finding]:
    watched = {name for name, one in patient.expecting.items() if one.app_secret}
    # Where there is no stream yet, nothing was ever accepted; that it is missing is told already.
    missing = not isinstance(facts.differences, NotAsked) and any(
        one.name == RESULTS and one.trouble is Trouble.MISSING for one in facts.differences
    )
    if not watched or missing:
        return []
    return judge_heard(await ask_results(patient.broker_url, watched, now=datetime.now(UTC)))


async def _examine_management(broker_url: str, where: str, wanted: Topology) -> list[Finding]:
    return judge_management(await ask_management(broker_url, where), where, wanted)


async def _ask_providers(patient: Patient) -> list[ProviderFacts]:
    async with open_session(
        connections=_CONNECTIONS, connect_timeout_s=_CONNECT_TIMEOUT_S, timeout_s=_PROVIDER_TIMEOUT_S
    ) as session:
        asked = (ask_provider(name, account, session, clock=time.time) for name, account in patient.accounts.items())
        return await asyncio.gather(*asked)
