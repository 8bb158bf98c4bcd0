"""What the simulator says became of the messages that it took, by attempt: the witness for reports."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from chaos.checker.evidence import attempt_of

if TYPE_CHECKING:
    from collections.abc import Iterator

    from chaos.checker.evidence import Evidence, Reported

Attempt = tuple[str, int, int]
Run = tuple[str, int]

DELIVERIES: Final = frozenset({"delivered", "read"})
FAILED: Final = "failed"


@dataclass(frozen=True, slots=True)
class Fates:
    """All reports that went out, by attempt."""

    by_attempt: dict[Attempt, list[Reported]]

    def of(self, attempt: Attempt) -> list[Reported]:
        """List what was posted of an attempt, whether it arrived or not."""
        return self.by_attempt.get(attempt, [])

    def failed(self, attempt: Attempt) -> bool:
        """Tell whether a failure of the attempt was posted."""
        return any(one.status == FAILED for one in self.of(attempt))

    def of_run(self, run: Run) -> list[Reported]:
        """List what was posted of all attempts of a run."""
        return [one for attempt, reports in self.by_attempt.items() if attempt[:2] == run for one in reports]

    def delivered(self, job: str, run: int | None = None) -> list[Reported]:
        """List the deliveries that were posted of a job, or of one run of it."""
        return [
            one
            for attempt, reports in self.by_attempt.items()
            if attempt[0] == job and run in (None, attempt[1])
            for one in reports
            if one.status in DELIVERIES
        ]

    def __iter__(self) -> Iterator[tuple[Attempt, list[Reported]]]:
        """Go through the attempts."""
        return iter(sorted(self.by_attempt.items()))


def fates(evidence: Evidence) -> Fates:
    """Collect the reports that went out."""
    found: dict[Attempt, list[Reported]] = defaultdict(list)
    for report in evidence.reports:
        if report.posts:
            found[attempt_of(report.callback)].append(report)
    return Fates(dict(found))
