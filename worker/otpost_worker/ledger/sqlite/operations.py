"""The ledger's operations in SQL; each runs inside a transaction that holds the write lock."""

from __future__ import annotations

import secrets
from dataclasses import replace
from typing import TYPE_CHECKING, Final, NamedTuple, assert_never

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
from otpost_worker.ledger.coding import envelope_from_json, envelope_to_json, news_from_json, news_to_json
from otpost_worker.ledger.sqlite import bodies
from otpost_worker.ledger.sqlite.limits import hear_signal, pace_claim
from otpost_worker.outcome import Kind
from otpost_worker.pacing import Full, Go, Held, TakeTurn
from otpost_worker.pacing import NoRoom as NoTurn
from otpost_worker.ports import (
    Claimed,
    ClaimReply,
    ClaimRequest,
    Crowded,
    Entry,
    Lapsed,
    MustEnd,
    NoRoom,
    Noted,
    Recorded,
    Ticket,
)

if TYPE_CHECKING:
    import sqlite3

    from otpost_worker.standing import News

_FORGET_BATCH: Final = 1000


def claim(db: sqlite3.Connection, request: ClaimRequest, now: float, key: bytes) -> ClaimReply:
    """Look the delivery up in the table, find its start, claim it; see ``ports.Ledger``."""
    wish = request.wish
    known = _known(db, request.job_id)
    action = judge(known, wish, now=now)
    if isinstance(action, Wait | RecordUnknown) and (own := _granted_again(db, request, now)) is not None:
        return own
    match action:
        case Claim():
            return _paced(db, request, now, key)
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


def _paced(db: sqlite3.Connection, request: ClaimRequest, now: float, key: bytes) -> ClaimReply:
    if request.lane is None:
        return _granted(db, request, now, start_at=now)
    pace = pace_claim(db, request, request.lane, now, key)
    match pace:
        case Go():
            return _granted(db, request, now, start_at=pace.start_at, probe=pace.is_probe)
        case TakeTurn(start_at):
            return Wait(start_at)
        case Held(until):
            return Wait(until)
        case Full(until):
            return Crowded(until)
        case NoTurn():
            return NoRoom()
        case _:  # pragma: no cover
            assert_never(pace)


def _granted(
    db: sqlite3.Connection, request: ClaimRequest, now: float, *, start_at: float, probe: bool = False
) -> Claimed:
    wish, token = request.wish, request.token
    _remember_run(db, request)
    db.execute(
        "INSERT INTO attempts (job_id, run, attempt, state, token, lease_until, claimed_at, start_at, probe)"
        " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
        (request.job_id, wish.run, wish.attempt, State.CLAIMED, token, now + request.lease_s, now, start_at, probe),
    )
    ticket = Ticket(request.job_id, wish.run, wish.attempt, token)
    return Claimed(ticket, _history(db, request, before=wish.attempt), start_at, probe)


def _granted_again(db: sqlite3.Connection, request: ClaimRequest, now: float) -> Claimed | None:
    """Grant the asker's own open claim once more: the answer to the same request was lost on the way."""
    wish = request.wish
    claim = (request.job_id, wish.run, wish.attempt, State.CLAIMED, request.token)
    row = db.execute(
        "SELECT start_at, probe FROM attempts WHERE job_id = ? AND run = ? AND attempt = ? AND state = ? AND token = ?",
        claim,
    ).fetchone()
    if row is None:
        return None
    db.execute(
        "UPDATE attempts SET lease_until = ? WHERE job_id = ? AND run = ? AND attempt = ? AND state = ? AND token = ?",
        (now + request.lease_s, *claim),
    )
    start_at, probe = row
    ticket = Ticket(request.job_id, wish.run, wish.attempt, request.token)
    return Claimed(ticket, _history(db, request, before=wish.attempt), start_at, bool(probe))


def _remember_run(db: sqlite3.Connection, request: ClaimRequest) -> None:
    db.execute(
        "INSERT OR IGNORE INTO runs (job_id, run, envelope, body, forget_at) VALUES (?, ?, ?, ?, ?)",
        (
            request.job_id,
            request.wish.run,
            envelope_to_json(request.envelope),
            request.envelope.body,
            request.forget_at,
        ),
    )


def _known(db: sqlite3.Connection, job_id: str) -> Known:
    runs = db.execute(
        "SELECT run, end_status, end_status NOT NULL AND (delivered OR (end_status = 'accepted' AND NOT undelivered))"
        " FROM runs WHERE job_id = ? ORDER BY run DESC",
        (job_id,),
    ).fetchall()
    if not runs:
        return Known()
    number, end_status, _ = runs[0]
    standing = next((run for run, _, stands in runs if stands), None)
    return Known(Run(number, end_status is not None, _highest(db, job_id, number)), standing)


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
    """Read it with its body; not with a copy, which is kept for reports alone."""
    envelope, body = db.execute(
        "SELECT envelope, CASE WHEN NOT kept THEN body END FROM runs WHERE job_id = ? AND run = ?", (job_id, run)
    ).fetchone()
    return envelope_from_json(envelope, body)


def _recorded_end(db: sqlite3.Connection, job_id: str, run: int) -> Recorded:
    step, buried = db.execute(
        "SELECT end_step, buried FROM runs WHERE job_id = ? AND run = ?", (job_id, run)
    ).fetchone()
    end = Step.from_json(step)
    return _recorded(db, job_id, run, Step(end.event) if buried else end)


def _recorded(db: sqlite3.Connection, job_id: str, run: int, step: Step) -> Recorded:
    """Give *step* to be published, with the body where it needs one."""
    envelope = _envelope(db, job_id, run)
    needs_body = step.letter is not None or not step.ends_job
    return Recorded(envelope if needs_body else replace(envelope, body=b""), step)


def _recorded_step(db: sqlite3.Connection, request: ClaimRequest, attempt: int) -> Recorded:
    run = (request.job_id, request.wish.run)
    row = db.execute("SELECT step FROM attempts WHERE job_id = ? AND run = ? AND attempt = ?", (*run, attempt))
    return Recorded(_envelope(db, *run), Step.from_json(row.fetchone()[0]))


def _lapsed(db: sqlite3.Connection, request: ClaimRequest, attempt: int) -> Lapsed:
    run = request.wish.run
    (token,) = db.execute(
        "SELECT token FROM attempts WHERE job_id = ? AND run = ? AND attempt = ?",
        (request.job_id, run, attempt),
    ).fetchone()
    ticket = Ticket(request.job_id, run, attempt, token)
    return Lapsed(ticket, _history(db, request, before=attempt), _envelope(db, request.job_id, run))


def record(db: sqlite3.Connection, ticket: Ticket, entry: Entry, now: float, key: bytes) -> Noted:
    """Record the outcome of a claim, and what it says about its sender."""
    news = _told_before(db, ticket)
    if news is None:
        news = hear_signal(db, entry.heard, entry.retry_of(ticket), now, key) if entry.heard else ()
    claim = _claim_of(db, ticket)
    if claim is None:
        return Noted(None, news, known=False)
    recorded = _record(db, ticket, entry, claim, now)
    if news:
        db.execute(
            "UPDATE attempts SET news = ? WHERE job_id = ? AND run = ? AND attempt = ? AND token = ?",
            (news_to_json(news), ticket.job_id, ticket.run, ticket.attempt, ticket.token),
        )
    return Noted(recorded, news)


def _told_before(db: sqlite3.Connection, ticket: Ticket) -> tuple[News, ...] | None:
    """Tell the news of an outcome that this very ticket has recorded already; None where it has not."""
    row = db.execute(
        "SELECT news FROM attempts WHERE job_id = ? AND run = ? AND attempt = ? AND token = ? AND state != ?",
        (ticket.job_id, ticket.run, ticket.attempt, ticket.token, State.CLAIMED),
    ).fetchone()
    return None if row is None else news_from_json(row[0] or b"[]")


class _Claim(NamedTuple):
    state: str
    token: str
    end_status: str | None


def _claim_of(db: sqlite3.Connection, ticket: Ticket) -> _Claim | None:
    row = db.execute(
        "SELECT a.state, a.token, r.end_status FROM attempts a JOIN runs r USING (job_id, run)"
        " WHERE a.job_id = ? AND a.run = ? AND a.attempt = ?",
        (ticket.job_id, ticket.run, ticket.attempt),
    ).fetchone()
    return None if row is None else _Claim(*row)


def _record(db: sqlite3.Connection, ticket: Ticket, entry: Entry, claim: _Claim, now: float) -> Recorded | None:
    where = (ticket.job_id, ticket.run, ticket.attempt)
    state, token, end_status = claim
    ours = token == ticket.token
    accepted = entry.provider_message_id is not None
    settles = (ours and state == State.CLAIMED) or (accepted and state == State.UNKNOWN)
    if settles and end_status is None:
        _write_entry(db, ticket, entry, now)
        return _recorded(db, ticket.job_id, ticket.run, entry.step)
    if ours and state == State.SETTLED:
        # The same call again: the first one was committed, but its answer was lost on the way.
        return _recorded_end(db, ticket.job_id, ticket.run) if end_status else None
    if ours and state == entry.state:
        return _recorded(db, ticket.job_id, ticket.run, entry.step)
    # Too late: somebody has drawn another conclusion, which stands. The provider's id is kept all the same.
    db.execute(
        "UPDATE attempts SET provider_message_id = coalesce(provider_message_id, ?)"
        " WHERE job_id = ? AND run = ? AND attempt = ?",
        (entry.provider_message_id, *where),
    )
    if ours and state == State.CLAIMED:
        # Its answer has come: nobody need wait for it any more.
        db.execute(
            "UPDATE attempts SET state = ?, kind = ?, lease_until = NULL, recorded_at = ?"
            " WHERE job_id = ? AND run = ? AND attempt = ?",
            (State.SETTLED, entry.kind, now, *where),
        )
    return None


def _write_entry(db: sqlite3.Connection, ticket: Ticket, entry: Entry, now: float) -> None:
    following = entry.step.next
    db.execute(
        "UPDATE attempts SET state = ?, kind = ?, due_at = ?, step = ?,"
        " provider_message_id = coalesce(?, provider_message_id), lease_until = NULL,"
        " recorded_at = ? WHERE job_id = ? AND run = ? AND attempt = ?",
        (
            entry.state,
            entry.kind,
            following.due_at if following else None,
            None if entry.step.ends_job else entry.step.to_json(),
            entry.provider_message_id,
            now,
            ticket.job_id,
            ticket.run,
            ticket.attempt,
        ),
    )
    if entry.step.ends_job:
        _write_end(db, ticket.job_id, ticket.run, entry.step, now, kept=entry.kept)


def _write_end(db: sqlite3.Connection, job_id: str, run: int, step: Step, now: float, *, kept: bytes = b"") -> None:
    event = step.event
    assert event is not None  # noqa: S101 - Step.ends_job implies it
    # The body goes with the end, unless its dead letter may still have to be written, or the end may be taken back.
    db.execute(
        "UPDATE runs SET end_status = ?, end_step = ?, ended_at = ?, kept = 0, body = CASE WHEN ? THEN body END"
        " WHERE job_id = ? AND run = ?",
        (event.status, step.to_json(), now, step.letter is not None, job_id, run),
    )
    if kept:
        bodies.keep(db, (job_id, run), kept, now)


def lapse(db: sqlite3.Connection, ticket: Ticket, entry: Entry, now: float) -> Recorded | None:
    """Record a lapsed claim as unknown."""
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
    _write_entry(db, ticket, entry, now)
    # Whoever held the claim has lost it: its own outcome comes too late from here on.
    db.execute(
        "UPDATE attempts SET token = ? WHERE job_id = ? AND run = ? AND attempt = ?",
        (secrets.token_hex(8), ticket.job_id, ticket.run, ticket.attempt),
    )
    return Recorded(envelope, entry.step)


def conclude(db: sqlite3.Connection, request: ClaimRequest, step: Step, now: float) -> Recorded | None:
    """End a run without a request."""
    if not isinstance(judge(_known(db, request.job_id), request.wish, now=now), Conclude):
        return None
    _remember_run(db, request)
    envelope = _envelope(db, request.job_id, request.wish.run)
    _write_end(db, request.job_id, request.wish.run, step, now)
    return Recorded(envelope, step)


def refuse(db: sqlite3.Connection, request: ClaimRequest, step: Step, now: float) -> Recorded | None:
    """End the run of a body that is no job, unless its id belongs to another job."""
    known = _known(db, request.job_id)
    latest = known.latest
    if latest is None or (request.wish.run > latest.number and known.standing_run is None):
        _remember_run(db, request)
        envelope = _envelope(db, request.job_id, request.wish.run)
        _write_end(db, request.job_id, request.wish.run, step, now)
        return Recorded(envelope, step)
    if not latest.ended or request.wish.run > latest.number:
        return None
    # Its own end is due to this very body, and to no other.
    run = (request.job_id, latest.number)
    (end_step,) = db.execute("SELECT end_step FROM runs WHERE job_id = ? AND run = ?", run).fetchone()
    own = _envelope(db, *run).body == request.envelope.body or Step.from_json(end_step).is_of(step.fingerprint)
    return _recorded_end(db, *run) if own else None


def release(db: sqlite3.Connection, ticket: Ticket) -> None:
    """Take back a claim, as if it had not been."""
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


def note_buried(db: sqlite3.Connection, job_id: str, run: int) -> None:
    """Note that a dead letter is confirmed; nothing needs the body any more."""
    # Not before its end is recorded: until then another worker may have to take the job further.
    db.execute(
        "UPDATE runs SET buried = 1, body = NULL, kept = 0 WHERE job_id = ? AND run = ? AND end_status IS NOT NULL",
        (job_id, run),
    )


def forget(db: sqlite3.Connection, now: float) -> int:
    """Forget the oldest of what is past its time; returns how many runs."""
    bodies.forget_late(db, now)
    old = db.execute("SELECT job_id, run FROM runs WHERE forget_at < ? LIMIT ?", (now, _FORGET_BATCH)).fetchall()
    db.executemany("DELETE FROM attempts WHERE job_id = ? AND run = ?", old)
    db.executemany("DELETE FROM runs WHERE job_id = ? AND run = ?", old)
    return len(old)
