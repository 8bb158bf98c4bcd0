"""The ledgers that the contract suite runs against, and what it takes to open, break and race each of them."""

from __future__ import annotations

import pickle
import resource
import sqlite3
from abc import ABC, abstractmethod
from contextlib import AbstractAsyncContextManager, AbstractContextManager, closing, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Final, Protocol

import orjson
import redis

from otpost_worker.attempts import State
from otpost_worker.ledger.memory import MemoryLedger
from otpost_worker.ledger.redis import RedisLedger
from otpost_worker.ledger.sqlite import SqliteLedger
from otpost_worker.ports import Archive, Ledger, Reports, Standings

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from otpost_worker.ledger.redis.scripts import Script
    from otpost_worker.ports import Clock
    from private_redis import PrivateRedis


class OpenLedger(Ledger, Standings, Archive, Reports, Protocol):
    """A ledger with what its owner does beside the way of a job."""

    async def forget(self) -> int:
        """Forget what is past its time; returns how many runs."""


class Implementation(ABC):
    """One ledger, however many objects or processes open it."""

    @abstractmethod
    def open(self, clock: Clock) -> AbstractAsyncContextManager[OpenLedger]:
        """Open it once more."""

    @abstractmethod
    def remains(self) -> bytes:
        """Everything that is stored, when nobody has it open."""

    @abstractmethod
    def lose(self) -> None:
        """Lose all jobs, as one that dies before it has written them down."""

    @abstractmethod
    def take_back(self, job_id: str, run: int, attempt: int) -> None:
        """Write what the receiver of webhooks writes, which is another process: the attempt is taken back."""


class Lasting(Implementation):
    """One that outlives the process which has it open, and may be out of its reach."""

    @abstractmethod
    def out_of_reach(self) -> AbstractContextManager[None]:
        """Break it for a while, for every object that has it open."""


class Sqlite(Lasting):
    """The ledger in one file."""

    def __init__(self, file: Path) -> None:
        self.file = file

    def open(self, clock: Clock) -> AbstractAsyncContextManager[OpenLedger]:
        return SqliteLedger(self.file, clock=clock)

    @contextmanager
    def out_of_reach(self) -> Iterator[None]:
        """No file of this process may grow: what a full disk does, also to the superuser."""
        soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (1, hard))
        try:
            yield
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))

    def remains(self) -> bytes:
        return b"".join(file.read_bytes() for file in sorted(self.file.parent.glob(f"{self.file.name}*")))

    def lose(self) -> None:
        with closing(sqlite3.connect(self.file)) as db, db:
            db.executescript("DELETE FROM runs; DELETE FROM attempts;")

    def take_back(self, job_id: str, run: int, attempt: int) -> None:
        with closing(sqlite3.connect(self.file)) as db, db:
            update = "UPDATE attempts SET state = 'taken_back' WHERE job_id = ? AND run = ? AND attempt = ?"
            assert db.execute(update, (job_id, run, attempt)).rowcount == 1


class Memory(Implementation):
    """The ledger in memory: whoever opens it once more gets the same one."""

    def __init__(self) -> None:
        self.ledger: MemoryLedger | None = None

    def open(self, clock: Clock) -> AbstractAsyncContextManager[OpenLedger]:
        self.ledger = self.ledger or MemoryLedger(clock=clock)
        return self.ledger

    def remains(self) -> bytes:
        assert self.ledger is not None
        return pickle.dumps((self.ledger._jobs, self.ledger._limits))

    def lose(self) -> None:
        assert self.ledger is not None
        self.ledger._jobs.clear()

    def take_back(self, job_id: str, run: int, attempt: int) -> None:
        assert self.ledger is not None
        self.ledger._jobs[job_id][run].attempts[attempt].state = State.TAKEN_BACK


class Redis(Lasting):
    """The ledger in one database of a private Redis, which is emptied first."""

    def __init__(self, server: PrivateRedis, database: int = 0) -> None:
        self.server = server
        self.url: Final = server.url_of(database)
        self.client: redis.Redis = redis.Redis.from_url(self.url)
        self.client.flushdb()
        # The moment, by the test's clock, up to which the keys have aged.
        self.aged_to: float | None = None

    def open(self, clock: Clock) -> AbstractAsyncContextManager[OpenLedger]:
        return AgingRedisLedger(self, clock)

    @contextmanager
    def out_of_reach(self) -> Iterator[None]:
        """It dies, and comes back with what it has written down."""
        self.server.kill()
        try:
            yield
        finally:
            self.server.start()

    def remains(self) -> bytes:
        return b"".join(bytes(key) + (self.client.dump(key) or b"") for key in self.client.scan_iter())

    def lose(self) -> None:
        self.client.delete(*self.client.scan_iter("{otpost}:job:*"))

    def take_back(self, job_id: str, run: int, attempt: int) -> None:
        key, field = f"{{otpost}}:job:{job_id}", f"a{run}.{attempt}"
        known = orjson.loads(self.client.hget(key, field) or b"")
        self.client.hset(key, field, orjson.dumps({**known, "state": State.TAKEN_BACK}).decode())

    def age(self, now: float) -> None:
        """Let as much time go by for the keys as the test's clock has gone on: Redis has no clock to set."""
        gone_by_ms = round((now - (self.aged_to or now)) * 1000)
        self.aged_to = now
        if not gone_by_ms:
            return
        for key in self.client.scan_iter():
            left_ms = self.client.pttl(key)
            if left_ms >= 0:
                self.client.pexpire(key, max(0, left_ms - gone_by_ms))

    def runs(self) -> int:
        """How many runs it remembers."""
        jobs = self.client.scan_iter("{otpost}:job:*", count=1000)
        return sum(field[:1] in (b"r", "r") for job in jobs for field in self.client.hkeys(job))


class AgingRedisLedger(RedisLedger):
    """The ledger as it is, on a Redis whose time is the test's."""

    def __init__(self, implementation: Redis, clock: Clock) -> None:
        super().__init__(implementation.url, clock=clock, redis_clock=clock)
        self._implementation = implementation
        self._test_clock = clock

    async def _run(self, script: Script, keys: Sequence[str], arguments: Sequence[str | bytes]) -> list[bytes]:
        self._implementation.age(self._test_clock())
        return await super()._run(script, keys, arguments)

    async def forget(self) -> int:
        before = self._implementation.runs()
        self._implementation.age(self._test_clock())
        return before - self._implementation.runs()


def ledger_at(place: Path | Implementation) -> Implementation:
    """Give the ledger of a test: a file stands for a SQLite ledger."""
    return Sqlite(place) if isinstance(place, Path) else place
