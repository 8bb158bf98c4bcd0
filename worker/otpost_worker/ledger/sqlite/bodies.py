"""A run's body in SQL: the producer's while the run is under way; a copy after that, while a report may need it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from otpost_worker.ports import REMEMBERED_AFTER_DEADLINE_S

if TYPE_CHECKING:
    import sqlite3


def keep(db: sqlite3.Connection, run: tuple[str, int], body: bytes, now: float) -> None:
    """Keep *body* in place of the job's own, until the deadline; nothing where it is empty, or that is over."""
    (deadline,) = db.execute(
        "SELECT forget_at - ? FROM runs WHERE job_id = ? AND run = ?", (REMEMBERED_AFTER_DEADLINE_S, *run)
    ).fetchone()
    kept = body if deadline > now else b""
    db.execute("UPDATE runs SET body = ?, kept = ? WHERE job_id = ? AND run = ?", (kept or None, bool(kept), *run))


def is_there(db: sqlite3.Connection, run: tuple[str, int], now: float) -> bool:
    """Tell whether the body is there, or a copy whose time is not over."""
    (there,) = db.execute(
        "SELECT body IS NOT NULL AND NOT (kept AND forget_at - ? <= ?) FROM runs WHERE job_id = ? AND run = ?",
        (REMEMBERED_AFTER_DEADLINE_S, now, *run),
    ).fetchone()
    return bool(there)


def forget_late(db: sqlite3.Connection, now: float) -> None:
    """Let go of all copies whose time is over."""
    forget_at = now + REMEMBERED_AFTER_DEADLINE_S
    db.execute("UPDATE runs SET body = NULL, kept = 0 WHERE kept AND forget_at <= ?", (forget_at,))
