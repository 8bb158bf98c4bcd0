"""``otpost explain``."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Final

import click
from rich.table import Table

from otpost.errors import OtpostError
from otpost.job import is_job_id
from otpost.result import OtpResult
from otpost.results import WITH_EVENTS, read_kept
from otpost.times import rfc3339
from otpost_worker.brokers.rabbitmq.foreign import tolerate_foreign_messages
from otpost_worker.cli.context import (
    broker_url,
    json_option,
    ledger_url,
    load_settings,
    out,
    plain,
    print_json,
    run_async,
)
from otpost_worker.cli.parameters import Age
from otpost_worker.ledger.reading import open_to_read
from otpost_worker.ports import REMEMBERED_AFTER_DEADLINE_S, LedgerUnavailable
from otpost_worker.timeline import timeline
from otpost_worker.waiting import waits_for, waits_unclaimed

if TYPE_CHECKING:
    from collections.abc import Sequence

    from otpost.event import SenderEvent
    from otpost_worker.ports import SenderReport
    from otpost_worker.settings import Settings
    from otpost_worker.stories import RunStory
    from otpost_worker.timeline import Moment

_TIMEOUT_S: Final = 10.0
_DAY: Final = timedelta(days=1)


@dataclass
class _Known:
    """What was found out about a job; *missing* says what could not be asked.

    *results*: None where they, and the *events* of senders between them, are among that.
    """

    runs: tuple[RunStory, ...] = ()
    turn: float | None = None
    reports: dict[str, SenderReport] = field(default_factory=dict)
    results: list[OtpResult] | None = None
    events: list[SenderEvent] = field(default_factory=list)
    missing: list[str] = field(default_factory=list)

    @property
    def is_nothing(self) -> bool:
        return not self.runs and not self.results and not self.events and self.turn is None


@click.command()
@click.argument("job_id")
@click.option(
    "--since",
    type=Age(),
    default=_DAY,
    show_default="24h",
    help="How far back to read the results: 90s, 10m, 2h, 7d. Less is faster.",
)
@json_option
def explain(job_id: str, since: timedelta, as_json: bool) -> int:
    """Tell the life of one job: what happened to it, when, and what it waits for now.

    It reads the ledger and the results, changes nothing, and disturbs no worker. Run it with a worker's settings, as
    the user that the workers run as. Exit 1 where nothing is known of the job.
    """
    if not is_job_id(job_id):
        raise click.UsageError("a job's id is 1 to 64 of A-Z a-z 0-9 _ . : -")
    settings = load_settings().settings
    known = run_async(_ask(settings, job_id, since))
    for why in known.missing:
        click.echo(f"otpost: {why}", err=True)
    if known.is_nothing:
        click.echo(f"otpost: {_nothing(job_id, since, known)}", err=True)
        return 1
    moments, waits = timeline(known.runs, known.results, known.events), _waits(known, time.time())
    if as_json:
        _print_json(job_id, moments, waits)
    else:
        _print(job_id, known, moments, waits)
    return 0


async def _ask(settings: Settings, job_id: str, since: timedelta) -> _Known:
    known = _Known()
    try:
        async with open_to_read(ledger_url(settings)) as ledger:
            known.runs, known.turn = await ledger.story(job_id), await ledger.turn(job_id)
            rates = {name: one.rate for name, one in settings.senders.items()}
            known.reports = dict(await ledger.report(rates, {name: settings.quota_of(name) for name in rates}))
    except LedgerUnavailable as error:
        known.missing.append(str(error))
    tolerate_foreign_messages()
    begin, unreadable = datetime.now(UTC) - since, list[str]()
    try:
        kept = read_kept(
            broker_url(settings),
            begin,
            WITH_EVENTS,
            timeout_s=_TIMEOUT_S,
            job_id=job_id,
            on_unreadable=unreadable.append,
        )
        # The stream is entered at a chunk, whose first results may be older than what was asked for.
        told = [one async for one in kept if one.at >= begin]
        known.results = [one for one in told if isinstance(one, OtpResult)]
        known.events = [one for one in told if not isinstance(one, OtpResult)]
    except OtpostError as error:
        known.missing.append(f"the results cannot be read: {error}")
    if unreadable:
        known.missing.append(f"{len(unreadable)} of the job's results are left out: {unreadable[0]}")
    return known


def _nothing(job_id: str, since: timedelta, known: _Known) -> str:
    held = [name for name, report in known.reports.items() if report.holds]
    halted = f" ({', '.join(held)} is held now)" if held else ""
    hours = since.total_seconds() / 3600
    long_ago = (
        f"it ended long ago: the ledger forgets a job 24 h after its deadline, and results older than {hours:g} h "
        "were not read (--since)"
    )
    meanings = (
        "it was never published, or under another id: look for a typing error",
        f"no worker has claimed it yet: it waits in its queue, or for its sender{halted}; 'otpost doctor' tells more",
        long_ago,
        "its workers have another broker or another ledger than these settings name",
    )
    return "\n- ".join((f"nothing is known of job {job_id}{_as_far_as(known)}. That can mean:", *meanings))


def _as_far_as(known: _Known) -> str:
    match len(known.missing):
        case 0:
            return ": neither the ledger nor a result names it"
        case 1:
            return ", as far as it could be asked for"
        case _:
            return ", as nobody could be asked"


def _waits(known: _Known, now: float) -> list[str]:
    if not known.runs:
        return waits_unclaimed(known.turn, now=now)
    run = known.runs[-1]
    deadline = run.forget_at - REMEMBERED_AFTER_DEADLINE_S
    return waits_for(run, deadline, known.reports.get(run.envelope.sender), now=now)


def _print(job_id: str, known: _Known, moments: Sequence[Moment], waits: Sequence[str]) -> None:
    results = known.results or []
    told: list[OtpResult | SenderEvent] = [*known.events, *results]
    sender = known.runs[-1].envelope.sender if known.runs else told[-1].sender if told else "?"
    to = next((result.to for result in results if result.to), None)
    out().print(f"[bold]job {plain(job_id)}[/]  sender {plain(sender)}" + (f"  to {plain(to)}" if to else ""))
    table = Table(show_header=False, box=None, pad_edge=False)
    table.add_column(justify="right", no_wrap=True)
    table.add_column(no_wrap=True)
    table.add_column(no_wrap=True)
    table.add_column()
    for moment in moments:
        at = datetime.fromtimestamp(moment.at, UTC).astimezone()
        table.add_row(
            f"{moment.at - moments[0].at:+.3f} s",
            at.strftime("%Y-%m-%d %H:%M:%S.%f")[:-3],
            _which(moment),
            plain(moment.text),
        )
    out().print(table)
    for number, wait in enumerate(waits):
        out().print(f"{'[bold]it waits for[/]' if number == 0 else '            and'} {plain(wait)}")


def _which(moment: Moment) -> str:
    parts = [f"run {moment.run}"] if moment.run is not None else []
    return ", ".join(parts + ([f"attempt {moment.attempt}"] if moment.attempt is not None else []))


def _print_json(job_id: str, moments: Sequence[Moment], waits: Sequence[str]) -> None:
    for moment in moments:
        print_json(
            {
                "job_id": job_id,
                "at": rfc3339(moment.at),
                "after_s": round(moment.at - moments[0].at, 3),
                "what": moment.what.value,
                "run": moment.run,
                "attempt": moment.attempt,
                "text": moment.text,
            }
        )
    for wait in waits:
        print_json({"job_id": job_id, "what": "waits_for", "text": wait})
