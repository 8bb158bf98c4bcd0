"""RFC 3339 times with a zone, as they stand in jobs, results and headers: read and written."""

from __future__ import annotations

import re
from datetime import UTC, datetime

_RFC3339 = re.compile(r"\d{4}-\d\d-\d\d[Tt ]\d\d:\d\d:\d\d(\.\d+)?([Zz]|[+-]\d\d:\d\d)", re.ASCII)


def moment_of(value: object) -> datetime | None:
    """Read one; None where *value* is none."""
    if not isinstance(value, str) or not _RFC3339.fullmatch(value):
        return None
    try:
        return datetime.fromisoformat(value.upper())
    except ValueError:
        return None


def parse_rfc3339(value: str) -> float | None:
    """Read one into Unix seconds; None where it is none that ``rfc3339`` could write."""
    moment = moment_of(value)
    if moment is None:
        return None
    seconds = moment.timestamp()
    try:
        rfc3339(seconds)
    except (ValueError, OverflowError):
        # A zone, or a rounded microsecond, may lead out of the years that there are.
        return None
    return seconds


def rfc3339(moment: float) -> str:
    """Write Unix seconds in UTC, to the millisecond."""
    return datetime.fromtimestamp(moment, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
