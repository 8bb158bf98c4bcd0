"""Whether this machine's clock agrees with others': deadlines are judged by it."""

from __future__ import annotations

from datetime import UTC
from email.utils import parsedate_to_datetime
from typing import Final

# A code lives for minutes, so that what is off by less does no harm; and HTTP dates are whole seconds.
TOLERATED_S: Final = 30.0


def clock_offset_s(date: str | None, *, sent_at: float, received_at: float) -> float | None:
    """Tell how many seconds our clock is ahead of the clock that wrote *date*, an HTTP Date header.

    The header was written at some moment between *sent_at* and *received_at* (Unix seconds) and leaves out the
    fraction of its second, so the offset is the smallest that explains it: 0 where the clocks may agree. None where
    there is no such header.
    """
    if date is None:
        return None
    try:
        moment = parsedate_to_datetime(date)
        theirs = (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()
    except (ValueError, TypeError, OverflowError):
        return None
    if theirs > received_at:
        return received_at - theirs
    return max(0.0, sent_at - (theirs + 1))


class ClockWatch:
    """Compares our clock with one other, and remembers what was said of it.

    It is said once, and again only when it has changed. *other* names whose clock that is.
    """

    def __init__(self, other: str) -> None:
        self._other = other
        self._told_s = 0.0
        self._offset_s: float | None = None

    @property
    def offset_s(self) -> float | None:
        """How many seconds our clock is ahead of the other, as compared last; None where it never was."""
        return self._offset_s

    @property
    def trouble(self) -> str | None:
        """What is wrong with one of the clocks; None where they agree, or were never compared."""
        offset_s = self._offset_s
        return None if offset_s is None or abs(offset_s) <= TOLERATED_S else describe_offset(offset_s, self._other)

    def news(self, offset_s: float) -> str | None:
        """Take note of an offset; returns in words what is new about it, None where nothing is."""
        self._offset_s = offset_s
        off_s = offset_s if abs(offset_s) > TOLERATED_S else 0.0
        if abs(off_s - self._told_s) <= TOLERATED_S:
            return None
        self._told_s = off_s
        if not off_s:
            return f"the clock of this machine agrees with that of {self._other} again"
        return describe_offset(off_s, self._other)


def describe_offset(offset_s: float, other: str) -> str:
    """Say how far our clock is off that of *other*, what comes of it, and what to do."""
    where, when = ("ahead of", "early") if offset_s > 0 else ("behind", "late")
    return (
        f"the clock of this machine is {abs(offset_s):.0f} s {where} that of {other}, so codes expire too {when}; "
        "set the one that is wrong (timedatectl and chronyc tell which)"
    )
