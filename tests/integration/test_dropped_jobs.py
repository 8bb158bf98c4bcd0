"""What the broker itself gives up on: no queue for the sender, expired in the queue, given back too often."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import orjson
import pytest

from otpost.topology import delay_route
from otpost_worker.ledger.sqlite import SqliteLedger
from sealed_letters import original
from service import CODE, NUMBER, declare_topology, job_body, running_service

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from broker import Vhost
    from otpost_worker.stories import RunStory
    from service import Seen, Service


@pytest.fixture
async def service(vhost: Vhost, tmp_path: Path) -> AsyncIterator[Service]:
    """Serves 'default' only; the queue of 'other' is there, its worker is not."""
    await declare_topology(vhost, "other")
    async with running_service(vhost, tmp_path) as running:
        yield running


def assert_buried(failed: Seen, letter: Seen, reason: str, sender: str) -> None:
    error = failed.body["error"]
    assert (failed.body["event_id"], failed.body["sender"]) == ("job-1/1/1/failed", sender)
    assert (failed.routing_key, failed.body["to"], failed.body["provider"]) == (f"{sender}.failed", "12*******87", None)
    assert (error["kind"], letter.headers["otpost-reason"], letter.headers["otpost-sender"]) == (reason, reason, sender)
    assert orjson.loads(str(letter.headers["otpost-error"])) == error
    assert error["detail"]
    assert CODE not in failed.everything
    assert NUMBER.removeprefix("+") not in failed.everything
    assert letter.body["id"] == "job-1"


async def test_a_job_for_a_sender_that_nobody_declared_fails_and_is_kept(service: Service) -> None:
    await service.publish(job_body(), key="nobody")
    failed = await service.wait_for_result("job-1", "failed")
    letter = await service.wait_for_dead_letter("job-1")
    assert_buried(failed, letter, "no_sender", "nobody")
    assert "otpost.jobs.nobody" in failed.body["error"]["detail"]
    assert service.requests() == 0


@pytest.mark.parametrize("key", ["", "Not A Sender", "a.b", "x" * 200])
async def test_a_key_that_can_be_no_sender_costs_nobody_anything(service: Service, key: str) -> None:
    await service.publish(job_body(id="job-1"), key=key)
    await service.publish(job_body(id="neighbour"))
    failed = await service.wait_for_result("job-1", "failed")
    letter = await service.wait_for_dead_letter("job-1")
    await service.wait_for_result("neighbour", "accepted")
    assert (failed.body["error"]["kind"], letter.headers["otpost-reason"]) == ("no_sender", "no_sender")
    assert service.statuses("job-1") == ["failed"]


@pytest.mark.parametrize("key", [NUMBER, NUMBER.removeprefix("+"), "0.0.0.0.0.0.0.0.0.0.0.0.0.0.1." + NUMBER])
async def test_a_number_in_place_of_a_sender_is_told_nowhere(
    service: Service, key: str, capsys: pytest.CaptureFixture[str]
) -> None:
    await service.publish(job_body(), key=key)
    failed = await service.wait_for_result("job-1", "failed")
    letter = await service.wait_for_dead_letter("job-1")
    assert (failed.routing_key, failed.body["sender"]) == ("~unknown.failed", "~unknown")
    assert failed.body["error"]["detail"] == letter_detail(letter)
    assert "the key that it was published with" in letter_detail(letter)
    number = NUMBER.removeprefix("+")
    assert number not in failed.everything
    assert number not in str(letter.headers)
    assert number not in str(await told_of(service))
    assert number not in capsys.readouterr().out


async def told_of(service: Service) -> tuple[RunStory, ...]:
    async with SqliteLedger(service.ledger) as ledger:
        return await ledger.story("job-1")


def letter_detail(letter: Seen) -> str:
    return str(orjson.loads(str(letter.headers["otpost-error"]))["detail"])


async def test_a_job_whose_sender_is_gone_when_it_leaves_the_ladder_fails_and_is_kept(service: Service) -> None:
    exchange, key = delay_route(0.75, "gone")
    begun = time.time()
    await service.publish(job_body(), exchange=exchange, key=key)
    failed = await service.wait_for_result("job-1", "failed")
    letter = await service.wait_for_dead_letter("job-1")
    assert failed.came_at - begun >= 0.75
    assert_buried(failed, letter, "no_sender", "gone")
    assert "x-death" not in letter.headers  # copied headers would make RabbitMQ 3.10 drop the next copy as a cycle


async def test_a_job_that_expired_in_the_queue_by_its_amqp_expiration_is_expired(service: Service) -> None:
    await service.publish(job_body(), key="other", expiration_s=0.2)
    expired = await service.wait_for_result("job-1", "expired")
    assert (expired.body["event_id"], expired.body["sender"]) == ("job-1/1/1/expired", "other")
    assert (expired.routing_key, expired.body["error"]) == ("other.expired", None)
    await service.publish(job_body(id="bad", to="x"))
    [letter] = await service.wait_for_dead_letters(1)
    assert letter.body["id"] == "bad"
    assert service.statuses("job-1") == ["expired"]


async def test_a_job_that_keeps_coming_back_has_two_more_chances_and_then_fails(service: Service) -> None:
    queue = "otpost.jobs.other"
    body = job_body()
    await service.publish(body, key="other")
    drops = [(await service.amqp.reject(queue, 21)).headers.get("otpost-drops") for _ in range(3)]
    failed = await service.wait_for_result("job-1", "failed")
    letter = await service.wait_for_dead_letter("job-1")
    assert drops == [None, 1, 2]
    assert_buried(failed, letter, "delivery_limit", "other")
    assert original(letter.message.body, service.key) == orjson.loads(body)
    assert service.vhost.ready_count(queue) == 0
    assert service.statuses("job-1") == ["failed"]
    assert service.requests() == 0


async def test_a_job_that_was_dropped_once_is_sent_when_it_can_be(vhost: Vhost, tmp_path: Path) -> None:
    await declare_topology(vhost, "default", "other")
    async with running_service(vhost, tmp_path) as first:
        await first.publish(job_body(), key="other")
        await first.amqp.reject("otpost.jobs.other", 21)
        await vhost.wait_for_ready("otpost.jobs.other", 1)
    async with running_service(vhost, tmp_path, senders={"other": {}}) as second:
        await second.wait_for_result("job-1", "accepted")
        assert second.requests() == 1


async def test_what_was_dropped_after_its_end_is_told_its_end_and_not_buried(service: Service) -> None:
    await service.publish(job_body())
    first = await service.wait_for_result("job-1", "accepted")
    await service.publish(job_body(), key="other", headers={"otpost-drops": 2})
    await service.amqp.reject("otpost.jobs.other", 21)
    again = await service.wait_for_result("job-1", "accepted", nth=2)
    assert again.message.body == first.message.body
    await service.publish(job_body(id="bad", to="x"))
    [letter] = await service.wait_for_dead_letters(1)
    assert letter.body["id"] == "bad"
    assert service.requests() == 1
