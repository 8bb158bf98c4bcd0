"""From the provider's webhook to the event: simulator, receiver, broker, worker, each of them the real one."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from contextlib import asynccontextmanager
from datetime import datetime
from typing import TYPE_CHECKING, Final

import pytest
from pydantic import SecretStr

from otpost_worker.simulator import SimulatorOptions, WebhookSettings
from service import NUMBER, PATIENCE_S, Service, job_body, running_service
from webhook_process import APP_SECRET, webhook_process

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from broker import Vhost

# Fails by webhook with 131016, "service unavailable", the first time; its retry comes within a second.
UNAVAILABLE_ONCE: Final = "+991131016100001"
# Fails by webhook with 131049, "healthy ecosystem engagement", the first time: the retry comes after 30 s.
USER_LIMIT_ONCE: Final = "+991131049100001"
UNDELIVERABLE: Final = "+991131026500001"
NEVER: Final = "+990325000001"
REPORTED: Final = ("sent", "delivered", "read")


@asynccontextmanager
async def reporting_service(
    vhost: Vhost,
    folder: Path,
    *,
    webhooks: WebhookSettings | None = None,
    message_ttl_s: int = 600,
) -> AsyncIterator[Service]:
    """A worker, a provider that reports, and the receiver of its reports."""
    sender = {"app_secret": SecretStr(APP_SECRET), "message_ttl_s": message_ttl_s}
    options = SimulatorOptions(rate=0, pair=False, webhooks=webhooks or WebhookSettings())
    async with (
        running_service(vhost, folder, senders={"default": sender}, simulator=options) as service,
        webhook_process(vhost.url) as (_, url),
    ):
        service.simulator.webhooks.set(url=url, secret=APP_SECRET)
        yield service


def at(moment: object) -> float:
    """Read a time of a result, in Unix seconds."""
    return datetime.fromisoformat(str(moment)).timestamp()


async def test_what_the_provider_reports_is_told_once_each_with_the_users_wait_however_it_comes(
    vhost: Vhost, tmp_path: Path
) -> None:
    await told_once_each(vhost, tmp_path, jobs=150, span_s=3.0)


@pytest.mark.long
@pytest.mark.timeout(600)
async def test_ten_thousand_jobs_whose_webhooks_come_doubled_and_shuffled(vhost: Vhost, tmp_path: Path) -> None:
    await told_once_each(vhost, tmp_path, jobs=10_000, span_s=60.0)


async def told_once_each(vhost: Vhost, folder: Path, *, jobs: int, span_s: float) -> None:
    webhooks = WebhookSettings(duplicates=2, shuffle_s=span_s, seed=7)
    async with reporting_service(vhost, folder, webhooks=webhooks) as service:
        service.simulator.webhooks.set(plan="read")
        made = {}
        for number in range(jobs):
            created_at = datetime.fromtimestamp(round(time.time(), 3)).astimezone().isoformat(timespec="milliseconds")
            made[f"job-{number}"] = at(created_at)
            await service.publish(job_body(id=f"job-{number}", to=f"+1201{number:07}", created_at=created_at))
        async with asyncio.timeout(PATIENCE_S + jobs / 20):
            await service.results.wait_for_count(4 * jobs, timeout_s=PATIENCE_S + jobs / 20)
            assert await service.simulator.webhooks.wait(settled=True, timeout_s=PATIENCE_S + span_s)
        await vhost.wait_for_queue("otpost.webhooks", ready=0, unacked=0, timeout_s=PATIENCE_S + jobs / 50)
        known = {(one.callback, one.status): one.timestamp for one in service.simulator.reports.entries()}
        assert service.simulator.webhooks.stats()["posts"] > 3 * jobs
        seen = Counter((one.body["job_id"], one.body["status"]) for one in service.results.seen)
        expected = {(job, status) for job in made for status in ("accepted", *REPORTED)}
        assert seen == Counter(dict.fromkeys(expected, 1))
        for event in (one.body for one in service.results.seen if one.body["status"] in REPORTED):
            happened_at = known[event["job_id"], event["status"]]
            assert at(event["at"]) == happened_at
            # Results have their times in milliseconds, which are cut in one place and rounded in another.
            waited_ms = max(0.0, (happened_at - made[event["job_id"]]) * 1000)
            assert abs(event["latency_ms"] - waited_ms) <= 1.5


async def test_what_fails_by_webhook_is_sent_once_more_and_delivered(vhost: Vhost, tmp_path: Path) -> None:
    async with reporting_service(vhost, tmp_path) as service:
        await service.publish(job_body(id="job-1", to=UNAVAILABLE_ONCE))
        delivered = await service.wait_for_result("job-1", "delivered")
        assert (delivered.body["attempt"], service.requests()) == (2, 2)
        assert service.statuses("job-1")[:3] == ["accepted", "retrying", "accepted"]


@pytest.mark.long
@pytest.mark.timeout(180)
async def test_a_users_limit_is_waited_for_as_long_as_the_deadline_allows(vhost: Vhost, tmp_path: Path) -> None:
    async with reporting_service(vhost, tmp_path) as service:
        await service.publish(job_body(id="job-1", to=USER_LIMIT_ONCE))
        await service.publish(job_body(id="job-2", to=USER_LIMIT_ONCE.replace("0001", "0002"), ttl_s=33))
        retrying = await service.wait_for_result("job-1", "retrying")
        assert retrying.body["retry_in_s"] == 30.0
        given_up = await service.wait_for_result("job-2", "undelivered")
        assert given_up.body["error"]["code"] == 131049
        delivered = await service.results.wait_for(job_id="job-1", status="delivered", timeout_s=PATIENCE_S + 40)
        assert delivered.body["attempt"] == 2
        assert delivered.came_at - retrying.came_at >= 29.0


async def test_what_cannot_be_delivered_is_told_and_lies_among_the_dead_letters(vhost: Vhost, tmp_path: Path) -> None:
    async with reporting_service(vhost, tmp_path) as service:
        await service.publish(job_body(id="job-1", to=UNDELIVERABLE))
        undelivered = await service.wait_for_result("job-1", "undelivered")
        assert (undelivered.body["error"]["kind"], undelivered.body["error"]["code"]) == ("recipient", 131026)
        letter = await service.wait_for_dead_letter("job-1")
        assert letter.headers["otpost-reason"] == "recipient"
        assert "806274" not in letter.everything


@pytest.mark.long
@pytest.mark.timeout(180)
async def test_silence_is_told_when_the_template_and_its_buffer_have_had_their_time(
    vhost: Vhost, tmp_path: Path
) -> None:
    async with reporting_service(vhost, tmp_path, message_ttl_s=30) as service:
        await service.publish(job_body(id="job-1", to=NEVER))
        await service.publish(job_body(id="job-2", to=NUMBER))
        accepted = await service.wait_for_result("job-1", "accepted")
        silent = await service.results.wait_for(job_id="job-1", status="undelivered", timeout_s=PATIENCE_S + 70)
        assert silent.body["error"]["kind"] == "no_report"
        assert silent.came_at - accepted.came_at >= 60.0
        await vhost.wait_for_queue("otpost.checks", ready=0, unacked=0)
        assert service.statuses("job-2") == ["accepted", "sent", "delivered"]
