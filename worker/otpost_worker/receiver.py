"""The receiver process: enters its resources, serves webhooks, and stops in order."""

from __future__ import annotations

import asyncio
import random
import secrets
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING

import structlog

from otpost.errors import OtpostError
from otpost_worker import ending
from otpost_worker.brokers.rabbitmq.reconnecting import Reconnecting
from otpost_worker.brokers.rabbitmq.webhook_queue import WebhookQueue
from otpost_worker.health import Readiness, serve_health
from otpost_worker.outage_log import OutageLog
from otpost_worker.webhook import MAX_BODIES, MAX_BYTES, Receiver, serve_webhooks
from otpost_worker.webhook_metrics import CONNECTION, WebhookMetrics
from otpost_worker.webhook_room import Room

if TYPE_CHECKING:
    from collections.abc import Iterable

    from pydantic import SecretStr

    from otpost_worker.health import Check
    from otpost_worker.webhook_settings import ReceiverSettings

_log = structlog.get_logger("otpost.webhook")


async def run_receiver(settings: ReceiverSettings, *, stopping: asyncio.Event, at_once: asyncio.Event) -> bool:
    """Receive webhooks until *stopping*, then answer what is in hand; *at_once* cuts that short.

    Returns whether all that was in hand had its answer; what had none is sent again by the provider.

    :raises PortTaken: one of the two ports. :raises BrokerUnreachable: the broker refuses us.
    :raises TopologyDiffers: the queue there is not what is needed. :raises AccessRefused: we may not declare it.
    """
    service = settings.service
    name, away = f"otpost webhook {secrets.token_hex(3)}", OutageLog("broker")
    metrics, readiness = WebhookMetrics(), Readiness()
    queue = WebhookQueue(
        service.broker_url.get_secret_value(),
        name=name,
        part=CONNECTION,
        mode=service.topology,
        reconnecting=Reconnecting(random.random, away, metrics),
    )
    receiver = Receiver(
        path=service.webhook_path,
        app_secrets=_as_bytes(settings.app_secrets),
        verify_tokens=_as_bytes(settings.verify_tokens),
        store=queue,
        metrics=metrics,
        room=Room(most_bodies=MAX_BODIES, most_bytes=MAX_BYTES),
    )
    async with AsyncExitStack() as resources:
        if service.http_port is not None:
            await resources.enter_async_context(serve_health(service.http_host, service.http_port, readiness, metrics))
        serving = await resources.enter_async_context(
            serve_webhooks(receiver, host=service.webhook_host, port=service.webhook_port)
        )
        tasks = await resources.enter_async_context(asyncio.TaskGroup())
        storing = tasks.create_task(_keep_open(queue, stopping))
        readiness.checks.update(_checks(stopping, queue))
        readiness.notices["storing"] = lambda: queue.notice
        await stopping.wait()
        if not storing.done():  # what kept it from working at all is told by whoever started it
            _log.info("stopping", in_hand=receiver.in_hand)
        clean = await serving.stop(service.shutdown_grace_s, at_once)
        # Every POST has its answer, or gets none: nothing is left that a broker in trouble should be waited for.
        await ending.cancel(storing)
    failure = None if storing.cancelled() else storing.result()
    if failure is not None:
        raise failure
    _log.info("stopped", clean=clean)
    return clean


async def _keep_open(queue: WebhookQueue, stopping: asyncio.Event) -> OtpostError | None:
    """Keep the connection open; what cannot be mended by waiting stops the receiver."""
    try:
        await queue.run()
    except OtpostError as failure:
        stopping.set()
        return failure
    return None


def _as_bytes(given: Iterable[SecretStr]) -> list[bytes]:
    return [secret.get_secret_value().encode() for secret in given]


def _checks(stopping: asyncio.Event, queue: WebhookQueue) -> dict[str, Check]:
    """What has to hold before this process can be sent webhooks; each tells what is wrong."""

    async def running() -> str | None:
        return "the receiver is stopping" if stopping.is_set() else None

    async def connected() -> str | None:
        return queue.trouble

    return {"running": running, "broker": connected}
