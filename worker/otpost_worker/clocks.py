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
    """Remembers what was said of an offset, so that it is said once, and again only when it has changed."""

    def __init__(self) -> None:
        self._told_s = 0.0

    def news(self, offset_s: float, *, other: str) -> str | None:
        """Say in words what is new about our offset against the clock of *other*; None where nothing is."""
        off_s = offset_s if abs(offset_s) > TOLERATED_S else 0.0
        if abs(off_s - self._told_s) <= TOLERATED_S:
            return None
        self._told_s = off_s
        if not off_s:
            return f"the clock of this machine agrees with that of {other} again"
        where, when = ("ahead of", "early") if off_s > 0 else ("behind", "late")
        return (
            f"the clock of this machine is {abs(off_s):.0f} s {where} that of {other}, so codes expire too {when}; "
            "set the one that is wrong (timedatectl and chronyc tell which)"
        )
