"""``otpost results``."""

from __future__ import annotations

from contextlib import aclosing
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import click

from otpost.result import OtpResult, Status
from otpost.results import Position, read_kept_results, read_results
from otpost_worker.brokers.rabbitmq.foreign import tolerate_foreign_messages
from otpost_worker.cli.completing import sender_names
from otpost_worker.cli.context import (
    broker_url,
    json_option,
    load_settings,
    out,
    plain,
    print_json,
    run_async,
)
from otpost_worker.cli.parameters import Age

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable
    from datetime import timedelta

_TIMEOUT_S = 10.0
_COLOURS = {
    Status.ACCEPTED: "green", Status.SENT: "green", Status.DELIVERED: "green", Status.READ: "green",
    Status.RETRYING: "yellow", Status.EXPIRED: "yellow", Status.FAILED: "red", Status.UNDELIVERED: "red",
}  # fmt: skip


@click.command()
@click.option("--since", type=Age(), help="How far back: 90s, 10m, 2h, 7d [default: all that is kept].")
@click.option("--follow", "-f", is_flag=True, help="Go on with what comes, until interrupted.")
@click.option(
    "--status", "statuses", multiple=True, type=click.Choice([*map(str, Status)]), help="Only these; may be repeated."
)
@click.option(
    "--sender", "senders", multiple=True, shell_complete=sender_names, help="Only these senders'; may be repeated."
)
@json_option
def results(
    since: timedelta | None, follow: bool, statuses: tuple[str, ...], senders: tuple[str, ...], as_json: bool
) -> int:
    """Print result events from the stream, which keeps them for 7 days.

    A message in it that cannot be read is warned of and left out. With --follow and without --since it begins with
    what comes next. It outlives restarts of the broker, and an interrupt (Ctrl-C) ends it with status 130, as it does
    'tail -f'.
    """
    url = broker_url(load_settings().settings)
    tolerate_foreign_messages()
    begin = datetime.now(UTC) - since if since is not None else None

    def is_wanted(result: OtpResult) -> bool:
        # The stream is entered at a chunk, whose first results may be older than what was asked for.
        young = begin is None or result.at >= begin
        return young and (not statuses or result.status in statuses) and (not senders or result.sender in senders)

    if follow:
        events = read_results(
            url,
            Position(None, begin or "next"),
            timeout_s=_TIMEOUT_S,
            on_lost=_tell_of_the_loss,
            on_unreadable=_warn_of_the_unreadable,
        )
    else:
        events = read_kept_results(url, begin or "first", timeout_s=_TIMEOUT_S, on_unreadable=_warn_of_the_unreadable)
    return run_async(_print_results(events, is_wanted, as_json=as_json))


async def _print_results(
    events: AsyncGenerator[OtpResult], is_wanted: Callable[[OtpResult], bool], *, as_json: bool
) -> int:
    # Closed here, as printing may fail: whoever reads the output may go away.
    async with aclosing(events):
        async for result in events:
            if is_wanted(result):
                print_result(result, as_json=as_json)
    return 0


def _tell_of_the_loss(reason: str) -> None:
    click.echo(f"otpost: {reason}; reading goes on as soon as the broker is back", err=True)


def _warn_of_the_unreadable(trouble: str) -> None:
    click.echo(f"otpost: {trouble} It is left out", err=True)


def print_result(result: OtpResult, *, as_json: bool) -> None:
    """Print one event: a line for people, or its JSON."""
    if as_json:
        print_json(result.model_dump(mode="json"))
        return
    at = result.at.astimezone().strftime("%H:%M:%S.%f")[:-3]
    colour = _COLOURS[result.status]
    parts = [
        f"{at}  [{colour}]{result.status:<9}[/]  {plain(result.job_id)}  {plain(result.sender)}  {plain(result.to)}"
    ]
    if result.run > 1 or result.attempt > 1:
        parts.append(f"run {result.run}, attempt {result.attempt}")
    if result.error is not None:
        code = f" {result.error.code}" if result.error.code is not None else ""
        parts.append(f"{plain(result.error.kind)}{code}: {plain(result.error.detail or result.error.title)}")
    if result.retry_in_s is not None:
        parts.append(f"again in {result.retry_in_s:g} s")
    out().print("  ".join(parts))
