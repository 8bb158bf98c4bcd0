"""The ledgers that the contract suite runs against, and what it takes to open, break and race each of them."""

from __future__ import annotations

import resource
from abc import ABC, abstractmethod
from contextlib import AbstractAsyncContextManager, AbstractContextManager, contextmanager
from typing import TYPE_CHECKING, Protocol

from otpost_worker.ledger.sqlite import SqliteLedger
from otpost_worker.ports import Ledger

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from otpost_worker.ports import Clock


class OpenLedger(Ledger, Protocol):
    """A ledger with what its owner does beside the way of a job."""

    async def forget(self) -> int:
        """Forget what is past its time; returns how many runs."""


class Implementation(ABC):
    """One ledger, however many objects or processes open it."""

    @abstractmethod
    def open(self, clock: Clock) -> AbstractAsyncContextManager[OpenLedger]:
        """Open it once more."""

    @abstractmethod
    def out_of_reach(self) -> AbstractContextManager[None]:
        """Break it for a while, for every object that has it open."""

    @abstractmethod
    def remains(self) -> bytes:
        """Everything that is stored, when nobody has it open."""


class Sqlite(Implementation):
    """The ledger in one file."""

    def __init__(self, folder: Path) -> None:
        self.file = folder / "ledger.db"

    def open(self, clock: Clock) -> AbstractAsyncContextManager[OpenLedger]:
        return SqliteLedger(self.file, clock=clock)

    @contextmanager
    def out_of_reach(self) -> Iterator[None]:
        """No file of this process may grow: what a full disk does, also to the superuser."""
        soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (1, hard))
        try:
            yield
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))

    def remains(self) -> bytes:
        return b"".join(file.read_bytes() for file in sorted(self.file.parent.glob("ledger.db*")))
