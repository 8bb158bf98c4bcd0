"""What is out of order for a while: worth a word when it begins and when it is over, however often it is met [pure].

A broker that is away is met by each of a hundred jobs, and by each of them every second. ``OutageLog`` writes down
what is worth a word here.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

# How often whoever reads the log is reminded of what is still out of order.
REMIND_EVERY_S: Final = 300.0
# What works may only seem to: it has to go on working for so long before it is said to be over.
SETTLE_S: Final = 2.0


@dataclass(frozen=True, slots=True)
class Word:
    """What to say of an outage: *reason* as it was met last, how often (*times*) and for how long (*for_s*)."""

    reason: str
    times: int
    for_s: float

    @property
    def is_first(self) -> bool:
        """Whether it was met for the first time."""
        return self.times == 1


class Outage:
    """One thing that may be out of order. Times are seconds of a clock that only goes forward.

    It may be met in several parts (a connection each, a queue each); it is over once each of them works again.
    """

    def __init__(self) -> None:
        self._since: float | None = None
        self._reason = ""
        self._times = 0
        self._parts: set[str] = set()
        self._told: set[str] = set()
        self._told_at = 0.0
        self._works_since: float | None = None

    @property
    def reason(self) -> str | None:
        """Why it is out of order, as met last; None once it is over."""
        return None if self._since is None else self._reason

    def met(self, reason: str, *, now: float, part: str = "", aspect: str = "") -> Word | None:
        """Take note that *part* did not work; returns what to say, if anything.

        Each *aspect* of an outage is said once; an aspect is a reason that asks for something else to be done.
        """
        if self._since is None:
            self._since = now
        self._reason, self._works_since = reason, None
        self._times += 1
        self._parts.add(part)
        if aspect in self._told and now - self._told_at < REMIND_EVERY_S:
            return None
        self._told.add(aspect)
        self._told_at = now
        return Word(reason, self._times, now - self._since)

    def works(self, *, now: float, part: str = "") -> bool:
        """Take note that *part* works; tells whether to ask ``over`` in ``SETTLE_S`` seconds."""
        self._parts.discard(part)
        if self._since is None or self._parts or self._works_since is not None:
            return False
        self._works_since = now
        return True

    def over(self, *, now: float) -> Word | None:
        """Return what to say at the end; None where it is not over, or has not been for long enough."""
        if self._since is None or self._works_since is None or now - self._works_since < SETTLE_S:
            return None
        word = Word(self._reason, self._times, self._works_since - self._since)
        self._since = self._works_since = None
        self._times = 0
        self._told.clear()
        return word
