"""Webhooks: who could report deliveries, whose reports cannot be told apart, and whether any come [pure]."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from otpost.topology import CHECKS, WEBHOOKS
from otpost_worker.doctor.facts import NotAsked
from otpost_worker.doctor.findings import in_two, listed, ok, problem, warning

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from otpost.declaring import QueueState
    from otpost_worker.doctor.facts import BrokerFacts, Expecting, Heard
    from otpost_worker.doctor.findings import Finding

_CHECK: Final = "deliveries"
_WAITING: Final = {WEBHOOKS: ("webhook waits", "webhooks wait"), CHECKS: ("check waits", "checks wait")}
_SEE_RECEIVER: Final = (
    "see that 'otpost webhook' runs and that what it logs says no 'webhook.refused'; and at Meta that the callback URL "
    "is its address, the field 'messages' is subscribed and the app is in Live mode (docs/webhooks.md)"
)


def judge_expecting(senders: Mapping[str, Expecting]) -> list[Finding]:
    """Judge what the settings say of webhooks."""
    return [*_judge_secrets(senders), *_judge_accounts(senders)]


def _judge_secrets(senders: Mapping[str, Expecting]) -> Iterator[Finding]:
    if without := [name for name, one in senders.items() if not one.app_secret]:
        what = "no app secret: no deliveries are watched, and 'accepted' is the last that is heard (docs/webhooks.md)"
        yield ok(_CHECK, _named(without), what)
    if watched := [name for name, one in senders.items() if one.app_secret]:
        known = any(one.verify_token for one in senders.values())
        # Workers do well without it, and are not to be given what they do not need.
        lacking = "" if known else "; no verify token here, which 'otpost webhook' needs (OTPOST_VERIFY_TOKEN)"
        yield ok(_CHECK, _named(watched), f"deliveries are watched{lacking}")


def _judge_accounts(senders: Mapping[str, Expecting]) -> Iterator[Finding]:
    """Judge whether a webhook tells which sender it concerns, where it names an account."""
    unknown = [name for name, one in senders.items() if one.app_secret and not one.account]
    if len(senders) > 1 and unknown:
        what = "no business account is named: webhooks about its templates and its account are not heard"
        remedy = (
            "set waba_id in the senders' tables (at Meta: WhatsApp > API Setup); OTPOST_WABA_ID where they share one"
        )
        yield warning(_CHECK, _named(unknown), what, remedy)


def _named(senders: list[str]) -> str:
    return f"sender{'s' if len(senders) > 1 else ''} {listed(senders)}"


def judge_webhook_queues(facts: BrokerFacts, senders: Mapping[str, Expecting]) -> list[Finding]:
    """Judge who reads the two queues of webhooks, and what waits in them."""
    if isinstance(facts.queues, NotAsked):  # which is told with the other queues
        return []
    watched = any(one.app_secret for one in senders.values())
    states = [(name, facts.queues.get(name)) for name in (WEBHOOKS, CHECKS)]
    # That one is missing is told where the topology is.
    return [one for name, state in states if state is not None for one in _judge_queue(name, state, watched=watched)]


def _judge_queue(name: str, state: QueueState, *, watched: bool) -> Iterator[Finding]:
    waiting = f"{state.ready} {_WAITING[name][state.ready != 1]}"
    if not state.consumers and (watched or state.ready):
        remedy = "any worker reads it: start 'otpost worker', or see what its log says"
        yield problem("webhooks", name, f"nobody consumes it; {waiting}", remedy)
    elif watched:
        yield ok("webhooks", name, f"consumed by {state.consumers}; {waiting}")


def judge_heard(heard: Heard | NotAsked | None) -> list[Finding]:
    """Judge whether any report came of what was accepted; None where nobody would report."""
    match heard:
        case None:
            return []
        case NotAsked(why):
            return [warning(_CHECK, "otpost.results", *in_two(why, otherwise="try again"))]
        case _ if heard.reported:
            return [ok(_CHECK, "otpost.results", "the provider reports what became of messages")]
        case _ if heard.accepted:
            many = f"{heard.accepted} messages were" if heard.accepted > 1 else "1 message was"
            what = f"{many} accepted in the last {heard.within_s / 60:g} minutes, and not one report came"
            return [warning(_CHECK, "otpost.results", what, _SEE_RECEIVER)]
        case _:
            return []
