"""Results on their way to people's own queues, which may be missing or full: never at the job's expense."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final

import pytest

from service import CODE, PATIENCE_S, job_body, running_service

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from broker import Vhost
    from service import Service

REFUSING: Final = "reject-publish"


@pytest.fixture
async def service(vhost: Vhost, tmp_path: Path) -> AsyncIterator[Service]:
    # One job at a time: whatever held up a job would hold up the next one too.
    async with running_service(vhost, tmp_path, concurrency=1) as running:
        yield running


async def assert_settled(service: Service) -> None:
    """Nothing is left to do: no job waits or is in hand."""
    await service.vhost.wait_for_queue("otpost.jobs.default", ready=0, unacked=0, timeout_s=PATIENCE_S)


async def test_every_result_also_goes_to_reply_to_with_the_correlation_id(service: Service) -> None:
    await service.amqp.declare_queue("mine")
    await service.publish(job_body(id="job-1", to="+9991310161001"), reply_to="mine", correlation_id="order-7")
    end = await service.wait_for_result("job-1", "accepted")
    retrying, accepted = await (await service.amqp.tap("mine")).wait_for_count(2)
    assert [retrying.body["status"], accepted.body["status"]] == ["retrying", "accepted"]
    assert accepted.message.body == end.message.body
    for reply in (retrying, accepted):
        assert (reply.message.correlation_id, reply.message.type) == ("order-7", "otpost.result.v1")
        assert reply.message.message_id == reply.body["event_id"]
        assert CODE not in reply.everything


async def test_the_failure_of_an_invalid_job_is_replied_too(service: Service) -> None:
    await service.amqp.declare_queue("mine")
    await service.publish(job_body(id="job-1", to="nobody"), reply_to="mine", correlation_id="order-7")
    [reply] = await (await service.amqp.tap("mine")).wait_for_count(1)
    assert (reply.body["status"], reply.body["error"]["kind"]) == ("failed", "invalid_job")
    assert reply.message.correlation_id == "order-7"


async def test_a_reply_to_that_is_gone_costs_the_job_nothing(service: Service) -> None:
    for number in range(5):
        await service.publish(job_body(id=f"job-{number}"), reply_to="gone")
    for number in range(5):
        await service.wait_for_result(f"job-{number}", "accepted")
    await assert_settled(service)
    assert service.requests() == 5


@pytest.mark.parametrize("max_length", [0, 1])
async def test_a_reply_to_that_is_full_costs_the_job_nothing(service: Service, max_length: int) -> None:
    await service.amqp.declare_queue("full", x_max_length=max_length, x_overflow=REFUSING)
    await service.amqp.fill("full")
    for number in range(5):
        await service.publish(job_body(id=f"job-{number}"), reply_to="full")
    for number in range(5):
        await service.wait_for_result(f"job-{number}", "accepted")
    await assert_settled(service)
    assert [service.statuses(f"job-{number}") for number in range(5)] == [["accepted"]] * 5
    assert service.requests() == 5


@pytest.mark.parametrize("queue", ["otpost.jobs.default", "otpost.dead", "otpost."])
async def test_a_queue_of_ours_is_refused_as_reply_to(service: Service, queue: str) -> None:
    await service.publish(job_body(id="job-1"), reply_to=queue)
    failed = await service.wait_for_result("job-1", "failed")
    letter = await service.wait_for_dead_letter("job-1")
    assert failed.body["error"]["kind"] == "invalid_job"
    assert "reply_to: (AMQP property) may not begin with 'otpost.'" in failed.body["error"]["detail"]
    assert letter.headers["otpost-reason"] == "invalid_job"
    await assert_settled(service)
    assert service.statuses("job-1") == ["failed"]
    assert service.requests() == 0


async def test_a_result_that_a_full_queue_refuses_goes_to_the_stream_alone_after_three_tries(service: Service) -> None:
    await service.amqp.declare_queue("full", bind="default.accepted", x_max_length=1, x_overflow=REFUSING)
    await service.amqp.fill("full")
    await service.publish(job_body(id="job-1"), reply_to="mine")
    alone = await service.results.wait_for(job_id="job-1", status="accepted", nth=4)
    await assert_settled(service)
    copies = [one for one in service.results.seen if one.body["job_id"] == "job-1"]
    assert [one.message.exchange for one in copies] == ["otpost.results", "otpost.results", "otpost.results", ""]
    assert len({one.message.body for one in copies}) == 1
    assert {one.message.message_id for one in copies} == {"job-1/1/1/accepted"}
    assert alone.came_at - copies[0].came_at >= 0.25  # the queue was given time to empty
    assert service.requests() == 1


async def test_a_full_queue_that_empties_in_time_gets_the_result(service: Service) -> None:
    await service.amqp.declare_queue("full", bind="#", x_max_length=1, x_overflow=REFUSING)
    await service.amqp.fill("full")
    await service.publish(job_body(id="job-1"))
    await service.wait_for_result("job-1", "accepted")  # the stream has it while the queue refuses it
    mine = await service.amqp.tap("full")
    await asyncio.wait_for(mine.wait_for_count(2), PATIENCE_S)
    assert mine.seen[-1].body["event_id"] == "job-1/1/1/accepted"
    await assert_settled(service)
