"""What tests of the receiver send to it, and a place in memory that takes what it stores."""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import io
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Final

import aiohttp

from otpost_worker.ports import NotStored
from otpost_worker.webhook import MAX_BODIES, MAX_BYTES, Receiver, Serving, serve_webhooks
from otpost_worker.webhook_connections import Limits
from otpost_worker.webhook_metrics import WebhookMetrics
from otpost_worker.webhook_room import Room

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping
    from datetime import datetime

APP_SECRET: Final = "app-secret"
VERIFY_TOKEN: Final = "verify-token"
BODY: Final = b'{"object":"whatsapp_business_account","entry":[]}'
PATIENCE_S: Final = 60.0
LIMITS: Final = Limits()


def signed(body: bytes, secret: str = APP_SECRET) -> dict[str, str]:
    """The headers that the provider sends with `body`."""
    digest = hmac.new(secret.encode(), body, hashlib.sha256).hexdigest()
    return {"Content-Type": "application/json", "X-Hub-Signature-256": f"sha256={digest}"}


class StoreInMemory:
    """Implements ports.RawWebhooks. `open` cleared: what comes waits. `refusing`: nothing can be stored."""

    def __init__(self) -> None:
        self.bodies: list[bytes] = []
        self.times: list[datetime] = []
        self.refusing = False
        self.open = asyncio.Event()
        self.open.set()
        self.waiting = 0
        self._news = asyncio.Condition()

    async def put(self, body: bytes, came_at: datetime) -> None:
        if self.refusing:
            raise NotStored("the broker is away")
        async with self._news:
            self.waiting += 1
            self._news.notify_all()
        await self.open.wait()
        self.bodies.append(body)
        self.times.append(came_at)

    async def wait_for_waiting(self, count: int) -> None:
        """Wait until so many came."""
        async with asyncio.timeout(PATIENCE_S), self._news:
            await self._news.wait_for(lambda: self.waiting >= count)


class Caller:
    """Sends requests to one receiver."""

    def __init__(self, serving: Serving, store: StoreInMemory, metrics: WebhookMetrics) -> None:
        self.port = serving.port
        self.serving = serving
        self.store = store
        self.metrics = metrics
        self.url = f"http://127.0.0.1:{self.port}/webhook"
        self.session = aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=PATIENCE_S))

    async def post(self, body: bytes, headers: Mapping[str, str] | None = None) -> tuple[int, str, Mapping[str, str]]:
        """Post a body, signed unless `headers` are given: status, text and headers of the answer."""
        sent = signed(body) if headers is None else headers
        # As a file: the library warns of bytes in one piece that are large.
        async with self.session.post(self.url, data=io.BytesIO(body), headers=sent) as answer:
            return answer.status, await answer.text(), answer.headers

    async def get(self, **query: str) -> tuple[int, str]:
        """Ask as in the handshake; `hub_mode` is sent as `hub.mode`."""
        asked = {name.replace("hub_", "hub."): value for name, value in query.items()}
        async with self.session.get(self.url, params=asked) as answer:
            return answer.status, await answer.text()

    async def raw(self, request: bytes) -> bytes:
        """Send any bytes at all, and read until the receiver closes the connection."""
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        try:
            async with asyncio.timeout(PATIENCE_S):
                writer.write(request)
                try:
                    await writer.drain()
                    return await reader.read()
                except ConnectionError:  # it had enough
                    return b""
        finally:
            writer.close()

    def counted(self, result: str) -> float:
        """How many requests had this result."""
        return self.value("otpost_webhook_requests_total", result=result)

    def value(self, metric: str, **labels: str) -> float:
        """Read a metric."""
        value = self.metrics.registry.get_sample_value(metric, labels)
        assert value is not None, (metric, labels)
        return value

    async def until(self, expected: float, metric: str, **labels: str) -> None:
        """Wait until a metric has this value."""
        async with asyncio.timeout(PATIENCE_S):
            while self.value(metric, **labels) != expected:  # noqa: ASYNC110 - a metric tells nobody
                await asyncio.sleep(0.002)


@asynccontextmanager
async def receiver(
    *,
    room: Room | None = None,
    limits: Limits = LIMITS,
    secrets: tuple[str, ...] = (APP_SECRET,),
) -> AsyncIterator[Caller]:
    """Run a receiver on a free port, with a store in memory."""
    store, metrics = StoreInMemory(), WebhookMetrics()
    answering = Receiver(
        path="/webhook",
        app_secrets=[secret.encode() for secret in secrets],
        verify_tokens=[VERIFY_TOKEN.encode(), b"the-next-token"],
        store=store,
        metrics=metrics,
        room=room or Room(most_bodies=MAX_BODIES, most_bytes=MAX_BYTES),
        read_within_s=limits.read_within_s,
    )
    async with serve_webhooks(answering, host="127.0.0.1", port=0, limits=limits) as serving:
        caller = Caller(serving, store, metrics)
        try:
            yield caller
        finally:
            await caller.session.close()
