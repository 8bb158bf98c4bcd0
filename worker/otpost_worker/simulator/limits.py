"""Meta's two limits on sending: a number's throughput, and the pair of a number and a recipient.

Pure: the time is an argument, in seconds of a clock that never goes back.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from typing import Final, Literal

Limit = Literal["throughput", "pair"]

# Sums of sixes and clock readings are floats: a message must not be refused for the last bit of one.
_TOLERANCE_S: Final = 1e-6


@dataclass(frozen=True, slots=True)
class LimitSettings:
    """Which limits hold. The defaults are Meta's.

    `rate` is in messages per second and business number (80; 0 = no limit), with one second's worth as burst.
    `pair_interval_s` seconds must lie between two messages to one recipient (6), of which `pair_burst` (45)
    can be borrowed in advance. `throttle_status` is the HTTP status of 130429: 400 by Meta's table, 429 by
    others' reports.
    """

    rate: float = 80.0
    pair: bool = True
    pair_interval_s: float = 6.0
    pair_burst: int = 45
    throttle_status: int = 400


@dataclass(frozen=True, slots=True)
class Bucket:
    """A token bucket as it was at a moment."""

    tokens: float
    at: float


def refill(bucket: Bucket | None, now: float, rate: float) -> Bucket:
    """The bucket as it is now. No bucket yet is a full one."""
    burst = max(rate, 1.0)
    if bucket is None:
        return Bucket(burst, now)
    return Bucket(min(burst, bucket.tokens + max(0.0, now - bucket.at) * rate), now)


def borrow(paid_at: float | None, now: float, interval_s: float, burst: int) -> float | None:
    """When the pair's debt is paid after one more message, or None when nobody lends it that message.

    Each message costs `interval_s` seconds of debt, a second of waiting pays one second, and the debt may
    not grow beyond `burst` messages. After a whole burst the next message is possible `interval_s` later;
    the whole burst is there again after `burst * interval_s`.
    """
    paid = max(now, paid_at or now) + interval_s
    return paid if paid - now <= burst * interval_s + _TOLERANCE_S else None


class Limits:
    """The state of both limits over all numbers and recipients.

    It forgets a number whose bucket is full again and a pair whose debt is paid. At each message it looks
    at two remembered ones, oldest first: no sweep ever stops the traffic, and memory follows the recent
    traffic.
    """

    def __init__(self, settings: LimitSettings) -> None:
        self.settings = settings
        self._buckets: dict[str, Bucket] = {}
        self._paid_at: dict[tuple[str, str], float] = {}
        self._numbers: deque[str] = deque()
        self._pairs: deque[tuple[str, str]] = deque()

    def __len__(self) -> int:
        """How many numbers and pairs are remembered."""
        return len(self._buckets) + len(self._paid_at)

    def take(self, phone_number_id: str, recipient: str, now: float) -> Limit | None:
        """Count one message against both limits, or name the one in its way (then it counts for none)."""
        self._forget(now)
        settings, pair = self.settings, (phone_number_id, recipient)
        bucket: Bucket | None = None
        if settings.rate > 0:
            bucket = refill(self._buckets.get(phone_number_id), now, settings.rate)
            if bucket.tokens < 1 - _TOLERANCE_S:
                return "throughput"
        if settings.pair:
            paid_at = borrow(self._paid_at.get(pair), now, settings.pair_interval_s, settings.pair_burst)
            if paid_at is None:
                return "pair"
            if pair not in self._paid_at:
                self._pairs.append(pair)
            self._paid_at[pair] = paid_at
        if bucket is not None:
            if phone_number_id not in self._buckets:
                self._numbers.append(phone_number_id)
            self._buckets[phone_number_id] = Bucket(bucket.tokens - 1, now)
        return None

    def _forget(self, now: float) -> None:
        for _ in range(min(2, len(self._pairs))):
            pair = self._pairs.popleft()
            if self._paid_at[pair] <= now:
                del self._paid_at[pair]
            else:
                self._pairs.append(pair)
        for _ in range(min(2, len(self._numbers))):
            number = self._numbers.popleft()
            # One second refills any bucket, whatever its rate; a rate below 1 needs 1 / rate.
            if now - self._buckets[number].at > max(1.0, 1 / (self.settings.rate or 1.0)):
                del self._buckets[number]
            else:
                self._numbers.append(number)
