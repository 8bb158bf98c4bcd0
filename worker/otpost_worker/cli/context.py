"""What every command needs: the settings, an event loop, a way to print."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click
import orjson
from rich.console import Console
from rich.markup import escape

from otpost_worker.settings import Loaded, load

if TYPE_CHECKING:
    from collections.abc import Coroutine, Iterable

    from otpost_worker.settings import Settings

T = TypeVar("T")

NO_SENDER = (
    "no sender is configured: set OTPOST_PHONE_NUMBER_ID and OTPOST_ACCESS_TOKEN, or OTPOST_SENDERS_FILE for several"
)
# Who pipes a table into grep wants no line broken.
_WIDE = 250

json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON, one object a line.")


def load_settings(*, strict: bool = False) -> Loaded:
    """Read the settings from the environment and complain about names that nobody knows; *strict*: refuse them.

    :raises InvalidSettings: with every problem.
    """
    loaded = load(os.environ, read_text, strict=strict)
    warn(loaded.warnings)
    return loaded


def warn(warnings: Iterable[str]) -> None:
    """Tell on standard error what an operator may have meant otherwise, a line each."""
    for warning in warnings:
        click.echo(f"otpost: warning: {warning}", err=True)


def log_format(settings: Settings) -> str:
    """JSON, unless somebody is looking and has not asked for it."""
    asked_for = "log_format" in settings.model_fields_set
    return "console" if sys.stderr.isatty() and not asked_for else settings.log_format


def on_signals(stopping: asyncio.Event, at_once: asyncio.Event) -> None:
    """Have SIGTERM and SIGINT set *stopping*, and a second one *at_once*."""

    def stop() -> None:
        if stopping.is_set():
            at_once.set()
        stopping.set()

    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop)


def read_text(file: str) -> str:
    """Read a file that a setting names."""
    return Path(file).read_text(encoding="utf-8")


def broker_url(settings: Settings) -> str:
    """The broker's URL with its password."""
    return settings.broker_url.get_secret_value()


def ledger_url(settings: Settings) -> str:
    """The ledger's URL as it is."""
    return settings.ledger_url.get_secret_value()


def confirm(question: str) -> None:
    """Ask before something is done that cannot be undone."""
    if not sys.stdin.isatty():
        raise click.UsageError("this needs --yes where nobody can be asked")
    click.confirm(question, abort=True)


def run_async(main: Coroutine[Any, Any, T]) -> T:
    """Run *main* to its end, on uvloop where that is installed."""
    try:
        import uvloop  # noqa: PLC0415 - not there on every platform
    except ImportError:
        factory = None
    else:
        factory = uvloop.new_event_loop
    with asyncio.Runner(loop_factory=factory) as runner:
        return runner.run(main)


def print_json(value: object) -> None:
    """Print one JSON object on one line, at once."""
    sys.stdout.buffer.write(orjson.dumps(value, option=orjson.OPT_APPEND_NEWLINE))
    sys.stdout.buffer.flush()


def out() -> Console:
    """Standard output for people: colours and tables on a terminal, plain wide lines elsewhere."""
    return Console(highlight=False, width=None if sys.stdout.isatty() else _WIDE)


def err() -> Console:
    """Standard error for people."""
    return Console(stderr=True, highlight=False)


def complain(*problems: object) -> None:
    """Tell on standard error what is wrong, a line each."""
    for problem in problems:
        click.echo(f"otpost: {problem}", err=True)


def plain(value: object) -> str:
    """Show a value that somebody else wrote, without obeying its markup."""
    return "" if value is None else escape(str(value))
