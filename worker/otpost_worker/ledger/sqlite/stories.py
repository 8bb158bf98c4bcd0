"""What the ledger tells of one job to whoever asks; reading only."""

from __future__ import annotations

from typing import TYPE_CHECKING

from otpost_worker.attempts import State
from otpost_worker.envelope import Step
from otpost_worker.ledger.coding import envelope_from_json
from otpost_worker.outcome import Kind
from otpost_worker.ports import AttemptStory, RunStory

if TYPE_CHECKING:
    import sqlite3


def story(db: sqlite3.Connection, job_id: str) -> tuple[RunStory, ...]:
    """Tell everything that is known of a job; see ``ports.Archive``."""
    rows = db.execute(
        "SELECT run, envelope, ended_at, end_step, buried, forget_at,"
        " (SELECT max(start_at) FROM turns t WHERE t.job_id = r.job_id AND t.run = r.run)"
        " FROM runs r WHERE job_id = ? ORDER BY run",
        (job_id,),
    ).fetchall()
    return tuple(
        RunStory(
            run,
            envelope_from_json(envelope, None),
            ended_at,
            Step.from_json(end_step) if end_step else None,
            bool(buried),
            forget_at,
            turn,
            _attempts(db, job_id, run),
        )
        for run, envelope, ended_at, end_step, buried, forget_at, turn in rows
    )


def _attempts(db: sqlite3.Connection, job_id: str, run: int) -> tuple[AttemptStory, ...]:
    rows = db.execute(
        "SELECT attempt, state, kind, claimed_at, recorded_at, lease_until, due_at, provider_message_id, step"
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
        )
        for attempt, state, kind, claimed_at, recorded_at, lease_until, due_at, message_id, step in rows
    )
