"""Nothing jumps a limit: the simulator has refused nobody for going too fast, but for what a moved clock explains."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from chaos.checker.evidence import Violation

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from chaos.checker.evidence import ClockMove, Evidence, Request, Terms

LIMITS: Final = "nothing jumps a limit"
HELD_UP: Final = "refused by a limit, as a message before was held up on its way"
CLOCK: Final = "refused by a limit, as its clock was put forward"
_TOLERANCE_S: Final = 0.05
# What otpost leaves between its own bookings and the provider's limit for the way of a message.
_RECKONED_WITH_S: Final = 0.5
# From the booking of a message to its arrival, if nothing holds it up.
_BOOKED_S: Final = 1.0


def check(evidence: Evidence) -> Iterator[Violation]:
    """Find the requests that the simulator's own limits refused; its rules and magic recipients do not count."""
    for refusal in _refusals(evidence):
        if refusal.excuse is None:
            yield Violation(
                LIMITS,
                str(refusal.request.callback),
                f"refused by the simulator's limit ({refusal.request.refused_by}): "
                f"{max(refusal.early_s, 0.0):.3f} s too early",
            )


def excused(evidence: Evidence) -> list[str]:
    """Name the excuse of each refusal that is not the product's fault."""
    return [refusal.excuse for refusal in _refusals(evidence) if refusal.excuse is not None]


@dataclass(slots=True)
class _Limits:
    """What the simulator counts, over again.

    *paid*: for each number and recipient since when messages have been owed, and until when they are paid for.
    *buckets*: for each number its tokens, and when they were counted.
    """

    terms: Terms
    paid: dict[tuple[str, str], tuple[float, float]] = field(default_factory=dict)
    buckets: dict[str, tuple[float, float]] = field(default_factory=dict)

    def take(self, request: Request, at: float) -> None:
        """Count a message that came *at*."""
        pair = (request.phone_number_id, request.recipient or "")
        since, until = self.paid.get(pair, (at, 0.0))
        begun = at if until <= at else since
        self.paid[pair] = (begun, max(at, until) + self.terms.pair_interval_s)
        self.buckets[request.phone_number_id] = self._spend(request, at)

    def too_early_s(self, request: Request) -> float:
        """Tell how much later a message would have had to come."""
        if request.refused_by == "throughput":
            tokens, _ = self._spend(request, request.at)
            return max(0.0, -tokens) / self.terms.rate
        _, until = self.paid.get((request.phone_number_id, request.recipient or ""), (0.0, 0.0))
        owed_s = max(until, request.at) + self.terms.pair_interval_s - request.at
        return owed_s - self.terms.pair_burst * self.terms.pair_interval_s

    def owed_since(self, request: Request) -> float:
        """Tell when the first message came that this one was refused for."""
        if request.refused_by == "throughput":
            return request.at - 1.0
        since, _ = self.paid.get((request.phone_number_id, request.recipient or ""), (request.at, 0.0))
        return since

    def _spend(self, request: Request, at: float) -> tuple[float, float]:
        tokens, since = self.buckets.get(request.phone_number_id, (self.terms.rate, at))
        return min(self.terms.rate, tokens + max(0.0, at - since) * self.terms.rate) - 1, at


@dataclass(frozen=True, slots=True)
class _Refusal:
    request: Request
    early_s: float
    excuse: str | None


def _refusals(evidence: Evidence) -> Iterator[_Refusal]:
    counted = _Limits(evidence.terms)
    before: list[Request] = []
    for request in sorted(evidence.requests, key=lambda request: request.seq):
        if request.refused_by in ("pair", "throughput"):
            early_s = counted.too_early_s(request)
            yield _Refusal(request, early_s, _excuse(evidence, request, before, early_s, counted.owed_since(request)))
        elif request.taken:
            counted.take(request, request.at)
            before.append(request)


def _excuse(
    evidence: Evidence, request: Request, before: Iterable[Request], early_s: float, owed_since: float
) -> str | None:
    """A limit that is kept by a clock can be crossed by as much as that clock was put forward.

    And who keeps it cannot help it if messages before were held up on their way for longer than he reckons with:
    as far as this one would have been in time, had they not been.
    """
    held_up_s = early_s - _on_time(evidence, before).too_early_s(request)
    if held_up_s > 0 and early_s <= held_up_s + _TOLERANCE_S:
        return HELD_UP
    if evidence.terms.own_ledger_clock:
        return None
    forward_s = _put_forward_s(evidence.clock_moves, since=owed_since - _BOOKED_S, until=request.at)
    return CLOCK if forward_s > 0 and early_s <= max(0.0, held_up_s) + forward_s + _TOLERANCE_S else None


def _on_time(evidence: Evidence, requests: Iterable[Request]) -> _Limits:
    """Count the messages again as if none had been on its way for longer than anybody reckons with."""
    begun = {one.callback: one.at for one in evidence.passings if one.point == "before request"}
    due = [(min(one.at, begun.get(one.callback, one.at) + _RECKONED_WITH_S), one) for one in requests]
    limits = _Limits(evidence.terms)
    for at, one in sorted(due, key=lambda each: each[0]):
        limits.take(one, at)
    return limits


def _put_forward_s(moves: Iterable[ClockMove], *, since: float, until: float) -> float:
    """Tell by how much the clock was put forward; whose was so by most, as all workers' may go by one."""
    current: dict[str | None, float] = {}
    forward_s: dict[str | None, float] = defaultdict(float)
    for move in sorted(moves, key=lambda move: move.at):
        step_s = move.offset_s - current.get(move.worker, 0.0)
        current[move.worker] = move.offset_s
        if since <= move.at <= until and step_s > 0:
            forward_s[move.worker] += step_s
    return max(forward_s.values(), default=0.0)
