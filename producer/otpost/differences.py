"""What a broker has against what it should have: one finding each, and how the broker's own words are read."""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Final, Literal

from otpost.topology import Exchange, Queue

if TYPE_CHECKING:
    from collections.abc import Mapping

    from otpost.topology import Argument

# RabbitMQ 3.10: "inequivalent arg 'x' for queue 'q' in vhost '/': received … but current is …", each of the two being
# none, '5', or the value '5' of type 'signedint'. The text is cut at 255 bytes, so that its end may be missing.
_ARGUMENT: Final = re.compile(r"inequivalent arg '([^']+)'")
_FOUND: Final = re.compile(r"but current is (?:(none)|(?:the value )?'([^']*)'(?: of type '(\w+)')?)")
_INTEGERS: Final = frozenset({"byte", "short", "signedint", "unsignedint", "long", "unsignedbyte", "unsignedshort"})
_FLAGS: Final = {"durable": "true", "auto_delete": "false", "exclusive": "false", "internal": "false"}


class Trouble(StrEnum):
    """In which way an exchange or a queue is not as it should be."""

    MISSING = "missing"
    DIFFERS = "differs"
    UNCHECKED = "unchecked"


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that is not as it should be.

    *argument* is ``type``, ``durable``, ``auto_delete`` or an argument such as ``x-message-ttl``; None where the
    broker did not tell which. *expected* is None where there should be no such argument. *found* is None where
    there is none, or, with a *detail*, where the broker's own text could not be read, which is that detail.
    """

    kind: Literal["exchange", "queue"]
    name: str
    trouble: Trouble
    argument: str | None = None
    expected: str | None = None
    found: str | None = None
    detail: str | None = None

    def __str__(self) -> str:
        """One line for people."""
        where = f"{self.kind} {self.name}"
        if self.trouble is Trouble.MISSING:
            return f"{where} is missing"
        if self.trouble is Trouble.UNCHECKED:
            return f"{where} cannot be checked: {self.detail}"
        if self.argument is None:
            return f"{where} differs: {self.detail}"
        found = f"differs ({self.detail})" if self.detail else f"is {self.found or 'not set'}"
        return f"{where}: {self.argument} {found}, should be {self.expected or 'not set'}"


def missing(wanted: Exchange | Queue) -> Finding:
    """Say that *wanted* does not exist."""
    return Finding(_kind(wanted), wanted.name, Trouble.MISSING)


def unchecked(wanted: Exchange | Queue, why: str) -> Finding:
    """Say that nobody can tell about *wanted*."""
    return Finding(_kind(wanted), wanted.name, Trouble.UNCHECKED, detail=why)


def differing(
    wanted: Exchange | Queue, argument: str | None, found: str | None = None, detail: str | None = None
) -> Finding:
    """Say that *wanted* exists with another *argument*."""
    expected = _expected(wanted).get(argument) if argument else None
    return Finding(_kind(wanted), wanted.name, Trouble.DIFFERS, argument, expected, found, detail)


def difference(wanted: Exchange | Queue, refusal: str) -> Finding:
    """Read *refusal*, a broker's PRECONDITION_FAILED to the declaration of *wanted*."""
    argument, current = _ARGUMENT.search(refusal), _FOUND.search(refusal)
    return differing(
        wanted,
        argument[1] if argument else None,
        found=current[2] if argument and current else None,
        detail=None if argument and current else refusal,
    )


def current_value(refusal: str, like: Argument | None) -> Argument | None:
    """Read from *refusal* the value that the queue has, None for none, so that it can be declared with it.

    The broker names its type only where it is another than that of the one declared, which is *like*.

    :raises ValueError: it does not tell.
    """
    current = _FOUND.search(refusal)
    if current is None:
        raise ValueError("the broker does not tell the value")
    if current[1]:
        return None
    if current[3] in _INTEGERS or (current[3] is None and isinstance(like, int)):
        return int(current[2])
    return current[2]


def _kind(wanted: Exchange | Queue) -> Literal["exchange", "queue"]:
    return "exchange" if isinstance(wanted, Exchange) else "queue"


def _expected(wanted: Exchange | Queue) -> Mapping[str, str]:
    kind = {"type": wanted.kind} if isinstance(wanted, Exchange) else {}
    return {**_FLAGS, **kind, **{name: str(value) for name, value in wanted.arguments.items()}}
