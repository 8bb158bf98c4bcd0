"""A client with the workers' public key: what it publishes, and what it keeps, holds no code."""

from __future__ import annotations

import asyncio
import gc
import secrets
import threading
from typing import TYPE_CHECKING, Any, Final

import orjson
import pytest

from otpost import BlockingProducer, InvalidKey, NoResult, Opener, OtpJob, PrivateKey, Producer
from service import CODE, NUMBER, PATIENCE_S, declare_topology

if TYPE_CHECKING:
    from collections.abc import Iterator

    from broker import FetchedMessage, Vhost

JOBS: Final = "otpost.jobs.default"
OURS: Final = PrivateKey(secrets.token_bytes(32))
PUBLIC: Final = str(OURS.public)


@pytest.fixture
async def url(vhost: Vhost) -> str:
    """A broker on which a worker for the sender 'default' has declared everything."""
    await declare_topology(vhost, "default")
    return vhost.url


def jobs(count: int) -> Iterator[OtpJob]:
    for number in range(count):
        yield OtpJob(id=f"job-{number}", to=NUMBER, code=CODE)


def opened(message: FetchedMessage) -> bytes | None:
    """What the key makes of a job as it lies in the queue; the code is nowhere else in it."""
    assert CODE not in f"{message.body!r} {message.properties!r}"
    body: dict[str, Any] = orjson.loads(message.body)
    assert "code" not in body
    return Opener([OURS]).open(body["sealed_code"])


def clear_jobs() -> list[OtpJob]:
    """Every job named "waits" in this process's memory that still holds its code."""
    gc.collect()
    return [one for one in gc.get_objects() if isinstance(one, OtpJob) and (one.id, one.code) == ("waits", CODE)]


async def test_whatever_way_it_is_sent_only_the_sealed_code_is_published(url: str, vhost: Vhost) -> None:
    confirmed: list[OtpJob] = []
    async with Producer(url, public_key=PUBLIC) as producer:
        await producer.send(OtpJob(id="sent", to=NUMBER, code=CODE))
        await producer.send_many(jobs(3), on_confirmed=confirmed.append)
        with pytest.raises(NoResult):
            await producer.request(
                OtpJob(id="asked", to=NUMBER, code=CODE), timeout_s=0.5, on_confirmed=confirmed.append
            )
    messages = vhost.get(JOBS, 10)
    assert {orjson.loads(message.body)["id"]: opened(message) for message in messages} == dict.fromkeys(
        ["sent", "job-0", "job-1", "job-2", "asked"], CODE.encode()
    )
    assert [job.code for job in confirmed] == [None] * 4


def test_the_blocking_twin_seals_as_well(vhost: Vhost) -> None:
    asyncio.run(declare_topology(vhost, "default"))
    with BlockingProducer(vhost.url, public_key=OURS.public) as producer:
        producer.send(OtpJob(id="sent", to=NUMBER, code=CODE))
        producer.send_many(jobs(3))
        with pytest.raises(NoResult):
            producer.request(OtpJob(id="asked", to=NUMBER, code=CODE), timeout_s=0.5)
    assert [opened(message) for message in vhost.get(JOBS, 10)] == [CODE.encode()] * 5


async def test_while_it_waits_for_an_end_it_holds_no_code(url: str, vhost: Vhost) -> None:
    async with Producer(url, public_key=PUBLIC) as producer:
        waiting = asyncio.create_task(producer.request(OtpJob(id="waits", to=NUMBER, code=CODE)))
        await vhost.wait_for_ready(JOBS, 1)
        assert clear_jobs() == []
        waiting.cancel()
        await asyncio.wait([waiting])


def test_while_a_thread_waits_for_an_end_nothing_holds_the_code(vhost: Vhost) -> None:
    asyncio.run(declare_topology(vhost, "default"))

    def ask() -> None:
        with pytest.raises(NoResult):
            producer.request(OtpJob(id="waits", to=NUMBER, code=CODE), timeout_s=2)

    with BlockingProducer(vhost.url, public_key=PUBLIC) as producer:
        asking = threading.Thread(target=ask)
        asking.start()
        asyncio.run(vhost.wait_for_ready(JOBS, 1))
        assert clear_jobs() == []
        asking.join(PATIENCE_S)


async def test_the_key_may_stand_in_the_environment(url: str, vhost: Vhost, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTPOST_PUBLIC_KEY", f" {PUBLIC}\n")
    async with Producer(url) as producer:
        await producer.send(OtpJob(to=NUMBER, code=CODE))
    assert opened(*vhost.get(JOBS)) == CODE.encode()


async def test_a_key_that_is_given_comes_before_the_environments(
    url: str, vhost: Vhost, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OTPOST_PUBLIC_KEY", "no key at all")
    async with Producer(url, public_key=PUBLIC) as producer:
        await producer.send(OtpJob(to=NUMBER, code=CODE))
    assert opened(*vhost.get(JOBS)) == CODE.encode()


async def test_a_job_that_is_sealed_already_is_published_as_it_is(url: str, vhost: Vhost) -> None:
    other = PrivateKey(secrets.token_bytes(32))
    job = OtpJob(to=NUMBER, code=CODE).sealed(other.public)
    async with Producer(url, public_key=PUBLIC) as producer:
        await producer.send(job)
    [message] = vhost.get(JOBS)
    assert message.body == job.to_json()


@pytest.mark.parametrize("make", [Producer, BlockingProducer])
def test_a_key_that_is_none_is_refused_before_anything_is_connected(
    make: type[Producer | BlockingProducer], monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(InvalidKey, match="that is a private key"):
        make(public_key=OURS.reveal())
    monkeypatch.setenv("OTPOST_PUBLIC_KEY", "no key at all")
    with pytest.raises(InvalidKey, match=r"makes a pair \(OTPOST_PUBLIC_KEY\)"):
        make()
