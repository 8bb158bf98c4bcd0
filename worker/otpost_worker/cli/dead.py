"""``otpost dead``: list, show, replay, purge."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import click
from rich.table import Table

from otpost.job import MAX_LIFETIME_S
from otpost_worker.cli.completing import reasons, sender_names
from otpost_worker.cli.context import (
    broker_url,
    confirm,
    err,
    json_option,
    load_settings,
    out,
    plain,
    print_json,
    run_async,
)
from otpost_worker.cli.parameters import Age, FiniteRange
from otpost_worker.deadletters import DeadLetter, DeadLetters, Selection, open_dead_letters

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import timedelta

    from otpost.rabbitmq import Publisher


def _filters(command: Callable[..., int]) -> Callable[..., int]:
    for option in (
        click.option("--older-than", type=Age(), help="Only letters that died longer ago: 90s, 10m, 2h, 7d."),
        click.option("--sender", shell_complete=sender_names, help="Only this sender's."),
        click.option(
            "--reason", shell_complete=reasons, help="Only letters with this reason, such as recipient or exhausted."
        ),
    ):
        command = option(command)
    return command


def _selection(
    job_ids: tuple[str, ...], reason: str | None, sender: str | None, older_than: timedelta | None
) -> Selection:
    died_before = time.time() - older_than.total_seconds() if older_than is not None else None
    return Selection(frozenset(job_ids), reason, sender, died_before)


@click.group()
def dead() -> None:
    """Look at dead letters, replay and purge them. Looking never changes them."""


@dead.command("list")
@_filters
@click.option("--limit", type=click.IntRange(min=1), default=100, show_default=True, help="How many to print.")
@json_option
def list_letters(
    reason: str | None, sender: str | None, older_than: timedelta | None, limit: int, as_json: bool
) -> int:
    """List dead letters, the oldest first."""
    url = broker_url(load_settings().settings)
    return run_async(_list(url, _selection((), reason, sender, older_than), limit, as_json=as_json))


async def _list(url: str, selection: Selection, limit: int, *, as_json: bool) -> int:
    async with open_dead_letters(url) as dead_letters:
        letters = [letter for letter in dead_letters.letters if selection.fits(letter)]
        more = dead_letters.more
    if as_json:
        for letter in letters[:limit]:
            print_json(letter.as_json())
        return 0
    table = Table(box=None, pad_edge=False)
    for heading in ("job", "reason"):
        table.add_column(heading, no_wrap=True)  # what is copied into the next command is shown whole
    for heading in ("code", "sender", "to", "attempts", "died", "detail"):
        table.add_column(heading)
    for letter in letters[:limit]:
        error = letter.error
        table.add_row(
            plain(letter.job_id), f"[red]{plain(letter.reason)}[/]", plain(error.get("code")), plain(letter.sender),
            plain(letter.to), f"{letter.attempt} of run {letter.run}", plain(letter.died_at),
            plain(error.get("detail") or error.get("title")),
        )  # fmt: skip
    if letters:
        out().print(table)
    shown = f", the first {limit} shown (--limit)" if len(letters) > limit else ""
    unread = f"; {more} more lie behind them" if more else ""
    err().print(f"{_letters(len(letters))}{shown}{unread}")
    return 0


@dead.command()
@click.argument("job_id")
@json_option
def show(job_id: str, as_json: bool) -> int:
    """Show one dead letter. Its code is sealed to a worker's key, and so is all of a body that is no job."""
    return run_async(_show(broker_url(load_settings().settings), job_id, as_json=as_json))


async def _show(url: str, job_id: str, *, as_json: bool) -> int:
    async with open_dead_letters(url) as dead_letters:
        letters = [letter for letter in dead_letters.letters if letter.job_id == job_id]
    if not letters:
        click.echo(f"otpost: no dead letter has the job id {job_id}; 'otpost dead list' shows them", err=True)
        return 1
    for letter in letters:
        if as_json:
            print_json(letter.as_json())
            continue
        table = Table(show_header=False, box=None, pad_edge=False)
        fields = {**letter.as_json(), "error": None, "deadline": _left(letter.deadline), "sealed": _sealed(letter)}
        for name, value in (
            *fields.items(),
            *((f"error.{key}", value) for key, value in letter.error.items()),
        ):
            if value is not None:
                table.add_row(f"[bold]{plain(name)}[/]", plain(value))
        out().print(table)
    return 0


def _sealed(letter: DeadLetter) -> str:
    match letter.sealed:
        case "code":
            return "the code"
        case "body":
            return "the whole body: it is no job, and cannot be replayed; see docs/sealed-codes.md"
        case None:
            return "nothing: an older worker buried it, or somebody else did"


def _left(deadline: float | None) -> str | None:
    if deadline is None:
        return None
    left_s = deadline - time.time()
    return (
        f"in {left_s:.0f} s" if left_s > 0 else f"{-left_s:.0f} s ago: replay it with --ttl, if the code is still valid"
    )


@dead.command()
@click.argument("job_ids", nargs=-1)
@_filters
@click.option(
    "--ttl",
    "ttl_s",
    type=FiniteRange(min=1, max=MAX_LIFETIME_S),
    metavar="SECONDS",
    help="A new deadline from now on. Without it, letters past their deadline are left alone.",
)
@click.option("--yes", is_flag=True, help="Do not ask. Needed to replay without naming ids.")
@json_option
def replay(
    job_ids: tuple[str, ...],
    reason: str | None,
    sender: str | None,
    older_than: timedelta | None,
    ttl_s: float | None,
    yes: bool,
    as_json: bool,
) -> int:
    """Publish the jobs of dead letters again, each as its next run.

    A letter is removed only when its job is confirmed. What is no job is left alone: it would only fail again.
    """
    if not job_ids and not yes:
        confirm("Replay every dead letter that fits?")
    selection = _selection(job_ids, reason, sender, older_than)
    return run_async(_replay(broker_url(load_settings().settings), selection, ttl_s, as_json=as_json))


async def _replay(url: str, selection: Selection, ttl_s: float | None, *, as_json: bool) -> int:
    replayed, left = 0, 0
    async with open_dead_letters(url) as dead_letters:
        letters = [letter for letter in dead_letters.letters if selection.fits(letter)]
        publisher = await dead_letters.open_publisher()
        for letter in letters:
            problem = await _replay_one(dead_letters, publisher, letter, ttl_s)
            if as_json:
                print_json(
                    {
                        "job_id": letter.job_id,
                        "replayed": problem is None,
                        "run": letter.run + 1,
                        "problem": problem,
                    }
                )
            elif problem is not None:
                click.echo(f"otpost: {letter.job_id}: left alone: {problem}", err=True)
            replayed += problem is None
            left += problem is not None
    missing = _tell_of_the_missing(selection, letters)
    if not as_json:
        click.echo(f"{replayed} replayed, {left + missing} not")
    return 1 if left or missing else 0


def _tell_of_the_missing(selection: Selection, letters: list[DeadLetter]) -> int:
    """Name the ids that were asked for and belong to none of *letters*; return how many."""
    missing = selection.job_ids - {letter.job_id for letter in letters}
    for job_id in sorted(missing):
        click.echo(f"otpost: {job_id}: no such dead letter", err=True)
    return len(missing)


async def _replay_one(
    dead_letters: DeadLetters, publisher: Publisher, letter: DeadLetter, ttl_s: float | None
) -> str | None:
    """Replay the letter; or tell why not."""
    if letter.sealed == "body":
        return "its body is no job: have the producer publish a correct one, and remove this with 'otpost dead purge'"
    now = time.time()
    if ttl_s is None and letter.deadline is not None and letter.deadline <= now:
        return f"its deadline was {now - letter.deadline:.0f} s ago; --ttl SECONDS gives it a new one"
    if not await dead_letters.has_sender(letter.sender):
        return f"there is no sender {letter.sender!r}: start a worker that is configured for it first"
    await dead_letters.replay(letter, publisher, deadline=now + ttl_s if ttl_s else None)
    return None


@dead.command()
@click.argument("job_ids", nargs=-1)
@_filters
@click.option("--yes", is_flag=True, help="Do not ask.")
@json_option
def purge(
    job_ids: tuple[str, ...],
    reason: str | None,
    sender: str | None,
    older_than: timedelta | None,
    yes: bool,
    as_json: bool,
) -> int:
    """Remove dead letters for good: those that fit the filters, or all. Exit 1 where a named one is not there."""
    if not yes:
        confirm("Remove every dead letter that fits, for good?")
    selection = _selection(job_ids, reason, sender, older_than)
    return run_async(_purge(broker_url(load_settings().settings), selection, as_json=as_json))


async def _purge(url: str, selection: Selection, *, as_json: bool) -> int:
    async with open_dead_letters(url) as dead_letters:
        letters = [letter for letter in dead_letters.letters if selection.fits(letter)]
        for letter in letters:
            await dead_letters.remove(letter)
    missing = _tell_of_the_missing(selection, letters)
    if as_json:
        print_json({"purged": len(letters)})
    else:
        click.echo(f"{_letters(len(letters))} removed")
    return 1 if missing else 0


def _letters(count: int) -> str:
    return "1 dead letter" if count == 1 else f"{count} dead letters"
