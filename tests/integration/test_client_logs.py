"""What a service that uses the client can find in its own log, however much it asks to be told."""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING, Final

import pytest
from aiormq import spec
from aiormq.abc import DeliveredMessage
from pamqp.header import ContentHeader

from otpost import BlockingProducer, OtpJob, Producer
from service import CODE, NUMBER, PATIENCE_S, running_service

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from broker import Vhost
    from service import Service

LIBRARIES: Final = ("aiormq", "aiormq.connection", "aiormq.channel", "aio_pika", "pamqp", "asyncio")


@pytest.fixture
async def service(vhost: Vhost, tmp_path: Path) -> AsyncIterator[Service]:
    async with running_service(vhost, tmp_path) as running:
        yield running


@pytest.fixture
def everything(caplog: pytest.LogCaptureFixture) -> pytest.LogCaptureFixture:
    """A log whose owner wants to be told everything, and says so after the client was imported."""
    for name in (None, *LIBRARIES):
        caplog.set_level(logging.DEBUG, logger=name)
    return caplog


def job(job_id: str) -> OtpJob:
    return OtpJob(id=job_id, to=NUMBER, code=CODE)


async def test_neither_code_nor_number_is_in_the_log_of_a_service_that_sends_and_logs_everything(
    service: Service, everything: pytest.LogCaptureFixture
) -> None:
    def send_and_ask() -> None:
        with BlockingProducer(service.vhost.url) as producer:
            producer.send(job("job-3"))
            producer.request(job("job-4"), timeout_s=PATIENCE_S)

    async with Producer(service.vhost.url) as producer:
        await producer.send(job("job-1"))
        await producer.request(job("job-2"), timeout_s=PATIENCE_S)
    await asyncio.to_thread(send_and_ask)
    logged = everything.text
    assert CODE not in logged
    assert NUMBER.removeprefix("+") not in logged
    # It does log everything: all that tells no payload.
    assert any(record.name.startswith("aio_pika") and record.levelno == logging.DEBUG for record in everything.records)


def test_a_message_that_comes_back_is_named_in_the_log_and_not_shown(everything: pytest.LogCaptureFixture) -> None:
    def returned() -> DeliveredMessage:
        channel = object()
        return DeliveredMessage(
            delivery=spec.Basic.Return(312, "NO_ROUTE", "otpost.jobs", "default"),
            header=ContentHeader(),
            body=CODE.encode(),
            channel=channel,  # type: ignore[arg-type] # only shown
        )

    # As the library does with one whose publisher waits for it no longer.
    logging.getLogger("aiormq.channel").error("Unhandled message %r returning", returned())
    assert [record.getMessage() for record in everything.records if record.name == "aiormq.channel"] == [
        "Unhandled message (a DeliveredMessage) returning"
    ]
