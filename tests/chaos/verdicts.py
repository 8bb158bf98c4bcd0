"""The verdict on evidence written by hand, in a form that tests compare."""

from __future__ import annotations

from typing import TYPE_CHECKING

from chaos.checker.verdict import judge

if TYPE_CHECKING:
    from chaos.checker.evidence import Evidence


def found(evidence: Evidence, *, log: bytes = b"", text: bytes = b"") -> list[tuple[str, str, str]]:
    verdict = judge(evidence, {"w1-1.log": log}, {"metrics.txt": text})
    return [(one.promise, one.subject, one.what) for one in verdict]


def the_one(evidence: Evidence, **texts: bytes) -> tuple[str, str, str]:
    violations = found(evidence, **texts)
    assert len(violations) == 1, violations
    return violations[0]
