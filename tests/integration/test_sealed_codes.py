"""Sealed codes with a real broker, worker and provider: opened at the last moment, and sealed where they are buried."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from typing import TYPE_CHECKING, Final

import orjson
import pytest
from pydantic import SecretStr

from command import otpost
from otpost import OtpJob, PrivateKey, Producer
from otpost_worker import deadletters
from otpost_worker.deadletters import open_dead_letters
from sealed_letters import original
from service import CODE, DEAD, NUMBER, job_body, running_service

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from broker import Vhost
    from service import Service

OURS, OLD, STRANGER = (PrivateKey(bytes([number]) * 32) for number in (1, 2, 3))
BOTH: Final = SecretStr(f"{OURS.reveal()}\n{OLD.reveal()}\n")
# Refused once with 131026 (not on WhatsApp), then accepted; with 131016 (unavailable), for ever.
REFUSED_ONCE, UNAVAILABLE = "+9991310261001", "+9991310160001"


@pytest.fixture(autouse=True)
def quick_looks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Take the queue for read after 0.2 s without a letter; there is one, and it is known to be there."""
    monkeypatch.setattr(deadletters, "_IDLE_S", 0.2)


@pytest.fixture
async def service(vhost: Vhost, tmp_path: Path) -> AsyncIterator[Service]:
    async with running_service(vhost, tmp_path, private_keys=BOTH) as running:
        yield running


def sealed(key: PrivateKey, secret: str = CODE, **fields: object) -> bytes:
    """Write a job as a foreign client does that seals its code."""
    return job_body(code=None, sealed_code=key.public.seal(secret.encode()), **fields)


def codes_sent(service: Service) -> dict[str | None, str | None]:
    return {entry.callback: entry.code for entry in service.simulator.journal.entries()}


async def replay(vhost: Vhost) -> None:
    """Replay the one dead letter."""
    await vhost.wait_for_ready(DEAD, 1)
    async with open_dead_letters(vhost.url) as dead:
        [letter] = dead.letters
        assert letter.sealed == "code"
        await dead.replay(letter, await dead.open_publisher(), deadline=None)


def attempts_in(ledger: Path) -> list[str]:
    with closing(sqlite3.connect(ledger)) as db:
        return [job_id for (job_id,) in db.execute("SELECT job_id FROM attempts")]


# Opening


async def test_a_job_that_the_client_sealed_reaches_the_provider_with_its_code(service: Service, vhost: Vhost) -> None:
    async with Producer(vhost.url, public_key=OURS.public) as producer:
        end = await producer.request(OtpJob(id="job-1", to=NUMBER, code=CODE))
    assert end.status == "accepted"
    [entry] = service.simulator.journal.entries()
    assert (entry.to, entry.code, entry.invalid) == (NUMBER, CODE, None)


async def test_while_keys_change_what_is_sealed_to_either_is_sent(service: Service) -> None:
    await service.publish(sealed(OLD, "111111", id="old"))
    await service.publish(sealed(OURS, "222222", id="new"))
    await service.publish(job_body(id="clear", code="333333"))
    for job_id in ("old", "new", "clear"):
        await service.wait_for_result(job_id, "accepted")
    assert codes_sent(service) == {"old": "111111", "new": "222222", "clear": "333333"}


async def test_a_retry_goes_through_ledger_and_ladder_as_the_producer_sealed_it(service: Service) -> None:
    body = sealed(OURS, id="job-1", to=UNAVAILABLE)
    await service.publish(body)
    await service.wait_for_result("job-1", "retrying")
    with closing(sqlite3.connect(service.ledger)) as db:
        assert db.execute("SELECT body FROM runs").fetchall() == [(body,)]
    await service.wait_for_result("job-1", "retrying", nth=2)
    assert codes_sent(service) == {"job-1": CODE, "job-1/1/2": CODE}


async def test_a_job_sealed_for_somebody_else_is_a_dead_letter_and_never_claimed(service: Service) -> None:
    body = sealed(STRANGER, id="job-1", ref={"user": 7})
    await service.publish(body)
    await service.publish(sealed(OURS, id="neighbour"))
    failed = await service.wait_for_result("job-1", "failed")
    letter = await service.wait_for_dead_letter("job-1")
    await service.wait_for_result("neighbour", "accepted")
    error = failed.body["error"]
    assert (error["kind"], letter.headers["otpost-reason"]) == ("no_key", "no_key")
    assert "no key of this worker opens sealed_code" in error["detail"]
    assert (failed.body["event_id"], failed.body["ref"]) == ("job-1/1/1/failed", {"user": 7})
    assert letter.message.body == body
    assert codes_sent(service) == {"neighbour": CODE}
    assert attempts_in(service.ledger) == ["neighbour"]


async def test_once_the_key_is_there_a_job_that_nobody_could_open_is_replayed(vhost: Vhost, tmp_path: Path) -> None:
    async with running_service(vhost, tmp_path, private_keys=SecretStr(OURS.reveal())) as service:
        await service.publish(sealed(OLD, id="job-1"))
        await service.wait_for_result("job-1", "failed")
    async with running_service(vhost, tmp_path, private_keys=BOTH) as service:
        await replay(vhost)
        accepted = await service.wait_for_result("job-1", "accepted")
        assert accepted.body["event_id"] == "job-1/2/1/accepted"
        assert codes_sent(service) == {"job-1/2/1": CODE}


@pytest.mark.parametrize("secret", ["four nine", "https://a.b/c", "ä9"])
async def test_what_opens_to_no_code_is_an_invalid_job(service: Service, secret: str) -> None:
    body = sealed(OURS, secret, id="job-1")
    await service.publish(body)
    failed = await service.wait_for_result("job-1", "failed")
    letter = await service.wait_for_dead_letter("job-1")
    assert (failed.body["error"]["kind"], letter.headers["otpost-reason"]) == ("invalid_job", "invalid_job")
    assert "sealed_code: what is sealed in it is no code" in failed.body["error"]["detail"]
    assert secret not in failed.everything
    assert letter.message.body == body
    assert service.requests() == 0


async def test_a_copy_that_nobody_can_open_is_told_the_end_that_its_id_has(service: Service) -> None:
    await service.publish(sealed(OURS, id="job-1"))
    await service.wait_for_result("job-1", "accepted")
    await service.publish(sealed(STRANGER, id="job-1"))
    await service.wait_for_result("job-1", "accepted", nth=2)
    assert service.statuses("job-1") == ["accepted", "accepted"]


# Burying


async def test_a_code_that_came_in_the_clear_is_buried_sealed_to_the_first_key(service: Service) -> None:
    body = job_body(id="job-1", to="+9991310260001", ref={"user": 7})
    await service.publish(body)
    letter = await service.wait_for_dead_letter("job-1")
    assert CODE not in letter.everything
    assert original(letter.message.body, OURS) == orjson.loads(body)


async def test_a_sealed_burial_is_replayed_by_any_worker_that_holds_the_key(vhost: Vhost, tmp_path: Path) -> None:
    async with running_service(vhost, tmp_path, private_keys=BOTH) as service:
        await service.publish(job_body(id="job-1", to=REFUSED_ONCE, ref={"user": 7}))
        await service.wait_for_result("job-1", "failed")
        await vhost.wait_for_ready(DEAD, 1)
    async with running_service(vhost, tmp_path, private_keys=SecretStr(f"{OLD.reveal()},{OURS.reveal()}")) as service:
        await replay(vhost)
        # This simulator has not refused the number yet.
        await service.wait_for_result("job-1", "failed", nth=2)
        await replay(vhost)
        accepted = await service.wait_for_result("job-1", "accepted")
        assert (accepted.body["event_id"], accepted.body["ref"]) == ("job-1/3/1/accepted", {"user": 7})
        assert codes_sent(service) == {"job-1/2/1": CODE, "job-1/3/1": CODE}


async def test_a_worker_that_was_given_no_key_opens_what_it_has_buried(vhost: Vhost, tmp_path: Path) -> None:
    async with running_service(vhost, tmp_path) as service:
        await service.publish(job_body(id="job-1", to=REFUSED_ONCE))
        await service.wait_for_result("job-1", "failed")
        await replay(vhost)
        await service.wait_for_result("job-1", "accepted")
        assert codes_sent(service) == {"job-1": CODE, "job-1/2/1": CODE}


async def test_an_invalid_job_is_buried_with_nothing_readable_but_its_id(service: Service, vhost: Vhost) -> None:
    environment = {"OTPOST_BROKER_URL": vhost.url}
    named, unnamed = job_body(id="job-1", otp=CODE), b'{"code": "806274", "to": "+12025550187"'
    for body in (named, unnamed, job_body(id="good", to="+9991310260001")):
        await service.publish(body)
    for job_id in ("job-1", None, "good"):
        await service.wait_for_result(job_id, "failed")
    await vhost.wait_for_ready(DEAD, 3)
    letters = vhost.get(DEAD, 3, requeue=True)
    for letter in letters:
        assert CODE not in f"{letter.body!r} {letter.properties!r}"
        assert "2025550187" not in f"{letter.body!r} {letter.properties!r}"
    buried = [original(letter.body, OURS) for letter in letters]
    assert [one for one in buried if isinstance(one, bytes)] in ([named, unnamed], [unnamed, named])

    listed = (await otpost("dead", "list", "--json", "--reason", "invalid_job", environment=environment)).objects
    assert [one["sealed"] for one in listed] == ["body"] * 2
    assert sum(one["job_id"] == "job-1" for one in listed) == 1
    [other] = [one["job_id"] for one in listed if one["job_id"] != "job-1"]
    shown = await otpost("dead", "show", "job-1", environment=environment)
    assert "the whole body: it is no job, and cannot be replayed; see docs/sealed-codes.md" in shown.out
    shown = await otpost("dead", "show", "good", environment=environment)
    assert next(line for line in shown.out.splitlines() if line.startswith("sealed")).split() == [
        "sealed",
        "the",
        "code",
    ]
    replayed = await otpost("dead", "replay", "job-1", other, environment=environment)
    assert (replayed.status, replayed.out) == (1, "0 replayed, 2 not\n")
    for job_id in ("job-1", other):
        assert f"{job_id}: left alone: its body is no job: have the producer publish a correct one" in replayed.err
    purged = await otpost("dead", "purge", "job-1", other, "--yes", environment=environment)
    assert purged.out == "2 dead letters removed\n"


async def test_a_job_that_lacked_its_senders_template_is_replayed_once_there_is_one(
    vhost: Vhost, tmp_path: Path
) -> None:
    async with running_service(vhost, tmp_path, senders={"default": {"template": None}}, private_keys=BOTH) as service:
        await service.publish(job_body(id="job-1"))
        await service.wait_for_result("job-1", "failed")
        await vhost.wait_for_ready(DEAD, 1)
    async with running_service(vhost, tmp_path, private_keys=BOTH) as service:
        await replay(vhost)
        await service.wait_for_result("job-1", "accepted")
        assert codes_sent(service) == {"job-1/2/1": CODE}
