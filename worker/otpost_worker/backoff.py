"""How long to wait after a failure: the curves, as data and arithmetic (contract, section 6).

*failures* counts the earlier failures of the same kind of one job, so the first wait is the curve's base.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from otpost_worker.outcome import Kind

MIN_DELAY_S: Final = 0.25


@dataclass(frozen=True, slots=True)
class Curve:
    """``base_s * factor ** failures``, at most *ceiling_s*; with *jitter* anything between 0 and that."""

    base_s: float
    factor: float
    ceiling_s: float
    jitter: bool


# A pair limit's 4^X s is the provider's own rule, so it is kept exactly; so is a pause for an exhausted quota.
# Full jitter is for what many jobs meet at once.
CURVES: Final[dict[Kind, Curve]] = {
    Kind.THROUGHPUT: Curve(base_s=1, factor=2, ceiling_s=30, jitter=True),
    Kind.PAIR_LIMIT: Curve(base_s=1, factor=4, ceiling_s=4096, jitter=False),
    Kind.QUOTA: Curve(base_s=60, factor=2, ceiling_s=900, jitter=False),
    Kind.USER_LIMIT: Curve(base_s=30, factor=2, ceiling_s=7200, jitter=False),
    Kind.UNAVAILABLE: Curve(base_s=1, factor=4, ceiling_s=30, jitter=True),
}


def delay_s(kind: Kind, failures: int, *, asked_s: float | None, random: float) -> float:
    """Compute the wait before the next attempt, in seconds.

    *asked_s* is what the provider asked for (Retry-After, a usage header): never less than that. For a quota it
    replaces the curve, since the provider knows. *random* is between 0 and 1.
    """
    if kind is Kind.QUOTA and asked_s is not None:
        return max(asked_s, MIN_DELAY_S)
    curve = CURVES[kind]
    # Past the ceiling the power only grows; without this bound a float would overflow.
    wait = min(curve.base_s * curve.factor ** min(failures, 16), curve.ceiling_s)
    if curve.jitter:
        wait *= random
    return max(wait, asked_s or 0.0, MIN_DELAY_S)
