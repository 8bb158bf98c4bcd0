"""Webhooks of all senders come to whichever worker is free, also to one that serves another sender alone."""

from __future__ import annotations

from contextlib import AsyncExitStack, asynccontextmanager
from typing import TYPE_CHECKING, Any, Final

import pytest
from structlog.testing import capture_logs

from service import (
    PATIENCE_S,
    STREAM,
    Amqp,
    Tap,
    job_body,
    running_service,
    running_worker,
    sender_settings,
    worker_settings,
)
from webhook_samples import body_of, body_of_statuses

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from broker import Vhost

BLOCKED: Final = {"event": "DISABLED_UPDATE", "ban_info": {"waba_ban_state": "DISABLE"}}
PAUSED: Final = {"event": "PAUSED", "message_template_name": "login", "message_template_language": "en_US"}
# What every sample is about.
BANKS: Final = "102290129340398"


@asynccontextmanager
async def worker_of_the_shop(vhost: Vhost, folder: Path, **senders: dict[str, Any]) -> AsyncIterator[tuple[Amqp, Tap]]:
    """A worker that knows two senders and serves one."""
    known = {name: sender_settings("http://127.0.0.1:9", **changes) for name, changes in senders.items()}
    settings = worker_settings(vhost, folder / "ledger.db", known)
    async with AsyncExitStack() as resources:
        await resources.enter_async_context(running_worker(settings.serving({"shop"})))
        amqp = await resources.enter_async_context(Amqp.connect(vhost.url))
        yield amqp, await amqp.tap(STREAM)


async def post(amqp: Amqp, body: bytes) -> None:
    await amqp.publish(body, exchange="", key="otpost.webhooks", kind="otpost.webhook.v1", message_id="post-1")


async def taken(vhost: Vhost) -> None:
    await vhost.wait_for_queue("otpost.webhooks", ready=0, unacked=0, timeout_s=PATIENCE_S)


@pytest.mark.parametrize(("field", "value"), [("account_update", BLOCKED), ("message_template_status_update", PAUSED)])
async def test_what_is_said_of_another_senders_account_holds_that_sender(
    vhost: Vhost, tmp_path: Path, field: str, value: dict[str, Any]
) -> None:
    accounts = {"shop": {"waba_id": "111"}, "bank": {"waba_id": BANKS}}
    async with worker_of_the_shop(vhost, tmp_path, **accounts) as (amqp, results):
        await post(amqp, body_of(value, field))
        event = await results.wait_for(name="halted")
        assert event.body["sender"] == "bank"


async def test_where_two_senders_are_configured_and_no_account_nobody_is_meant_and_an_operator_is_told_once(
    vhost: Vhost, tmp_path: Path
) -> None:
    async with worker_of_the_shop(vhost, tmp_path, shop={}, bank={}) as (amqp, results):
        with capture_logs() as logs:
            for _ in range(2):
                await post(amqp, body_of(BLOCKED, "account_update"))
            await taken(vhost)
        told = [line for line in logs if line["event"] == "webhook.concerns_nobody"]
        assert [(line["account_id"], line["log_level"]) for line in told] == [(BANKS, "warning")]
        assert "OTPOST_WABA_ID" in told[0]["remedy"]
        assert results.seen == []


async def test_a_failure_of_another_senders_message_halts_that_sender(vhost: Vhost, tmp_path: Path) -> None:
    senders = {"shop": {}, "bank": {"phone_number_id": "106540352242923"}}
    async with running_service(vhost, tmp_path, senders=senders) as service:
        await service.publish(job_body(id="job-1"), key="bank")
        await service.wait_for_result("job-1", "accepted")
    async with worker_of_the_shop(vhost, tmp_path, **senders) as (amqp, results):
        failed = {"status": "failed", "biz_opaque_callback_data": "job-1", "errors": [{"code": 131042}], "id": "w"}
        await post(amqp, body_of_statuses(failed))
        event = await results.wait_for(name="halted")
        assert (event.body["sender"], event.body["error"]["code"]) == ("bank", 131042)
