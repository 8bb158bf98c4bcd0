"""The ledger in Redis, for the workers of several machines."""

from otpost_worker.ledger.redis.ledger import RedisLedger

__all__ = ["RedisLedger"]
