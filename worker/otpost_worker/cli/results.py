"""``otpost results``."""

from __future__ import annotations

from contextlib import aclosing
from datetime import UTC, datetime
from typing import TYPE_CHECKING, assert_never

import click

from otpost.event import EventName, SenderEvent
from otpost.result import OtpResult, Status
from otpost.results import RESULTS_ONLY, WITH_EVENTS, Position, read_kept, read_told
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

    from otpost.result import ResultError
    from otpost.results import Kinds

_TIMEOUT_S = 10.0
_COLOURS = {
    Status.ACCEPTED: "green", Status.SENT: "green", Status.DELIVERED: "green", Status.READ: "green",
    Status.RETRYING: "yellow", Status.EXPIRED: "yellow", Status.FAILED: "red", Status.UNDELIVERED: "red",
}  # fmt: skip
# What else happens to a sender is a warning, or leads to one.
_COLOURS_OF_EVENTS = {EventName.HALTED: "red", EventName.RESUMED: "green"}


@click.command()
@click.option("--since", type=Age(), help="How far back: 90s, 10m, 2h, 7d [default: all that is kept].")
@click.option("--follow", "-f", is_flag=True, help="Go on with what comes, until interrupted.")
@click.option(
    "--status", "statuses", multiple=True, type=click.Choice([*map(str, Status)]), help="Only these; may be repeated."
)
@click.option(
    "--sender", "senders", multiple=True, shell_complete=sender_names, help="Only these senders'; may be repeated."
)
@click.option(
    "--events", is_flag=True, help="Also what happened to senders: halted, resumed …, whatever --status says."
)
@json_option
def results(
    since: timedelta | None,
    follow: bool,
    statuses: tuple[str, ...],
    senders: tuple[str, ...],
    events: bool,
    as_json: bool,
) -> int:
    """Print result events from the stream, which keeps them for 7 days.

    With --events what happened to senders comes between them, in the stream's order. In JSON such an event has a name
    and no status; a result has a status and no name.

    A message in it that cannot be read is warned of and left out. With --follow and without --since it begins with
    what comes next. It outlives restarts of the broker, and an interrupt (Ctrl-C) ends it with status 130, as it does
    'tail -f'.
    """
    url = broker_url(load_settings().settings)
    tolerate_foreign_messages()
    begin = datetime.now(UTC) - since if since is not None else None
    kinds: Kinds[OtpResult | SenderEvent] = WITH_EVENTS if events else RESULTS_ONLY

    def is_wanted(told: OtpResult | SenderEvent) -> bool:
        # The stream is entered at a chunk, whose first results may be older than what was asked for.
        young = begin is None or told.at >= begin
        # An event has no status that could be asked for.
        chosen = not statuses or isinstance(told, SenderEvent) or told.status in statuses
        return young and chosen and (not senders or told.sender in senders)

    if follow:
        found = read_told(
            url,
            Position(None, begin or "next"),
            kinds,
            timeout_s=_TIMEOUT_S,
            on_lost=_tell_of_the_loss,
            on_unreadable=_warn_of_the_unreadable,
        )
    else:
        found = read_kept(url, begin or "first", kinds, timeout_s=_TIMEOUT_S, on_unreadable=_warn_of_the_unreadable)
    return run_async(_print_all(found, is_wanted, as_json=as_json))


async def _print_all(
    found: AsyncGenerator[OtpResult | SenderEvent],
    is_wanted: Callable[[OtpResult | SenderEvent], bool],
    *,
    as_json: bool,
) -> int:
    # Closed here, as printing may fail: whoever reads the output may go away.
    async with aclosing(found):
        async for told in found:
            if not is_wanted(told):
                continue
            match told:
                case OtpResult():
                    print_result(told, as_json=as_json)
                case SenderEvent():
                    _print_event(told, as_json=as_json)
                case _:  # pragma: no cover
                    assert_never(told)
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
    at = _time_of(result)
    colour = _COLOURS[result.status]
    parts = [
        f"{at}  [{colour}]{result.status:<9}[/]  {plain(result.job_id)}  {plain(result.sender)}  {plain(result.to)}"
    ]
    if result.run > 1 or result.attempt > 1:
        parts.append(f"run {result.run}, attempt {result.attempt}")
    if result.error is not None:
        parts.append(_words_of(result.error))
    if result.retry_in_s is not None:
        parts.append(f"again in {result.retry_in_s:g} s")
    out().print("  ".join(parts))


def _print_event(event: SenderEvent, *, as_json: bool) -> None:
    """Print what happened to a sender: a line for people, or its JSON, which has no status as a result's has."""
    if as_json:
        print_json(event.model_dump(mode="json"))
        return
    colour = _COLOURS_OF_EVENTS.get(event.name, "yellow")
    parts = [f"{_time_of(event)}  [{colour}]{event.name:<9}[/]  {plain(event.sender)}"]
    if event.template is not None:
        parts.append(plain(event.template) + (f" ({plain(event.language)})" if event.language else ""))
    if event.detail is not None:
        parts.append(plain(event.detail))
    if event.error is not None:
        parts.append(_words_of(event.error))
    if event.job_id is not None:
        parts.append(f"job {plain(event.job_id)}")
    # A template's name alone may be wider than what is folded.
    out().print("  ".join(parts), soft_wrap=True)


def _time_of(told: OtpResult | SenderEvent) -> str:
    return told.at.astimezone().strftime("%H:%M:%S.%f")[:-3]


def _words_of(error: ResultError) -> str:
    code = f" {error.code}" if error.code is not None else ""
    return f"{plain(error.kind)}{code}: {plain(error.detail or error.title)}"
