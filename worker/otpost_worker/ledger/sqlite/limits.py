"""Limits and holds in SQL; each function runs inside a transaction that holds the write lock.

What is paid for is forgotten: a row of ``pairs`` lives no longer than its recipient's debt.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, assert_never

import orjson

from otpost_worker.ledger.coding import error_from_json, news_from_json, news_to_json, pseudonym
from otpost_worker.pacing import (
    HOLD_KEPT_S,
    TURN_KEPT_S,
    Cut,
    Full,
    Go,
    Held,
    Hold,
    NoRoom,
    TakeTurn,
    Track,
    current_rate,
    pace,
    put_off,
)
from otpost_worker.ports import HoldReport, Notice, SenderReport
from otpost_worker.standing import WORD_KEPT_S, Said, Signal, Standing, Word, hear, heed

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Iterable, Mapping

    from otpost_worker.pacing import Lane, Pace
    from otpost_worker.ports import ClaimRequest
    from otpost_worker.standing import Heard, News

_FORGET_BATCH: Final = 1000
# Stands for the sender as a whole where a template's name would stand.
_WHOLE: Final = ""

_TRACK: Final = """
    SELECT s.paid_until, s.cut_rate, s.cut_at,
        (SELECT paid_until FROM pairs WHERE sender = :sender AND recipient = :recipient),
        (SELECT start_at FROM turns WHERE job_id = :job_id AND run = :run AND attempt = :attempt),
        (SELECT until FROM quotas WHERE quota = :quota)
    FROM (SELECT 1) LEFT JOIN senders s ON s.sender = :sender
"""
_HOLDS: Final = """
    SELECT template, since, probe_at, probes, by_report, cleared_at FROM holds
    WHERE sender = ? AND ((template = '' AND language = '') OR (template = ? AND language = ?))
"""


def pace_claim(db: sqlite3.Connection, request: ClaimRequest, lane: Lane, now: float, key: bytes) -> Pace:
    """Find the request's start and book it; *key* hides recipients from whoever reads the file."""
    recipient = pseudonym(lane.recipient, key)
    pace_now = pace(lane, _track(db, request, lane, recipient), now=now)
    match pace_now:
        case Go():
            db.execute(
                "INSERT INTO senders (sender, paid_until) VALUES (?, ?)"
                " ON CONFLICT (sender) DO UPDATE SET paid_until = excluded.paid_until",
                (lane.sender, pace_now.sender_paid_until),
            )
            _write_pair(db, lane, recipient, pace_now.pair_paid_until)
            _write_probe(db, lane.sender, _WHOLE, _WHOLE, pace_now.sender_hold)
            _write_probe(db, lane.sender, lane.template, lane.language, pace_now.template_hold)
        case TakeTurn(start_at, pair_paid_until):
            _write_pair(db, lane, recipient, pair_paid_until)
            _write_turn(db, (request.job_id, request.wish.run, request.wish.attempt), start_at)
        case Held() | Full() | NoRoom():
            pass
        case _:  # pragma: no cover
            assert_never(pace_now)
    return pace_now


def _track(db: sqlite3.Connection, request: ClaimRequest, lane: Lane, recipient: bytes) -> Track:
    paid_until, cut_rate, cut_at, pair_paid_until, turn, quota_until = db.execute(
        _TRACK,
        {
            "sender": lane.sender,
            "recipient": recipient,
            "quota": lane.quota,
            "job_id": request.job_id,
            "run": request.wish.run,
            "attempt": request.wish.attempt,
        },
    ).fetchone()
    sender_hold, template_hold = _holds(db, lane)
    return Track(
        paid_until or 0.0,
        _cut(cut_rate, cut_at),
        pair_paid_until or 0.0,
        turn,
        quota_until or 0.0,
        sender_hold,
        template_hold,
    )


def _cut(rate: float | None, at: float | None) -> Cut | None:
    return None if rate is None or at is None else Cut(rate, at)


def _holds(db: sqlite3.Connection, lane: Lane) -> tuple[Hold | None, Hold | None]:
    """Read the sender's hold and that of the template."""
    found = {
        template: _hold(*hold) for template, *hold in db.execute(_HOLDS, (lane.sender, lane.template, lane.language))
    }
    return found.get(_WHOLE), found.get(lane.template)


def _hold(since: float, probe_at: float, probes: int, by_report: int, cleared_at: float | None) -> Hold:
    return Hold(since, probe_at, probes, bool(by_report), cleared_at)


def _write_pair(db: sqlite3.Connection, lane: Lane, recipient: bytes, paid_until: float) -> None:
    db.execute(
        "INSERT OR REPLACE INTO pairs (sender, recipient, paid_until) VALUES (?, ?, ?)",
        (lane.sender, recipient, paid_until),
    )


def _write_turn(db: sqlite3.Connection, attempt: tuple[str, int, int], start_at: float) -> None:
    db.execute(
        "INSERT OR REPLACE INTO turns (job_id, run, attempt, start_at) VALUES (?, ?, ?, ?)", (*attempt, start_at)
    )


def _write_probe(db: sqlite3.Connection, sender: str, template: str, language: str, hold: Hold | None) -> None:
    if hold is not None:
        db.execute(
            "UPDATE holds SET probe_at = ?, probes = ? WHERE sender = ? AND template = ? AND language = ?",
            (hold.probe_at, hold.probes, sender, template, language),
        )


def hear_signal(
    db: sqlite3.Connection, heard: Heard, retry: tuple[str, int, int] | None, now: float, key: bytes
) -> tuple[News, ...]:
    """Keep what an outcome says about its sender and its recipient; returns what is new with it."""
    _put_off_pair(db, heard, retry, now, key)
    before = _standing(db, heard.lane)
    after, news = hear(heard, before, now=now)
    if after != before:
        _write_standing(db, heard, before, after)
    return news


def hear_word(db: sqlite3.Connection, heard: Heard, now: float, key: bytes) -> tuple[News, ...]:
    """Keep what was said by webhook, unless something newer was; see ``standing.heed``."""
    said, lane = heard.said, heard.lane
    if said is None:
        return hear_signal(db, heard, None, now, key)
    about = (lane.sender, lane.template, lane.language, said.topic)
    row = db.execute(
        "SELECT said_at, notice, signal, news FROM words"
        " WHERE sender = ? AND template = ? AND language = ? AND topic = ? AND kept_until > ?",
        (*about, now),
    ).fetchone()
    known = heed(heard, _word(said.topic, *row) if row else None)
    if known is not None:
        return known
    news = hear_signal(db, heard, None, now, key)
    db.execute(
        "INSERT OR REPLACE INTO words (sender, template, language, topic, said_at, notice, signal, news, kept_until)"
        " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
        (*about, said.at, said.notice, heard.signal, news_to_json(news), now + WORD_KEPT_S),
    )
    return news


def _word(topic: str, said_at: float, notice: str | None, signal: str, news: bytes) -> Word:
    return Word(Said(topic, said_at, notice), Signal(signal), news_from_json(news))


def _put_off_pair(
    db: sqlite3.Connection, heard: Heard, retry: tuple[str, int, int] | None, now: float, key: bytes
) -> None:
    if heard.pair_until is None:
        return
    lane, recipient = heard.lane, pseudonym(heard.lane.recipient, key)
    row = db.execute(
        "SELECT paid_until FROM pairs WHERE sender = ? AND recipient = ?", (lane.sender, recipient)
    ).fetchone()
    paid_until, turn = put_off(
        row[0] if row else 0.0,
        max(heard.pair_until, now),
        begun_at=heard.begun_at,
        latest_start=lane.latest_start if retry else None,
    )
    _write_pair(db, lane, recipient, paid_until)
    if retry is not None and turn is not None:
        _write_turn(db, retry, turn)


def _standing(db: sqlite3.Connection, lane: Lane) -> Standing:
    cut_rate, cut_at, unanswered, until, pauses = db.execute(
        "SELECT s.cut_rate, s.cut_at, s.unanswered, q.until, q.pauses FROM (SELECT 1)"
        " LEFT JOIN senders s ON s.sender = ? LEFT JOIN quotas q ON q.quota = ?",
        (lane.sender, lane.quota),
    ).fetchone()
    sender_hold, template_hold = _holds(db, lane)
    return Standing(_cut(cut_rate, cut_at), until or 0.0, pauses or 0, unanswered or 0, sender_hold, template_hold)


def _write_standing(db: sqlite3.Connection, heard: Heard, before: Standing, after: Standing) -> None:
    lane = heard.lane
    if (after.cut, after.unanswered) != (before.cut, before.unanswered):
        cut = after.cut
        db.execute(
            "INSERT INTO senders (sender, cut_rate, cut_at, unanswered) VALUES (?, ?, ?, ?) ON CONFLICT (sender)"
            " DO UPDATE SET cut_rate = excluded.cut_rate, cut_at = excluded.cut_at, unanswered = excluded.unanswered",
            (lane.sender, cut.rate if cut else None, cut.at if cut else None, after.unanswered),
        )
    if (after.quota_until, after.quota_pauses) != (before.quota_until, before.quota_pauses):
        db.execute(
            "INSERT OR REPLACE INTO quotas (quota, until, pauses) VALUES (?, ?, ?)",
            (lane.quota, after.quota_until, after.quota_pauses),
        )
    if after.sender_hold != before.sender_hold:
        _write_hold(db, heard, (lane.sender, _WHOLE, _WHOLE), after.sender_hold)
    if after.template_hold != before.template_hold:
        _write_hold(db, heard, (lane.sender, lane.template, lane.language), after.template_hold)


def _write_hold(db: sqlite3.Connection, heard: Heard, key: tuple[str, str, str], hold: Hold | None) -> None:
    if hold is None:
        db.execute("DELETE FROM holds WHERE sender = ? AND template = ? AND language = ?", key)
        return
    # What began it stays its reason.
    db.execute(
        "INSERT INTO holds (sender, template, language, since, probe_at, probes, by_report, cleared_at, error, remedy)"
        " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT (sender, template, language)"
        " DO UPDATE SET by_report = excluded.by_report, cleared_at = excluded.cleared_at",
        (
            *key,
            hold.since,
            hold.probe_at,
            hold.probes,
            hold.by_report,
            hold.cleared_at,
            heard.error and orjson.dumps(heard.error),
            heard.remedy,
        ),
    )


# For whoever watches the senders


def report(
    db: sqlite3.Connection, rates: Mapping[str, float], quotas: Mapping[str, str], now: float
) -> dict[str, SenderReport]:
    """Tell how the senders are doing; see ``ports.Standings``."""
    return {sender: _report(db, sender, rate, quotas[sender], now) for sender, rate in rates.items()}


def _report(db: sqlite3.Connection, sender: str, rate: float, quota: str, now: float) -> SenderReport:
    row = db.execute("SELECT cut_rate, cut_at FROM senders WHERE sender = ?", (sender,)).fetchone()
    until = db.execute("SELECT until FROM quotas WHERE quota = ? AND until > ?", (quota, now)).fetchone()
    holds = db.execute(
        "SELECT template, language, error, remedy, since, probe_at, probes, by_report, cleared_at FROM holds"
        " WHERE sender = ? ORDER BY template, language",
        (sender,),
    )
    notices = db.execute(
        "SELECT topic, template, language, notice, said_at FROM words"
        " WHERE sender = ? AND notice NOT NULL AND kept_until > ? ORDER BY template, language, topic",
        (sender, now),
    )
    return SenderReport(
        current_rate(rate, _cut(*row) if row else None, now),
        until[0] if until else None,
        tuple(
            HoldReport(
                _hold(*hold),
                template or None,
                language or None,
                error_from_json(orjson.loads(error)) if error else None,
                remedy,
            )
            for template, language, error, remedy, *hold in holds
        ),
        tuple(
            Notice(topic, template or None, language or None, text, said_at)
            for topic, template, language, text, said_at in notices
        ),
    )


def probe_soon(db: sqlite3.Connection, senders: Iterable[str], now: float) -> None:
    """Let the next job of each of these senders be a probe."""
    db.executemany(
        "UPDATE holds SET probe_at = min(probe_at, ?) WHERE sender = ?", [(now, sender) for sender in senders]
    )


def forget(db: sqlite3.Connection, now: float) -> int:
    """Forget what is paid for, turns that nobody took, and old words; returns how many rows."""
    pairs = db.execute(
        "DELETE FROM pairs WHERE (sender, recipient) IN"
        " (SELECT sender, recipient FROM pairs WHERE paid_until <= ? LIMIT ?)",
        (now, _FORGET_BATCH),
    )
    turns = db.execute(
        "DELETE FROM turns WHERE (job_id, run, attempt) IN"
        " (SELECT job_id, run, attempt FROM turns WHERE start_at <= ? LIMIT ?)",
        (now - TURN_KEPT_S, _FORGET_BATCH),
    )
    holds = db.execute("DELETE FROM holds WHERE template != '' AND probe_at <= ?", (now - HOLD_KEPT_S,))
    words = db.execute("DELETE FROM words WHERE kept_until <= ?", (now,))
    return pairs.rowcount + turns.rowcount + holds.rowcount + words.rowcount
