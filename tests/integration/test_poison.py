"""Jobs that are made to stumble over: each has its end like any other, and costs its neighbours nothing."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import orjson
import pytest

from sealed_letters import original
from service import CODE, in_seconds, job_body, running_service

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from broker import Vhost
    from service import Service


@pytest.fixture
async def service(vhost: Vhost, tmp_path: Path) -> AsyncIterator[Service]:
    async with running_service(vhost, tmp_path) as running:
        yield running


DEEP: Final = orjson.loads("[" * 252 + "]" * 252)
NO_JOBS: Final[dict[str, tuple[dict[str, Any], dict[str, Any], str]]] = {
    "self": ({"self": 1}, {}, "self: unknown field; check its spelling"),
    "deep": ({"ref": {"a": DEEP}}, {}, "ref: must be nested at most 32 deep"),
    "immortal": ({}, {"otpost-deadline": in_seconds(7200)}, "otpost-deadline: (AMQP header) must be at most 5400 s"),
}


@pytest.mark.parametrize(("fields", "headers", "problem"), NO_JOBS.values(), ids=NO_JOBS)
async def test_what_used_to_go_round_for_ever_is_an_invalid_job(
    service: Service, fields: dict[str, Any], headers: dict[str, Any], problem: str
) -> None:
    body = job_body(**fields)
    await service.publish(body, headers=headers)
    await service.publish(job_body(id="neighbour"))
    await service.wait_for_result("neighbour", "accepted")
    failed = await service.wait_for_result("job-1", "failed")
    letter = await service.wait_for_dead_letter("job-1")
    assert problem in failed.body["error"]["detail"]
    assert letter.headers["otpost-reason"] == "invalid_job"
    assert CODE not in letter.everything
    assert original(letter.message.body, service.key) == (orjson.loads(body) if headers else body)
    assert service.requests("job-1") == 0


ODD: Final[dict[str, dict[str, Any]]] = {
    "a deadline after the last year": {"otpost-deadline": "9999-12-31T23:59:59-23:59"},
    "a deadline before the first year": {"otpost-deadline": "0001-01-01T00:00:00+23:59"},
    "a trace as large as a frame": {"traceparent": "x" * 130_800},
    "a trace of bytes that are no text": {"traceparent": bytearray(b"\xff" * 50_000)},
}


@pytest.mark.parametrize("headers", ODD.values(), ids=ODD)
async def test_a_header_that_cannot_be_passed_on_counts_as_not_there(service: Service, headers: dict[str, Any]) -> None:
    # Refused once, so that the job is published anew: to the ladder, and in two results.
    await service.publish(job_body(to="+9991310161001"), headers=headers)
    await service.publish(job_body(id="neighbour"))
    retrying = await service.wait_for_result("job-1", "retrying")
    await service.wait_for_result("neighbour", "accepted")
    await service.wait_for_result("job-1", "accepted")
    assert "traceparent" not in retrying.headers
    assert service.statuses("job-1") == ["retrying", "accepted"]
