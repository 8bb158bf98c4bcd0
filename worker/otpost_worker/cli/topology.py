"""``otpost topology``: declare and verify."""

from __future__ import annotations

from contextlib import asynccontextmanager
from dataclasses import asdict
from typing import TYPE_CHECKING

import click

from otpost import declaring, provisioning, rabbitmq
from otpost.differences import Trouble
from otpost.errors import OtpostError
from otpost.job import SENDER_NAME_RULE, is_sender_name
from otpost.topology import DROPPED
from otpost.topology import topology as topology_of
from otpost.urls import visible_url
from otpost_worker.brokers.rabbitmq.ledger_mark import forget_ledger
from otpost_worker.cli.completing import sender_names
from otpost_worker.cli.context import NO_SENDER, broker_url, confirm, json_option, load_settings, print_json, run_async
from otpost_worker.settings import InvalidSettings

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from aio_pika.abc import AbstractConnection

    from otpost.differences import Finding
    from otpost.topology import Topology

_TIMEOUT_S = 10.0


class WorkersRunning(OtpostError):
    """Something is asked for that must not be done while workers run."""


@click.group()
def topology() -> None:
    """Provision the broker, or compare it with what is needed."""


def _senders_option(command: Callable[..., int]) -> Callable[..., int]:
    return click.option(
        "--sender",
        "senders",
        multiple=True,
        shell_complete=sender_names,
        help="A sender's name; may be repeated [default: the configured].",
    )(command)


def _url_and_wanted(senders: tuple[str, ...]) -> tuple[str, Topology]:
    for name in senders:
        if not is_sender_name(name):
            raise click.UsageError(f"--sender {name!r}: {SENDER_NAME_RULE}")
    settings = load_settings().settings
    names = senders or tuple(settings.senders)
    if not names:
        raise InvalidSettings([NO_SENDER + "; or name it with --sender"])
    return broker_url(settings), topology_of(names)


@asynccontextmanager
async def _connected(url: str) -> AsyncIterator[AbstractConnection]:
    connection = await rabbitmq.connect(url, name="otpost topology", timeout_s=_TIMEOUT_S)
    try:
        yield connection
    finally:
        await rabbitmq.close_quietly(connection)


@topology.command()
@_senders_option
@click.option(
    "--new-ledger",
    is_flag=True,
    help="Forget which ledger the workers share, so that the next one that starts tells its own. Stop them first.",
)
@click.option("--yes", is_flag=True, help="Do not ask.")
def declare(senders: tuple[str, ...], new_ledger: bool, yes: bool) -> int:
    """Declare every exchange, queue and binding; doing it again changes nothing.

    --new-ledger is for a ledger that was lost or replaced: workers refuse to start with another one than that of the
    broker's other workers. A job whose request the lost ledger knew of may be sent once more.
    """
    url, wanted = _url_and_wanted(senders)
    if new_ledger and not yes:
        confirm("Forget which ledger the workers of this broker share?")
    return run_async(_declare(url, wanted, new_ledger=new_ledger))


async def _declare(url: str, wanted: Topology, *, new_ledger: bool) -> int:
    async with _connected(url) as connection:
        await declaring.declare(connection, wanted)
        if new_ledger:
            await _forget_ledger(connection)
            click.echo("the next worker that starts tells which ledger all workers share")
    click.echo(
        f"declared {len(wanted.exchanges)} exchanges, {len(wanted.queues)} queues and {len(wanted.bindings)} bindings "
        f"on {visible_url(url)}"
    )
    return 0


async def _forget_ledger(connection: AbstractConnection) -> None:
    # Every worker reads what the broker gave up on.
    state = await declaring.inspect_queue(connection, DROPPED, timeout_s=_TIMEOUT_S)
    if state is not None and state.consumers:
        raise WorkersRunning(
            f"{state.consumers} workers still consume from this broker, with the ledger that is to be forgotten: stop "
            "them first, and start them with the new one"
        )
    await forget_ledger(connection)


@topology.command()
@_senders_option
@json_option
def verify(senders: tuple[str, ...], as_json: bool) -> int:
    """Compare the broker's exchanges and queues with what is needed; exit 1 if anything is missing or differs.

    Nothing is created, changed or deleted, and no running worker notices. It needs a user with the right to
    configure 'otpost.*', since the broker compares arguments for no other.

    Not checked, because AMQP cannot tell: bindings, policies (which may override arguments), permissions, and
    what else there is on the broker. Of an exchange only the first difference is told.
    """
    return run_async(_verify(*_url_and_wanted(senders), as_json=as_json))


async def _verify(url: str, wanted: Topology, *, as_json: bool) -> int:
    async with _connected(url) as connection:
        findings = await provisioning.verify(connection, wanted)
    for finding in findings:
        if as_json:
            print_json(asdict(finding))
        else:
            click.echo(str(finding))
    if not findings and not as_json:
        click.echo(
            f"{len(wanted.exchanges)} exchanges and {len(wanted.queues)} queues are as needed on {visible_url(url)}; "
            "bindings and policies were not checked"
        )
    if findings:
        click.echo(f"otpost: {len(findings)} findings on {visible_url(url)}. {_remedy(findings)}", err=True)
    return 1 if findings else 0


def _remedy(findings: list[Finding]) -> str:
    troubles = {finding.trouble for finding in findings}
    remedies = {
        Trouble.DIFFERS: "arguments cannot be changed: once what differs is empty and unused, delete it",
        Trouble.MISSING: "'otpost topology declare' makes what is missing",
        Trouble.UNCHECKED: "give the user the right to configure 'otpost.*'",
    }
    return "; ".join(remedy for trouble, remedy in remedies.items() if trouble in troubles)
