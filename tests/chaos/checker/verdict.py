"""The verdict: every rule over everything that a run left behind."""

from __future__ import annotations

from typing import TYPE_CHECKING

from chaos.checker import conduct, ends, limits, requests, secrecy
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
        # RabbitMQ writes messages into its own log when a channel of its own crashes, so that log is like its disk.
        {path.name: path.read_bytes() for path in folder.glob("broker-*.log")},
    )


def read_logs(folder: Path) -> dict[str, bytes]:
    """Read what the workers wrote."""
    return {path.name: path.read_bytes() for path in sorted(folder.glob("w*-*.log"))}


def judge(
    evidence: Evidence, logs: Mapping[str, bytes], texts: Mapping[str, bytes], stores: Mapping[str, bytes]
) -> list[Violation]:
    """List what was not as promised.

    *logs*: what the workers wrote. *texts*: what else somebody may read, such as metrics. *stores*: the files of
    broker and ledger, the broker's log among them.
    """
    return [
        *ends.check(evidence),
        *requests.check(evidence),
        *limits.check(evidence),
        *secrecy.check(evidence, {**logs, **texts}, stores),
        *conduct.check(evidence, logs),
    ]
