"""Looking into a ledger that workers use: nothing is written, nothing is made, and no worker waits for it."""

from __future__ import annotations

import asyncio
import os
import sqlite3
import time
from contextlib import asynccontextmanager, closing
from pathlib import Path
from typing import TYPE_CHECKING, Final, Protocol, TypeVar
from urllib.parse import quote

from otpost.rabbitmq import visible_url
from otpost_worker.ledger import limits, stories
from otpost_worker.ledger.rows import SCHEMA_VERSION
from otpost_worker.ports import Archive, LedgerUnavailable, NoLedger

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Mapping, Sequence

    from otpost_worker.ports import Clock, RunStory, SenderReport

T = TypeVar("T")

_SQLITE: Final = "sqlite:///"
_BUSY_TIMEOUT_S: Final = 2.0


class LedgerReader(Archive, Protocol):
    """What can be asked of a ledger without writing to it."""

    @property
    def writable(self) -> bool:
        """Whether whoever asks could write to it too, as far as that can be told."""

    @property
    def warnings(self) -> Sequence[str]:
        """What may lose its contents, and what to do about it."""

    async def report(self, rates: Mapping[str, float], quotas: Mapping[str, str]) -> Mapping[str, SenderReport]:
        """See ``ports.Standings``."""

    async def turn(self, job_id: str) -> float | None:
        """Tell when the recipient's turn comes that was booked for a job (Unix seconds), claimed before or not."""


@asynccontextmanager
async def open_to_read(url: str, *, clock: Clock = time.time) -> AsyncIterator[LedgerReader]:
    """Open the ledger that *url* (``OTPOST_LEDGER_URL``) names.

    :raises NoLedger: there is none. :raises LedgerUnavailable: it cannot be read.
    """
    if url.startswith(_SQLITE):
        path = Path(url.removeprefix(_SQLITE))
        with closing(await asyncio.to_thread(_open, path)) as db:
            yield SqliteReader(db, await asyncio.to_thread(_identity, db, path), path, clock)
        return
    # Here and not above, as in ``opening``.
    from otpost_worker.ledger.redis.reader import RedisReader  # noqa: PLC0415 - as said above

    async with RedisReader(url, clock=clock) as reader:
        yield reader


def visible(url: str) -> str:
    """Show a ledger's URL without its password; a file's is its path."""
    return url.removeprefix(_SQLITE) if url.startswith(_SQLITE) else visible_url(url)


class SqliteReader:
    """Implements ``LedgerReader`` on a connection that cannot write."""

    def __init__(self, db: sqlite3.Connection, identity: str, path: Path, clock: Clock) -> None:
        self.identity = identity
        self.writable = os.access(path, os.W_OK)
        self.warnings: Sequence[str] = ()
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
        """See ``LedgerReader``."""

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
