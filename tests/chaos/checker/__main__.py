"""Judges a run again by the evidence that it left: ``python -m chaos.checker FOLDER [JOB …]`` (time lines of jobs)."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

from chaos.checker.evidence import load
from chaos.checker.timeline import timeline
from chaos.checker.verdict import judge_folder, read_logs

if TYPE_CHECKING:
    from collections.abc import Sequence


def main(arguments: Sequence[str]) -> int:
    """Print the violations, or where jobs are named, what happened to them."""
    if not arguments:
        sys.stderr.write("usage: python -m chaos.checker FOLDER [JOB …]\n")
        return 2
    folder = Path(arguments[0])
    evidence = load(folder / "evidence.json")
    for job in arguments[1:]:
        sys.stdout.writelines(f"{line}\n" for line in [job, *timeline(evidence, job, read_logs(folder))])
    if arguments[1:]:
        return 0
    violations = judge_folder(folder, evidence)
    sys.stdout.writelines(f"{one.promise}: {one.subject}: {one.what}\n" for one in violations)
    return 1 if violations else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
