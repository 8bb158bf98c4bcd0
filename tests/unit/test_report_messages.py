"""What is read off the message of a webhook or of a check: of the receiver, of a worker, or of somebody else."""

from __future__ import annotations

from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, cast

import pytest
from aiormq import spec

from otpost_worker.brokers.rabbitmq.reports import (
    Check,
    check_body,
    check_of,
    check_properties,
    posted_of,
    webhook_properties,
)
from otpost_worker.envelope import Watch
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


@pytest.mark.parametrize("value", [0, 1, 1000])
def test_a_count_up_to_a_thousand_is_taken_as_it_is(value: int) -> None:
    assert read(spec.Basic.Properties(message_id="post-1", headers={"otpost-attempt": value})).tries == value


def test_what_names_itself_in_no_way_is_told_from_everything_else() -> None:
    tokens = {read(spec.Basic.Properties()).token for _ in range(2)}
    assert len(tokens) == 2
    assert all(len(token) == 32 for token in tokens)


def test_what_comes_back_is_a_message_of_its_own_and_names_its_updates_only_where_some_are_left() -> None:
    first, second = (webhook_properties(Posted(b"{}", "post-1", 2)) for _ in range(2))
    assert (first.message_type, first.correlation_id, first.headers) == (
        "otpost.webhook.v1", "post-1", {"otpost-attempt": 2},
    )  # fmt: skip
    assert first.message_id != second.message_id
    headers = webhook_properties(Posted(b"{}", "post-1", 2, (0, 17))).headers
    assert headers == {"otpost-attempt": 2, "otpost-updates": "0,17"}


# Checks


def check(body: bytes, told: spec.Basic.Properties | None = None) -> Check | None:
    properties = told or spec.Basic.Properties(message_id="check-1")
    message = SimpleNamespace(body=body, header=SimpleNamespace(properties=properties))
    return check_of(cast("DeliveredMessage", message))


def test_a_check_that_a_worker_wrote_another_reads_the_same() -> None:
    body = check_body("job-1", Watch(2, 3, 1_795_464_300.0))
    assert check(body) == Check("job-1", 2, 3, "check-1")
    told = check_properties()
    assert told.message_type == "otpost.check.v1"
    assert check(body, told) == Check("job-1", 2, 3, str(told.message_id))
    assert check_properties().message_id != told.message_id


def test_a_check_without_an_id_is_told_from_every_other_one() -> None:
    body = check_body("job-1", Watch(1, 1, 0.0))
    tokens = {found.token for _ in range(2) if (found := check(body, spec.Basic.Properties())) is not None}
    assert len(tokens) == 2


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"[]",
        b"null",
        b"{}",
        b'{"job_id": "job-1", "run": 1}',
        b'{"job_id": "job-1", "attempt": 1}',
        b'{"run": 1, "attempt": 1}',
        b'{"job_id": 7, "run": 1, "attempt": 1}',
        b'{"job_id": "no job of ours", "run": 1, "attempt": 1}',
        b'{"job_id": "job-1", "run": "1", "attempt": 1}',
        b'{"job_id": "job-1", "run": 1, "attempt": true}',
        b'{"job_id": "job-1", "run": 1.0, "attempt": 1}',
    ],
)
def test_what_is_no_check_is_none(body: bytes) -> None:
    assert check(body) is None


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
