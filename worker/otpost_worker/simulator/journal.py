"""What was received: the evidence that tests judge by.

It keeps codes and phone numbers in clear, which nothing else in this project may do: the simulator is a
test judge, bound to loopback, and never meets a real one-time password.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from dataclasses import dataclass
from typing import Any, Final

# Not counted as received: the sender's bytes never became a request for Meta.
_NOT_RECEIVED: Final = "cut_before"


@dataclass(slots=True)
class Entry:
    """One send request.

    `at` is when it was fully received and `answered_at` when its answer was ready, in seconds since the epoch
    (None: no answer yet, or never). `taken` tells whether a handset would have got the message. `recipient`
    holds the digits of the number it would have gone to. `refused_by` names the limit, quota or token that
    refused it, None for all else; `invalid` says what is wrong with a message by Meta's rules. `prepended`
    and `code_in_callback` are senders' bugs that Meta would not complain about.
    """

    seq: int
    at: float
    phone_number_id: str
    outcome: str
    taken: bool
    token_ok: bool
    to: str | None = None
    recipient: str | None = None
    code: str | None = None
    template: str | None = None
    language: str | None = None
    callback: str | None = None
    answered_at: float | None = None
    error_code: int | None = None
    http_status: int | None = None
    wamid: str | None = None
    prepended: bool = False
    code_in_callback: bool = False
    refused_by: str | None = None
    invalid: str | None = None


@dataclass(frozen=True, slots=True)
class _Waiter:
    received: int
    taken: int
    done: asyncio.Future[None]


class Journal:
    """The entries, oldest first, at most `limit` of them; counts go on over those that were dropped."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._next_seq = 1
        # Keyed by seq, without gaps: any entry and the oldest one are found without a walk.
        self._entries: dict[int, Entry] = {}
        self._waiters: list[_Waiter] = []
        self._reset()

    def _reset(self) -> None:
        self._entries.clear()
        self.total = 0
        self.taken = 0
        self.dropped = 0
        self.trap_hits = 0
        self.trap_hits_with_token = 0
        self._outcomes: Counter[str] = Counter()
        self._error_codes: Counter[int] = Counter()
        self._refused_by: Counter[str] = Counter()
        self._flags: Counter[str] = Counter()
        self._callbacks: dict[str, int] = {}
        self._taken_callbacks: dict[str, int] = {}
        self._max_per_callback = 0
        self._max_taken_per_callback = 0

    @property
    def next_seq(self) -> int:
        """The number of the entry that will be written next; it never starts again."""
        return self._next_seq

    def record(self, entry: Entry) -> None:
        """Write an entry down (its number is `next_seq`) and wake whoever waited for it."""
        self._entries[entry.seq] = entry
        self._next_seq = entry.seq + 1
        self.total += 1
        self.taken += entry.taken
        if len(self._entries) > self._limit:
            self._drop_oldest()
        self._count(entry)
        if self._waiters:
            self._wake()

    def trap(self, *, with_token: bool) -> None:
        """Somebody followed a redirect."""
        self.trap_hits += 1
        self.trap_hits_with_token += with_token

    def clear(self) -> None:
        """Forget entries and counts; `seq` goes on, so that a reader's cursor stays right."""
        self._reset()

    def entries(self, since: int = 0, limit: int | None = None) -> list[Entry]:
        """The entries after number `since`, at most `limit`."""
        oldest = self._next_seq - len(self._entries)
        first = max(since + 1, oldest)
        end = self._next_seq if limit is None else min(self._next_seq, first + limit)
        return [self._entries[seq] for seq in range(first, end)]

    async def wait(self, received: int = 0, taken: int = 0, timeout_s: float = 30.0) -> bool:
        """Wait for so many entries and taken messages since the last clear; False after `timeout_s`."""
        if self.total >= received and self.taken >= taken:
            return True
        waiter = _Waiter(received, taken, asyncio.get_running_loop().create_future())
        self._waiters.append(waiter)
        try:
            async with asyncio.timeout(timeout_s):
                await waiter.done
        except TimeoutError:
            return False
        finally:
            self._waiters.remove(waiter)
        return self.total >= received and self.taken >= taken

    def release(self) -> None:
        """Let everybody who waits go on with what there is: the server closes."""
        for waiter in self._waiters:
            _finish(waiter)

    def stats(self) -> dict[str, Any]:
        """Counts since the last clear."""
        return {
            "received": self.total - self._outcomes[_NOT_RECEIVED],
            "taken": self.taken,
            "total": self.total,
            "dropped_entries": self.dropped,
            "by_outcome": dict(self._outcomes),
            "by_error_code": {str(code): count for code, count in self._error_codes.items()},
            "throughput_refusals": self._refused_by["throughput"],
            "pair_refusals": self._refused_by["pair"],
            "quota_refusals": self._refused_by["quota"],
            "token_refusals": self._refused_by["token"],
            "invalid": self._flags["invalid"],
            "prepended": self._flags["prepended"],
            "code_in_callback": self._flags["code_in_callback"],
            "trap_hits": self.trap_hits,
            "trap_hits_with_token": self.trap_hits_with_token,
            "distinct_callbacks": len(self._callbacks),
            "max_per_callback": self._max_per_callback,
            "distinct_taken_callbacks": len(self._taken_callbacks),
            "max_taken_per_callback": self._max_taken_per_callback,
        }

    def _count(self, entry: Entry) -> None:
        self._outcomes[entry.outcome] += 1
        if entry.error_code is not None:
            self._error_codes[entry.error_code] += 1
        if entry.refused_by is not None:
            self._refused_by[entry.refused_by] += 1
        if entry.invalid is not None:
            self._flags["invalid"] += 1
        if entry.prepended:
            self._flags["prepended"] += 1
        if entry.code_in_callback:
            self._flags["code_in_callback"] += 1
        if entry.callback is not None:
            self._max_per_callback = max(self._max_per_callback, _add(self._callbacks, entry.callback))
            if entry.taken:
                count = _add(self._taken_callbacks, entry.callback)
                self._max_taken_per_callback = max(self._max_taken_per_callback, count)

    def _drop_oldest(self) -> None:
        oldest = self._entries.pop(self._next_seq - len(self._entries))
        self.dropped += 1
        if oldest.callback is not None:
            # Distinct callbacks are counted over the entries that are kept: memory stays bounded.
            _subtract(self._callbacks, oldest.callback)
            if oldest.taken:
                _subtract(self._taken_callbacks, oldest.callback)

    def _wake(self) -> None:
        for waiter in self._waiters:
            if self.total >= waiter.received and self.taken >= waiter.taken:
                _finish(waiter)


def _finish(waiter: _Waiter) -> None:
    if not waiter.done.done():
        waiter.done.set_result(None)


def _add(counts: dict[str, int], key: str) -> int:
    count = counts[key] = counts.get(key, 0) + 1
    return count


def _subtract(counts: dict[str, int], key: str) -> None:
    counts[key] -= 1
    if not counts[key]:
        del counts[key]
