"""``otpost send``."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any, BinaryIO

import click
import orjson
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from otpost.client import Producer
from otpost.errors import InvalidJob, NoResult, NotConfirmed, Problem
from otpost.job import OtpJob
from otpost.result import Status
from otpost.topology import DEFAULT_SENDER
from otpost_worker.cli.completing import sender_names
from otpost_worker.cli.context import broker_url, complain, err, json_option, load_settings, print_json, run_async
from otpost_worker.cli.parameters import FiniteNumber, FiniteRange
from otpost_worker.cli.results import print_result

if TYPE_CHECKING:
    from collections.abc import Iterator

_MAX_SHOWN_PROBLEMS = 20


@click.command()
@click.option("--to", help="The recipient's number with its country code, such as +12015553931.")
@click.option("--code", help="The one-time password. Other users of this machine can see it: prefer --code-stdin.")
@click.option("--code-stdin", is_flag=True, help="Read the code from the first line of standard input.")
@click.option("--template", help="The template's name [default: the sender's].")
@click.option("--language", help="The template's language, such as en_US [default: the sender's].")
@click.option("--sender", default=DEFAULT_SENDER, show_default=True, shell_complete=sender_names, help="Who sends.")
@click.option(
    "--ttl",
    "ttl_s",
    type=FiniteNumber(),
    metavar="SECONDS",
    help="Seconds that the code is worth something [default: 600].",
)
@click.option(
    "--id", "job_id", help="The job's id; sent again under the same id, nothing is sent [default: a new one]."
)
@click.option(
    "--from", "file", type=click.File("rb"), help="Send many: JSON lines, each one job; - for standard input."
)
@click.option(
    "--wait",
    "wait_s",
    type=FiniteRange(min=0, min_open=True),
    metavar="SECONDS",
    help="Print results as they come; exit 0 only if the message was accepted.",
)
@json_option
def send(
    to: str | None,
    code: str | None,
    code_stdin: bool,
    template: str | None,
    language: str | None,
    sender: str,
    ttl_s: float | None,
    job_id: str | None,
    file: BinaryIO | None,
    wait_s: float | None,
    as_json: bool,
) -> int:
    """Publish one job and print its id, or many from a file. With OTPOST_PUBLIC_KEY, codes go out sealed.

    \b
    otpost send --to +12015553931 --code-stdin --ttl 300 --wait 30
    otpost send --from jobs.jsonl
    """  # noqa: D301 - \b is click's mark for text that keeps its lines
    settings = load_settings().settings
    producer = Producer(broker_url(settings), sender=sender, public_key=settings.public_key)
    one = {"to": to, "code": code, "template": template, "language": language, "ttl_s": ttl_s, "id": job_id}
    if file is not None:
        if any(value is not None for value in one.values()) or code_stdin or wait_s is not None:
            raise click.UsageError("--from takes everything from the file: only --sender and --json go with it")
        return run_async(_send_file(producer, file, as_json=as_json))
    if to is None:
        raise click.UsageError("--to is needed (or --from, for many)")
    one["code"] = _the_code(code, from_stdin=code_stdin)
    try:
        job = OtpJob(**{name: value for name, value in one.items() if value is not None})
    except InvalidJob as error:
        complain(*error.problems)
        return 2
    return run_async(_send_one(producer, job, wait_s, as_json=as_json))


def _the_code(code: str | None, *, from_stdin: bool) -> str:
    if code is not None and from_stdin:
        raise click.UsageError("--code and --code-stdin exclude each other")
    if code is not None:
        return code
    if from_stdin:
        return sys.stdin.readline().rstrip("\r\n")
    if not sys.stdin.isatty():
        raise click.UsageError("--code or --code-stdin is needed")
    return str(click.prompt("Code", hide_input=True))


async def _send_one(producer: Producer, job: OtpJob, wait_s: float | None, *, as_json: bool) -> int:
    async with producer:
        if wait_s is None:
            _print_id(await producer.send(job), as_json=as_json)
            return 0
        try:
            end = await producer.request(
                job,
                timeout_s=wait_s,
                on_confirmed=lambda job: _print_id(job.id, as_json=as_json),
                on_result=lambda result: print_result(result, as_json=as_json),
            )
        except NoResult:
            err().print(f"otpost: no end within {wait_s:g} s; the job goes on: see 'otpost results'")
            return 1
        return 0 if end.status is Status.ACCEPTED else 1


def _print_id(job_id: str, *, as_json: bool) -> None:
    if as_json:
        print_json({"job_id": job_id})
    else:
        click.echo(job_id)


async def _send_file(producer: Producer, file: BinaryIO, *, as_json: bool) -> int:
    problems: list[str] = []
    unconfirmed: NotConfirmed | None = None
    confirmed = 0
    # Whoever reads the ids may have had enough; the jobs are to be published all the same.
    unread: BrokenPipeError | None = None
    progress = Progress(
        TextColumn("publishing"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        console=err(),
        disable=not sys.stderr.isatty(),
    )
    async with producer:
        with progress:
            bar = progress.add_task("publishing", total=_lines(file))

            def count(job: OtpJob) -> None:
                nonlocal confirmed, unread
                confirmed += 1
                progress.update(bar, completed=confirmed)
                if as_json and unread is None:
                    try:
                        print_json({"job_id": job.id})
                    except BrokenPipeError as error:
                        unread = error

            try:
                await producer.send_many(_jobs(file, problems), on_confirmed=count)
            except NotConfirmed as error:
                unconfirmed = error
            progress.update(bar, total=confirmed)
    _report(confirmed, problems, unconfirmed, as_json=as_json)
    if unread is not None:
        raise unread
    return 1 if problems or unconfirmed else 0


def _lines(file: BinaryIO) -> int | None:
    """Count what there is to publish; None where the file can be read only once."""
    if not file.seekable():
        return None
    lines = sum(1 for line in file if line.strip())
    file.seek(0)
    return lines


def _jobs(file: BinaryIO, problems: list[str]) -> Iterator[OtpJob]:
    """Read jobs, one a line; a line that is none costs nobody else's job."""
    for number, line in enumerate(file, 1):
        if not line.strip():
            continue
        try:
            yield OtpJob(**_object(line))
        except InvalidJob as error:
            problems.append(f"line {number}: {error}")


def _object(line: bytes) -> dict[str, Any]:
    try:
        fields = orjson.loads(line)
    except orjson.JSONDecodeError:
        fields = None
    if not isinstance(fields, dict):
        raise InvalidJob([Problem("", "the line is not a JSON object")])
    return fields


def _report(confirmed: int, problems: list[str], unconfirmed: NotConfirmed | None, *, as_json: bool) -> None:
    if not as_json:
        click.echo(f"{confirmed} jobs published")
    for problem in problems[:_MAX_SHOWN_PROBLEMS]:
        click.echo(f"otpost: {problem}", err=True)
    if len(problems) > _MAX_SHOWN_PROBLEMS:
        click.echo(f"otpost: and {len(problems) - _MAX_SHOWN_PROBLEMS} more lines that are no jobs", err=True)
    if unconfirmed is not None:
        # What the broker refuses its user, it refuses again.
        remedy = "; send the file again: what has an id of its own in it is not sent twice"
        click.echo(
            f"otpost: {len(unconfirmed.job_ids)} jobs were not confirmed: {unconfirmed.reason}"
            f"{'' if unconfirmed.permanent else remedy}",
            err=True,
        )
