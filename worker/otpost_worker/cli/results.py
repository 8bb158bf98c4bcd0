"""``otpost results``."""

from __future__ import annotations

import asyncio
import re
from datetime import timedelta
from typing import TYPE_CHECKING, Literal

import click

from otpost.client import Producer
from otpost.result import OtpResult, Status
from otpost_worker.cli.context import (
    broker_url,
    json_option,
    load_settings,
    out,
    plain,
    print_json,
    run_async,
)

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400}
# The stream has no "end": when nothing came for so long, what was there has been read.
_IDLE_S = 1.5
_COLOURS = {
    Status.ACCEPTED: "green", Status.SENT: "green", Status.DELIVERED: "green", Status.READ: "green",
    Status.RETRYING: "yellow", Status.EXPIRED: "yellow", Status.FAILED: "red", Status.UNDELIVERED: "red",
}  # fmt: skip


class Age(click.ParamType[timedelta]):
    """An age on the command line, such as ``90s``, ``10m``, ``2h`` or ``7d``."""

    name = "age"

    def convert(self, value: str | timedelta, param: click.Parameter | None, ctx: click.Context | None) -> timedelta:
        """Read it."""
        if isinstance(value, timedelta):
            return value
        match = re.fullmatch(r"([0-9]{1,7})([smhd])", value.strip())
        if match is None:
            self.fail(f"{value!r} is no age: write 90s, 10m, 2h or 7d", param, ctx)
        return timedelta(seconds=int(match[1]) * _UNITS[match[2]])


@click.command()
@click.option("--since", type=Age(), help="How far back: 90s, 10m, 2h, 7d [default: all that is kept].")
@click.option("--follow", "-f", is_flag=True, help="Go on with what comes, until interrupted.")
@click.option(
    "--status", "statuses", multiple=True, type=click.Choice([*map(str, Status)]), help="Only these; may be repeated."
)
@json_option
def results(since: timedelta | None, follow: bool, statuses: tuple[str, ...], as_json: bool) -> int:
    """Print result events from the stream, which keeps them for 7 days."""
    settings = load_settings().settings
    start: timedelta | Literal["first", "next"] = since or ("next" if follow else "first")
    wanted = frozenset(statuses)
    return run_async(_print_results(broker_url(settings), start, follow=follow, wanted=wanted, as_json=as_json))


async def _print_results(
    url: str,
    start: timedelta | Literal["first", "next"],
    *,
    follow: bool,
    wanted: frozenset[str],
    as_json: bool,
) -> int:
    events = Producer(url).results(since=start)
    idle_s = None if follow else _IDLE_S
    async for result in _until_idle(events, idle_s):
        if not wanted or result.status in wanted:
            print_result(result, as_json=as_json)
    return 0


async def _until_idle(events: AsyncIterator[OtpResult], idle_s: float | None) -> AsyncIterator[OtpResult]:
    """Yield until nothing has come for *idle_s*; the first one may take as long as a connection does."""
    wait_s = None if idle_s is None else idle_s + 5.0
    while True:
        following = asyncio.ensure_future(anext(events))
        done, _ = await asyncio.wait({following}, timeout=wait_s)
        if not done:
            following.cancel()
            await asyncio.gather(following, return_exceptions=True)
            return
        yield following.result()
        wait_s = idle_s


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
