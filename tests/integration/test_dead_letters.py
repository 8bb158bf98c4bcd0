"""Dead letters: what they say, that looking never changes them, and that replaying loses and doubles nothing."""

from __future__ import annotations

import asyncio
import re
import time
from datetime import datetime
from typing import TYPE_CHECKING, Any, Final

import orjson
import pytest

from command import otpost
from otpost import rabbitmq
from otpost.rabbitmq import ConnectionLost, Nacked
from otpost_worker import deadletters
from otpost_worker.deadletters import DeadLetter, open_dead_letters
from sealed_letters import original
from service import CODE, DEAD, PATIENCE_S, Amqp, declare_topology, in_seconds, job_body, running_service

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from broker import Vhost

JOBS: Final = "otpost.jobs.default"
READER: Final = "otpost dead letters"
RECIPIENT: Final = orjson.dumps({"kind": "recipient", "code": 131026, "title": "Undeliverable"}).decode()


@pytest.fixture
async def amqp(vhost: Vhost) -> AsyncIterator[Amqp]:
    await declare_topology(vhost, "default")
    async with Amqp.connect(vhost.url) as connected:
        yield connected


@pytest.fixture
def quick_looks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Take the queue for read after 0.2 s without a letter instead of a second: a look may then miss one."""
    monkeypatch.setattr(deadletters, "_IDLE_S", 0.2)


async def bury(amqp: Amqp, job_id: str, *, body: bytes | None = None, **headers: object) -> None:
    """Put a dead letter into its queue as a worker would."""
    told: dict[str, Any] = {
        "otpost-run": 1, "otpost-attempt": 1, "otpost-counted": 1, "otpost-reason": "recipient",
        "otpost-error": RECIPIENT, "otpost-died-at": in_seconds(0), "otpost-sender": "default",
    }  # fmt: skip
    told |= {f"otpost-{name.replace('_', '-')}": value for name, value in headers.items()}
    await amqp.publish(body or job_body(id=job_id), exchange=DEAD, key="", headers=told)


async def look(vhost: Vhost) -> list[DeadLetter]:
    async with open_dead_letters(vhost.url) as dead:
        return dead.letters


async def test_a_dead_letter_keeps_the_job_and_says_why_it_died(vhost: Vhost, tmp_path: Path) -> None:
    body = job_body(id="job-1", to="+9991310160001", ref={"user": 7})  # 131016 every time
    async with running_service(vhost, tmp_path, max_attempts=2) as service:
        begun = time.time()
        await service.publish(body)
        result = await service.wait_for_result("job-1", "failed")
        letter = await service.wait_for_dead_letter("job-1")
        key = service.key
    headers = dict(letter.headers)
    assert original(letter.message.body, key) == orjson.loads(body)
    error = orjson.loads(str(headers.pop("otpost-error")))
    died_at = str(headers.pop("otpost-died-at"))
    headers.pop("otpost-counted")
    assert headers == {
        "otpost-run": 1, "otpost-attempt": 2,
        "otpost-reason": "exhausted", "otpost-sender": "default",
    }  # fmt: skip
    assert error == result.body["error"]
    assert (error["kind"], error["code"]) == ("exhausted", 131016)
    assert set(error) == {"kind", "code", "title", "detail", "http_status", "provider_trace_id"}
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", died_at)
    assert begun - 1 <= datetime.fromisoformat(died_at).timestamp() <= time.time()
    assert (letter.message.delivery_mode, letter.message.type) == (2, "otpost.job.v1")


async def test_sixty_looks_change_nothing_and_the_letter_can_still_be_replayed(
    vhost: Vhost, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with running_service(vhost, tmp_path) as service:
        await service.publish(job_body(id="job-1", to="+9991310261001"))  # refused once, then accepted
        await service.wait_for_result("job-1", "failed")
        await vhost.wait_for_ready(DEAD, 1)
        [before] = vhost.get(DEAD, requeue=True)
        with monkeypatch.context() as patched:
            patched.setattr(deadletters, "_IDLE_S", 0.03)
            for _ in range(60):
                await look(vhost)
        [after] = vhost.get(DEAD, requeue=True)
        assert (after.body, after.routing_key) == (before.body, before.routing_key)
        counts = [dict(one.headers).get("x-delivery-count", 0) for one in (before, after)]
        assert counts[1] - counts[0] >= 50, "the letter was not looked at"
        ours = [{k: v for k, v in one.headers.items() if k.startswith("otpost-")} for one in (before, after)]
        assert ours[0] == ours[1]
        assert vhost.ready_count(DEAD) == 1

        replayed = await otpost("dead", "replay", "job-1", environment={"OTPOST_BROKER_URL": vhost.url})
        assert (replayed.status, replayed.out) == (0, "1 replayed, 0 not\n")
        accepted = await service.wait_for_result("job-1", "accepted")
        assert (accepted.body["event_id"], accepted.body["run"]) == ("job-1/2/1/accepted", 2)
        first, second = service.simulator.journal.entries()
        assert (first.callback, second.callback) == ("job-1", "job-1/2/1")
    assert vhost.ready_count(DEAD) == 0


async def test_a_replay_is_the_next_run_from_its_first_attempt(vhost: Vhost, amqp: Amqp, quick_looks: None) -> None:
    del quick_looks
    body = job_body(id="job-1")
    deadline = "2126-11-23T20:05:00.000Z"
    await bury(amqp, "job-1", body=body, run=3, attempt=5, counted=4, drops=2, deadline=deadline)
    async with open_dead_letters(vhost.url) as dead:
        [letter] = dead.letters
        await dead.replay(letter, await dead.open_publisher(), deadline=None)
    [seen] = await (await amqp.tap(JOBS)).wait_for_count(1)
    assert seen.message.body == body
    # A deadline that an earlier replay has set counts on, as no other is given.
    assert dict(seen.headers) == {
        "otpost-run": 4, "otpost-attempt": 1, "otpost-counted": 0, "otpost-deadline": deadline,
    }  # fmt: skip
    assert vhost.ready_count(DEAD) == 0


async def test_a_letter_past_its_deadline_is_left_alone_unless_it_is_given_a_new_one(vhost: Vhost, amqp: Amqp) -> None:
    environment = {"OTPOST_BROKER_URL": vhost.url}
    await bury(amqp, "old", body=job_body(id="old", created_at=in_seconds(-600)))
    refused = await otpost("dead", "replay", "old", environment=environment)
    assert (refused.status, refused.out) == (1, "0 replayed, 1 not\n")
    assert re.search(r"old: left alone: its deadline was \d+ s ago; --ttl SECONDS gives it a new one", refused.err)
    assert (vhost.ready_count(DEAD), vhost.ready_count(JOBS)) == (1, 0)

    begun = time.time()
    replayed = await otpost("dead", "replay", "old", "--ttl", "120", "--json", environment=environment)
    assert (replayed.status, replayed.objects) == (0, [{"job_id": "old", "replayed": True, "run": 2, "problem": None}])
    [seen] = await (await amqp.tap(JOBS)).wait_for_count(1)
    deadline = datetime.fromisoformat(str(seen.headers["otpost-deadline"])).timestamp()
    assert begun + 119 <= deadline <= time.time() + 121
    assert vhost.ready_count(DEAD) == 0


async def test_a_letter_that_was_given_a_new_deadline_is_sent(vhost: Vhost, tmp_path: Path) -> None:
    async with running_service(vhost, tmp_path) as service:
        await bury(service.amqp, "old", body=job_body(id="old", created_at=in_seconds(-600)))
        await otpost("dead", "replay", "old", "--ttl", "120", environment={"OTPOST_BROKER_URL": vhost.url})
        accepted = await service.wait_for_result("old", "accepted")
        assert accepted.body["event_id"] == "old/2/1/accepted"
        assert service.requests() == 1


async def test_lookers_at_the_same_time_each_see_every_letter(vhost: Vhost, amqp: Amqp, quick_looks: None) -> None:
    del quick_looks
    for number in range(20):
        await bury(amqp, f"job-{number}")
    looks = await asyncio.gather(*(look(vhost) for _ in range(4)))
    assert [sorted(letter.job_id for letter in letters) for letters in looks] == [
        sorted(f"job-{number}" for number in range(20))
    ] * 4
    await vhost.wait_for_ready(DEAD, 20)


async def test_two_letters_of_one_job_and_run_count_as_one(vhost: Vhost, amqp: Amqp, quick_looks: None) -> None:
    del quick_looks
    for job_id, run in (("twice", 1), ("twice", 1), ("twice", 2), ("once", 1)):
        await bury(amqp, job_id, run=run)
    async with open_dead_letters(vhost.url) as dead:
        assert [(letter.job_id, letter.run) for letter in dead.letters] == [("twice", 1), ("twice", 2), ("once", 1)]
        await dead.replay(dead.letters[0], await dead.open_publisher(), deadline=None)
    assert (vhost.ready_count(DEAD), vhost.ready_count(JOBS)) == (2, 1)


async def test_a_body_that_is_no_job_does_not_hide_the_letter_of_the_job_whose_id_it_has(
    vhost: Vhost, amqp: Amqp, quick_looks: None
) -> None:
    del quick_looks
    await bury(amqp, "job-1", body=b'{"id":"job-1","sealed_body":"eA==","body_bytes":1}', reason="invalid_job")
    await bury(amqp, "job-1")
    letters = await look(vhost)
    assert [(letter.job_id, letter.run, letter.reason, letter.sealed) for letter in letters] == [
        ("job-1", 1, "invalid_job", "body"), ("job-1", 1, "recipient", None),
    ]  # fmt: skip


async def test_two_bodies_that_are_no_jobs_are_two_letters(vhost: Vhost, amqp: Amqp, quick_looks: None) -> None:
    del quick_looks
    for _ in range(2):
        await bury(amqp, "", body=b"no job", reason="invalid_job")
    assert [(letter.reason, letter.to, letter.deadline) for letter in await look(vhost)] == [
        ("invalid_job", None, None)
    ] * 2


async def test_whatever_lies_in_the_queue_can_be_looked_at(vhost: Vhost, amqp: Amqp, quick_looks: None) -> None:
    del quick_looks
    await amqp.publish(b"\xff\xfe", exchange=DEAD, key="", message_id="m-1")
    await bury(amqp, "odd", run="two", error="{not JSON", died_at=7, sender=[1], reason=None)
    letters = await look(vhost)
    assert [(letter.job_id, letter.run, letter.reason, letter.error) for letter in letters] == [
        ("m-1", 1, "?", {}), ("odd", 1, "?", {}),
    ]  # fmt: skip


async def test_what_is_shown_of_a_letter_holds_no_secret(vhost: Vhost, amqp: Amqp, quick_looks: None) -> None:
    del quick_looks
    await bury(amqp, "job-1", body=job_body(id="job-1", ttl_s=300, created_at="2026-01-31T12:00:00Z"), run=2, attempt=3)
    [letter] = await look(vhost)
    shown = letter.as_json()
    assert shown.pop("died_at")
    assert shown == {
        "job_id": "job-1", "sender": "default", "run": 2, "attempt": 3, "reason": "recipient",
        "error": {"kind": "recipient", "code": 131026, "title": "Undeliverable"},
        "to": "12*******87", "deadline": 1769860800.0 + 300, "sealed": None,
    }  # fmt: skip
    for text in (repr(letter), str(shown)):
        assert CODE not in text
        assert "2025550187" not in text


async def test_purging_removes_what_fits_every_filter_and_nothing_else(vhost: Vhost, amqp: Amqp) -> None:
    old, new = in_seconds(-7200), in_seconds(-60)
    await bury(amqp, "goes-1", died_at=old)
    await bury(amqp, "goes-2", died_at=old)
    await bury(amqp, "too-new", died_at=new)
    await bury(amqp, "other-sender", died_at=old, sender="other")
    await bury(amqp, "other-reason", died_at=old, reason="template")
    purged = await otpost(
        *("dead", "purge", "--reason", "recipient", "--sender", "default", "--older-than", "1h", "--yes"),
        environment={"OTPOST_BROKER_URL": vhost.url},
    )
    assert (purged.status, purged.out) == (0, "2 dead letters removed\n")
    await vhost.wait_for_ready(DEAD, 3)
    left = {orjson.loads(message.body)["id"] for message in vhost.get(DEAD, 10)}
    assert left == {"too-new", "other-sender", "other-reason"}


async def test_hundreds_of_letters_are_all_gone_once_purged(vhost: Vhost, amqp: Amqp) -> None:
    # RabbitMQ 3.10 takes about 32 acknowledgements of a channel that is closed at once, and drops the others.
    await asyncio.gather(*(bury(amqp, f"job-{number}") for number in range(400)))
    async with open_dead_letters(vhost.url) as dead:
        assert len(dead.letters) == 400
        for letter in dead.letters:
            await dead.remove(letter)
    assert vhost.ready_count(DEAD) == 0


async def test_a_letter_whose_job_is_not_confirmed_stays(vhost: Vhost, amqp: Amqp, quick_looks: None) -> None:
    del quick_looks
    await amqp.publish(b"full", key="default")
    vhost.set_policy("full", "^otpost.jobs.default$", {"max-length": 1})
    await amqp.fill(JOBS)
    filled = vhost.ready_count(JOBS)
    await bury(amqp, "job-1")
    async with open_dead_letters(vhost.url) as dead:
        with pytest.raises(Nacked):
            await dead.replay(dead.letters[0], await dead.open_publisher(), deadline=None)
    await vhost.wait_for_ready(DEAD, 1)
    assert vhost.ready_count(JOBS) == filled


async def test_a_connection_that_is_lost_before_the_replay_publishes_and_removes_nothing(
    vhost: Vhost, amqp: Amqp, quick_looks: None
) -> None:
    del quick_looks
    await bury(amqp, "job-1")
    async with open_dead_letters(vhost.url) as dead:
        publisher = await dead.open_publisher()
        await lose(vhost, READER)
        with pytest.raises(ConnectionLost):
            await dead.replay(dead.letters[0], publisher, deadline=None)
    await vhost.wait_for_ready(DEAD, 1)
    assert vhost.ready_count(JOBS) == 0


async def test_a_connection_that_is_lost_between_confirm_and_removal_keeps_the_letter(
    vhost: Vhost, amqp: Amqp, quick_looks: None
) -> None:
    del quick_looks
    await bury(amqp, "job-1")
    publishing = await rabbitmq.connect(vhost.url, name="another connection", timeout_s=PATIENCE_S)
    publisher = await rabbitmq.Publisher.open(publishing)
    async with open_dead_letters(vhost.url) as dead:
        await lose(vhost, READER)
        with pytest.raises(ConnectionLost, match="look again"):
            await dead.replay(dead.letters[0], publisher, deadline=None)
    await rabbitmq.close_quietly(publishing)
    await vhost.wait_for_ready(DEAD, 1)
    # Published and not removed: replayed a second time it is the same run, and so not sent again.
    assert vhost.ready_count(JOBS) == 1


async def lose(vhost: Vhost, name: str) -> None:
    """Have the broker close the connection, and wait until it has."""
    await vhost.wait_for_connections(1, name)
    assert await asyncio.to_thread(vhost.close_connections, name) == 1
    await vhost.wait_for_connections(0, name)
    await vhost.wait_for_ready(DEAD, 1)
