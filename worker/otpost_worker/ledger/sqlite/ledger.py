"""The ledger in one SQLite file, shared by the workers of one machine.

SQLite has one writer at a time, so one thread writes, and it writes in groups: what arrives while a transaction
runs shares the next one. Write-ahead logging with ``synchronous=NORMAL`` keeps every commit through the death of
any process; a power failure may take the last few commits, never the file's integrity. What was claimed in them
may then be sent a second time.
"""

from __future__ import annotations

import asyncio
import errno
import os
import queue
import sqlite3
import threading
import time
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from itertools import chain, islice
from typing import TYPE_CHECKING, Any, Final, Self, TypeVar
from urllib.parse import quote
from uuid import uuid4

from otpost_worker.ledger.sqlite import amending, limits, operations, stories
from otpost_worker.ledger.sqlite.rows import SCHEMA, SCHEMA_VERSION, UPGRADES
from otpost_worker.ports import (
    ClaimReply,
    ClaimRequest,
    Entry,
    LedgerUnavailable,
    Noted,
    Recorded,
    SenderReport,
    Ticket,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping
    from pathlib import Path
    from types import TracebackType

    from otpost_worker.envelope import Step
    from otpost_worker.ports import Clock
    from otpost_worker.standing import Heard, News
    from otpost_worker.stories import Amendment, JobStory, RunStory

T = TypeVar("T")

_BUSY_TIMEOUT_S: Final = 5.0
_BUSY_PAUSE_S: Final = 0.01
# A group holds the write lock; other processes wait for it, so it stays a matter of milliseconds.
_GROUP: Final = 64
_TIDY_EVERY_S: Final = 30.0
# Whoever empties the log has the write lock while it waits for readers; nobody's claim shall wait longer than that.
_EMPTY_PATIENCE_S: Final = 0.1
# The file holds jobs that are under way, codes included, so only its owner may read it.
_OWNERS_ALONE: Final = 0o600
_OTHERS: Final = 0o077


@dataclass(frozen=True, slots=True)
class _Work:
    """One operation on its way to the writing thread, and who waits for it."""

    operation: Callable[[sqlite3.Connection], Any]
    waiter: asyncio.Future[Any]


class SqliteLedger:
    """Implements ``ports.Ledger``; an async context manager.

    *clock* tells the time in Unix seconds and is the one that leases are counted by.
    """

    def __init__(self, path: Path, *, clock: Clock = time.time) -> None:
        self._path = path
        self._clock = clock
        self._work: queue.SimpleQueue[_Work | None] = queue.SimpleQueue()
        self._thread: threading.Thread | None = None
        self._identity = ""

    @property
    def identity(self) -> str:
        """See ``ports.Archive``."""
        return self._identity

    async def __aenter__(self) -> Self:
        """Open or create the file.

        :raises LedgerUnavailable: it cannot be opened, read or written.
        """
        self._loop = asyncio.get_running_loop()
        opened: asyncio.Future[Any] = self._loop.create_future()
        self._thread = threading.Thread(target=self._run, args=(opened,), name="ledger", daemon=True)
        self._thread.start()
        await opened
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Finish what was asked for and close the file."""
        self._work.put(None)
        if self._thread is not None:
            await asyncio.to_thread(self._thread.join)

    # What the way of a job asks for

    async def claim(self, request: ClaimRequest) -> ClaimReply:
        """See ``ports.Ledger``."""
        return await self._do(lambda db: operations.claim(db, request, self._clock(), self._key))

    async def record(self, ticket: Ticket, entry: Entry) -> Noted:
        """See ``ports.Ledger``."""
        return await self._do(lambda db: operations.record(db, ticket, entry, self._clock(), self._key))

    async def lapse(self, ticket: Ticket, entry: Entry) -> Recorded | None:
        """See ``ports.Ledger``."""
        return await self._do(lambda db: operations.lapse(db, ticket, entry, self._clock()))

    async def conclude(self, request: ClaimRequest, step: Step) -> Recorded | None:
        """See ``ports.Ledger``."""
        return await self._do(lambda db: operations.conclude(db, request, step, self._clock()))

    async def refuse(self, request: ClaimRequest, step: Step) -> Recorded | None:
        """See ``ports.Ledger``."""
        return await self._do(lambda db: operations.refuse(db, request, step, self._clock()))

    async def release(self, ticket: Ticket) -> None:
        """See ``ports.Ledger``."""
        await self._do(lambda db: operations.release(db, ticket))

    async def note_buried(self, job_id: str, run: int) -> None:
        """See ``ports.Ledger``."""
        await self._do(lambda db: operations.note_buried(db, job_id, run))

    async def check(self) -> None:
        """See ``ports.Ledger``."""
        # The transaction that every operation gets is the test: it takes the file's one lock for writing.
        await self._do(lambda _: None)

    async def forget(self) -> int:
        """Forget what is older than 24 h after its deadline, in small bites; returns how many runs."""
        total = 0
        while (forgotten := await self._do(lambda db: operations.forget(db, self._clock()))) > 0:
            total += forgotten
        while await self._do(lambda db: limits.forget(db, self._clock())) > 0:
            pass
        return total

    async def report(self, rates: Mapping[str, float], quotas: Mapping[str, str]) -> Mapping[str, SenderReport]:
        """See ``ports.Standings``."""
        return await self._do(lambda db: limits.report(db, rates, quotas, self._clock()))

    async def probe_soon(self, senders: Iterable[str]) -> None:
        """See ``ports.Standings``."""
        await self._do(lambda db: limits.probe_soon(db, senders, self._clock()))

    async def hear(self, heard: Heard) -> tuple[News, ...]:
        """See ``ports.Reports``."""
        return await self._do(lambda db: limits.hear_word(db, heard, self._clock(), self._key))

    async def story(self, job_id: str) -> tuple[RunStory, ...]:
        """See ``ports.Archive``."""
        return await self._do(lambda db: stories.story(db, job_id))

    async def find(self, message_id: str) -> tuple[str, int, int] | None:
        """See ``ports.Reports``."""
        return await self._do(lambda db: amending.find(db, message_id))

    async def look_up(self, job_id: str) -> JobStory | None:
        """See ``ports.Reports``."""
        return await self._do(lambda db: stories.look_up(db, job_id, self._clock()))

    async def amend(self, story: JobStory, amendment: Amendment) -> bool:
        """See ``ports.Reports``."""
        return await self._do(lambda db: amending.amend(db, story, amendment, self._clock()))

    async def tidy(self) -> bool:
        """Forget what is old, and empty the log; tells whether that could be done, or has to be tried again.

        What was overwritten in the file itself can be read in the log beside it until then, codes included.
        """
        await self.forget()
        return await asyncio.to_thread(self._empty_log)

    async def keep_small(self) -> None:
        """Tidy up, now and then, for ever."""
        while True:
            with suppress(LedgerUnavailable):  # whoever has a job in hand meets the same trouble, and says so
                await self.tidy()
            await asyncio.sleep(_TIDY_EVERY_S)

    # The writing thread

    async def _do(self, operation: Callable[[sqlite3.Connection], T]) -> T:
        waiter: asyncio.Future[T] = self._loop.create_future()
        self._work.put(_Work(operation, waiter))
        return await waiter

    def _run(self, opened: asyncio.Future[Any]) -> None:
        try:
            db = self._open()
        except (sqlite3.Error, OSError) as error:
            self._tell([(opened, None, self._unavailable(error))])
            return
        except LedgerUnavailable as error:
            self._tell([(opened, None, error)])
            return
        self._tell([(opened, None, None)])
        try:
            while (group := self._next_group()) is not None:
                self._tell(self._write(db, group))
        finally:
            # The last one that closes the file removes its log; as long as others have it open, it stays.
            _empty_log(db)
            db.close()

    @property
    def _is_in_memory(self) -> bool:
        return str(self._path) == ":memory:"

    def _empty_log(self) -> bool:
        if self._is_in_memory:
            return True
        # By a connection of its own: most of it is copying, and no claim waits for that. It makes no file where there
        # is none any more: that would be an empty ledger, for everybody to read.
        address = f"file:{quote(str(self._path.absolute()))}?mode=rw"
        with suppress(sqlite3.Error), closing(sqlite3.connect(address, uri=True, isolation_level=None)) as db:
            return _empty_log(db)
        return False

    def _open(self) -> sqlite3.Connection:
        if not self._is_in_memory:
            os.close(os.open(self._path, os.O_CREAT | os.O_RDWR, _OWNERS_ALONE))
            _keep_to_owner(self._path)
        db = sqlite3.connect(self._path, timeout=_BUSY_TIMEOUT_S, isolation_level=None)
        version = db.execute("PRAGMA user_version").fetchone()[0]
        if version > SCHEMA_VERSION:
            db.close()
            raise LedgerUnavailable(
                f"the ledger {self._path} was written by a newer otpost (its schema is {version}, this one knows "
                f"{SCHEMA_VERSION}): run that version, or name another file in OTPOST_LEDGER_URL"
            )
        _write_ahead(db)
        db.execute("PRAGMA synchronous=NORMAL")
        # What was deleted is overwritten: a code must not outlive its job in a free page.
        db.execute("PRAGMA secure_delete=ON")
        with _exclusively(db):
            self._bring_up_to_date(db)
            # Whoever comes first gives the file its name.
            db.execute("INSERT OR IGNORE INTO meta (name, value) VALUES ('identity', ?)", (str(uuid4()),))
            self._identity = db.execute("SELECT value FROM meta WHERE name = 'identity'").fetchone()[0]
        # Keeps numbers out of the file; who has the whole file has the jobs under way, and their numbers, anyway.
        self._key = self._identity.encode()
        return db

    def _bring_up_to_date(self, db: sqlite3.Connection) -> None:
        # Asked again: another worker may have done it while this one waited for the lock.
        version = db.execute("PRAGMA user_version").fetchone()[0]
        upgrades = (UPGRADES[old] for old in range(version, SCHEMA_VERSION)) if version else ()
        for statement in chain.from_iterable(upgrades):
            db.execute(statement)
        for statement in SCHEMA:
            db.execute(statement)
        db.execute(f"PRAGMA user_version = {SCHEMA_VERSION}")

    def _next_group(self) -> list[_Work] | None:
        first = self._work.get()
        if first is None:
            return None
        return [first, *islice(self._waiting(), _GROUP - 1)]

    def _waiting(self) -> Iterator[_Work]:
        """Take what waits, one after the other, up to the end."""
        with suppress(queue.Empty):
            while (work := self._work.get_nowait()) is not None:
                yield work
            self._work.put(None)

    def _write(self, db: sqlite3.Connection, group: list[_Work]) -> list[_Told]:
        try:
            db.execute("BEGIN IMMEDIATE")
        except sqlite3.Error as error:
            # Whatever keeps one operation from the file keeps its neighbours from it too, and all that have waited for
            # as long behind them: one such wait after the other would outlast the patience of whoever stops a worker.
            return [(work.waiter, None, self._unavailable(error)) for work in (*group, *self._waiting())]
        try:
            return _transaction(db, group)
        except Exception as error:  # noqa: BLE001 - whoever waits has to be told; this thread must live
            if len(group) == 1:
                told = self._unavailable(error) if isinstance(error, sqlite3.Error) else error
                return [(group[0].waiter, None, told)]
        # One operation must not take its neighbours down with it.
        return [told for work in group for told in self._write(db, [work])]

    def _tell(self, told: list[_Told]) -> None:
        with suppress(RuntimeError):  # the loop is closed: nobody waits any more
            self._loop.call_soon_threadsafe(_resolve, told)

    def _unavailable(self, error: Exception) -> LedgerUnavailable:
        return LedgerUnavailable(f"the ledger {self._path} cannot be used: {_remedy(error)} (OTPOST_LEDGER_URL)")


def _remedy(error: Exception) -> str:
    """Say what is wrong with the file, and what to do about it."""
    code = getattr(error, "sqlite_errorcode", None)
    number = error.errno if isinstance(error, OSError) else None
    if code == sqlite3.SQLITE_NOTADB:
        return "it is no SQLite database; name another file, or move this one away"
    if number == errno.EISDIR:
        return "it is a folder; name a file in it, such as otpost.db"
    if number == errno.ENOENT:
        return "its folder does not exist; make the folder, or name a file elsewhere"
    if number == errno.ENOTDIR:
        return "a part of its path is a file and no folder; name a file elsewhere"
    if code in (sqlite3.SQLITE_READONLY, sqlite3.SQLITE_PERM) or number in (errno.EACCES, errno.EPERM, errno.EROFS):
        return f"{error}; let the worker's user write to the file and to its folder"
    if code == sqlite3.SQLITE_FULL or number == errno.ENOSPC:
        return f"{error}; make room on that disk"
    return f"{error}; check that its folder exists and is writable, and that the disk has room"


_Told = tuple["asyncio.Future[Any]", Any, BaseException | None]


def _resolve(told: list[_Told]) -> None:
    for waiter, value, error in told:
        if waiter.done():  # its task was cancelled meanwhile
            continue
        if error is not None:
            waiter.set_exception(error)
        else:
            waiter.set_result(value)


def _keep_to_owner(path: Path) -> None:
    """Let nobody else read a ledger of ours that was copied or made by something else; another's is left as it is."""
    # SQLite gives what it makes beside the file the file's own mode, but leaves what it finds there as it is.
    for file in (path, path.with_name(f"{path.name}-wal"), path.with_name(f"{path.name}-shm")):
        with suppress(OSError):  # it is not there, or its file system has no modes
            found = file.stat()
            if found.st_uid == os.geteuid() and found.st_mode & _OTHERS:
                file.chmod(_OWNERS_ALONE)


def _write_ahead(db: sqlite3.Connection) -> None:
    """Switch to write-ahead logging: the one statement that does not wait for another process's lock by itself."""
    deadline = time.monotonic() + _BUSY_TIMEOUT_S
    while True:
        try:
            db.execute("PRAGMA journal_mode=WAL")
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode != sqlite3.SQLITE_BUSY or time.monotonic() > deadline:
                raise
            time.sleep(_BUSY_PAUSE_S)
        else:
            return


def _empty_log(db: sqlite3.Connection) -> bool:
    """Bring the log's contents into the file and cut it to nothing; False where somebody else is in the way now."""
    with suppress(sqlite3.Error):
        db.execute(f"PRAGMA busy_timeout = {round(_EMPTY_PATIENCE_S * 1000)}")
        # First whatever can be copied without the write lock, so that little is left to do with it.
        db.execute("PRAGMA wal_checkpoint(PASSIVE)")
        busy, _, _ = db.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
        return not busy
    return False


@contextmanager
def _exclusively(db: sqlite3.Connection) -> Iterator[None]:
    db.execute("BEGIN IMMEDIATE")
    try:
        yield
    except BaseException:
        db.execute("ROLLBACK")
        raise
    db.execute("COMMIT")


def _transaction(db: sqlite3.Connection, group: list[_Work]) -> list[_Told]:
    try:
        told: list[_Told] = [(work.waiter, work.operation(db), None) for work in group]
        db.execute("COMMIT")
    except BaseException:
        if db.in_transaction:
            db.execute("ROLLBACK")
        raise
    return told
