"""Which connections a receiver keeps, and for how long [pure].

A connection earns its place with requests that come whole. Whoever opens many and sends nothing holds none of them
for longer than a request may take, and none at all against somebody who does send.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum, auto
from typing import Final, Generic, TypeVar, assert_never

from otpost_worker.webhook_answers import HangUp

# Each can have some 320 KiB in its buffers before it is held up; the limit of open files is 1,024 by custom.
MAX_CONNECTIONS: Final = 500
# What the provider sends takes milliseconds; whoever needs longer is no provider, or has no proxy in front.
READ_WITHIN_S: Final = 10.0
# Above nginx's 60 s for idle connections, so that it is not we who close one as a POST comes.
KEEP_ALIVE_S: Final = 75.0
# A body and the broker have limits of their own, which come to half of this: no more than a last resort.
ANSWERED_WITHIN_S: Final = 30.0
# Of headers before they are whole, and of further requests while one is answered. nginx has at most 32 KiB of headers.
MAX_AHEAD_BYTES: Final = 64 * 1024

T = TypeVar("T")


class Phase(Enum):
    """What a connection is at. Since when, is counted from its beginning."""

    ASKING = auto()  # it was opened, or a further request has begun: its headers are not here yet
    ANSWERING = auto()  # a request is read, stored or answered
    UNREAD = auto()  # there is an answer that nobody reads
    IDLE = auto()  # the last request has its answer


@dataclass(frozen=True, slots=True)
class Limits:
    """How many *connections* there may be, and how many seconds each may spend in a phase."""

    connections: int = MAX_CONNECTIONS
    read_within_s: float = READ_WITHIN_S
    answered_within_s: float = ANSWERED_WITHIN_S
    keep_alive_s: float = KEEP_ALIVE_S

    def lasts_s(self, phase: Phase) -> float:
        """Tell how long a connection may be in this phase."""
        match phase:
            case Phase.ASKING | Phase.UNREAD:
                return self.read_within_s
            case Phase.ANSWERING:
                return self.answered_within_s
            case Phase.IDLE:
                return self.keep_alive_s
            case _:
                assert_never(phase)


def overdue(phase: Phase) -> HangUp | None:
    """Tell why a connection is closed that is in this phase for too long; None where that is worth no word."""
    match phase:
        case Phase.ASKING:
            return HangUp.NO_REQUEST
        case Phase.ANSWERING | Phase.UNREAD:
            return HangUp.UNREAD
        case Phase.IDLE:
            return None
        case _:
            assert_never(phase)


class Places(Generic[T]):
    """The places of at most *most* connections, in the order in which they have to make room for others."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._all: set[T] = set()
        # Without a request in hand; first who is that for the longest time.
        self._waiting: dict[T, None] = {}

    @property
    def taken(self) -> int:
        """How many connections there are."""
        return len(self._all)

    def take(self, one: T) -> T | None:
        """Give *one* a place; returns who has to leave for it.

        That is *one* itself where all the others have a request in hand.
        """
        self._all.add(one)
        self._waiting[one] = None
        return next(iter(self._waiting)) if len(self._all) > self._most else None

    def begin(self, one: T) -> None:
        """Take note that a request of *one* is in hand: nobody makes it leave."""
        self._waiting.pop(one, None)

    def rest(self, one: T) -> None:
        """Take note that *one* has no request in hand, from now on."""
        if one in self._all:
            self._waiting.pop(one, None)
            self._waiting[one] = None

    def leave(self, one: T) -> None:
        """Give back the place of *one*."""
        self._all.discard(one)
        self._waiting.pop(one, None)
