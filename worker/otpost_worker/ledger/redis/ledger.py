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
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING, Final, Self
from uuid import uuid4

import structlog

from otpost_worker.ledger.coding import pseudonym
from otpost_worker.ledger.redis import replies
from otpost_worker.ledger.redis.arguments import (
    copy_arguments,
    entry_arguments,
    heard_arguments,
    lane_arguments,
    number,
    step_arguments,
    wish_arguments,
)
from otpost_worker.ledger.redis.fitness import refusal, warnings_of
from otpost_worker.ledger.redis.link import PATIENCE_S, Link
from otpost_worker.ledger.redis.offset import ClockOffset
from otpost_worker.ledger.redis.scripts import read_scripts
from otpost_worker.ports import LedgerUnavailable, Noted
from otpost_worker.standing import Signal

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from types import TracebackType

    from otpost_worker.envelope import Step
    from otpost_worker.ledger.redis.scripts import Script
    from otpost_worker.pacing import Lane
    from otpost_worker.ports import ClaimReply, ClaimRequest, Clock, Entry, Recorded, RunStory, SenderReport, Ticket

PREFIX: Final = "{otpost}:"
# Kept in Redis, so that an older worker does not write into a newer one's keys.
SCHEMA_VERSION: Final = 1
IDENTITY: Final = f"{PREFIX}identity"
SCHEMA: Final = f"{PREFIX}schema"
_STALE: Final = b"stale"

_log = structlog.get_logger("otpost.ledger")


class RedisLedger:
    """Implements ``ports.Ledger``, ``Standings`` and ``Archive``; an async context manager.

    *url*: redis:// or rediss://, with what else redis-py reads from a URL. *clock* is the worker's, in Unix seconds;
    *redis_clock*, in a test, stands in for Redis's own.
    """

    def __init__(self, url: str, *, clock: Clock = time.time, redis_clock: Clock | None = None) -> None:
        self._scripts = read_scripts()
        self._link = Link(url, self._scripts.all())
        self._clock = clock
        self._redis_clock = redis_clock
        self._offset = ClockOffset()
        self._identity = ""
        self._resources = AsyncExitStack()

    @property
    def identity(self) -> str:
        """See ``ports.Archive``."""
        return self._identity

    async def __aenter__(self) -> Self:
        """Connect, and find out whether this Redis will do.

        :raises LedgerUnavailable: it cannot be reached, read or written, or it will not do.
        """
        async with AsyncExitStack() as resources:
            await resources.enter_async_context(self._link)
            await self._inspect()
            await self._introduce()
            self._resources = resources.pop_all()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Finish what was asked for, and close the connections."""
        await self._resources.__aexit__(kind, error, trace)

    async def _inspect(self) -> None:
        info = await self._link.info()
        if info is not None and (reason := refusal(info)) is not None:
            raise LedgerUnavailable(f"the ledger {self._link.where} cannot be used: {reason} (OTPOST_LEDGER_URL)")
        for warning in warnings_of(info):
            _log.warning("ledger.unsafe", ledger=self._link.where, detail=warning)

    async def _introduce(self) -> None:
        # Whoever comes first gives it its name.
        _, identity, _, schema = await self._link.ask(
            ("SET", IDENTITY, str(uuid4()), "NX"),
            ("GET", IDENTITY),
            ("SET", SCHEMA, str(SCHEMA_VERSION), "NX"),
            ("GET", SCHEMA),
        )
        self._identity = identity.decode()
        self._check_schema(schema)
        await self._now()

    def _check_schema(self, schema: bytes) -> None:
        if int(schema) > SCHEMA_VERSION:
            raise LedgerUnavailable(
                f"the ledger {self._link.where} was written by a newer otpost (its schema is {int(schema)}, this one "
                f"knows {SCHEMA_VERSION}): run that version, or name another database in OTPOST_LEDGER_URL"
            )

    # What the way of a job asks for

    async def claim(self, request: ClaimRequest) -> ClaimReply:
        """See ``ports.Ledger``."""
        reply = await self._ask_to_claim(request)
        if reply[0] == _STALE:
            # It took its time, or one of the clocks was set, which the offset has learnt of now.
            reply = await self._ask_to_claim(request)
        if reply[0] == _STALE:
            raise self._link.unavailable(TimeoutError())
        return replies.claim_reply(request, reply, self._offset)

    async def _ask_to_claim(self, request: ClaimRequest) -> Sequence[bytes]:
        offset, lane = self._offset, request.lane
        return await self._run(
            self._scripts.claim,
            [_job(request.job_id), *(self._lane_keys(request.job_id, lane) if lane else ())],
            (
                number(offset.to_redis(self._clock() + PATIENCE_S)),
                *wish_arguments(request.wish, offset),
                request.token,
                number(request.lease_s),
                *copy_arguments(request, offset),
                *lane_arguments(lane, offset),
            ),
        )

    async def record(self, ticket: Ticket, entry: Entry) -> Noted:
        """See ``ports.Ledger``."""
        offset = self._offset
        heard = entry.heard if entry.heard and entry.heard.signal is not Signal.NOTHING else None
        told, *reply = await self._run(
            self._scripts.record,
            [_job(ticket.job_id), *(_standing_keys(heard.lane) if heard else ())],
            (
                *_place(ticket),
                *entry_arguments(entry, offset),
                *(heard_arguments(heard, offset) if heard else ()),
            ),
        )
        return Noted(replies.recorded(reply, entry.step), replies.news(told, heard, offset))

    async def lapse(self, ticket: Ticket, entry: Entry) -> Recorded | None:
        """See ``ports.Ledger``."""
        arguments = (*_place(ticket), *entry_arguments(entry, self._offset), secrets.token_hex(8))
        reply = await self._run(self._scripts.lapse, [_job(ticket.job_id)], arguments)
        return replies.recorded(reply, entry.step)

    async def conclude(self, request: ClaimRequest, step: Step) -> Recorded | None:
        """See ``ports.Ledger``."""
        wish, copy = wish_arguments(request.wish, self._offset), copy_arguments(request, self._offset)
        arguments = (*wish, *copy, *step_arguments(step))
        reply = await self._run(self._scripts.conclude, [_job(request.job_id)], arguments)
        return replies.recorded(reply, step)

    async def refuse(self, request: ClaimRequest, step: Step) -> Recorded | None:
        """See ``ports.Ledger``."""
        event_id = step.event.id if step.event else ""
        copy = copy_arguments(request, self._offset)
        arguments = (str(request.wish.run), *copy, *step_arguments(step), event_id)
        reply = await self._run(self._scripts.refuse, [_job(request.job_id)], arguments)
        return replies.recorded(reply, step)

    async def release(self, ticket: Ticket) -> None:
        """See ``ports.Ledger``."""
        await self._run(self._scripts.release, [_job(ticket.job_id)], _place(ticket))

    async def note_buried(self, job_id: str, run: int) -> None:
        """See ``ports.Ledger``."""
        await self._run(self._scripts.note_buried, [_job(job_id)], (str(run),))

    async def check(self) -> None:
        """See ``ports.Ledger``."""
        # Nobody has ever made this key, so there is none to write; but whoever may not write is told so.
        await self._link.ask(("SET", f"{PREFIX}check", "1", "XX"))

    async def keep_small(self) -> None:
        """Wait for ever: Redis forgets by itself."""
        await asyncio.Event().wait()

    # For whoever watches

    async def report(self, rates: Mapping[str, float], quotas: Mapping[str, str]) -> Mapping[str, SenderReport]:
        """See ``ports.Standings``."""
        now = await self._now()
        answers = await self._link.ask(
            *(
                command
                for sender in rates
                for command in (
                    ("HMGET", _sender(sender), "cut_rate", "cut_at"),
                    ("HGET", _quota(quotas[sender]), "until"),
                    ("HGETALL", _holds(sender)),
                )
            )
        )
        cuts, until, holds = answers[0::3], answers[1::3], answers[2::3]
        return {
            sender: replies.sender_report(cut, quota, held, rate=rate, now=now, offset=self._offset)
            for (sender, rate), cut, quota, held in zip(rates.items(), cuts, until, holds, strict=True)
        }

    async def probe_soon(self, senders: Iterable[str]) -> None:
        """See ``ports.Standings``."""
        await self._run(self._scripts.probe_soon, [_holds(sender) for sender in senders], ())

    async def story(self, job_id: str) -> tuple[RunStory, ...]:
        """See ``ports.Archive``."""
        job, turns = await self._link.ask(("HGETALL", _job(job_id)), ("HGETALL", turns_key(job_id)))
        return replies.story(job, turns, self._offset)

    # Asking, and learning the time from the answer

    async def _run(self, script: Script, keys: Sequence[str], arguments: Sequence[str | bytes]) -> list[bytes]:
        sent_at = self._clock()
        now, *reply = await self._link.run(script, keys, (self._stand_in(), *arguments))
        self._offset.learn(float(now), sent_at=sent_at, received_at=self._clock())
        return reply

    async def _now(self) -> float:
        """Ask for the time by Redis's clock."""
        sent_at = self._clock()
        ((seconds, microseconds),) = await self._link.ask(("TIME",))
        now = self._redis_clock() if self._redis_clock else seconds + microseconds / 1e6
        self._offset.learn(now, sent_at=sent_at, received_at=self._clock())
        return now

    def _stand_in(self) -> str:
        return "" if self._redis_clock is None else number(self._redis_clock())

    def _lane_keys(self, job_id: str, lane: Lane) -> tuple[str, ...]:
        recipient = pseudonym(lane.recipient, self._identity.encode()).hex()
        pair = f"{PREFIX}pair:{lane.sender}:{recipient}"
        return turns_key(job_id), _sender(lane.sender), pair, _quota(lane.quota), _holds(lane.sender)


def _job(job_id: str) -> str:
    return f"{PREFIX}job:{job_id}"


def turns_key(job_id: str) -> str:
    """Name the turns that were booked for a job."""
    return f"{PREFIX}turns:{job_id}"


def _sender(name: str) -> str:
    return f"{PREFIX}sender:{name}"


def _quota(name: str) -> str:
    return f"{PREFIX}quota:{name}"


def _holds(sender: str) -> str:
    return f"{PREFIX}holds:{sender}"


def _standing_keys(lane: Lane) -> tuple[str, ...]:
    return _sender(lane.sender), _quota(lane.quota), _holds(lane.sender)


def _place(ticket: Ticket) -> tuple[str, ...]:
    return str(ticket.run), str(ticket.attempt), ticket.token
