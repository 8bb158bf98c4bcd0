"""What the caller of the application may put around its ports: nothing, unless it wants to watch or to disturb them.

The application itself has no switch for faults. Who wants some, such as a test that kills the process between two
steps, starts it with wrappers of its own.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable

    from otpost_worker.ledger.watched import WholeLedger
    from otpost_worker.ports import Broker, Clock, Provider
    from otpost_worker.worker import Settleable

P = TypeVar("P")


def _as_it_is(port: P) -> P:
    return port


@dataclass(frozen=True, slots=True)
class Wrappers:
    """For each port a function from what the application made to what its rooms are given.

    *settling* gets each delivery; *clock* tells the deadlines' time, and the time of a ledger that has none of its own.
    """

    ledger: Callable[[WholeLedger], WholeLedger] = _as_it_is
    broker: Callable[[Broker], Broker] = _as_it_is
    provider: Callable[[Provider], Provider] = _as_it_is
    settling: Callable[[Settleable], Settleable] = _as_it_is
    clock: Callable[[Clock], Clock] = _as_it_is


UNWRAPPED: Final = Wrappers()
