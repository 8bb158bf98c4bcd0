"""The verdict: every rule over everything that a run left behind."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from chaos.checker import conduct, ends, limits, reports, requests, secrecy, unplanned
from chaos.checker.evidence import load

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from chaos.checker.evidence import Evidence, Violation


def judge_folder(folder: Path, evidence: Evidence | None = None) -> list[Violation]:
    """Judge what a run has left in *folder*: the evidence, the workers' logs, and everything else as text."""
    return judge(
        evidence or load(folder / "evidence.json"),
        read_logs(folder),
        {path.name: path.read_bytes() for path in folder.glob("*.txt")},
    )


def read_logs(folder: Path) -> dict[str, bytes]:
    """Read what workers and receivers wrote."""
    return {path.name: path.read_bytes() for path in sorted(folder.glob("[wr]*-*.log"))}


def judge(evidence: Evidence, logs: Mapping[str, bytes], texts: Mapping[str, bytes]) -> list[Violation]:
    """List what was not as promised; *logs* is what the workers wrote, *texts* what else somebody may read."""
    return [
        *ends.check(evidence),
        *unplanned.check(evidence),
        *requests.check(evidence),
        *reports.check(evidence),
        *limits.check(evidence),
        *secrecy.check(evidence, {**logs, **texts}),
        *conduct.check(evidence, logs),
    ]


def excused(evidence: Evidence) -> dict[str, int]:
    """Count what would be a violation, were it not for something that went wrong."""
    return dict(Counter(one for rules in (ends, unplanned, limits, reports) for one in rules.excused(evidence)))
