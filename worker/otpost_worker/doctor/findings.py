"""What the doctor says: one finding a fact, with what to do about it [pure]."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Sequence

_MOST_NAMED: Final = 3


class Level(StrEnum):
    """How bad it is: a *warning* may be meant like that, a *problem* keeps jobs from being sent, or from being safe."""

    OK = "ok"
    WARNING = "warning"
    PROBLEM = "problem"


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was looked at: *check* names it, *where* says of what; *remedy* is None where all is well."""

    check: str
    level: Level
    where: str
    what: str
    remedy: str | None = None


def ok(check: str, where: str, what: str) -> Finding:
    """Say that all is well."""
    return Finding(check, Level.OK, where, what)


def warning(check: str, where: str, what: str, remedy: str) -> Finding:
    """Say what may be meant like that, or could not be found out."""
    return Finding(check, Level.WARNING, where, what, remedy)


def problem(check: str, where: str, what: str, remedy: str) -> Finding:
    """Say what has to be mended."""
    return Finding(check, Level.PROBLEM, where, what, remedy)


def listed(names: Sequence[str]) -> str:
    """Name the first of them, and say how many more there are."""
    more = len(names) - _MOST_NAMED
    return ", ".join(names[:_MOST_NAMED]) + (f" and {more} more" if more > 0 else "")


def in_two(message: str, *, otherwise: str) -> tuple[str, str]:
    """Take one of our own error messages, "what is wrong; what to do", apart; *otherwise* where it has no remedy."""
    what, _, remedy = message.partition("; ")
    return what, remedy or otherwise
