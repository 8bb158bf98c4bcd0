"""The ledger in one SQLite file, for the workers of one machine."""

from otpost_worker.ledger.sqlite.ledger import SqliteLedger

__all__ = ["SqliteLedger"]
