"""Policies, which override what queues were declared with, and bindings; only the management API tells them [pure].

For numbers the smaller one of policy and argument counts; otherwise the argument does, where there is one.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from otpost.topology import DEAD, RESULTS
from otpost_worker.doctor.facts import NotAsked
from otpost_worker.doctor.findings import Finding, Level, in_two, listed, ok, problem, warning

if TYPE_CHECKING:
    from collections.abc import Iterator

    from otpost.topology import Queue, Topology
    from otpost_worker.doctor.facts import ManagementFacts

_TAKE_OFF: Final = "take it off these queues: rabbitmqctl list_policies, list_operator_policies, clear_policy"
# What may be set without any harm to us: where replicas live, what only other types of queues know.
_HARMLESS: Final = (
    "queue-leader-locator", "queue-master-locator", "initial-cluster-size", "target-group-size", "queue-mode",
    "queue-version", "max-in-memory-", "ha-", "stream-", "delayed-retry-", "dead-letter-strategy", "overflow",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Effect:
    """What a key does to a queue of ours, and how bad that is; {} stands for its value."""

    level: Level
    what: str


_LOSES: Final = Level.PROBLEM
_EFFECTS: Final = {
    "message-ttl": Effect(_LOSES, "what waits there for {} ms is taken away"),
    "max-length": Effect(_LOSES, "beyond {} messages it refuses or loses what comes"),
    "max-length-bytes": Effect(_LOSES, "beyond {} bytes it refuses or loses what comes"),
    "expires": Effect(_LOSES, "the queue is deleted where nobody has used it for {} ms"),
    "delivery-limit": Effect(_LOSES, "a message that was given back {} times is gone from it"),
    "dead-letter-routing-key": Effect(_LOSES, "what leaves it carries the routing key {} and does not find its way"),
    "dead-letter-exchange": Effect(Level.WARNING, "what leaves it goes to the exchange {} too"),
    "max-age": Effect(Level.WARNING, "results are kept for {} at the longest"),
    "consumer-timeout": Effect(Level.WARNING, "a job that is in hand for more than {} ms is delivered once more"),
}
_OF_STREAMS: Final = ("max-length-bytes", "max-age")
_KEPT_FOR_PEOPLE: Final = (DEAD, RESULTS)


def judge_management(facts: ManagementFacts | NotAsked, where: str, wanted: Topology) -> list[Finding]:
    """Judge what the management API tells of *wanted*."""
    if isinstance(facts, NotAsked):
        what, remedy = in_two(facts.why, otherwise="name its address with --management-url")
        return [warning("policies", where, f"policies and bindings could not be looked at: {what}", remedy)]
    return [*_judge_policies(facts, wanted), *_judge_bindings(facts, wanted)]


def _judge_policies(facts: ManagementFacts, wanted: Topology) -> Iterator[Finding]:
    queues_by_effect: dict[tuple[Level, str], list[str]] = {}
    for queue in wanted.queues:
        effects = facts.policies.get(queue.name)
        for key, value in effects.definition.items() if effects else ():
            if (effect := _effect(queue, key, value)) is not None:
                what = f"the {effects} sets {key}={value}: {effect.what.format(value)}"
                queues_by_effect.setdefault((effect.level, what), []).append(queue.name)
    for (level, what), queues in queues_by_effect.items():
        yield Finding("policies", level, listed(queues), what, _TAKE_OFF)
    if not queues_by_effect:
        yield ok("policies", facts.where, "no policy changes what the queues were declared with")


def _effect(queue: Queue, key: str, value: object) -> Effect | None:
    """Tell what *key* does to *queue*; None where nothing comes of it."""
    if key.startswith(_HARMLESS) or (queue.name == RESULTS and key not in _OF_STREAMS):
        return None
    declared = queue.arguments.get(f"x-{key}")
    if isinstance(declared, int) and isinstance(value, int):
        if value >= declared:
            return None
    elif declared is not None and key != "max-age":
        return None  # the argument counts
    effect = _EFFECTS.get(key, Effect(Level.WARNING, "what comes of that for otpost is not known"))
    if queue.name in _KEPT_FOR_PEOPLE and key in ("message-ttl", "max-length", "max-length-bytes"):
        # Nothing under way depends on it, only what somebody might want to look at later.
        return Effect(Level.WARNING, effect.what)
    return effect


def _judge_bindings(facts: ManagementFacts, wanted: Topology) -> Iterator[Finding]:
    missing = [binding for binding in wanted.bindings if binding not in facts.bindings]
    if missing:
        names = listed([f"{binding.source} → {binding.target} ({binding.key})" for binding in missing])
        yield problem("bindings", facts.where, f"missing: {names}", "'otpost topology declare' makes what is missing")
    else:
        yield ok("bindings", facts.where, "every binding is there")
