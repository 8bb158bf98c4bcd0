"""What the ledger tells of one job to whoever asks; reading only."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

from otpost_worker.attempts import State
from otpost_worker.envelope import Step
from otpost_worker.ledger.coding import envelope_from_json, reports_from_json
from otpost_worker.outcome import Kind
from otpost_worker.ports import REMEMBERED_AFTER_DEADLINE_S
from otpost_worker.stories import AttemptStory, JobStory, RunStory

if TYPE_CHECKING:
    import sqlite3


def story(db: sqlite3.Connection, job_id: str) -> tuple[RunStory, ...]:
    """Tell everything that is known of a job; see ``ports.Archive``."""
    return _runs(db, job_id, bodies_at=None)


def look_up(db: sqlite3.Connection, job_id: str, now: float) -> JobStory | None:
    """Tell it with the bodies that are kept; see ``ports.Reports``."""
    runs = _runs(db, job_id, bodies_at=now)
    return JobStory(job_id, runs, version_of(db, job_id)) if runs else None


def version_of(db: sqlite3.Connection, job_id: str) -> str:
    """Digest everything about a job but its bodies: who needs one is told that it is gone."""
    runs = db.execute(
        "SELECT run, end_status, end_step, buried, undelivered, delivered, ended_at FROM runs"
        " WHERE job_id = ? ORDER BY run",
        (job_id,),
    ).fetchall()
    attempts = db.execute("SELECT * FROM attempts WHERE job_id = ? ORDER BY run, attempt", (job_id,)).fetchall()
    return hashlib.sha256(repr((runs, attempts)).encode()).hexdigest()


def _runs(db: sqlite3.Connection, job_id: str, *, bodies_at: float | None) -> tuple[RunStory, ...]:
    """Tell the runs, with what is kept of their bodies at *bodies_at*, or with none."""
    rows = db.execute(
        "SELECT run, envelope, ended_at, end_step, buried, forget_at,"
        " (SELECT max(start_at) FROM turns t WHERE t.job_id = r.job_id AND t.run = r.run), undelivered, delivered,"
        " CASE WHEN ? IS NOT NULL AND NOT (kept AND forget_at - ? <= ?) THEN body END"
        " FROM runs r WHERE job_id = ? ORDER BY run",
        (bodies_at, REMEMBERED_AFTER_DEADLINE_S, bodies_at, job_id),
    ).fetchall()
    return tuple(
        RunStory(
            run,
            envelope_from_json(envelope, body),
            ended_at,
            Step.from_json(end_step) if end_step else None,
            bool(buried),
            forget_at,
            turn,
            _attempts(db, job_id, run),
            bool(undelivered),
            bool(delivered),
        )
        for run, envelope, ended_at, end_step, buried, forget_at, turn, undelivered, delivered, body in rows
    )


def _attempts(db: sqlite3.Connection, job_id: str, run: int) -> tuple[AttemptStory, ...]:
    rows = db.execute(
        "SELECT attempt, state, kind, claimed_at, recorded_at, lease_until, due_at, provider_message_id, step,"
        " reports, probe"
        " FROM attempts WHERE job_id = ? AND run = ? ORDER BY attempt",
        (job_id, run),
    )
    return tuple(
        AttemptStory(
            attempt,
            State(state),
            Kind(kind) if kind else None,
            claimed_at,
            recorded_at,
            lease_until,
            due_at,
            message_id,
            Step.from_json(step) if step else None,
            reports_from_json(reports),
            bool(probe),
        )
        for attempt, state, kind, claimed_at, recorded_at, lease_until, due_at, message_id, step, reports, probe in rows
    )
