"""What of a delivery's properties is believed, and what a copy of the job takes along."""

from __future__ import annotations

from datetime import UTC, datetime
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, Final, cast

import pytest
from aiormq import spec

from otpost_worker.brokers.rabbitmq.messages import envelope_of, job_headers, job_properties
from otpost_worker.envelope import Envelope, Reply

if TYPE_CHECKING:
    from aiormq.abc import DeliveredMessage

# 2026-11-23T20:05:00Z
DEADLINE: Final = 1_795_464_300.0
TRACE: Final = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
PLAIN: Final = Envelope(b"{}", "default")
FULL: Final = Envelope(
    b"{}", "default", run=2, attempt=3, counted=1, drops=2, deadline=DEADLINE, reply=Reply("mine", "c-1"),
    traceparent=TRACE, published_at=datetime.fromtimestamp(DEADLINE - 300, UTC),
)  # fmt: skip


def read(headers: dict[str, Any] | None = None, **properties: Any) -> Envelope:  # noqa: ANN401 - those of AMQP
    told = spec.Basic.Properties(headers=headers, **properties)
    message = SimpleNamespace(body=b"{}", header=SimpleNamespace(properties=told))
    return envelope_of(cast("DeliveredMessage", message), "default")


def test_what_a_worker_wrote_another_reads_the_same() -> None:
    for envelope in (PLAIN, FULL):
        told = job_properties(envelope, "any")
        message = SimpleNamespace(body=envelope.body, header=SimpleNamespace(properties=told))
        assert envelope_of(cast("DeliveredMessage", message), "default") == envelope


def test_a_copy_has_these_headers_and_no_others() -> None:
    assert job_headers(PLAIN) == {"otpost-run": 1, "otpost-attempt": 1, "otpost-counted": 0}
    assert job_headers(FULL) == {
        "otpost-run": 2, "otpost-attempt": 3, "otpost-counted": 1, "otpost-drops": 2,
        "otpost-deadline": "2026-11-23T20:05:00.000Z", "traceparent": TRACE,
    }  # fmt: skip


@pytest.mark.parametrize("value", [0, -1, 1_000_001, 10**12, True, 2.0, "2", b"2", None, [2], {"a": 2}])
def test_a_run_and_an_attempt_that_are_no_numbers_from_1_to_a_million_are_the_first(value: object) -> None:
    read_again = read({"otpost-run": value, "otpost-attempt": value})
    assert (read_again.run, read_again.attempt) == (1, 1)


@pytest.mark.parametrize("value", [-1, 1_000_001, 10**12, True, 2.0, "2", None, {"a": 2}])
def test_counts_that_are_no_numbers_up_to_a_million_are_none(value: object) -> None:
    # Else whoever writes there could use up all of a job's attempts, or its chances with the broker.
    read_again = read({"otpost-counted": value, "otpost-drops": value})
    assert (read_again.counted, read_again.drops) == (0, 0)


def test_the_largest_counts_are_believed() -> None:
    million = read(dict.fromkeys(["otpost-run", "otpost-attempt", "otpost-counted", "otpost-drops"], 1_000_000))
    assert (million.run, million.attempt, million.counted, million.drops) == (1_000_000,) * 4


@pytest.mark.parametrize("value", ["soon", "", 1_795_464_300, "2026-11-23T20:05:00", None, ["2026-11-23T20:05:00Z"]])
def test_a_deadline_that_is_no_time_with_a_zone_is_none(value: object) -> None:
    assert read({"otpost-deadline": value}).deadline is None


@pytest.mark.parametrize("value", ["2026-11-23T20:05:00Z", b"2026-11-23T21:05:00+01:00"], ids=["text", "bytes"])
def test_a_text_is_read_as_text_or_as_bytes(value: object) -> None:
    assert read({"otpost-deadline": value}).deadline == DEADLINE


@pytest.mark.parametrize("queue", [None, "", "q" * 256])
def test_a_queue_that_no_reply_can_go_to_is_none(queue: str | None) -> None:
    assert read(reply_to=queue, correlation_id="c-1").reply is None


def test_a_reply_needs_no_correlation_id() -> None:
    assert read(reply_to="q" * 255).reply == Reply("q" * 255, None)
