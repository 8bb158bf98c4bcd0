"""The ledger in memory."""

from otpost_worker.ledger.memory.ledger import MemoryLedger

__all__ = ["MemoryLedger"]
