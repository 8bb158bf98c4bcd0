"""A report that nobody can take, over a real broker: it costs no other report, comes again, and is given up aloud."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

import orjson
from pydantic import SecretStr
from structlog.testing import capture_logs

from otpost_worker import report_intake, webhook_updates
from otpost_worker.wrapping import Wrappers
from service import PATIENCE_S, Service, job_body, running_service

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    import pytest

    from broker import Vhost

QUEUE: Final = "otpost.webhooks"
CHECKS: Final = "otpost.checks"
POISON: Final = "job-3"
JOBS: Final = tuple(f"job-{number}" for number in range(1, 6))
# Deliveries are watched where there is one.
SENDER: Final = {"app_secret": SecretStr("an-app-secret")}


class Poison(Exception):
    """What nobody has thought of."""


@dataclass
class PoisonedLedger:
    """A ledger that cannot be asked for one of the jobs, for a reason of its own; what it is asked for is noted."""

    port: Any
    told: Told

    def __getattr__(self, name: str) -> Any:  # noqa: ANN401 - whatever the port has
        return getattr(self.port, name)

    async def look_up(self, job_id: str) -> Any:  # noqa: ANN401 - the port's own
        self.told.asked.append((job_id, time.monotonic()))
        if job_id == POISON and not self.told.mended:
            raise Poison("of code 493817 to +12015553931")
        await asyncio.sleep(self.told.slow_s)
        return await self.port.look_up(job_id)

    async def hear(self, heard: Any) -> Any:  # noqa: ANN401 - the port's own
        self.told.heard += 1
        if self.told.heard == 1:
            raise Poison("of a template")
        return await self.port.hear(heard)


@dataclass
class Told:
    """What the ledger was asked for, and how it behaves."""

    mended: bool = False
    slow_s: float = 0.0
    heard: int = 0
    asked: list[tuple[str, float]] = field(default_factory=list)

    def wrappers(self) -> Wrappers:
        return Wrappers(ledger=lambda port: PoisonedLedger(port, self))

    def tries(self) -> int:
        return [job_id for job_id, _ in self.asked].count(POISON)


def body_of(jobs: Iterable[str], **changes: object) -> bytes:
    """What Meta posts of so many messages at once."""
    statuses = [
        {"id": f"wamid.{job}", "status": "delivered", "timestamp": str(int(time.time())), "recipient_id": "12015553931"}
        | {"biz_opaque_callback_data": job}
        for job in jobs
    ]
    value = {"messaging_product": "whatsapp", "metadata": {"phone_number_id": "106540352242922"}, "statuses": statuses}
    entry = {"id": "1", "changes": [{"field": "messages", "value": value | changes}]}
    return orjson.dumps({"object": "whatsapp_business_account", "entry": [entry]})


async def post(service: Service, body: bytes, message_id: str = "post-1") -> None:
    """Leave a body to the workers, as the receiver does."""
    await service.amqp.publish(body, exchange="", key=QUEUE, kind="otpost.webhook.v1", message_id=message_id)


async def accepted(service: Service, jobs: Iterable[str]) -> None:
    for number, job in enumerate(jobs):
        await service.publish(job_body(id=job, to=f"+1201555{number:04}"))
    for job in jobs:
        await service.wait_for_result(job, "accepted")


async def test_a_report_that_nobody_can_take_costs_no_other_and_is_told_once_it_can_be_taken(
    vhost: Vhost, tmp_path: Path
) -> None:
    told = Told()
    with capture_logs() as lines:
        async with running_service(vhost, tmp_path, senders={"default": SENDER}, wrappers=told.wrappers()) as service:
            await accepted(service, (*JOBS, "job-6"))
            await post(service, body_of(JOBS))
            for job in (*JOBS[:2], *JOBS[3:]):
                await service.wait_for_result(job, "delivered")
            # Neither does it stand in another webhook's way.
            await post(service, body_of(["job-6"]), "post-2")
            await service.wait_for_result("job-6", "delivered")
            async with asyncio.timeout(PATIENCE_S):
                while told.tries() < 3:  # noqa: ASYNC110 - the ledger tells nobody
                    await asyncio.sleep(0.05)
            # Growing pauses: 1 s, and then 2.
            first, second, third = (at for job_id, at in told.asked if job_id == POISON)
            assert second - first >= 1.0
            assert third - second >= 2.0
            told.mended = True
            await service.wait_for_result(POISON, "delivered")
            await vhost.wait_for_queue(QUEUE, ready=0, unacked=0, timeout_s=PATIENCE_S)
            seen = [(one.body["job_id"], one.body["status"]) for one in service.results.seen]
            assert sorted(seen) == sorted((job, end) for job in (*JOBS, "job-6") for end in ("accepted", "delivered"))
    crashes = [line for line in lines if line["event"] == "update.crashed"]
    assert [(line["error"], line["job_id"], line["updates"], line["log_level"]) for line in crashes] == [
        ("Poison", POISON, 1, "error")
    ] * len(crashes)
    assert [line["again_in_s"] for line in crashes[:3]] == [1.0, 2.0, 4.0]
    assert "493817" not in str(lines)
    assert "2015553931" not in str(lines)


async def test_a_report_that_nobody_can_ever_take_is_given_up_aloud(
    vhost: Vhost, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(webhook_updates, "PAUSES_AFTER_CRASH_S", (0.25, 0.5))
    told = Told()
    with capture_logs() as lines:
        async with running_service(vhost, tmp_path, senders={"default": SENDER}, wrappers=told.wrappers()) as service:
            await accepted(service, [POISON])
            await post(service, body_of([POISON]))
            async with asyncio.timeout(PATIENCE_S):
                while not any(line["event"] == "update.given_up" for line in lines):  # noqa: ASYNC110 - as above
                    await asyncio.sleep(0.05)
            await vhost.wait_for_queue(QUEUE, ready=0, unacked=0, timeout_s=PATIENCE_S)
            assert told.tries() == 3
            assert service.statuses(POISON) == ["accepted"]
    given_up = [line for line in lines if line["event"] == "update.given_up"]
    assert [(line["error"], line["tries"], line["job_id"]) for line in given_up] == [("Poison", 3, POISON)]


async def test_what_is_said_of_a_template_comes_again_too_and_what_was_beside_it_does_not(
    vhost: Vhost, tmp_path: Path
) -> None:
    told = Told()
    paused = {"event": "PAUSED", "message_template_name": "verification_code", "message_template_language": "en-US"}
    change = {"field": "message_template_status_update", "value": paused}
    async with running_service(vhost, tmp_path, senders={"default": SENDER}, wrappers=told.wrappers()) as service:
        await accepted(service, ["job-1"])
        body = orjson.loads(body_of(["job-1"]))
        body["entry"][0]["changes"].insert(0, change)
        await post(service, orjson.dumps(body))
        halted = await service.results.wait_for(name="halted")
        assert halted.body["template"] == "verification_code"
        await vhost.wait_for_queue(QUEUE, ready=0, unacked=0, timeout_s=PATIENCE_S)
        assert told.heard == 2
        assert service.statuses("job-1") == ["accepted", "delivered"]
        assert [job_id for job_id, _ in told.asked].count("job-1") == 1


async def test_a_check_that_nobody_can_ever_make_is_given_up_aloud(
    vhost: Vhost, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(report_intake, "MOST_RETURNS", 1)
    told = Told()
    with capture_logs() as lines:
        async with running_service(vhost, tmp_path, senders={"default": SENDER}, wrappers=told.wrappers()) as service:
            for job in (POISON, "job-1"):
                check = orjson.dumps({"job_id": job, "run": 1, "attempt": 1})
                await service.amqp.publish(check, exchange="", key=CHECKS, kind="otpost.check.v1", message_id=job)
            async with asyncio.timeout(PATIENCE_S):
                while not any(line["event"] == "check.given_up" for line in lines):  # noqa: ASYNC110 - as above
                    await asyncio.sleep(0.05)
            await vhost.wait_for_queue(CHECKS, ready=0, unacked=0, timeout_s=PATIENCE_S)
            assert told.tries() == 2
            assert "job-1" in [job_id for job_id, _ in told.asked]
    [line] = [line for line in lines if line["event"] == "check.given_up"]
    assert (line["error"], line["job_id"], line["log_level"]) == ("Poison", POISON, "error")


async def test_a_stop_within_a_body_of_a_thousand_ends_in_time_and_hands_the_body_back(
    vhost: Vhost, tmp_path: Path
) -> None:
    told = Told()
    jobs = [f"job-{number}" for number in range(1000, 1020)]
    async with running_service(
        vhost, tmp_path, senders={"default": SENDER}, wrappers=told.wrappers(), shutdown_grace_s=0.5
    ) as service:
        await accepted(service, jobs)
        # 1,000 of them take minutes.
        told.slow_s = 2.0
        begun = len(told.asked)
        body = body_of([*jobs, *(f"nobody-{number}" for number in range(980))])
        await post(service, body)
        async with asyncio.timeout(PATIENCE_S):
            while len(told.asked) == begun:  # noqa: ASYNC110 - as above
                await asyncio.sleep(0.02)
        stopped_at = time.monotonic()
    # It had to wait for the grace period, and then let go.
    assert time.monotonic() - stopped_at < 0.5 + 10
    await vhost.wait_for_queue(QUEUE, ready=1, unacked=0, timeout_s=PATIENCE_S)
    [message] = vhost.get(QUEUE, 10, requeue=True)
    assert message.body == body
    # The next worker goes on with it.
    async with running_service(vhost, tmp_path, senders={"default": SENDER}) as service:
        for job in jobs:
            await service.wait_for_result(job, "delivered")
        ids = [one.body["event_id"] for one in service.results.seen if one.body["status"] == "delivered"]
        assert {*ids} == {f"{job}/1/1/delivered" for job in jobs}
