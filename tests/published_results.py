"""Results put into the broker by hand, so that reading them can be tested without a worker."""

from __future__ import annotations

import asyncio
import time
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import TYPE_CHECKING, cast

import orjson

from service import PATIENCE_S, STREAM, Amqp

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterator

    from otpost import OtpResult


def accepted_result(number: int) -> bytes:
    """Write the result of the job of that number, with the fields that are needed."""
    moment = datetime.fromtimestamp(time.time(), UTC).isoformat()
    fields = {"job_id": f"job-{number}", "status": "accepted", "run": 1, "attempt": 1, "sender": "default"}
    return orjson.dumps({"event_id": f"job-{number}/1/1/accepted", "at": moment, **fields})


async def publish_results(amqp: Amqp, *numbers: int) -> None:
    for number in numbers:
        await amqp.publish(accepted_result(number), exchange=STREAM, key="default.accepted", message_id=str(number))


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
