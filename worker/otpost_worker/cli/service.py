"""``otpost worker``, ``config`` and ``simulator``."""

from __future__ import annotations

import asyncio
import os
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from pydantic import BaseModel, SecretStr
from rich.table import Table

from otpost.urls import visible_url
from otpost_worker.cli.completing import sender_names
from otpost_worker.cli.context import (
    NO_SENDER,
    json_option,
    load_settings,
    log_format,
    on_signals,
    out,
    plain,
    print_json,
    run_async,
)
from otpost_worker.cli.parameters import FiniteRange
from otpost_worker.settings import PREFIX, InvalidSettings, Settings
from otpost_worker.telemetry import configure_logging

if TYPE_CHECKING:
    from collections.abc import Callable

    from otpost_worker.simulator import SimulatorOptions, WebhookSettings


@click.command()
@click.option(
    "--sender",
    "senders",
    multiple=True,
    shell_complete=sender_names,
    help="Serve only this sender; may be repeated [default: all].",
)
@click.option("--concurrency", type=click.IntRange(1, 2000), help="Jobs in hand at once, for each sender.")
def worker(senders: tuple[str, ...], concurrency: int | None) -> int:
    """Take jobs and send them, until SIGTERM. Start as many as you like."""
    settings = _for_worker(load_settings().settings, senders, concurrency)
    configure_logging(log_format=log_format(settings), level=settings.log_level)
    return run_async(_work(settings))


def _for_worker(settings: Settings, senders: tuple[str, ...], concurrency: int | None) -> Settings:
    if not settings.senders:
        raise InvalidSettings([NO_SENDER])
    unknown = sorted(set(senders) - set(settings.senders))
    if unknown:
        raise click.UsageError(f"no such sender: {', '.join(unknown)}; configured are {', '.join(settings.senders)}")
    return settings.serving(senders or settings.senders).model_copy(
        update={"concurrency": concurrency or settings.concurrency}
    )


async def _work(settings: Settings) -> int:
    # Here and not above: the other commands start in half the time without the worker's rooms.
    from otpost_worker.app import run_worker  # noqa: PLC0415 - as said above

    stopping, at_once = asyncio.Event(), asyncio.Event()
    on_signals(stopping, at_once)
    clean = await run_worker(settings, stopping=stopping, at_once=at_once)
    return 0 if clean else 1


@click.command()
@click.option("--strict", is_flag=True, help="OTPOST_ names that are no settings are errors.")
@json_option
def config(strict: bool, as_json: bool) -> int:
    """Print the settings in force, secrets hidden."""
    loaded = load_settings(strict=strict)
    settings = loaded.settings
    rows = {PREFIX + name.upper(): value for name, value in _shown(settings).items() if name != "senders"}
    senders = {name: _shown(one) for name, one in settings.senders.items()}
    if as_json:
        print_json({"settings": rows, "senders": senders, "unknown": dict(loaded.unknown)})
        return 0
    table = Table("setting", "value", "what it is", box=None, pad_edge=False)
    for name, field in Settings.model_fields.items():
        if name != "senders":
            table.add_row(PREFIX + name.upper(), plain(rows[PREFIX + name.upper()]), plain(field.description))
    out().print(table)
    for name, one in senders.items():
        table = Table(f"sender {name}", "value", box=None, pad_edge=False)
        for key, value in one.items():
            table.add_row(key, plain(value))
        out().print()
        out().print(table)
    if not senders:
        out().print(f"\n{NO_SENDER}")
    return 0


def _shown(model: BaseModel) -> dict[str, Any]:
    return {name: _visible(name, getattr(model, name)) for name in type(model).model_fields}


def _visible(name: str, value: object) -> object:
    if name in {"broker_url", "ledger_url"} and isinstance(value, SecretStr):
        return visible_url(value.get_secret_value())
    return "***" if isinstance(value, SecretStr) else value


@click.command()
@click.option(
    "--host", default="127.0.0.1", show_default=True, help="0.0.0.0 for workers elsewhere; it shows codes to anybody."
)
@click.option("--port", type=click.IntRange(0, 65535), default=8088, show_default=True, help="0 takes a free one.")
@click.option(
    "--rate",
    type=FiniteRange(min=0),
    default=80.0,
    show_default=True,
    help="Messages a second of a number; 0 for no limit.",
)
@click.option("--pair/--no-pair", default=True, show_default=True, help="Meta's limit for each recipient.")
@click.option("--webhook-url", metavar="URL", help="Report there what became of messages [default: nowhere].")
@click.option(
    "--app-secret-file",
    metavar="FILE",
    envvar="OTPOST_APP_SECRET_FILE",
    help="Holds the app secret that signs webhooks; or OTPOST_APP_SECRET.",
)
@click.option("--webhook-plan", metavar="PLAN", default="delivered", show_default=True, help="What is reported.")
def simulator(
    host: str,
    port: int,
    rate: float,
    pair: bool,
    webhook_url: str | None,
    app_secret_file: str | None,
    webhook_plan: str,
) -> int:
    """Be the Cloud API on this machine: no account, no phone, nothing leaves it.

    Point a worker at it with OTPOST_API_BASE. Which recipients answer with which error, and the plans of what is
    reported by webhook, stand in docs/simulator.md.
    """
    from otpost_worker.simulator import SimulatorOptions  # noqa: PLC0415 - as in _work

    configure_logging(log_format="console", level="warning")
    webhooks = _webhooks(webhook_url, app_secret_file, webhook_plan)
    options = SimulatorOptions(host=host, port=port, rate=rate, pair=pair, webhooks=webhooks)
    return run_async(_simulate(options, click.echo))


def _webhooks(url: str | None, secret_file: str | None, plan: str) -> WebhookSettings:
    from otpost_worker.simulator import PLANS, WebhookSettings  # noqa: PLC0415 - as in _work

    if plan not in PLANS:
        raise click.UsageError(f"--webhook-plan: there is no plan {plan!r}; there are {', '.join(PLANS)}")
    if url is None:
        return WebhookSettings(plan=PLANS[plan])
    secret = _app_secret(secret_file)
    try:
        return WebhookSettings(url=url, secret=secret, plan=PLANS[plan])
    except ValueError as error:
        raise click.UsageError(f"--webhook-url: {error}") from None


def _app_secret(file: str | None) -> str:
    """The first of those that the receiver of webhooks may know: while they change, it knows several."""
    given = os.environ.get("OTPOST_APP_SECRET", "")
    if file is not None:
        try:
            given = Path(file).read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError):
            raise click.UsageError(f"--app-secret-file: {file} cannot be read as text") from None
    found = re.search(r"[^,\s]+", given)
    if found is None:
        raise click.UsageError("--webhook-url needs the app secret: set OTPOST_APP_SECRET, or name --app-secret-file")
    return found[0]


async def _simulate(options: SimulatorOptions, announce: Callable[[str], None]) -> int:
    from otpost_worker.health import PortTaken  # noqa: PLC0415 - as in _work
    from otpost_worker.simulator import CannotListen, serve  # noqa: PLC0415 - as in _work

    stopping = asyncio.Event()
    on_signals(stopping, asyncio.Event())
    try:
        await serve(options, stopping, announce)
    except CannotListen as error:
        raise PortTaken(f"{error}; choose another --port (0 takes a free one) or --host") from error
    return 0
