"""The judge that stands behind every test: a message that breaks its schema fails whichever test sees it."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import orjson
import pytest

from message_schemas import assert_job_agrees
from otpost.job import OtpJob
from otpost_worker.envelope import Event
from ports_in_memory import Fate, RecordingBroker, envelope, job_body
from published_results import accepted_result
from service import Amqp, Tap

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from broker import Vhost

MISSPELT = accepted_result(1).replace(b'"latency_ms"', b'"latency"')


@pytest.fixture
async def amqp(vhost: Vhost) -> AsyncIterator[Amqp]:
    async with Amqp.connect(vhost.url) as connected:
        await connected.declare_queue("mine")
        yield connected


async def tapped(amqp: Amqp, body: bytes, kind: str | None) -> Tap:
    tap = await amqp.tap("mine")
    await amqp.publish(body, exchange="", key="mine", kind=kind)
    return tap


async def test_a_misspelt_result_fails_whoever_waits_for_it(amqp: Amqp) -> None:
    tap = await tapped(amqp, MISSPELT, "otpost.result.v1")
    with pytest.raises(AssertionError, match="'latency' was unexpected"):
        await tap.wait_for_count(1)


async def test_an_event_that_is_none_fails_whoever_waits_for_it(amqp: Amqp) -> None:
    tap = await tapped(amqp, accepted_result(1), "otpost.event.v1")
    with pytest.raises(AssertionError, match="'name' is a required property"):
        await tap.wait_for_count(1)


@pytest.mark.parametrize("kind", ["otpost.result.v1", None])
async def test_a_result_as_published_and_a_message_of_others_pass(amqp: Amqp, kind: str | None) -> None:
    tap = await tapped(amqp, accepted_result(1) if kind else b"hello", kind)
    assert len(await tap.wait_for_count(1)) == 1


def test_a_misspelt_result_fails_the_worlds_in_memory() -> None:
    broker = RecordingBroker(Fate(), lambda *_: None)
    with pytest.raises(AssertionError, match="'latency' was unexpected"):
        asyncio.run(broker.publish_event(Event("job-1/1/1/accepted", "accepted", MISSPELT), envelope()))


def test_a_job_that_only_the_worker_takes_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(OtpJob, "parse", lambda *_, **__: None)
    with pytest.raises(AssertionError, match="the worker takes a job that the schema refuses"):
        assert_job_agrees(orjson.dumps({"id": "job-1"}))


@pytest.mark.parametrize("body", [job_body(), job_body(to="nobody"), b"{", b"[]", b"\xff"])
def test_a_job_that_both_judge_alike_passes(body: bytes) -> None:
    assert_job_agrees(body)
