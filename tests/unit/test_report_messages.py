"""What is read off a webhook's message: of the receiver, of another worker, or of somebody else."""

from __future__ import annotations

from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, cast

import pytest
from aiormq import spec

from otpost_worker.brokers.rabbitmq.reports import Check, check_of, posted_of, webhook_properties
from otpost_worker.updates import Posted

if TYPE_CHECKING:
    from aiormq.abc import DeliveredMessage


def read(told: spec.Basic.Properties) -> Posted:
    message = SimpleNamespace(body=b"{}", header=SimpleNamespace(properties=told))
    return posted_of(cast("DeliveredMessage", message))


@pytest.mark.parametrize(
    "posted",
    [Posted(b"{}", "post-1", 1), Posted(b"{}", "post-1/7", 10), Posted(b"{}", "post-1", 3, (0, 17, 999))],
)
def test_what_a_worker_brings_back_another_reads_the_same(posted: Posted) -> None:
    assert read(webhook_properties(posted)) == posted


def test_what_the_receiver_stores_is_told_by_its_id_and_is_new() -> None:
    assert read(spec.Basic.Properties(message_id="post-1")) == Posted(b"{}", "post-1")


@pytest.mark.parametrize("value", [None, 1, True, "", ",", "1,", "one", "-1", "1;2", "1" * 8, b"\xff", [1], {"a": 1}])
def test_numbers_that_are_none_stand_for_all_updates(value: Any) -> None:  # noqa: ANN401 - those of AMQP
    assert read(spec.Basic.Properties(message_id="post-1", headers={"otpost-updates": value})).only == ()


@pytest.mark.parametrize("value", [None, -1, 1001, True, 2.0, "2", b"2", [2]])
def test_a_count_that_is_none_is_zero(value: Any) -> None:  # noqa: ANN401 - those of AMQP
    assert read(spec.Basic.Properties(message_id="post-1", headers={"otpost-attempt": value})).tries == 0


def test_a_check_that_comes_back_is_the_same_one() -> None:
    bodies = SimpleNamespace(body=b'{"job_id": "job-1", "run": 1, "attempt": 2}')
    checks = []
    counted: tuple[Any, ...] = (None, {"x-delivery-count": 3}, {"x-delivery-count": "3"})
    for headers in counted:
        told = spec.Basic.Properties(message_id="check-1", headers=headers)
        bodies.header = SimpleNamespace(properties=told)
        checks.append(check_of(cast("DeliveredMessage", bodies)))
    # What is in hand is known by the check.
    assert checks == [Check("job-1", 1, 2, "check-1")] * 3
    assert [check.returns for check in checks if check] == [0, 3, 0]
