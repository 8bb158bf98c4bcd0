"""Results put into the broker by hand, so that reading them can be tested without a worker."""

from __future__ import annotations

import asyncio
import time
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import TYPE_CHECKING, cast

import orjson

from message_schemas import assert_result, problems_of
from otpost.event import EventName, SenderEvent
from otpost.result import EVENT_TYPE, RESULT_TYPE
from service import PATIENCE_S, STREAM, Amqp

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterator

    from otpost import OtpResult


def accepted_result(number: int) -> bytes:
    """Write the result of the job of that number as a worker would."""
    moment = datetime.fromtimestamp(time.time(), UTC).isoformat(timespec="milliseconds")
    fields = {
        "event_id": f"job-{number}/1/1/accepted",
        "job_id": f"job-{number}",
        "sender": "default",
        "status": "accepted",
        "run": 1,
        "attempt": 1,
        "at": moment.replace("+00:00", "Z"),
        "provider": "cloud_api",
        "provider_message_id": f"wamid.{number}",
        "to": "12*******31",
    }
    later = dict.fromkeys(["ref", "error", "retry_in_s", "latency_ms"])
    body = orjson.dumps(fields | later)
    assert_result(body)
    return body


async def publish_results(amqp: Amqp, *numbers: int) -> None:
    for number in numbers:
        event_id = f"job-{number}/1/1/accepted"
        body = accepted_result(number)
        await amqp.publish(body, exchange=STREAM, key="default.accepted", message_id=event_id, kind=RESULT_TYPE)


async def publish_event(amqp: Amqp, **changes: object) -> None:
    """Publish what happened to a sender, as a worker would: no result, though it comes the same way."""
    moment = datetime.fromtimestamp(time.time(), UTC)
    halted = {"event_id": "default/halted/1", "sender": "default", "name": EventName.HALTED, "at": moment}
    event = SenderEvent.model_validate(halted | changes)
    body = event.to_json()
    assert not problems_of(EVENT_TYPE, body)
    await amqp.publish(body, exchange=STREAM, key=event.routing_key, message_id=event.event_id, kind=EVENT_TYPE)


@asynccontextmanager
async def closing(results: AsyncIterator[OtpResult]) -> AsyncIterator[AsyncIterator[OtpResult]]:
    """End the iteration, and with it its connection, when the block ends."""
    try:
        yield results
    finally:
        await cast("AsyncGenerator[OtpResult]", results).aclose()


async def first_published_while_reading(amqp: Amqp, results: AsyncIterator[OtpResult]) -> OtpResult:
    """Publish job-0's result until a reader of what is to come has got it: nothing tells when it begins to read."""
    async with closing(results):
        first = asyncio.ensure_future(anext(results))
        async with asyncio.timeout(PATIENCE_S):
            while not first.done():
                await publish_results(amqp, 0)
                await asyncio.wait({first}, timeout=0.1)
        return first.result()


async def next_job_ids(results: AsyncIterator[OtpResult], count: int) -> list[str | None]:
    """Read so many results."""
    async with asyncio.timeout(PATIENCE_S):
        return [(await anext(results)).job_id for _ in range(count)]
