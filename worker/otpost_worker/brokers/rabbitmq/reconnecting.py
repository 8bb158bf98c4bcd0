"""How both connections come back."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable

    from otpost_worker.outage_log import OutageLog

CONNECT_TIMEOUT_S: Final = 10.0
_FIRST_PAUSE_S: Final = 0.25
_MAX_PAUSE_S: Final = 10.0


class ConnectionObserver(Protocol):
    """Hears of connections, to count them."""

    def reconnected(self, connection: str) -> None:
        """The one of that name was lost and is open again."""


@dataclass(frozen=True, slots=True)
class Reconnecting:
    """How to come back: *random* (0 to 1) keeps workers that lost the same broker from coming back at once.

    *outage* is told while a connection is away, *observer* when it is back.
    """

    random: Callable[[], float]
    outage: OutageLog
    observer: ConnectionObserver

    def pause_s(self, failures: int) -> float:
        """Seconds to wait after that many failures in a row: doubling, half of it by chance."""
        longest: float = min(_FIRST_PAUSE_S * 2.0 ** min(failures, 10), _MAX_PAUSE_S)
        return longest * (0.5 + 0.5 * self.random())
