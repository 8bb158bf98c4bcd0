"""What may hold up everybody: faults and their traces, processes that ended, clocks, a machine that has no time."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from chaos.checker.evidence import Evidence, Struck

Span = tuple[float, float]

# How long after a fault its traces may last: a worker starts again, connects again, and takes what has heaped up.
AFTER_S: Final = 5.0
# With so much time in which nothing stood in its way something is done, or somebody does not do his work.
CLEAR_S: Final = 3.0
_OF_RECEIVERS: Final = ("receiver", "webhooks")


def of_jobs(evidence: Evidence) -> list[Span]:
    """List when any job may have been held up; what concerns only receivers and reports holds up none."""
    receivers = receivers_of(evidence)
    faults = [one for one in evidence.struck if not one.kind.startswith(_OF_RECEIVERS)]
    ended = [life.ended_at for life in evidence.lives if life.worker not in receivers]
    return [*_spans(faults, ended), *_clocks_put_back(evidence)]


def of_reports(evidence: Evidence) -> list[Span]:
    """List when any report may have been held up."""
    ended = [life.ended_at for life in evidence.lives]
    return [*_spans(evidence.struck, ended), *_clocks_put_back(evidence), *starved(evidence)]


def starved(evidence: Evidence) -> list[Span]:
    """List when the machine had no time for somebody who had work to do."""
    return [(one.at, one.until) for one in evidence.starved]


def receivers_of(evidence: Evidence) -> set[str]:
    """Name the processes that are no workers."""
    return {life.worker for life in evidence.lives if life.worker.startswith("r")}


def _spans(faults: Iterable[Struck], ended: Iterable[float]) -> Iterator[Span]:
    for one in faults:
        yield one.at, one.until + AFTER_S
    for at in ended:
        yield at, at + AFTER_S


def _clocks_put_back(evidence: Evidence) -> Iterator[Span]:
    for move in evidence.clock_moves:
        if move.offset_s < 0:
            yield move.at, move.at - move.offset_s + AFTER_S


def uncovered(window: Span, spans: Iterable[Span]) -> float:
    """Tell how much of *window* none of *spans* covers."""
    at, until = window
    clear_s = 0.0
    for begin, end in sorted(spans):
        if begin >= until:
            break
        clear_s += max(0.0, begin - at)
        at = max(at, end)
    return clear_s + max(0.0, until - at)
