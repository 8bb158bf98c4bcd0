"""What is written down when the provider reports more of a message, after its answer or before it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from otpost_worker.ledger.coding import reports_to_json
from otpost_worker.ledger.sqlite import bodies
from otpost_worker.ledger.sqlite.stories import version_of

if TYPE_CHECKING:
    import sqlite3

    from otpost_worker.stories import Amendment, AttemptChange, JobStory


def find(db: sqlite3.Connection, message_id: str) -> tuple[str, int, int] | None:
    """Find the attempt that was taken under *message_id*; see ``ports.Reports``."""
    row: tuple[str, int, int] | None = db.execute(
        "SELECT job_id, run, attempt FROM attempts WHERE provider_message_id = ?", (message_id,)
    ).fetchone()
    return row


def amend(db: sqlite3.Connection, story: JobStory, amendment: Amendment, now: float) -> bool:
    """Write *amendment* down, unless the job has changed since *story*; see ``ports.Reports``."""
    if version_of(db, story.job_id) != story.version:
        return False
    run = (story.job_id, amendment.run)
    attempt = (*run, amendment.attempt)
    if amendment.needs_body and not bodies.is_there(db, run, now):
        return False
    db.execute(
        "UPDATE attempts SET reports = ?, provider_message_id = coalesce(provider_message_id, ?)"
        " WHERE job_id = ? AND run = ? AND attempt = ?",
        (reports_to_json(amendment.reports), amendment.message_id, *attempt),
    )
    if amendment.change is not None:
        _change(db, attempt, amendment.change, now)
    if amendment.reopened:
        # The job is under way again, and needs its body for as long as that lasts.
        db.execute(
            "UPDATE runs SET end_status = NULL, end_step = NULL, ended_at = NULL, kept = 0"
            " WHERE job_id = ? AND run = ?",
            run,
        )
    if amendment.end is not None and amendment.end.event is not None:
        db.execute(
            "UPDATE runs SET end_status = ?, end_step = ?, ended_at = coalesce(ended_at, ?), kept = kept AND ?"
            " WHERE job_id = ? AND run = ?",
            (amendment.end.event.status, amendment.end.to_json(), now, amendment.end.letter is None, *run),
        )
    db.execute(
        "UPDATE runs SET undelivered = ?, delivered = ? WHERE job_id = ? AND run = ?",
        (amendment.undelivered, amendment.delivered, *run),
    )
    if amendment.body is not None:
        bodies.keep(db, run, amendment.body, now)
    return True


def _change(db: sqlite3.Connection, attempt: tuple[str, int, int], change: AttemptChange, now: float) -> None:
    following = change.step.next if change.step else None
    db.execute(
        "UPDATE attempts SET state = ?, kind = ?, step = ?, due_at = ?, lease_until = NULL,"
        " recorded_at = coalesce(recorded_at, ?) WHERE job_id = ? AND run = ? AND attempt = ?",
        (
            change.state,
            change.kind,
            change.step.to_json() if change.step else None,
            following.due_at if following else None,
            now,
            *attempt,
        ),
    )
