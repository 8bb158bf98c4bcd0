"""``make chaos``: seeded runs under fire, a verdict on each, and a table of what struck.

Exit status 0: every promise was kept; 1: one was not, with the seed and the evidence; 2: misused.
"""

from __future__ import annotations

import argparse
import asyncio
import shutil
import sys
import tempfile
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Final

from rich.console import Console
from rich.table import Table

from chaos.checker.timeline import timeline
from chaos.checker.verdict import read_logs
from chaos.run import Orders, play
from private_rabbitmq import PrivateRabbitMQ

if TYPE_CHECKING:
    from collections.abc import Sequence

    from chaos.run import Report

_MAX_TIMELINES: Final = 3


def _parse(arguments: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="chaos", description="Runs otpost under fire and judges it.")
    parser.add_argument("--seed", type=int, default=1, help="of the first run; the next ones count on (default 1)")
    parser.add_argument("--runs", type=int, default=50)
    parser.add_argument("--jobs", type=int, default=300)
    parser.add_argument("--workers", type=int, default=3)
    parser.add_argument("--ledger", choices=["sqlite"], default="sqlite")
    parser.add_argument("--keep", type=Path, default=None, help="where evidence goes (default: a temporary folder)")
    return parser.parse_args(arguments)


async def _play_all(options: argparse.Namespace, folder: Path, out: Console) -> list[Report]:
    reports = []
    async with PrivateRabbitMQ(management=True) as node:
        for seed in range(options.seed, options.seed + options.runs):
            orders = Orders(seed, options.ledger, options.jobs, options.workers)
            place = folder / f"seed-{seed}"
            place.mkdir(parents=True)
            report = await play(orders, place, node)
            _tell(out, report)
            reports.append(report)
    return reports


def _tell(out: Console, report: Report) -> None:
    orders, evidence = report.orders, report.evidence
    verdict = "kept" if not report.violations else f"{len(report.violations)} VIOLATIONS"
    out.print(
        f"seed {orders.seed} ({orders.ledger}): {len(evidence.jobs)} jobs, {len(evidence.requests)} requests, "
        f"{len(evidence.results)} results, {len(report.struck)} faults struck, {report.took_s:.0f} s: {verdict}"
    )
    logs = read_logs(report.folder)
    told: set[str] = set()
    for violation in report.violations:
        out.print(f"  {violation.promise}: {violation.subject}: {violation.what}", markup=False)
        job = violation.subject.partition("/")[0]
        if job not in told and len(told) < _MAX_TIMELINES and any(one.id == job for one in evidence.jobs):
            told.add(job)
            for line in timeline(evidence, job, logs):
                out.print(f"    {line}", markup=False)
    if report.violations:
        out.print(f"  the evidence is kept in {report.folder}")


def _table(reports: Sequence[Report]) -> Table:
    struck = Counter(name for report in reports for name in report.struck)
    runs = Counter(name for report in reports for name in set(report.struck))
    table = Table("fault", "struck", "in runs", box=None, pad_edge=False)
    for name in sorted(struck):
        table.add_row(name, str(struck[name]), str(runs[name]))
    return table


def main(arguments: Sequence[str]) -> int:
    """Play, judge and tell."""
    options = _parse(arguments)
    out = Console(highlight=False, soft_wrap=True)
    folder = options.keep or Path(tempfile.mkdtemp(prefix="otpost-chaos-"))
    reports = asyncio.run(_play_all(options, folder, out))
    out.print(_table(reports))
    broken = [report.orders.seed for report in reports if report.violations]
    if not broken:
        if options.keep is None:
            shutil.rmtree(folder)
        out.print(f"{len(reports)} runs, no violation")
        return 0
    out.print(f"violations with the seeds {', '.join(map(str, broken))}; evidence in {folder}")
    return 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
