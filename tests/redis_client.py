"""Looking into a private Redis from a test."""

from __future__ import annotations

from typing import TYPE_CHECKING

import redis

if TYPE_CHECKING:
    from private_redis import PrivateRedis


def client_of(server: PrivateRedis, **options: str) -> redis.Redis:
    """Give a client of its first database; *options*: `username` and `password`, say."""
    client: redis.Redis = redis.Redis.from_url(server.url, **options)
    return client


def keys_of(server: PrivateRedis) -> dict[str, float | None]:
    """Tell how many seconds each key has left, by its name; None for one that stays."""
    client = client_of(server)
    left_ms = {bytes(key).decode(): client.pttl(key) for key in client.scan_iter()}
    return {key: None if left < 0 else left / 1000 for key, left in left_ms.items()}


def everything_in(server: PrivateRedis) -> bytes:
    """Give all keys and values, as Redis would write them into a file."""
    client = client_of(server)
    return b"".join(bytes(key) + (client.dump(key) or b"") for key in client.scan_iter())
