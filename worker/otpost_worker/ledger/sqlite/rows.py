"""How the SQLite ledger lays out its rows."""

from __future__ import annotations

from typing import Final

# Kept in the file's user_version, so that an older worker does not write into a newer one's tables.
SCHEMA_VERSION: Final = 4
SCHEMA: Final = (
    """CREATE TABLE IF NOT EXISTS runs (
        job_id TEXT NOT NULL,
        run INTEGER NOT NULL,
        envelope BLOB NOT NULL,       -- everything of the envelope but its body, as JSON
        body BLOB,                    -- NULL once nothing can need it any more
        end_status TEXT,              -- NULL while the run is under way
        end_step BLOB,
        buried INTEGER NOT NULL DEFAULT 0,
        forget_at REAL NOT NULL,
        ended_at REAL,
        undelivered INTEGER NOT NULL DEFAULT 0, -- accepted, and given up by the provider after that
        delivered INTEGER NOT NULL DEFAULT 0,   -- a delivery was reported, whatever the run has ended with
        kept INTEGER NOT NULL DEFAULT 0,        -- the body is there until the deadline, although the run has ended
        PRIMARY KEY (job_id, run)
    ) WITHOUT ROWID""",
    "CREATE INDEX IF NOT EXISTS runs_forget_at ON runs (forget_at)",
    "CREATE INDEX IF NOT EXISTS runs_kept ON runs (forget_at) WHERE kept",
    """CREATE TABLE IF NOT EXISTS attempts (
        job_id TEXT NOT NULL,
        run INTEGER NOT NULL,
        attempt INTEGER NOT NULL,
        state TEXT NOT NULL,
        kind TEXT,
        token TEXT NOT NULL,
        lease_until REAL,
        due_at REAL,
        step BLOB,
        provider_message_id TEXT,
        claimed_at REAL NOT NULL DEFAULT 0,
        recorded_at REAL,
        start_at REAL NOT NULL DEFAULT 0,
        probe INTEGER NOT NULL DEFAULT 0,
        news BLOB,                    -- what its outcome changed about the sender, as JSON
        reports BLOB,                 -- what was heard of it beside its answer, as JSON
        PRIMARY KEY (job_id, run, attempt)
    ) WITHOUT ROWID""",
    "CREATE INDEX IF NOT EXISTS attempts_message ON attempts (provider_message_id) WHERE provider_message_id NOT NULL",
    """CREATE TABLE IF NOT EXISTS senders (
        sender TEXT PRIMARY KEY,
        paid_until REAL NOT NULL DEFAULT 0, -- until when every start that was booked is paid for
        cut_rate REAL,                      -- NULL: the full rate
        cut_at REAL,
        unanswered INTEGER NOT NULL DEFAULT 0
    ) WITHOUT ROWID""",
    """CREATE TABLE IF NOT EXISTS quotas (
        quota TEXT PRIMARY KEY,
        until REAL NOT NULL,
        pauses INTEGER NOT NULL
    ) WITHOUT ROWID""",
    """CREATE TABLE IF NOT EXISTS holds (
        sender TEXT NOT NULL,
        template TEXT NOT NULL,             -- '' with language '': the sender as a whole
        language TEXT NOT NULL,
        since REAL NOT NULL,
        probe_at REAL NOT NULL,
        probes INTEGER NOT NULL,
        error BLOB,
        remedy TEXT,
        by_report INTEGER NOT NULL DEFAULT 0,  -- the provider takes what is sent, and reports it as failed then
        cleared_at REAL,                    -- since when it has not reported that
        PRIMARY KEY (sender, template, language)
    ) WITHOUT ROWID""",
    """CREATE TABLE IF NOT EXISTS words (
        sender TEXT NOT NULL,
        template TEXT NOT NULL,             -- '' with language '': said of the sender as a whole
        language TEXT NOT NULL,
        topic TEXT NOT NULL,
        said_at REAL NOT NULL,              -- by the provider's clock
        signal TEXT NOT NULL,
        notice TEXT,                        -- what an operator should know of it
        news BLOB NOT NULL,                 -- what it changed, as JSON
        kept_until REAL NOT NULL,
        PRIMARY KEY (sender, template, language, topic)
    ) WITHOUT ROWID""",
    """CREATE TABLE IF NOT EXISTS pairs (
        sender TEXT NOT NULL,
        recipient BLOB NOT NULL,            -- a keyed hash of the number
        paid_until REAL NOT NULL,
        PRIMARY KEY (sender, recipient)
    ) WITHOUT ROWID""",
    "CREATE INDEX IF NOT EXISTS pairs_paid_until ON pairs (paid_until)",
    """CREATE TABLE IF NOT EXISTS turns (
        job_id TEXT NOT NULL,
        run INTEGER NOT NULL,
        attempt INTEGER NOT NULL,
        start_at REAL NOT NULL,
        PRIMARY KEY (job_id, run, attempt)
    ) WITHOUT ROWID""",
    "CREATE INDEX IF NOT EXISTS turns_start_at ON turns (start_at)",
    "CREATE TABLE IF NOT EXISTS meta (name TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID",
)
# What has to be added to a file that an older otpost wrote, by the version that it has.
UPGRADES: Final[dict[int, tuple[str, ...]]] = {
    1: (
        "ALTER TABLE runs ADD COLUMN ended_at REAL",
        "ALTER TABLE attempts ADD COLUMN claimed_at REAL NOT NULL DEFAULT 0",
        "ALTER TABLE attempts ADD COLUMN recorded_at REAL",
        "ALTER TABLE attempts ADD COLUMN start_at REAL NOT NULL DEFAULT 0",
        "ALTER TABLE attempts ADD COLUMN probe INTEGER NOT NULL DEFAULT 0",
        "ALTER TABLE attempts ADD COLUMN news BLOB",
    ),
    2: (
        "ALTER TABLE runs ADD COLUMN undelivered INTEGER NOT NULL DEFAULT 0",
        "ALTER TABLE runs ADD COLUMN kept INTEGER NOT NULL DEFAULT 0",
        "ALTER TABLE attempts ADD COLUMN reports BLOB",
    ),
    3: (
        "ALTER TABLE runs ADD COLUMN delivered INTEGER NOT NULL DEFAULT 0",
        "ALTER TABLE holds ADD COLUMN by_report INTEGER NOT NULL DEFAULT 0",
        "ALTER TABLE holds ADD COLUMN cleared_at REAL",
    ),
}
