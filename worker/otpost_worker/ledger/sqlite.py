"""The ledger in one SQLite file, shared by the workers of one machine.

SQLite has one writer at a time, so one thread writes, and it writes in groups: what arrives while a transaction
runs shares the next one. Write-ahead logging with ``synchronous=NORMAL`` keeps every commit through the death of
any process; a power failure may take the last few commits, never the file's integrity. What was claimed in them
may then be sent a second time.
"""

from __future__ import annotations

import asyncio
import os
import queue
import secrets
import sqlite3
import threading
import time
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Self, TypeVar

from otpost_worker.attempts import (
    Acknowledge,
    Attempt,
    Claim,
    Conclude,
    Known,
    PublishEnd,
    RecordUnknown,
    RepeatStep,
    Run,
    State,
    Wait,
    judge,
)
from otpost_worker.decision import History
from otpost_worker.envelope import Envelope, Step
from otpost_worker.ledger.rows import SCHEMA, envelope_from_row, envelope_to_json
from otpost_worker.outcome import Kind
from otpost_worker.ports import (
    Claimed,
    ClaimReply,
    ClaimRequest,
    Entry,
    Lapsed,
    LedgerUnavailable,
    MustEnd,
    Recorded,
    Ticket,
)

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path
    from types import TracebackType

    from otpost_worker.ports import Clock

T = TypeVar("T")

REMEMBERED_AFTER_DEADLINE_S: Final = 24 * 3600.0
_BUSY_TIMEOUT_S: Final = 5.0
# A group holds the write lock; other processes wait for it, so it stays a matter of milliseconds.
_GROUP: Final = 64
_FORGET_BATCH: Final = 1000
_FORGET_EVERY_S: Final = 30.0


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
        return await self._do(lambda db: _claim(db, request, self._clock()))

    async def record(self, ticket: Ticket, entry: Entry) -> Recorded | None:
        """See ``ports.Ledger``."""
        return await self._do(lambda db: _record(db, ticket, entry))

    async def lapse(self, ticket: Ticket, entry: Entry) -> Recorded | None:
        """See ``ports.Ledger``."""
        return await self._do(lambda db: _lapse(db, ticket, entry, self._clock()))

    async def conclude(self, request: ClaimRequest, step: Step) -> Recorded | None:
        """See ``ports.Ledger``."""
        return await self._do(lambda db: _conclude(db, request, step, self._clock()))

    async def refuse(self, request: ClaimRequest, step: Step) -> Recorded | None:
        """See ``ports.Ledger``."""
        return await self._do(lambda db: _refuse(db, request, step))

    async def release(self, ticket: Ticket) -> None:
        """See ``ports.Ledger``."""
        await self._do(lambda db: _release(db, ticket))

    async def note_buried(self, job_id: str, run: int) -> None:
        """See ``ports.Ledger``."""
        await self._do(lambda db: _note_buried(db, job_id, run))

    async def forget(self) -> int:
        """Forget what is older than 24 h after its deadline, in small bites; returns how many runs."""
        total = 0
        while (forgotten := await self._do(lambda db: _forget(db, self._clock()))) > 0:
            total += forgotten
        return total

    async def keep_small(self) -> None:
        """Forget, now and then, for ever."""
        while True:
            with suppress(LedgerUnavailable):  # whoever has a job in hand meets the same trouble, and says so
                await self.forget()
            await asyncio.sleep(_FORGET_EVERY_S)

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
        self._tell([(opened, None, None)])
        try:
            while (group := self._next_group()) is not None:
                self._tell(self._write(db, group))
        finally:
            db.close()

    def _open(self) -> sqlite3.Connection:
        if str(self._path) != ":memory:":
            # The file holds jobs that are under way, codes included, so only its owner may read it.
            os.close(os.open(self._path, os.O_CREAT | os.O_RDWR, 0o600))
        db = sqlite3.connect(self._path, timeout=_BUSY_TIMEOUT_S, isolation_level=None)
        db.execute("PRAGMA journal_mode=WAL")
        db.execute("PRAGMA synchronous=NORMAL")
        # What was deleted is overwritten: a code must not outlive its job in a free page.
        db.execute("PRAGMA secure_delete=ON")
        for statement in SCHEMA:
            db.execute(statement)
        return db

    def _next_group(self) -> list[_Work] | None:
        first = self._work.get()
        if first is None:
            return None
        group = [first]
        while len(group) < _GROUP:
            try:
                work = self._work.get_nowait()
            except queue.Empty:
                break
            if work is None:
                self._work.put(None)
                break
            group.append(work)
        return group

    def _write(self, db: sqlite3.Connection, group: list[_Work]) -> list[_Told]:
        try:
            return _transaction(db, group)
        except sqlite3.Error as error:
            if len(group) == 1:
                return [(group[0].waiter, None, self._unavailable(error))]
        # One operation must not take its neighbours down with it.
        return [told for work in group for told in self._write(db, [work])]

    def _tell(self, told: list[_Told]) -> None:
        with suppress(RuntimeError):  # the loop is closed: nobody waits any more
            self._loop.call_soon_threadsafe(_resolve, told)

    def _unavailable(self, error: Exception) -> LedgerUnavailable:
        return LedgerUnavailable(
            f"the ledger {self._path} cannot be used: {error}; check that its folder exists, is writable, "
            "and that the disk has room (OTPOST_LEDGER_URL)"
        )


_Told = tuple["asyncio.Future[Any]", Any, BaseException | None]


def _resolve(told: list[_Told]) -> None:
    for waiter, value, error in told:
        if waiter.done():  # its task was cancelled meanwhile
            continue
        if error is not None:
            waiter.set_exception(error)
        else:
            waiter.set_result(value)


def _transaction(db: sqlite3.Connection, group: list[_Work]) -> list[_Told]:
    db.execute("BEGIN IMMEDIATE")
    try:
        told: list[_Told] = [(work.waiter, work.operation(db), None) for work in group]
        db.execute("COMMIT")
    except BaseException:
        if db.in_transaction:
            db.execute("ROLLBACK")
        raise
    return told


# The operations: each runs inside a transaction that holds the write lock.


def _claim(db: sqlite3.Connection, request: ClaimRequest, now: float) -> ClaimReply:
    wish = request.wish
    known = _known(db, request.job_id)
    action = judge(known, wish, now=now)
    match action:
        case Claim():
            return _granted(db, request, now)
        case PublishEnd(run):
            return _recorded_end(db, request.job_id, run)
        case RepeatStep(attempt):
            return _recorded_step(db, request, attempt)
        case RecordUnknown(attempt):
            return _lapsed(db, request, attempt)
        case Conclude(after_unknown):
            highest = known.latest.highest if known.latest else None
            unknown = highest.number if highest and after_unknown else None
            return MustEnd(_history(db, request, before=wish.attempt), unknown)
        case Acknowledge() | Wait():
            return action


def _granted(db: sqlite3.Connection, request: ClaimRequest, now: float) -> Claimed:
    wish, token = request.wish, secrets.token_hex(8)
    _remember_run(db, request)
    db.execute(
        "INSERT INTO attempts (job_id, run, attempt, state, token, lease_until) VALUES (?, ?, ?, ?, ?, ?)",
        (request.job_id, wish.run, wish.attempt, State.CLAIMED, token, now + request.lease_s),
    )
    ticket = Ticket(request.job_id, wish.run, wish.attempt, token)
    return Claimed(ticket, _history(db, request, before=wish.attempt))


def _remember_run(db: sqlite3.Connection, request: ClaimRequest) -> None:
    db.execute(
        "INSERT OR IGNORE INTO runs (job_id, run, envelope, body, forget_at) VALUES (?, ?, ?, ?, ?)",
        (
            request.job_id,
            request.wish.run,
            envelope_to_json(request.envelope),
            request.envelope.body,
            request.deadline + REMEMBERED_AFTER_DEADLINE_S,
        ),
    )


def _known(db: sqlite3.Connection, job_id: str) -> Known:
    runs = db.execute("SELECT run, end_status FROM runs WHERE job_id = ? ORDER BY run DESC", (job_id,)).fetchall()
    if not runs:
        return Known()
    number, end_status = runs[0]
    accepted = next((run for run, status in runs if status == "accepted"), None)
    return Known(Run(number, end_status is not None, _highest(db, job_id, number)), accepted)


def _highest(db: sqlite3.Connection, job_id: str, run: int) -> Attempt | None:
    row = db.execute(
        "SELECT attempt, state, lease_until, due_at FROM attempts WHERE job_id = ? AND run = ?"
        " ORDER BY attempt DESC LIMIT 1",
        (job_id, run),
    ).fetchone()
    if row is None:
        return None
    number, state, lease_until, due_at = row
    return Attempt(number, State(state), lease_until or 0.0, due_at or 0.0)


def _history(db: sqlite3.Connection, request: ClaimRequest, *, before: int) -> History:
    rows = db.execute(
        "SELECT kind, count(*) FROM attempts WHERE job_id = ? AND run = ? AND attempt < ? AND kind IS NOT NULL"
        " GROUP BY kind",
        (request.job_id, request.wish.run, before),
    )
    return History(request.envelope.counted, {Kind(kind): count for kind, count in rows})


def _envelope(db: sqlite3.Connection, job_id: str, run: int) -> Envelope:
    envelope, body = db.execute(
        "SELECT envelope, body FROM runs WHERE job_id = ? AND run = ?", (job_id, run)
    ).fetchone()
    return envelope_from_row(envelope, body)


def _recorded_end(db: sqlite3.Connection, job_id: str, run: int) -> Recorded:
    step, buried = db.execute(
        "SELECT end_step, buried FROM runs WHERE job_id = ? AND run = ?", (job_id, run)
    ).fetchone()
    end = Step.from_json(step)
    if buried:
        end = Step(end.event)
    return Recorded(_envelope(db, job_id, run), end)


def _recorded_step(db: sqlite3.Connection, request: ClaimRequest, attempt: int) -> Recorded:
    (step,) = db.execute(
        "SELECT step FROM attempts WHERE job_id = ? AND run = ? AND attempt = ?",
        (request.job_id, request.wish.run, attempt),
    ).fetchone()
    return Recorded(_envelope(db, request.job_id, request.wish.run), Step.from_json(step))


def _lapsed(db: sqlite3.Connection, request: ClaimRequest, attempt: int) -> Lapsed:
    run = request.wish.run
    (token,) = db.execute(
        "SELECT token FROM attempts WHERE job_id = ? AND run = ? AND attempt = ?",
        (request.job_id, run, attempt),
    ).fetchone()
    ticket = Ticket(request.job_id, run, attempt, token)
    return Lapsed(ticket, _history(db, request, before=attempt), _envelope(db, request.job_id, run))


def _record(db: sqlite3.Connection, ticket: Ticket, entry: Entry) -> Recorded | None:
    where = (ticket.job_id, ticket.run, ticket.attempt)
    row = db.execute(
        "SELECT a.state, a.token, r.end_status FROM attempts a JOIN runs r USING (job_id, run)"
        " WHERE a.job_id = ? AND a.run = ? AND a.attempt = ?",
        where,
    ).fetchone()
    if row is None:
        return None
    state, token, end_status = row
    ours = token == ticket.token
    accepted = entry.provider_message_id is not None
    if ours and end_status is None and (state == State.CLAIMED or (state == State.UNKNOWN and accepted)):
        _write_entry(db, ticket, entry)
        return Recorded(_envelope(db, ticket.job_id, ticket.run), entry.step)
    if ours and state == State.SETTLED:
        # The same call again: the first one was committed, but its answer was lost on the way.
        return _recorded_end(db, ticket.job_id, ticket.run) if end_status else None
    if ours and state == entry.state:
        return Recorded(_envelope(db, ticket.job_id, ticket.run), entry.step)
    # Too late: somebody has drawn another conclusion, which stands. The provider's id is kept all the same.
    db.execute(
        "UPDATE attempts SET provider_message_id = coalesce(provider_message_id, ?)"
        " WHERE job_id = ? AND run = ? AND attempt = ?",
        (entry.provider_message_id, *where),
    )
    return None


def _write_entry(db: sqlite3.Connection, ticket: Ticket, entry: Entry) -> None:
    following = entry.step.next
    db.execute(
        "UPDATE attempts SET state = ?, kind = ?, due_at = ?, step = ?, provider_message_id = ?, lease_until = NULL"
        " WHERE job_id = ? AND run = ? AND attempt = ?",
        (
            entry.state,
            entry.kind,
            following.due_at if following else None,
            None if entry.step.ends_job else entry.step.to_json(),
            entry.provider_message_id,
            ticket.job_id,
            ticket.run,
            ticket.attempt,
        ),
    )
    if entry.step.ends_job:
        _write_end(db, ticket.job_id, ticket.run, entry.step)


def _write_end(db: sqlite3.Connection, job_id: str, run: int, step: Step) -> None:
    event = step.event
    assert event is not None  # noqa: S101 - Step.ends_job implies it
    # The body goes with the end, unless its dead letter may still have to be written.
    db.execute(
        "UPDATE runs SET end_status = ?, end_step = ?, body = CASE WHEN ? THEN body END WHERE job_id = ? AND run = ?",
        (event.status, step.to_json(), step.letter is not None, job_id, run),
    )


def _lapse(db: sqlite3.Connection, ticket: Ticket, entry: Entry, now: float) -> Recorded | None:
    row = db.execute(
        "SELECT a.state, a.token, a.lease_until, r.end_status FROM attempts a JOIN runs r USING (job_id, run)"
        " WHERE a.job_id = ? AND a.run = ? AND a.attempt = ?",
        (ticket.job_id, ticket.run, ticket.attempt),
    ).fetchone()
    if row is None:
        return None
    state, token, lease_until, end_status = row
    if state != State.CLAIMED or token != ticket.token or lease_until > now or end_status is not None:
        return None
    envelope = _envelope(db, ticket.job_id, ticket.run)
    _write_entry(db, ticket, entry)
    return Recorded(envelope, entry.step)


def _conclude(db: sqlite3.Connection, request: ClaimRequest, step: Step, now: float) -> Recorded | None:
    if not isinstance(judge(_known(db, request.job_id), request.wish, now=now), Conclude):
        return None
    _remember_run(db, request)
    envelope = _envelope(db, request.job_id, request.wish.run)
    _write_end(db, request.job_id, request.wish.run, step)
    return Recorded(envelope, step)


def _refuse(db: sqlite3.Connection, request: ClaimRequest, step: Step) -> Recorded | None:
    latest = _known(db, request.job_id).latest
    if latest is None or request.wish.run > latest.number:
        _remember_run(db, request)
        envelope = _envelope(db, request.job_id, request.wish.run)
        _write_end(db, request.job_id, request.wish.run, step)
        return Recorded(envelope, step)
    if not latest.ended or latest.highest is not None:
        return None
    # No attempt was ever made, and the event is the same: this is the end that this very body has had before.
    end = _recorded_end(db, request.job_id, latest.number)
    same = end.step.event is not None and step.event is not None and end.step.event.id == step.event.id
    return end if same else None


def _release(db: sqlite3.Connection, ticket: Ticket) -> None:
    where = (ticket.job_id, ticket.run)
    db.execute(
        "DELETE FROM attempts WHERE job_id = ? AND run = ? AND attempt = ? AND token = ? AND state = ?",
        (*where, ticket.attempt, ticket.token, State.CLAIMED),
    )
    db.execute(
        "DELETE FROM runs WHERE job_id = ? AND run = ? AND end_status IS NULL"
        " AND NOT EXISTS (SELECT 1 FROM attempts a WHERE a.job_id = runs.job_id AND a.run = runs.run)",
        where,
    )


def _note_buried(db: sqlite3.Connection, job_id: str, run: int) -> None:
    db.execute("UPDATE runs SET buried = 1, body = NULL WHERE job_id = ? AND run = ?", (job_id, run))


def _forget(db: sqlite3.Connection, now: float) -> int:
    old = db.execute("SELECT job_id, run FROM runs WHERE forget_at < ? LIMIT ?", (now, _FORGET_BATCH)).fetchall()
    db.executemany("DELETE FROM attempts WHERE job_id = ? AND run = ?", old)
    db.executemany("DELETE FROM runs WHERE job_id = ? AND run = ?", old)
    return len(old)
