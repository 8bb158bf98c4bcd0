"""Reading a ledger in Redis: nothing is written, and nothing is made."""

from __future__ import annotations

import time
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING, Any, Final, Self

from otpost_worker.ledger.redis import replies
from otpost_worker.ledger.redis.fitness import refusal, warnings_of
from otpost_worker.ledger.redis.keys import (
    CHECK,
    IDENTITY,
    SCHEMA,
    holds_key,
    job_key,
    quota_key,
    sender_key,
    turns_key,
    words_key,
)
from otpost_worker.ledger.redis.link import Link
from otpost_worker.ledger.redis.offset import ClockOffset
from otpost_worker.ports import LedgerUnavailable, NoLedger

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from types import TracebackType

    from otpost_worker.ledger.redis.scripts import Script
    from otpost_worker.ports import Clock, SenderReport
    from otpost_worker.stories import RunStory

# Kept in Redis, so that an older worker does not write into a newer one's keys.
SCHEMA_VERSION: Final = 2


class RedisReader:
    """Implements ``ledger.reading.LedgerReader``; an async context manager, made like ``RedisLedger``."""

    def __init__(
        self,
        url: str,
        *,
        clock: Clock = time.time,
        redis_clock: Clock | None = None,
        scripts: Sequence[Script] = (),
    ) -> None:
        self._link = Link(url, scripts)
        self._clock = clock
        self._redis_clock = redis_clock
        self._offset = ClockOffset()
        self._identity = ""
        self.writable = True
        self.warnings: tuple[str, ...] = ()
        self._resources = AsyncExitStack()

    @property
    def where(self) -> str:
        """Where this Redis is, without its password."""
        return self._link.where

    @property
    def identity(self) -> str:
        """See ``ports.Archive``."""
        return self._identity

    async def __aenter__(self) -> Self:
        """Connect, and find out whether this Redis will do.

        :raises NoLedger: there is none in it yet. :raises LedgerUnavailable: it cannot be reached, or will not do.
        """
        async with AsyncExitStack() as resources:
            await resources.enter_async_context(self._link)
            info = await self._link.info()
            if info is not None and (reason := refusal(info)) is not None:
                raise LedgerUnavailable(f"the ledger {self.where} cannot be used: {reason} (OTPOST_LEDGER_URL)")
            self.warnings = warnings_of(info)
            await self._meet()
            await self._now()
            self._resources = resources.pop_all()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Finish what was asked for, and close the connections."""
        await self._resources.__aexit__(kind, error, trace)

    async def _meet(self) -> None:
        self._know(*await self._link.ask(("GET", IDENTITY), ("GET", SCHEMA)))
        try:
            await self.check()
        except LedgerUnavailable:
            self.writable = False

    def _know(self, identity: bytes | None, schema: bytes | None) -> None:
        if identity is None or schema is None:
            raise NoLedger(f"there is no ledger in {self.where} yet; if workers have used it, check OTPOST_LEDGER_URL")
        if int(schema) > SCHEMA_VERSION:
            raise LedgerUnavailable(
                f"the ledger {self.where} was written by a newer otpost (its schema is {int(schema)}, this one "
                f"knows {SCHEMA_VERSION}): run that version, or name another database in OTPOST_LEDGER_URL"
            )
        self._identity = identity.decode()

    async def check(self) -> None:
        """See ``ports.Ledger``."""
        # There is no such key to write; but whoever may not write is told so.
        await self._link.ask(("SET", CHECK, "1", "XX"))

    async def report(self, rates: Mapping[str, float], quotas: Mapping[str, str]) -> Mapping[str, SenderReport]:
        """See ``ports.Standings``."""
        now = await self._now()
        answers = await self._link.ask(
            *(
                command
                for sender in rates
                for command in (
                    ("HMGET", sender_key(sender), "cut_rate", "cut_at"),
                    ("HGET", quota_key(quotas[sender]), "until"),
                    ("HGETALL", holds_key(sender)),
                    ("HGETALL", words_key(sender)),
                )
            )
        )
        of_each = zip(answers[0::4], answers[1::4], answers[2::4], answers[3::4], strict=True)
        return {
            sender: replies.sender_report(*known, rate=rate, now=now, offset=self._offset)
            for (sender, rate), known in zip(rates.items(), of_each, strict=True)
        }

    async def story(self, job_id: str) -> tuple[RunStory, ...]:
        """See ``ports.Archive``."""
        job, turns = await self._link.ask(("HGETALL", job_key(job_id)), ("HGETALL", turns_key(job_id)))
        return replies.story(job, turns, self._offset)

    async def turn(self, job_id: str) -> float | None:
        """See ``ledger.reading.LedgerReader``."""
        (turns,) = await self._link.ask(("HGETALL", turns_key(job_id)))
        return replies.latest_turn(turns, self._offset)

    # Asking, and learning the time from the answer

    async def _now(self) -> float:
        """Ask for the time by Redis's clock."""
        sent_at = self._clock()
        answer: Any
        (answer,) = await self._link.ask(("TIME",))
        seconds, microseconds = answer
        now: float = self._redis_clock() if self._redis_clock else seconds + microseconds / 1e6
        self._offset.learn(now, sent_at=sent_at, received_at=self._clock())
        return now
