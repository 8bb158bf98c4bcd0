"""Kinds of values on the command line that click does not know."""

from __future__ import annotations

import math
import re
from datetime import timedelta
from typing import Final

import click

_UNITS: Final = {"s": 1, "m": 60, "h": 3600, "d": 86400}
# Nothing is kept for as long; and times before 1970 are none to the broker.
_MAX_AGE: Final = timedelta(days=3650)


class Age(click.ParamType[timedelta]):
    """An age on the command line, such as ``90s``, ``10m``, ``2h`` or ``7d``."""

    name = "age"

    def convert(self, value: str | timedelta, param: click.Parameter | None, ctx: click.Context | None) -> timedelta:
        """Read it."""
        if isinstance(value, timedelta):
            return value
        match = re.fullmatch(r"([0-9]{1,9})([smhd])", value.strip())
        if match is None:
            self.fail(f"{value!r} is no age: write 90s, 10m, 2h or 7d", param, ctx)
        age = timedelta(seconds=int(match[1]) * _UNITS[match[2]])
        if age > _MAX_AGE:
            self.fail(f"{value!r} is more than {_MAX_AGE.days}d", param, ctx)
        return age


class FiniteNumber(click.ParamType[float]):
    """A number without bounds of its own; a range of click's would show ``x<=None`` for it."""

    name = "float"

    def convert(self, value: str | float, param: click.Parameter | None, ctx: click.Context | None) -> float:
        """Read it."""
        number: float = click.FLOAT.convert(value, param, ctx)  # type: ignore[arg-type]  # it takes what was written
        return _finite(self, number, param, ctx)


class FiniteRange(click.FloatRange):
    """A number within bounds; ``nan`` compares with none, and ``inf`` is above all."""

    def convert(self, value: str | float, param: click.Parameter | None, ctx: click.Context | None) -> float:
        """Read it."""
        number: float = super().convert(value, param, ctx)  # type: ignore[arg-type]  # it takes what was written
        return _finite(self, number, param, ctx)


def _finite(
    kind: click.ParamType[float], number: float, param: click.Parameter | None, ctx: click.Context | None
) -> float:
    if not math.isfinite(number):
        kind.fail(f"{number} is not a finite number", param, ctx)
    return number
