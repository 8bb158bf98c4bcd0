"""The topology: every name and argument of the contract's second section, and the delay ladder's arithmetic."""

from __future__ import annotations

import re
from typing import Final

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from job_strategies import PROPERTY
from otpost import topology as names
from otpost.topology import Topology, delay_route, destination_of, topology

WORLD: Final = topology(["default", "bank_2"])
QUORUM: Final = {"x-queue-type": "quorum", "x-delivery-limit": 1_000_000}
AT_LEAST_ONCE: Final = {"x-dead-letter-strategy": "at-least-once", "x-overflow": "reject-publish"}
JOB_QUEUE: Final = {
    "x-queue-type": "quorum",
    "x-delivery-limit": 20,
    "x-dead-letter-exchange": "otpost.dropped",
    **AT_LEAST_ONCE,
}
LEVELS: Final = [
    "otpost.delay.00",
    "otpost.delay.01",
    "otpost.delay.02",
    "otpost.delay.03",
    "otpost.delay.04",
    "otpost.delay.05",
    "otpost.delay.06",
    "otpost.delay.07",
    "otpost.delay.08",
    "otpost.delay.09",
    "otpost.delay.10",
    "otpost.delay.11",
    "otpost.delay.12",
    "otpost.delay.13",
    "otpost.delay.14",
]
# 250 ms x 2^n, written out.
HOLDS_MS: Final = [
    250, 500, 1_000, 2_000, 4_000, 8_000, 16_000, 32_000, 64_000, 128_000, 256_000, 512_000, 1_024_000, 2_048_000,
    4_096_000,
]  # fmt: skip


def test_there_are_these_exchanges_and_no_others() -> None:
    to_dropped = {"alternate-exchange": "otpost.dropped"}
    assert {exchange.name: (exchange.kind, dict(exchange.arguments)) for exchange in WORLD.exchanges} == {
        "otpost.jobs": ("direct", to_dropped),
        "otpost.due": ("topic", to_dropped),
        "otpost.results": ("topic", {}),
        "otpost.dropped": ("fanout", {}),
        "otpost.dead": ("fanout", {}),
        **dict.fromkeys(LEVELS, ("topic", {})),
    }


def test_there_are_these_queues_with_these_arguments_and_no_others() -> None:
    below = ["otpost.due", *LEVELS[:-1]]
    assert {queue.name: dict(queue.arguments) for queue in WORLD.queues} == {
        "otpost.jobs.default": JOB_QUEUE,
        "otpost.jobs.bank_2": JOB_QUEUE,
        "otpost.dropped": QUORUM,
        "otpost.webhooks": QUORUM,
        "otpost.checks": QUORUM,
        # 14 days
        "otpost.dead": {**QUORUM, "x-message-ttl": 1_209_600_000},
        # 7 days or 1 GiB
        "otpost.results": {
            "x-queue-type": "stream",
            "x-max-age": "7D",
            "x-max-length-bytes": 1_073_741_824,
            "x-stream-max-segment-size-bytes": 64_000_000,
        },
        **{
            name: {**QUORUM, **AT_LEAST_ONCE, "x-dead-letter-exchange": target, "x-message-ttl": hold_ms}
            for name, target, hold_ms in zip(LEVELS, below, HOLDS_MS, strict=True)
        },
    }


def test_every_name_is_declared_once() -> None:
    assert len({exchange.name for exchange in WORLD.exchanges}) == len(WORLD.exchanges) == 20
    assert len({queue.name for queue in WORLD.queues}) == len(WORLD.queues) == 22
    assert len(set(WORLD.bindings)) == len(WORLD.bindings)
    assert topology(["a", "b", "a"]) == topology(["b", "a"])


def test_bindings_off_the_ladder_are_these() -> None:
    due = "*.*.*.*.*.*.*.*.*.*.*.*.*.*.*."
    assert {(b.source, b.target, b.key, b.to_exchange) for b in WORLD.bindings if b.source not in LEVELS} == {
        ("otpost.jobs", "otpost.jobs.default", "default", False),
        ("otpost.jobs", "otpost.jobs.bank_2", "bank_2", False),
        ("otpost.results", "otpost.results", "#", False),
        ("otpost.dropped", "otpost.dropped", "", False),
        ("otpost.dead", "otpost.dead", "", False),
        ("otpost.due", "otpost.jobs.default", due + "default", False),
        ("otpost.due", "otpost.jobs.bank_2", due + "bank_2", False),
        ("otpost.due", "otpost.checks", due + "~checks", False),
        ("otpost.due", "otpost.webhooks", due + "~webhooks", False),
    }


@pytest.mark.parametrize(
    ("level", "expected"),
    [
        (
            "otpost.delay.14",
            {("otpost.delay.14", "1.#", False), ("otpost.delay.13", "0.#", True)},
        ),
        (
            "otpost.delay.12",
            {("otpost.delay.12", "*.*.1.#", False), ("otpost.delay.11", "*.*.0.#", True)},
        ),
        (
            "otpost.delay.00",
            {
                ("otpost.delay.00", "*.*.*.*.*.*.*.*.*.*.*.*.*.*.1.#", False),
                ("otpost.due", "*.*.*.*.*.*.*.*.*.*.*.*.*.*.0.#", True),
            },
        ),
    ],
)
def test_a_level_takes_its_bit_or_passes_on(level: str, expected: set[tuple[str, str, bool]]) -> None:
    assert {(b.target, b.key, b.to_exchange) for b in WORLD.bindings if b.source == level} == expected


def test_headers_have_the_contracts_names() -> None:
    assert (
        names.HEADER_RUN,
        names.HEADER_ATTEMPT,
        names.HEADER_COUNTED,
        names.HEADER_DROPS,
        names.HEADER_DEADLINE,
        names.HEADER_REASON,
        names.HEADER_ERROR,
        names.HEADER_DIED_AT,
        names.HEADER_SENDER,
    ) == (
        "otpost-run",
        "otpost-attempt",
        "otpost-counted",
        "otpost-drops",
        "otpost-deadline",
        "otpost-reason",
        "otpost-error",
        "otpost-died-at",
        "otpost-sender",
    )


# The ladder


@pytest.mark.parametrize(
    ("delay_s", "exchange", "key"),
    [
        (0, "otpost.delay.00", "0.0.0.0.0.0.0.0.0.0.0.0.0.0.1.default"),
        (-5, "otpost.delay.00", "0.0.0.0.0.0.0.0.0.0.0.0.0.0.1.default"),
        (0.25, "otpost.delay.00", "0.0.0.0.0.0.0.0.0.0.0.0.0.0.1.default"),
        (0.26, "otpost.delay.01", "0.0.0.0.0.0.0.0.0.0.0.0.0.1.0.default"),
        (1, "otpost.delay.02", "0.0.0.0.0.0.0.0.0.0.0.0.1.0.0.default"),
        (5, "otpost.delay.04", "0.0.0.0.0.0.0.0.0.0.1.0.1.0.0.default"),
        (30, "otpost.delay.06", "0.0.0.0.0.0.0.0.1.1.1.1.0.0.0.default"),
        (4096, "otpost.delay.14", "1.0.0.0.0.0.0.0.0.0.0.0.0.0.0.default"),
        (8191.75, "otpost.delay.14", "1.1.1.1.1.1.1.1.1.1.1.1.1.1.1.default"),
        (8192, "otpost.delay.14", "1.1.1.1.1.1.1.1.1.1.1.1.1.1.1.default"),
        (1e9, "otpost.delay.14", "1.1.1.1.1.1.1.1.1.1.1.1.1.1.1.default"),
    ],
)
def test_a_delay_is_spelled_in_bits_from_the_highest(delay_s: float, exchange: str, key: str) -> None:
    assert delay_route(delay_s, "default") == (exchange, key)


def topic_matches(pattern: str, key: str) -> bool:
    """AMQP 0-9-1 topic matching by the letter: ``*`` is one word, ``#`` none or more."""
    expression = ""
    for position, word in enumerate(pattern.split(".")):
        dot = r"\." if position else ""
        expression += rf"({dot}[^.]*)*" if word == "#" else dot + (r"[^.]*" if word == "*" else re.escape(word))
    return re.fullmatch(expression, key) is not None


def queues_reached(world: Topology, exchange: str, key: str) -> list[str]:
    """Route as a broker does: through exchanges, to each queue once."""
    kinds = {known.name: known.kind for known in world.exchanges}
    reached: set[str] = set()
    waiting, seen = [exchange], {exchange}
    while waiting:
        current = waiting.pop()
        for binding in world.bindings:
            fits = topic_matches(binding.key, key) if kinds[current] == "topic" else binding.key in (key, "")
            if binding.source != current or not fits:
                continue
            if not binding.to_exchange:
                reached.add(binding.target)
            elif binding.target not in seen:
                seen.add(binding.target)
                waiting.append(binding.target)
    return sorted(reached)


def ride(world: Topology, delay_s: float, destination: str) -> tuple[str, float, list[str]]:
    """Where a message ends that is published to the ladder, for how long it was held, and in which queues."""
    arguments = {queue.name: queue.arguments for queue in world.queues}
    exchange, key = delay_route(delay_s, destination)
    held_ms = 0
    path: list[str] = []
    for _ in range(20):
        reached = queues_reached(world, exchange, key)
        assert len(reached) == 1, f"{key} at {exchange} reaches {reached}"
        queue = reached[0]
        if queue not in LEVELS:
            return queue, held_ms / 1000, path
        path.append(queue)
        held_ms += int(arguments[queue]["x-message-ttl"])
        exchange = str(arguments[queue]["x-dead-letter-exchange"])
    pytest.fail(f"{key} does not leave the ladder: {path}")


SMALL_WORLD: Final = topology(["default", "a-b"])


@PROPERTY
@given(st.floats(0, 8192), st.sampled_from(["default", "a-b", "~checks", "~webhooks"]))
@example(0.0, "default")
@example(0.25, "default")
@example(8191.75, "default")
@example(8192.0, "default")
def test_a_message_takes_one_way_and_arrives_in_time(delay_s: float, destination: str) -> None:
    queue, held_s, path = ride(SMALL_WORLD, delay_s, destination)
    expected = {
        "default": "otpost.jobs.default",
        "a-b": "otpost.jobs.a-b",
        "~checks": "otpost.checks",
        "~webhooks": "otpost.webhooks",
    }
    assert queue == expected[destination]
    # 2 h 16 min is the most that the ladder can hold, and one step is the least.
    assert min(delay_s, 8191.75) <= held_s
    assert held_s < delay_s + 0.25 or held_s == 0.25
    # Every queue once, from the longest to the shortest, so that no long wait stands before a short one.
    assert path == sorted(set(path), reverse=True)
    assert path[0] == delay_route(delay_s, destination)[0]


def test_a_sender_that_nobody_declared_falls_off_the_ladder_at_its_end() -> None:
    _, key = delay_route(0.25, "nobody")
    assert queues_reached(WORLD, "otpost.due", key) == []


@pytest.mark.parametrize(
    ("key", "destination"),
    [
        ("default", "default"),
        ("no such sender", "no such sender"),
        ("0.0.0.0.0.0.0.0.0.0.0.0.1.0.1.default", "default"),
        ("1.1.1.1.1.1.1.1.1.1.1.1.1.1.1.~checks", "~checks"),
        ("0.0.0.0.0.0.0.0.0.0.0.0.1.0.1.a.b", "a.b"),
        ("0.0.1.default", "0.0.1.default"),
        ("0.0.0.0.0.0.0.0.0.0.0.0.1.0.2.default", "0.0.0.0.0.0.0.0.0.0.0.0.1.0.2.default"),
        ("a.b", "a.b"),
        ("", ""),
    ],
)
def test_the_destination_is_the_last_word_behind_fifteen_bits(key: str, destination: str) -> None:
    assert destination_of(key) == destination


@PROPERTY
@given(st.floats(0, 8192), st.from_regex(r"[a-z0-9_-]{1,40}", fullmatch=True))
def test_every_destination_can_be_read_back_from_its_key(delay_s: float, sender: str) -> None:
    assert destination_of(delay_route(delay_s, sender)[1]) == sender


# Names


@pytest.mark.parametrize("name", ["#", "*", "Bank", "~checks", "", "a.b", "a" * 41, "name\n"])
def test_a_name_that_no_sender_can_have_makes_no_topology(name: str) -> None:
    with pytest.raises(ValueError, match="a sender's name is 1 to 40 of a-z 0-9 _ -") as raised:
        topology(["default", name])
    assert repr(name) in str(raised.value)


def test_the_longest_name_and_every_letter_of_one_may_stand_there() -> None:
    longest = "abcdefghijklmnopqrstuvwxyz0123456789_-ab"
    assert f"otpost.jobs.{longest}" in {queue.name for queue in topology([longest]).queues}
