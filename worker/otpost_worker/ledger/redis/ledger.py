"""The ledger in Redis: each operation is one script, and so one round trip that nothing can come between.

The scripts repeat in Lua what the pure rooms say in Python (``attempts.judge``, ``pacing.pace``, ``standing.hear``);
the contract suite holds all ledgers to the same replies. Leases and limits are counted by Redis's clock, and every
time is translated on its way in and out.

Every key begins with ``{otpost}:``, whose braces keep them together on one node of a cluster, and has an end: a job's
24 h after its deadline, a recipient's when its debt is paid.
"""

from __future__ import annotations

import asyncio
import secrets
import time
from typing import TYPE_CHECKING, Final, Self
from uuid import uuid4

import structlog

from otpost_worker.ledger.redis import replies
from otpost_worker.ledger.redis.arguments import (
    amendment_arguments,
    copy_arguments,
    entry_arguments,
    heard_arguments,
    lane_arguments,
    number,
    said_arguments,
    step_arguments,
    wish_arguments,
)
from otpost_worker.ledger.redis.keys import (
    IDENTITY,
    SCHEMA,
    holds_key,
    job_key,
    kept_key,
    lane_keys,
    message_key,
    turns_key,
    words_key,
)
from otpost_worker.ledger.redis.reading import SCHEMA_VERSION, RedisReader
from otpost_worker.ledger.redis.scripts import read_scripts
from otpost_worker.ports import Noted
from otpost_worker.standing import Signal

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from otpost_worker.envelope import Step
    from otpost_worker.ledger.redis.arguments import Arguments
    from otpost_worker.ledger.redis.scripts import Script
    from otpost_worker.ports import ClaimReply, ClaimRequest, Clock, Entry, Recorded, Ticket
    from otpost_worker.standing import Heard, News
    from otpost_worker.stories import Amendment, JobStory

_STALE: Final = b"stale"

_log = structlog.get_logger("otpost.ledger")


class RedisLedger(RedisReader):
    """Implements ``ports.Ledger``, ``Standings`` and ``Archive``; an async context manager.

    *url*: redis:// or rediss://, with what else redis-py reads from a URL. *clock* is the worker's, in Unix seconds;
    *redis_clock*, in a test, stands in for Redis's own.
    """

    def __init__(self, url: str, *, clock: Clock = time.time, redis_clock: Clock | None = None) -> None:
        self._scripts = read_scripts()
        super().__init__(url, clock=clock, redis_clock=redis_clock, scripts=self._scripts.all())

    async def __aenter__(self) -> Self:
        """Connect, and find out whether this Redis will do; an empty one becomes a ledger.

        :raises LedgerUnavailable: it cannot be reached, read or written, or it will not do.
        """
        await super().__aenter__()
        for warning in self.warnings:
            _log.warning("ledger.unsafe", ledger=self.where, detail=warning)
        return self

    async def _meet(self) -> None:
        # Whoever comes first gives it its name.
        _, identity, _, schema = await self._link.ask(
            ("SET", IDENTITY, str(uuid4()), "NX"),
            ("GET", IDENTITY),
            ("SET", SCHEMA, str(SCHEMA_VERSION), "NX"),
            ("GET", SCHEMA),
        )
        self._know(identity, schema)
        if int(schema) < SCHEMA_VERSION:
            # Its keys can stay as they are; a worker that would drop what is new in them must not start any more.
            await self._link.ask(("SET", SCHEMA, str(SCHEMA_VERSION)))

    # What the way of a job asks for

    async def claim(self, request: ClaimRequest) -> ClaimReply:
        """See ``ports.Ledger``."""
        offset, lane = self._offset, request.lane
        reply = await self._ask(
            self._scripts.claim,
            [job_key(request.job_id), *(lane_keys(request.job_id, lane, self._identity) if lane else ())],
            lambda: (
                *wish_arguments(request.wish, offset),
                request.token,
                number(request.lease_s),
                *copy_arguments(request, offset),
                *lane_arguments(lane, offset),
            ),
        )
        return replies.claim_reply(request, reply, offset)

    async def record(self, ticket: Ticket, entry: Entry) -> Noted:
        """See ``ports.Ledger``."""
        offset = self._offset
        heard = entry.heard if entry.heard and entry.heard.signal is not Signal.NOTHING else None
        told, *reply = await self._ask(
            self._scripts.record,
            [
                *self._keys(ticket.job_id, ticket.run, entry.provider_message_id),
                *(lane_keys(ticket.job_id, heard.lane, self._identity) if heard else ()),
            ],
            lambda: (
                *_place(ticket),
                *entry_arguments(entry, offset),
                entry.kept,
                *(heard_arguments(heard, entry.retry_of(ticket), offset) if heard else ()),
            ),
        )
        news, known = replies.news(told, heard, offset), reply[0] != b"unknown"
        return Noted(replies.recorded(reply, entry.step), news, known)

    async def lapse(self, ticket: Ticket, entry: Entry) -> Recorded | None:
        """See ``ports.Ledger``."""
        reply = await self._ask(
            self._scripts.lapse,
            [job_key(ticket.job_id)],
            lambda: (*_place(ticket), *entry_arguments(entry, self._offset), secrets.token_hex(8)),
        )
        return replies.recorded(reply, entry.step)

    async def conclude(self, request: ClaimRequest, step: Step) -> Recorded | None:
        """See ``ports.Ledger``."""
        offset = self._offset
        reply = await self._ask(
            self._scripts.conclude,
            [job_key(request.job_id)],
            lambda: (*wish_arguments(request.wish, offset), *copy_arguments(request, offset), *step_arguments(step)),
        )
        return replies.recorded(reply, step)

    async def refuse(self, request: ClaimRequest, step: Step) -> Recorded | None:
        """See ``ports.Ledger``."""
        copy = copy_arguments(request, self._offset)
        arguments = (str(request.wish.run), *copy, *step_arguments(step), step.fingerprint or "")
        reply = await self._run(self._scripts.refuse, [job_key(request.job_id)], arguments)
        return replies.recorded(reply, step)

    async def release(self, ticket: Ticket) -> None:
        """See ``ports.Ledger``."""
        await self._run(self._scripts.release, [job_key(ticket.job_id)], _place(ticket))

    async def note_buried(self, job_id: str, run: int) -> None:
        """See ``ports.Ledger``."""
        await self._run(self._scripts.note_buried, [job_key(job_id), kept_key(job_id, run)], (str(run),))

    # What is heard of a job later

    async def find(self, message_id: str) -> tuple[str, int, int] | None:
        """See ``ports.Reports``."""
        (value,) = await self._link.ask(("GET", message_key(message_id, self._identity)))
        return replies.place_of_message(value)

    async def look_up(self, job_id: str) -> JobStory | None:
        """See ``ports.Reports``."""
        job, turns = await self._link.ask(("HGETALL", job_key(job_id)), ("HGETALL", turns_key(job_id)))
        if not job:
            return None
        runs = [int(name[1:]) for name in job if name.startswith(b"r")]
        kept = await self._link.ask(*(("GET", kept_key(job_id, run)) for run in runs))
        return replies.job_story(job_id, job, turns, dict(zip(runs, kept, strict=True)), self._offset)

    async def amend(self, story: JobStory, amendment: Amendment) -> bool:
        """See ``ports.Reports``."""
        reply = await self._ask(
            self._scripts.amend,
            self._keys(story.job_id, amendment.run, amendment.message_id),
            lambda: amendment_arguments(story, amendment, self._offset),
        )
        return reply[0] == b"done"

    def _keys(self, job_id: str, run: int, message_id: str | None) -> list[str]:
        """Name the job, what is kept of its body, and the provider's message: without one, a name that nothing has."""
        return [job_key(job_id), kept_key(job_id, run), message_key(message_id or "", self._identity)]

    async def keep_small(self) -> None:
        """Wait for ever: Redis forgets by itself."""
        await asyncio.Event().wait()

    async def probe_soon(self, senders: Iterable[str]) -> None:
        """See ``ports.Standings``."""
        if keys := [holds_key(sender) for sender in senders]:
            await self._run(self._scripts.probe_soon, keys, ())

    async def hear(self, heard: Heard) -> tuple[News, ...]:
        """See ``ports.Reports``."""
        offset, lane = self._offset, heard.lane
        (told,) = await self._ask(
            self._scripts.hear,
            [*lane_keys("", lane, self._identity), words_key(lane.sender)],
            lambda: (*said_arguments(heard), *heard_arguments(heard, None, offset)),
        )
        return replies.news(told, heard, offset)

    # Asking, and learning the time from the answer

    async def _ask(self, script: Script, keys: Sequence[str], arguments: Callable[[], Arguments]) -> list[bytes]:
        """Run a script whose arguments hold times; they are translated anew where a clock was set meanwhile."""
        for _ in range(2):
            asked_at = number(self._offset.to_redis(self._clock()))
            reply = await self._run(script, keys, (asked_at, *arguments()))
            if reply[0] != _STALE:
                return reply
        raise self._link.unavailable(TimeoutError())

    async def _run(self, script: Script, keys: Sequence[str], arguments: Sequence[str | bytes]) -> list[bytes]:
        sent_at = self._clock()
        now, *reply = await self._link.run(script, keys, (self._stand_in(), *arguments))
        self._offset.learn(float(now), sent_at=sent_at, received_at=self._clock())
        return reply

    def _stand_in(self) -> str:
        return "" if self._redis_clock is None else number(self._redis_clock())


def _place(ticket: Ticket) -> tuple[str, ...]:
    return str(ticket.run), str(ticket.attempt), ticket.token
