"""A receiver of webhooks that knows nothing of ours: it checks signatures by itself and keeps what came.

async with WebhookReceiver() as receiver:
    ...  # have something posted to receiver.url
    await receiver.wait(3)
"""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Self

import orjson
from aiohttp import web

if TYPE_CHECKING:
    from collections.abc import Iterator

SECRET: Final = "app-s3cret-of-the-tests"
PATIENCE_S: Final = 20.0


@dataclass(frozen=True)
class Received:
    """One POST. *genuine*: its signature is that of the secret over its very bytes."""

    raw: bytes
    genuine: bool
    signature: str | None

    @property
    def body(self) -> dict[str, Any]:
        """The JSON object inside."""
        decoded = orjson.loads(self.raw)
        assert isinstance(decoded, dict)
        return decoded

    def statuses(self) -> list[dict[str, Any]]:
        """Every status in it."""
        return [
            status
            for entry in self.body["entry"]
            for change in entry["changes"]
            for status in change["value"].get("statuses", ())
        ]


class WebhookReceiver:
    """*answers*: HTTP statuses for the first POSTs, 200 from then on. *hold*: while not set, nobody is answered.

    *strict*: what is not signed rightly is answered with 401.
    """

    def __init__(self, answers: tuple[int, ...] = (), *, strict: bool = False) -> None:
        self._strict = strict
        self.received: list[Received] = []
        self.most_at_once = 0
        self.hold = asyncio.Event()
        self.hold.set()
        self.url = ""
        self._at_once = 0
        self._answers: Iterator[int] = iter(answers)
        self._came = asyncio.Condition()
        self._runner: web.AppRunner | None = None

    async def __aenter__(self) -> Self:
        # Whoever is told to close must not wait for a simulator that keeps its connections.
        application = web.Application(client_max_size=4 * 1024 * 1024)
        application.router.add_post("/webhook", self._post)
        self._runner = web.AppRunner(application, access_log=None, shutdown_timeout=0.2)
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", 0).start()
        self.url = f"http://127.0.0.1:{self._runner.addresses[0][1]}/webhook"
        return self

    async def __aexit__(self, *_: object) -> None:
        self.hold.set()
        if self._runner is not None:
            await self._runner.cleanup()

    async def _post(self, request: web.Request) -> web.Response:
        raw = await request.read()
        self._at_once += 1
        self.most_at_once = max(self.most_at_once, self._at_once)
        try:
            signature = request.headers.get("X-Hub-Signature-256")
            expected = "sha256=" + hmac.new(SECRET.encode(), raw, hashlib.sha256).hexdigest()
            genuine = signature is not None and hmac.compare_digest(signature.encode(), expected.encode())
            async with self._came:
                self.received.append(Received(raw, genuine, signature))
                self._came.notify_all()
            await self.hold.wait()
        finally:
            self._at_once -= 1
        return web.Response(status=401 if self._strict and not genuine else next(self._answers, 200))

    async def wait(self, posts: int) -> list[Received]:
        """Wait until so many POSTs came; returns all that did."""
        async with asyncio.timeout(PATIENCE_S), self._came:
            await self._came.wait_for(lambda: len(self.received) >= posts)
        return self.received

    def statuses(self) -> list[dict[str, Any]]:
        """Every status that came, in the order in which they came."""
        return [status for received in self.received for status in received.statuses()]


async def _serve_until_the_end() -> None:
    """Be a receiver in a process of its own: prints its URL, answers what is signed badly with 401."""
    async with WebhookReceiver(strict=True) as receiver:
        sys.stdout.write(f"{receiver.url}\n")
        sys.stdout.flush()
        # Whoever started it closes its standard input, at the latest by dying.
        await asyncio.to_thread(sys.stdin.read)


if __name__ == "__main__":
    asyncio.run(_serve_until_the_end())
