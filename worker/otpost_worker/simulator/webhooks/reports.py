"""What the simulator knows of each message after its answer: the evidence for tests about reports."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Generic, TypeVar

if TYPE_CHECKING:
    from .plans import Status


@dataclass(slots=True)
class Report:
    """One status of one message.

    `at` is when it happens, in seconds since the epoch; `timestamp` the same in whole seconds, as webhooks say it.
    `planned` counts the POSTs it is meant to be in (more than one: duplicates), `posts` those that were made, tries
    again counted, `answered` those that had a 200, `given_up` those that never will. `last_answer` is the last HTTP
    status; None for none in time. `priced`: this one carries `pricing`.
    """

    seq: int
    message_id: str
    callback: str | None
    status: Status
    timestamp: int
    at: float
    phone_number_id: str
    recipient: str
    code: int | None = None
    priced: bool = False
    planned: int = 0
    posts: int = 0
    answered: int = 0
    given_up: int = 0
    last_answer: int | None = None
    first_answered_at: float | None = None


_Numbered = TypeVar("_Numbered")


class Pages(Generic[_Numbered]):
    """Numbered entries without gaps, oldest first, at most `limit` of them."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._entries: dict[int, _Numbered] = {}
        self.next_seq = 1
        self.total = 0

    def add(self, entry: _Numbered) -> _Numbered | None:
        """Write an entry down under `next_seq`; the oldest is returned where it had to go for it."""
        self._entries[self.next_seq] = entry
        self.next_seq += 1
        self.total += 1
        if len(self._entries) <= self._limit:
            return None
        return self._entries.pop(self.next_seq - 1 - self._limit)

    def clear(self) -> None:
        """Forget the entries; the numbers go on."""
        self._entries.clear()
        self.total = 0

    def entries(self, since: int = 0, limit: int | None = None) -> list[_Numbered]:
        """The entries after number `since`, at most `limit`."""
        first = max(since + 1, self.next_seq - len(self._entries))
        end = self.next_seq if limit is None else min(self.next_seq, first + limit)
        return [self._entries[seq] for seq in range(first, end)]


class Reports:
    """The reports, oldest first, at most `limit` of them; counts go on over those that were dropped."""

    def __init__(self, limit: int) -> None:
        self._pages: Pages[Report] = Pages(limit)
        self._by_message: dict[str, list[Report]] = {}
        self._by_callback: dict[str, list[Report]] = {}
        self._reset()

    def _reset(self) -> None:
        self._statuses: Counter[str] = Counter()
        self.answered = 0
        self.given_up = 0

    @property
    def next_seq(self) -> int:
        """The number of the report that comes next."""
        return self._pages.next_seq

    @property
    def total(self) -> int:
        """How many there were since the last clear."""
        return self._pages.total

    def add(self, report: Report) -> None:
        """Write a report down; its number is `next_seq`."""
        self._by_message.setdefault(report.message_id, []).append(report)
        if report.callback is not None:
            self._by_callback.setdefault(report.callback, []).append(report)
        self._statuses[report.status] += 1
        if (dropped := self._pages.add(report)) is not None:
            _forget(self._by_message, dropped.message_id, dropped)
            if dropped.callback is not None:
                _forget(self._by_callback, dropped.callback, dropped)

    def note(self, report: Report, answer: int | None, *, at: float) -> None:
        """The report was in a POST that was answered so (None: not at all in time)."""
        report.posts += 1
        report.last_answer = answer
        if answer == 200:
            report.answered += 1
            if report.first_answered_at is None:
                report.first_answered_at = at
                self.answered += 1

    def give_up(self, report: Report) -> None:
        """The report's POST is not tried again."""
        report.given_up += 1
        self.given_up += 1

    def clear(self) -> None:
        """Forget them all; the numbers go on."""
        self._pages.clear()
        self._by_message.clear()
        self._by_callback.clear()
        self._reset()

    def entries(self, since: int = 0, limit: int | None = None) -> list[Report]:
        """The reports after number `since`, at most `limit`."""
        return self._pages.entries(since, limit)

    def of_message(self, message_id: str) -> list[Report]:
        """All that is known of one message."""
        return list(self._by_message.get(message_id, ()))

    def of_callback(self, callback: str) -> list[Report]:
        """All that is known of the messages that were sent under one callback."""
        return list(self._by_callback.get(callback, ()))

    def stats(self) -> dict[str, Any]:
        """Counts since the last clear."""
        return {
            "reports": self.total,
            "by_status": dict(self._statuses),
            "answered": self.answered,
            "given_up": self.given_up,
        }


def _forget(index: dict[str, list[Report]], key: str, report: Report) -> None:
    held = [one for one in index.get(key, ()) if one is not report]
    if held:
        index[key] = held
    else:
        index.pop(key, None)
