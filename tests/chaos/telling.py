"""What is told of runs: a line each, the evidence of what was broken, and what struck in all of them."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

import orjson
from rich.console import Console
from rich.table import Table

from chaos.checker.limits import CLOCK, HELD_UP
from chaos.checker.timeline import timeline
from chaos.checker.verdict import excused, read_logs
from chaos.plan import names_of_all

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from chaos.run import Report

_MAX_TIMELINES: Final = 3
_SUFFIX: Final = ".told.json"


@dataclass(frozen=True, slots=True)
class Told:
    """What has to be remembered of a run for the summary."""

    seed: int
    ledger: str
    violations: int
    struck: list[str]
    took_s: float
    excused: dict[str, int] = field(default_factory=dict)


def told(report: Report, folder: Path) -> None:
    """Leave what the summary needs in *folder*."""
    orders = report.orders
    one = Told(
        orders.seed,
        orders.ledger,
        len(report.violations),
        report.struck,
        report.took_s,
        excused(report.evidence),
    )
    (folder / f"{orders.seed}{_SUFFIX}").write_bytes(orjson.dumps(one))


def read_told(folder: Path) -> list[Told]:
    """Read what all runs have left in *folder*."""
    return [Told(**orjson.loads(file.read_bytes())) for file in folder.glob(f"*{_SUFFIX}")]


def in_short(report: Report) -> str:
    """Tell of a run in a line."""
    orders, evidence = report.orders, report.evidence
    verdict = f"{len(report.violations)} VIOLATIONS" if report.violations else "kept"
    return (
        f"seed {orders.seed} ({orders.ledger}): {len(evidence.jobs)} jobs, {len(evidence.requests)} requests, "
        f"{len(evidence.results)} results, {len(report.struck)} faults, {report.took_s:.0f} s: {verdict}"
    )


def what_broke(report: Report) -> Iterator[str]:
    """Tell each violation, the time lines of the first jobs that are concerned, and where the rest is."""
    if not report.violations:
        return
    logs = read_logs(report.folder)
    known = {job.id for job in report.evidence.jobs}
    shown: set[str] = set()
    for violation in report.violations:
        yield f"  {violation.promise}: {violation.subject}: {violation.what}"
        job = violation.subject.partition("/")[0]
        if job in known and job not in shown and len(shown) < _MAX_TIMELINES:
            shown.add(job)
            yield from (f"    {line}" for line in timeline(report.evidence, job, logs))
    yield f"  evidence: {report.folder}; other time lines:"
    yield f"  cd tests && ../.venv/bin/python -m chaos.checker {report.folder} JOB"


def sum_up(all_told: Sequence[Told], folder: Path, seeds: Sequence[int]) -> bool:
    """Print the table of what struck, and the verdict; whether every run came to its end and kept every promise."""
    out = Console(highlight=False, soft_wrap=True)
    out.print(_table(all_told))
    out.print(_excuses(all_told))
    broken = sorted(one.seed for one in all_told if one.violations)
    missing = sorted(set(seeds) - {one.seed for one in all_told})
    ledgers = Counter(one.ledger for one in all_told)
    runs = ", ".join(f"{count} on {ledger}" for ledger, count in sorted(ledgers.items()))
    faults = sum(len(one.struck) for one in all_told)
    out.print(f"{len(all_told)} runs ({runs}), {faults} faults struck, {len(broken)} runs with violations")
    if broken:
        out.print(f"violations with the seeds {', '.join(map(str, broken))}; evidence in {folder}")
    if missing:
        out.print(f"not played to their end: the seeds {', '.join(map(str, missing))}")
    return not broken and not missing


def _table(all_told: Sequence[Told]) -> Table:
    struck = Counter(name for one in all_told for name in one.struck)
    runs = Counter(name for one in all_told for name in set(one.struck))
    names = [*names_of_all(has_own_ledger=any(one.ledger != "sqlite" for one in all_told))]
    table = Table("fault", "struck", "in runs", box=None, pad_edge=False)
    for name in [*names, *sorted(struck.keys() - set(names))]:
        table.add_row(name, str(struck[name]), str(runs[name]))
    return table


def _excuses(all_told: Sequence[Told]) -> Table:
    """Say how often the checker has let something pass; the excuses for a refusal by a limit always, be it 0 times."""
    uses = Counter[str]()
    for one in all_told:
        uses.update(one.excused)
    runs = Counter(name for one in all_told for name in one.excused)
    table = Table("excused", "times", "in runs", box=None, pad_edge=False)
    for name in dict.fromkeys([HELD_UP, CLOCK, *sorted(uses)]):
        table.add_row(name, str(uses[name]), str(runs[name]))
    return table
