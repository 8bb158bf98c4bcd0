"""Reading a ledger in a SQLite file: nothing is written, nothing is made, and no worker waits for it."""

from __future__ import annotations

import asyncio
import os
import sqlite3
from contextlib import asynccontextmanager, closing
from typing import TYPE_CHECKING, Final, TypeVar
from urllib.parse import quote

from otpost_worker.ledger.sqlite import limits, stories
from otpost_worker.ledger.sqlite.rows import SCHEMA_VERSION
from otpost_worker.ports import LedgerUnavailable, NoLedger

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Mapping
    from pathlib import Path

    from otpost_worker.ports import Clock, SenderReport
    from otpost_worker.stories import RunStory

T = TypeVar("T")

_BUSY_TIMEOUT_S: Final = 2.0


@asynccontextmanager
async def open_file_to_read(path: Path, *, clock: Clock) -> AsyncIterator[SqliteReader]:
    """Open the ledger in a file.

    :raises NoLedger: there is none. :raises LedgerUnavailable: it cannot be read.
    """
    with closing(await asyncio.to_thread(_open, path)) as db:
        yield SqliteReader(db, await asyncio.to_thread(_identity, db, path), path, clock)


class SqliteReader:
    """Implements ``reading.LedgerReader`` on a connection that cannot write."""

    def __init__(self, db: sqlite3.Connection, identity: str, path: Path, clock: Clock) -> None:
        self.identity = identity
        self.writable = os.access(path, os.W_OK)
        self.warnings = ()
        self._db = db
        self._path = path
        self._clock = clock

    async def story(self, job_id: str) -> tuple[RunStory, ...]:
        """See ``ports.Archive``."""
        return await self._read(lambda db: stories.story(db, job_id))

    async def report(self, rates: Mapping[str, float], quotas: Mapping[str, str]) -> Mapping[str, SenderReport]:
        """See ``ports.Standings``."""
        return await self._read(lambda db: limits.report(db, rates, quotas, self._clock()))

    async def turn(self, job_id: str) -> float | None:
        """See ``reading.LedgerReader``."""

        def latest(db: sqlite3.Connection) -> float | None:
            start_at: float | None = db.execute(
                "SELECT max(start_at) FROM turns WHERE job_id = ?", (job_id,)
            ).fetchone()[0]
            return start_at

        return await self._read(latest)

    async def _read(self, question: Callable[[sqlite3.Connection], T]) -> T:
        def read() -> T:
            try:
                return question(self._db)
            except sqlite3.Error as error:
                raise _unreadable(self._path, str(error)) from error

        return await asyncio.to_thread(read)


def _open(path: Path) -> sqlite3.Connection:
    try:
        # What no worker has open has no log beside it, and SQLite would make one only to read the file.
        is_there, is_idle = path.is_file(), not path.with_name(f"{path.name}-wal").exists()
    except OSError as error:
        raise _unreadable(path, error.strerror or str(error)) from error
    if not is_there:
        raise NoLedger(
            f"there is no ledger {path.absolute()}; if workers have run here, check OTPOST_LEDGER_URL: a relative path "
            "is looked for in the folder where the command is started"
        )
    address = f"file:{quote(str(path.absolute()))}?mode=ro{'&immutable=1' if is_idle else ''}"
    try:
        return sqlite3.connect(
            address, uri=True, timeout=_BUSY_TIMEOUT_S, isolation_level=None, check_same_thread=False
        )
    except sqlite3.Error as error:
        raise _unreadable(path, str(error)) from error


def _identity(db: sqlite3.Connection, path: Path) -> str:
    try:
        version = db.execute("PRAGMA user_version").fetchone()[0]
        if version == SCHEMA_VERSION:
            return str(db.execute("SELECT value FROM meta WHERE name = 'identity'").fetchone()[0])
    except (sqlite3.Error, TypeError) as error:
        raise _unreadable(path, str(error)) from error
    raise LedgerUnavailable(
        f"the ledger {path} was written by another version of otpost (its schema is {version}, this one knows "
        f"{SCHEMA_VERSION}); use the version that the workers have (OTPOST_LEDGER_URL)"
    )


def _unreadable(path: Path, why: str) -> LedgerUnavailable:
    return LedgerUnavailable(
        f"the ledger {path} cannot be read: {why}; run this as the user that the workers run as (OTPOST_LEDGER_URL)"
    )
