"""``otpost webhook``."""

from __future__ import annotations

import asyncio
import os
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import click

from otpost_worker.cli.context import log_format, on_signals, read_text, run_async, warn
from otpost_worker.telemetry import configure_logging
from otpost_worker.webhook_settings import load_receiver

if TYPE_CHECKING:
    from otpost_worker.webhook_settings import ReceiverSettings


@click.command()
@click.option("--host", help="The address to listen on: 0.0.0.0 for a proxy elsewhere [default: OTPOST_WEBHOOK_HOST].")
@click.option(
    "--port", type=click.IntRange(0, 65535), help="0 takes a free one [default: OTPOST_WEBHOOK_PORT, else 8090]."
)
def webhook(host: str | None, port: int | None) -> int:
    """Receive the provider's webhooks and leave them to the workers, until SIGTERM.

    It needs the broker, an app secret and a verify token, and nothing else of a sender. docs/webhooks.md tells what to
    set at the provider, and about the proxy with TLS in front.
    """
    settings = load_receiver(os.environ, read_text)
    warn(settings.warnings)
    given: dict[str, Any] = {"webhook_host": host, "webhook_port": port}
    service = settings.service.model_copy(update={name: value for name, value in given.items() if value is not None})
    configure_logging(log_format=log_format(service), level=service.log_level)
    return run_async(_receive(replace(settings, service=service)))


async def _receive(settings: ReceiverSettings) -> int:
    # Here and not above: 'otpost webhook --help' starts in half the time without the server.
    from otpost_worker.receiver import run_receiver  # noqa: PLC0415 - as said above

    stopping, at_once = asyncio.Event(), asyncio.Event()
    on_signals(stopping, at_once)
    # What had no answer is sent again by the provider: an end that was cut short is no failure.
    await run_receiver(settings, stopping=stopping, at_once=at_once)
    return 0
