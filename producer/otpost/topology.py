"""Every name and argument on the broker, as data, and the delay ladder's arithmetic (contract, section 2).

The ladder is a row of 15 topic exchanges and quorum queues. Level *n* holds a message for 250 ms x 2^n by the
queue's own TTL, so no message stands behind one that waits longer. A routing key spells the delay in bits,
highest first: where a bit is 1 the level's queue takes the message, where it is 0 it falls through to the
exchange below, and behind level 00 it arrives at ``otpost.due``, which reads the destination, the last word.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Literal

from otpost.job import SENDER_NAME_RULE, is_sender_name

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

JOBS: Final = "otpost.jobs"
DUE: Final = "otpost.due"
RESULTS: Final = "otpost.results"
DROPPED: Final = "otpost.dropped"
DEAD: Final = "otpost.dead"
WEBHOOKS: Final = "otpost.webhooks"
CHECKS: Final = "otpost.checks"
LEDGER: Final = "otpost.ledger"
# Where the ladder brings what is no job: the last word of its key.
CHECKS_DUE: Final = "~checks"
WEBHOOKS_DUE: Final = "~webhooks"
DEFAULT_SENDER: Final = "default"
DEFAULT_BROKER_URL: Final = "amqp://guest:guest@127.0.0.1:5672/"

HEADER_RUN: Final = "otpost-run"
HEADER_ATTEMPT: Final = "otpost-attempt"
HEADER_COUNTED: Final = "otpost-counted"
HEADER_DROPS: Final = "otpost-drops"
HEADER_DEADLINE: Final = "otpost-deadline"
HEADER_REASON: Final = "otpost-reason"
HEADER_ERROR: Final = "otpost-error"
HEADER_DIED_AT: Final = "otpost-died-at"
HEADER_SENDER: Final = "otpost-sender"
HEADER_UPDATES: Final = "otpost-updates"
HEADER_TRACEPARENT: Final = "traceparent"

DELAY_LEVELS: Final = 15
DELAY_STEP_S: Final = 0.25
MAX_DELAY_S: Final = DELAY_STEP_S * (2**DELAY_LEVELS - 1)

DELIVERY_LIMIT: Final = 20
# Looking at a message raises its delivery count, and from RabbitMQ 4.0 on a queue without a limit has one of 20.
# -1 means "none" only there; on 3.10 it means "gone after the first requeue".
NO_DELIVERY_LIMIT: Final = 1_000_000
DEAD_RETENTION_MS: Final = 14 * 24 * 3600 * 1000
RESULTS_RETENTION: Final = "7D"
RESULTS_MAX_BYTES: Final = 1 << 30
# Retention removes whole segments, so they have to be small against the limit.
RESULTS_SEGMENT_BYTES: Final = 64_000_000

Argument = str | int
# What a worker does about all of this: see provisioning.py.
TopologyMode = Literal["declare", "verify", "passive"]


@dataclass(frozen=True, slots=True)
class Exchange:
    """A durable exchange; *kind* is its AMQP type."""

    name: str
    kind: str
    arguments: Mapping[str, Argument]


@dataclass(frozen=True, slots=True)
class Queue:
    """A durable queue."""

    name: str
    arguments: Mapping[str, Argument]


@dataclass(frozen=True, slots=True)
class Binding:
    """From the exchange *source* to *target*, a queue or, where *to_exchange*, another exchange."""

    source: str
    target: str
    key: str
    to_exchange: bool = False


@dataclass(frozen=True, slots=True)
class Topology:
    """What has to exist on the broker, in the order in which it can be declared."""

    exchanges: tuple[Exchange, ...]
    queues: tuple[Queue, ...]
    bindings: tuple[Binding, ...]


def job_queue(sender: str) -> str:
    """Name the queue of *sender*."""
    return f"{JOBS}.{sender}"


def delay_level(level: int) -> str:
    """Name the exchange and the queue of one level of the delay ladder, 0 to 14."""
    return f"otpost.delay.{level:02}"


def _dead_lettering(exchange: str) -> dict[str, Argument]:
    # At-least-once needs reject-publish; with the default overflow the broker silently falls back to at-most-once.
    return {
        "x-dead-letter-exchange": exchange,
        "x-dead-letter-strategy": "at-least-once",
        "x-overflow": "reject-publish",
    }


def _quorum(limit: int, **arguments: Argument) -> dict[str, Argument]:
    return {"x-queue-type": "quorum", "x-delivery-limit": limit, **arguments}


def _job_queue(sender: str) -> Queue:
    return Queue(job_queue(sender), {**_quorum(DELIVERY_LIMIT), **_dead_lettering(DROPPED)})


def _delay_queue(level: int) -> Queue:
    below = delay_level(level - 1) if level else DUE
    hold_ms = int(DELAY_STEP_S * 1000) << level
    arguments = {**_quorum(NO_DELIVERY_LIMIT), **_dead_lettering(below), "x-message-ttl": hold_ms}
    return Queue(delay_level(level), arguments)


def _delay_bindings(level: int) -> tuple[Binding, Binding]:
    skipped = "*." * (DELAY_LEVELS - 1 - level)
    below = delay_level(level - 1) if level else DUE
    return (
        Binding(delay_level(level), delay_level(level), f"{skipped}1.#"),
        Binding(delay_level(level), below, f"{skipped}0.#", to_exchange=True),
    )


def _due(destination: str, queue: str) -> Binding:
    return Binding(DUE, queue, "*." * DELAY_LEVELS + destination)


_UNROUTABLE_TO_DROPPED: Final[dict[str, Argument]] = {"alternate-exchange": DROPPED}


def topology(senders: Iterable[str]) -> Topology:
    """List everything that workers for *senders* need on the broker.

    :raises ValueError: one of them is no sender's name; ``#`` would bind its queue to all that falls due.
    """
    names = sorted(set(senders))
    for name in names:
        if not is_sender_name(name):
            raise ValueError(f"{name!r}: {SENDER_NAME_RULE}")
    levels = range(DELAY_LEVELS)
    return Topology(
        exchanges=(
            Exchange(DROPPED, "fanout", {}),
            Exchange(DEAD, "fanout", {}),
            Exchange(RESULTS, "topic", {}),
            Exchange(JOBS, "direct", _UNROUTABLE_TO_DROPPED),
            Exchange(DUE, "topic", _UNROUTABLE_TO_DROPPED),
            *(Exchange(delay_level(level), "topic", {}) for level in levels),
        ),
        queues=(
            Queue(DROPPED, _quorum(NO_DELIVERY_LIMIT)),
            Queue(DEAD, {**_quorum(NO_DELIVERY_LIMIT), "x-message-ttl": DEAD_RETENTION_MS}),
            Queue(WEBHOOKS, _quorum(NO_DELIVERY_LIMIT)),
            Queue(CHECKS, _quorum(NO_DELIVERY_LIMIT)),
            Queue(
                RESULTS,
                {
                    "x-queue-type": "stream",
                    "x-max-age": RESULTS_RETENTION,
                    "x-max-length-bytes": RESULTS_MAX_BYTES,
                    "x-stream-max-segment-size-bytes": RESULTS_SEGMENT_BYTES,
                },
            ),
            *map(_delay_queue, levels),
            *map(_job_queue, names),
        ),
        bindings=(
            Binding(DROPPED, DROPPED, ""),
            Binding(DEAD, DEAD, ""),
            Binding(RESULTS, RESULTS, "#"),
            *(binding for level in levels for binding in _delay_bindings(level)),
            *(Binding(JOBS, job_queue(name), name) for name in names),
            *(_due(name, job_queue(name)) for name in names),
            _due(CHECKS_DUE, CHECKS),
            _due(WEBHOOKS_DUE, WEBHOOKS),
        ),
    )


_LEDGER_ARGUMENT: Final = "alternate-exchange"


def ledger_mark(identity: str | None) -> Exchange:
    """Describe the exchange that tells which ledger the broker's workers use; nothing is ever bound to it.

    The broker compares one argument of an exchange that anybody may choose: the name of its alternate exchange, which
    need not exist. So the first worker writes the identity there, and every other one is compared with it. With None,
    it is what the broker is asked with to have it told.
    """
    return Exchange(LEDGER, "fanout", {_LEDGER_ARGUMENT: f"{LEDGER}.{identity}"} if identity else {})


def ledger_of_mark(alternate_exchange: str) -> str:
    """Read a ledger's identity, or the beginning of one, off the argument of ``ledger_mark``."""
    return alternate_exchange.removeprefix(f"{LEDGER}.")


def delay_route(delay_s: float, destination: str) -> tuple[str, str]:
    """Name the exchange and the routing key that bring a message to *destination* after *delay_s* seconds.

    The delay is rounded up to the next 250 ms, so that nothing comes early, and is at least one step and at
    most ``MAX_DELAY_S``. The entry is the exchange of the highest bit: the levels above it would only pass on.
    """
    steps = min(max(math.ceil(delay_s / DELAY_STEP_S), 1), 2**DELAY_LEVELS - 1)
    bits = ".".join(f"{steps:0{DELAY_LEVELS}b}")
    return delay_level(steps.bit_length() - 1), f"{bits}.{destination}"


def destination_of(routing_key: str) -> str:
    """Read the sender (or ``~checks``, ``~webhooks``) from the key of a message in ``otpost.dropped``.

    A job that came through the ladder has its delay in front of it.
    """
    words = routing_key.split(".", DELAY_LEVELS)
    if len(words) == DELAY_LEVELS + 1 and all(word in ("0", "1") for word in words[:-1]):
        return words[-1]
    return routing_key
