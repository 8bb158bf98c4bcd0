"""Nothing jumps a limit: the simulator has refused nobody for going too fast, but for what a moved clock explains."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from chaos.checker.evidence import Violation

if TYPE_CHECKING:
    from collections.abc import Iterator

    from chaos.checker.evidence import ClockMove, Evidence, Request, Terms

LIMITS: Final = "nothing jumps a limit"
_TOLERANCE_S: Final = 0.05
# What otpost leaves between its own bookings and the provider's limit for the way of a message.
_RECKONED_WITH_S: Final = 0.5


def check(evidence: Evidence) -> Iterator[Violation]:
    """Find the requests that the simulator's own limits refused; its rules and magic recipients do not count."""
    paid_at: dict[tuple[str, str], float] = {}
    buckets: dict[str, tuple[float, float]] = {}
    terms = evidence.terms
    for request in sorted(evidence.requests, key=lambda request: request.seq):
        pair = (request.phone_number_id, request.recipient or "")
        if request.refused_by == "pair":
            early_s = _too_early_for_pair(terms, paid_at.get(pair, 0.0), request.at)
            yield from _unless_explained(evidence, request, early_s, over_s=terms.pair_burst * terms.pair_interval_s)
        elif request.refused_by == "throughput":
            early_s = _too_early_for_rate(terms, buckets.get(request.phone_number_id), request.at)
            yield from _unless_explained(evidence, request, early_s, over_s=1.0)
        elif request.taken:
            paid_at[pair] = max(request.at, paid_at.get(pair, 0.0)) + terms.pair_interval_s
            buckets[request.phone_number_id] = _spend(terms, buckets.get(request.phone_number_id), request.at)


def _too_early_for_pair(terms: Terms, paid_at: float, at: float) -> float:
    return max(paid_at, at) + terms.pair_interval_s - terms.pair_burst * terms.pair_interval_s - at


def _spend(terms: Terms, bucket: tuple[float, float] | None, at: float) -> tuple[float, float]:
    tokens, since = bucket or (terms.rate, at)
    return min(terms.rate, tokens + max(0.0, at - since) * terms.rate) - 1, at


def _too_early_for_rate(terms: Terms, bucket: tuple[float, float] | None, at: float) -> float:
    tokens, _ = _spend(terms, bucket, at)
    return max(0.0, -tokens) / terms.rate


def _unless_explained(evidence: Evidence, request: Request, early_s: float, *, over_s: float) -> Iterator[Violation]:
    """A limit that is kept by a clock can be crossed by as much as that clock was put forward.

    And who keeps it cannot help it if messages are held up on their way for longer than he reckons with.
    """
    since = request.at - over_s
    explained_s = max(0.0, _held_up_s(evidence, request, since) - _RECKONED_WITH_S)
    if not evidence.terms.own_ledger_clock:
        explained_s += _put_forward_s(evidence.clock_moves, since=since, until=request.at)
    if early_s > explained_s + _TOLERANCE_S or not explained_s:
        yield Violation(
            LIMITS,
            str(request.callback),
            f"refused by the simulator's limit ({request.refused_by}): {max(early_s, 0.0):.3f} s too early",
        )


def _held_up_s(evidence: Evidence, request: Request, since: float) -> float:
    """Tell how long the slowest message of this number was on its way from its worker since then."""
    begun = {one.callback: one.at for one in evidence.passings if one.point == "before request"}
    return max(
        one.at - begun.get(one.callback, one.at)
        for one in evidence.requests
        if one.phone_number_id == request.phone_number_id and since <= one.at <= request.at
    )


def _put_forward_s(moves: tuple[ClockMove, ...], *, since: float, until: float) -> float:
    """Add up by how much clocks were put forward, whoever's they were."""
    current: dict[str | None, float] = {}
    forward_s = 0.0
    for move in sorted(moves, key=lambda move: move.at):
        step_s = move.offset_s - current.get(move.worker, 0.0)
        current[move.worker] = move.offset_s
        if since <= move.at <= until and step_s > 0:
            forward_s += step_s
    return forward_s
