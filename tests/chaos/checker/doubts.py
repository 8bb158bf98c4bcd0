"""Which attempts nobody can know the outcome of, by what the simulator, the proxies and the probes saw.

Never by what a worker told: one that takes a good answer for none has no excuse here.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from chaos.checker.evidence import attempt_of, was_struck
from chaos.checker.requests import DAWDLING_S, is_lost

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from chaos.checker.evidence import Evidence, Passing

Attempt = tuple[str, int, int]
Run = tuple[str, int]

# A claim is a lease of the request's time-out and so much.
LEASE_S: Final = 5.0
# A connection that was half-closed and kept is noticed by the next request over it.
_TRACES_S: Final = 1.0
_SETTLED: Final = ("after record", "after release", "after lapse")


@dataclass(slots=True)
class Claim:
    """A claim that was asked for at *at* by process *pid*; *settled_at*: when its outcome was recorded, if ever."""

    at: float
    worker: str
    pid: int
    settled_at: float = float("inf")


def doubts(evidence: Evidence) -> dict[Run, dict[int, float]]:
    """Find the attempts of each run that may or may not have arrived, each with when it began."""
    found: dict[Run, dict[int, float]] = defaultdict(dict)
    for (job, run, attempt), at in [*_unanswered(evidence), *_given_up(evidence), *_left(evidence)]:
        found[job, run].setdefault(attempt, at)
    return found


def _unanswered(evidence: Evidence) -> Iterator[tuple[Attempt, float]]:
    """The answer told nothing, came too late, or never."""
    for request in evidence.requests:
        if request.callback is not None and is_lost(evidence, request):
            yield attempt_of(request.callback), request.at
    for lost in evidence.unanswered:
        yield attempt_of(lost.callback), lost.at


def _given_up(evidence: Evidence) -> Iterator[tuple[Attempt, float]]:
    """All of a request's time went by; or it never arrived."""
    ended = {one.callback: one.at for one in evidence.passings if one.point == "after request"}
    for passing in evidence.passings:
        if passing.point == "before request" and passing.callback is not None:
            took_s = ended.get(passing.callback, passing.at) - passing.at
            if took_s > evidence.terms.timeout_s - DAWDLING_S:
                yield attempt_of(passing.callback), passing.at
    yield from never_arrived(evidence)


def never_arrived(evidence: Evidence) -> Iterator[tuple[Attempt, float]]:
    """Find the requests that the simulator never saw, and whose line was struck."""
    arrived = {request.callback for request in evidence.requests}
    timeout_s = evidence.terms.timeout_s
    for passing in evidence.passings:
        if passing.point != "before request" or passing.callback is None or passing.callback in arrived:
            continue
        if was_struck(evidence, "simulator", passing.worker, passing.at - _TRACES_S, passing.at + timeout_s):
            yield attempt_of(passing.callback), passing.at


def _left(evidence: Evidence) -> Iterator[tuple[Attempt, float]]:
    """Whoever held the claim died, or could not reach the ledger, or the clock of the lease was moved."""
    died_at = {life.pid: life.ended_at for life in evidence.lives if life.told in ("kill", "probe")}
    lease_s = evidence.terms.timeout_s + LEASE_S
    for attempt, claims in claims_of(evidence).items():
        for claim in claims:
            until = min(claim.settled_at, claim.at + lease_s)
            is_dead = died_at.get(claim.pid, float("inf")) <= until
            is_late = claim.settled_at > claim.at + lease_s
            is_cut_off = is_late and was_struck(evidence, "ledger", claim.worker, claim.at, claim.at + lease_s)
            if is_dead or is_cut_off or _clock_jumps(evidence, claim.at, until):
                yield attempt, claim.at


def claims_of(evidence: Evidence) -> Mapping[Attempt, list[Claim]]:
    """Follow each claim from the moment that it was asked for to its record; what the ledger denied is none."""
    claims: dict[Attempt, list[Claim]] = defaultdict(list)
    for passing in sorted(evidence.passings, key=lambda passing: passing.at):
        key = _key_of(passing)
        if key is None:
            continue
        ours = [one for one in claims[key] if one.pid == passing.pid and one.settled_at == float("inf")]
        if passing.point == "before claim":
            claims[key].append(Claim(passing.at, passing.worker, passing.pid))
        elif passing.point == "after claim" and passing.result != "Claimed" and ours:
            claims[key].remove(ours[-1])
        elif passing.point in _SETTLED:
            for one in ours:
                one.settled_at = passing.at
    return claims


def _key_of(passing: Passing) -> Attempt | None:
    if passing.job is None or passing.run is None or passing.attempt is None:
        return None
    return passing.job, passing.run, passing.attempt


def _clock_jumps(evidence: Evidence, since: float, until: float) -> bool:
    """Tell whether a lease lapsed sooner than it should, by the clock that leases go by."""
    if evidence.terms.own_ledger_clock:
        return False
    return any(since <= move.at <= until and move.offset_s > 0 for move in evidence.clock_moves)
