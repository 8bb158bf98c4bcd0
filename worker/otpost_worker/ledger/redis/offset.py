"""How far Redis's clock is ahead of the worker's, learnt from every reply [pure].

Redis counts leases and limits by its own clock; what a worker is told is told in the worker's time, so that two
clocks which disagree neither shorten nor lengthen any wait.
"""

from __future__ import annotations

import math


class ClockOffset:
    """The offset between two clocks, known to within the shortest round trip; 0 where they may agree."""

    def __init__(self) -> None:
        self._least = -math.inf
        self._most = math.inf

    @property
    def seconds(self) -> float:
        """By how much Redis's clock is ahead."""
        return min(max(self._least, 0.0), self._most)

    def learn(self, told: float, *, sent_at: float, received_at: float) -> None:
        """Learn from a reply: Redis's clock showed *told* between *sent_at* and *received_at* of the worker's."""
        # With a clock that was set back meanwhile the two ends change places, and the next reply is a better one.
        least, most = sorted((told - received_at, told - sent_at))
        if least > self._most or most < self._least:
            # One of the clocks was set, or has drifted away: what was known is of no use any more.
            self._least, self._most = least, most
        else:
            self._least, self._most = max(self._least, least), min(self._most, most)

    def to_redis(self, moment: float) -> float:
        """Translate a moment by the worker's clock."""
        return moment + self.seconds

    def to_worker(self, moment: float) -> float:
        """Translate a moment by Redis's clock."""
        return moment - self.seconds
