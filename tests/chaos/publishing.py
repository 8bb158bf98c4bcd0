"""Publishing the jobs of a run until each is confirmed, as producers do that want to be sure."""

from __future__ import annotations

import asyncio
import time
from contextlib import AsyncExitStack, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Final

import aio_pika
from aio_pika.exceptions import AMQPError

from chaos.checker.evidence import Job
from chaos.checker.reading import connected
from chaos.sorts import Form, Seal
from otpost import OtpJob, Producer
from otpost.errors import OtpostError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from chaos.load import Draft
    from otpost.sealing import PublicKey

_TIMEOUT_S: Final = 5.0
_AGAIN_S: Final = 0.2
# A broker that was killed is back long before.
_PATIENCE_S: Final = 60.0
_JOBS: Final = "otpost.jobs"
_SENDABLE: Final = (Form.CLIENT, Form.FOREIGN)


@dataclass
class Press:
    """Publishes past every proxy: what happens to a producer's connection is the broker's doing alone.

    *jobs*: what was published, and how often it was confirmed.
    """

    url: str
    keys: Mapping[Seal, PublicKey]
    jobs: dict[tuple[str, bool], Job] = field(default_factory=dict)
    _bodies: dict[str, tuple[float, bytes]] = field(default_factory=dict)
    _channel: aio_pika.abc.AbstractChannel | None = None
    _opening: asyncio.Lock = field(default_factory=asyncio.Lock)
    _resources: AsyncExitStack = field(default_factory=AsyncExitStack)

    async def publish(self, drafts: Sequence[Draft]) -> None:
        """Publish each at its time, and return once all are confirmed."""
        async with self._resources:
            producers = {
                seal: await self._resources.enter_async_context(
                    Producer(self.url, timeout_s=_TIMEOUT_S, public_key=self.keys.get(seal))
                )
                for seal in Seal
            }
            begins_at = time.monotonic()
            async with asyncio.TaskGroup() as tasks:
                for draft in drafts:
                    producer = producers[draft.sort.seal]
                    tasks.create_task(self._publish_at(begins_at + draft.at_s, draft, producer))

    async def _publish_at(self, moment: float, draft: Draft, producer: Producer) -> None:
        await asyncio.sleep(moment - time.monotonic())
        # A copy is the same job: who publishes twice does not make the user ask twice.
        made = (time.time(), draft.body(time.time(), self.keys))
        now, body = self._bodies.setdefault(f"{draft.id} {draft.sort.form}", made)
        self._note(draft, now, confirmed=0)
        with suppress(TimeoutError):
            async with asyncio.timeout(_PATIENCE_S):
                if draft.sort.form is Form.CLIENT:
                    await self._by_client(draft, now, producer)
                else:
                    await self._by_hand(draft, body)
                self._note(draft, now, confirmed=1)

    def _note(self, draft: Draft, created_at: float, *, confirmed: int) -> None:
        sort = draft.sort
        key = (draft.id, sort.form is Form.COPY)
        known = self.jobs.get(key)
        sendable = sort.form in _SENDABLE and sort.sender != "nobody" and sort.seal is not Seal.STRANGE_KEY
        self.jobs[key] = Job(
            id=draft.told_id,
            kind=sort.name,
            sender=sort.sender,
            to=draft.to.removeprefix("+"),
            code=draft.code,
            wanted=sort.wanted,
            published_at=known.published_at if known else time.time(),
            deadline=created_at - sort.age_s + sort.ttl_s if sendable else None,
            not_before=created_at + sort.not_before_s if sendable and sort.not_before_s else None,
            confirmed=confirmed + (known.confirmed if known else 0),
            is_copy=sort.form is Form.COPY,
            is_sealed=sort.seal is not Seal.NOTHING,
            created_at=created_at - sort.age_s,
        )

    async def _by_client(self, draft: Draft, now: float, producer: Producer) -> None:
        job = _job(draft, now)
        while True:
            try:
                await producer.send(job, sender=draft.sort.sender)
            except OtpostError:
                await asyncio.sleep(_AGAIN_S)
            else:
                return

    async def _by_hand(self, draft: Draft, body: bytes) -> None:
        while True:
            message = aio_pika.Message(body, delivery_mode=aio_pika.DeliveryMode.PERSISTENT)
            try:
                channel = await self._open()
                exchange = await channel.get_exchange(_JOBS, ensure=False)
                await exchange.publish(message, routing_key=draft.sort.sender, timeout=_TIMEOUT_S)
            except (AMQPError, OSError, TimeoutError, RuntimeError):
                self._channel = None
                await asyncio.sleep(_AGAIN_S)
            else:
                return

    async def _open(self) -> aio_pika.abc.AbstractChannel:
        async with self._opening:
            if self._channel is None or self._channel.is_closed:
                connection = await self._resources.enter_async_context(connected(self.url))
                self._channel = await connection.channel(publisher_confirms=True)
            return self._channel


def _job(draft: Draft, now: float) -> OtpJob:
    sort = draft.sort
    created_at = datetime.fromtimestamp(now - sort.age_s, UTC)
    return OtpJob(
        id=draft.id,
        to=draft.to,
        code=draft.code,
        created_at=created_at,
        ttl_s=sort.ttl_s,
        not_before=datetime.fromtimestamp(now, UTC) + timedelta(seconds=sort.not_before_s)
        if sort.not_before_s
        else None,
        template=sort.template,
    )
