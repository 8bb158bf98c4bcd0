"""``otpost doctor``."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Final

import click
from rich.table import Table

from otpost_worker.cli.context import (
    broker_url,
    err,
    json_option,
    ledger_url,
    load_settings,
    out,
    plain,
    print_json,
    run_async,
)

if TYPE_CHECKING:
    from otpost_worker.doctor import Finding, Patient
    from otpost_worker.settings import Settings

_COLOURS: Final = {"ok": "green", "warning": "yellow", "problem": "red"}


@click.command()
@click.option(
    "--management-url",
    metavar="URL",
    help="Where RabbitMQ's management API is [default: http://BROKER:15672, or https://BROKER:15671 with amqps://].",
)
@json_option
def doctor(management_url: str | None, as_json: bool) -> int:
    """Examine broker, ledger, senders and provider, and say what to do; exit 1 where there is a problem.

    It sends no message, changes nothing, and can run beside workers. Run it with a worker's settings, as the user
    that the workers run as.
    """
    settings = load_settings().settings
    findings = run_async(_examine(_patient(settings, management_url)))
    levels = [finding.level.value for finding in findings]
    if as_json:
        for finding in findings:
            print_json(asdict(finding))
    else:
        _print(findings)
        err().print(f"{levels.count('problem')} problems, {levels.count('warning')} warnings, {levels.count('ok')} ok")
    return 1 if "problem" in levels else 0


def _patient(settings: Settings, management_url: str | None) -> Patient:
    # Here and not above: the other commands start in half the time without the worker's rooms.
    from otpost_worker.accounts import account_of  # noqa: PLC0415 - as said above
    from otpost_worker.doctor import Expecting, Patient  # noqa: PLC0415 - as said above

    return Patient(
        broker_url(settings),
        settings.topology == "passive",
        management_url,
        ledger_url(settings),
        {name: one.rate for name, one in settings.senders.items()},
        {name: settings.quota_of(name) for name in settings.senders},
        {name: (one.template, one.language) for name, one in settings.senders.items()},
        {name: account_of(name, one) for name, one in settings.senders.items()},
        {
            name: Expecting(one.app_secret is not None, one.verify_token is not None, one.waba_id is not None)
            for name, one in settings.senders.items()
        },
    )


async def _examine(patient: Patient) -> list[Finding]:
    from otpost_worker.doctor import examine  # noqa: PLC0415 - as in _patient

    return await examine(patient)


def _print(findings: list[Finding]) -> None:
    table = Table(box=None, pad_edge=False)
    table.add_column("", no_wrap=True)
    table.add_column("check", no_wrap=True)
    for heading in ("where", "finding"):
        table.add_column(heading)
    for finding in findings:
        level = finding.level.value
        remedy = f"\n→ {plain(finding.remedy)}" if finding.remedy else ""
        table.add_row(
            f"[{_COLOURS[level]}]{level}[/]", plain(finding.check), plain(finding.where), plain(finding.what) + remedy
        )
    out().print(table)
