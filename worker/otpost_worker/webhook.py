"""The receiver of the provider's webhooks: an HTTP server that stores what comes, as it comes, and answers.

Nothing is looked into beyond whether it is the provider's, and JSON: what a body says is read by workers, from the
queue, so that a slow ledger never makes the provider send it again.
"""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final

import structlog
from aiohttp import web
from aiohttp.http_exceptions import HttpProcessingError

from otpost_worker.health import listen
from otpost_worker.ports import NotStored
from otpost_worker.webhook_answers import ANSWERS, Result
from otpost_worker.webhook_connections import READ_WITHIN_S, Limits
from otpost_worker.webhook_json import json_object
from otpost_worker.webhook_refusals import RefusalLog
from otpost_worker.webhook_server import Server
from otpost_worker.webhook_signature import is_one_of, is_signed

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence

    from otpost_worker.ports import RawWebhooks
    from otpost_worker.webhook_answers import HangUp
    from otpost_worker.webhook_metrics import WebhookMetrics
    from otpost_worker.webhook_room import Body, Room

# Meta sends up to 3 MB in one POST, with up to 1,000 updates.
MAX_BODY_BYTES: Final = 3 * 1024 * 1024
MAX_BODIES: Final = 400
MAX_BYTES: Final = 32 * 1024 * 1024
# For the answers themselves, once everything has one.
_LAST_ANSWERS_S: Final = 1.0
_RETRY_AFTER_S: Final = 5
_LIMITS: Final = Limits()
_REMEDY: Final = "choose another OTPOST_WEBHOOK_PORT (--port) or OTPOST_WEBHOOK_HOST (--host)"
_PLAIN: Final = {
    "Content-Type": "text/plain; charset=utf-8",
    "Cache-Control": "no-store",
    # The challenge of a handshake is somebody else's text.
    "X-Content-Type-Options": "nosniff",
    "Server": "otpost",
}
_MORE: Final = {405: {"Allow": "GET, POST"}, 503: {"Retry-After": str(_RETRY_AFTER_S)}}

_log = structlog.get_logger("otpost.webhook")


class Receiver:
    """Answers requests for *path*.

    :param app_secrets: any of them may have signed a POST. :param verify_tokens: any of them opens the handshake.
    :param store: takes the bodies. :param room: bounds what is in hand. :param read_within_s: the time of one body.
    """

    def __init__(
        self,
        *,
        path: str,
        app_secrets: Sequence[bytes],
        verify_tokens: Sequence[bytes],
        store: RawWebhooks,
        metrics: WebhookMetrics,
        room: Room,
        read_within_s: float = READ_WITHIN_S,
    ) -> None:
        self._path = path
        self._app_secrets = tuple(app_secrets)
        self._verify_tokens = tuple(verify_tokens)
        self._store = store
        self._metrics = metrics
        self._room = room
        self._read_within_s = read_within_s
        self._refusals = RefusalLog()
        self._stopping = False
        self._idle = asyncio.Event()
        self._idle.set()
        metrics.watch(room)

    async def answer(self, request: web.BaseRequest) -> web.Response:
        """Answer one request."""
        loop = asyncio.get_running_loop()
        begun = loop.time()
        result, text = await self._result(request)
        self._metrics.answered(result, duration_s=loop.time() - begun)
        self._refusals.met(result)
        response = _response(result, text)
        if self._stopping or result is Result.TOO_SLOW:
            response.force_close()
        return response

    def watch(self, server: Server) -> None:
        """Have the metrics tell how many connections *server* has."""
        self._metrics.watch_connections(server.places)

    @property
    def in_hand(self) -> int:
        """How many POSTs wait for their answer."""
        return self._room.bodies

    async def drain(self, within_s: float, at_once: asyncio.Event) -> bool:
        """Answer what is in hand, each for the last time on its connection; tells whether all of it had an answer.

        It takes *within_s* seconds at the most; *at_once* cuts it short.
        """
        self._stopping = True
        waits = [asyncio.ensure_future(event.wait()) for event in (self._idle, at_once)]
        try:
            await asyncio.wait(waits, timeout=within_s, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for wait in waits:
                wait.cancel()
        return self._idle.is_set()

    def refuse_nonsense(self) -> None:
        """Take note of what could not be read as a request, and was answered with 400."""
        self._metrics.answered(Result.BAD_HTTP, duration_s=None)
        self._refusals.met(Result.BAD_HTTP)

    def hung_up(self, why: HangUp) -> None:
        """Take note of a connection that was closed without an answer."""
        self._metrics.hung_up(why)
        self._refusals.met(why)

    async def _result(self, request: web.BaseRequest) -> tuple[Result, str | None]:
        """Tell what becomes of a request, and the text of the answer where it is one of its own."""
        if request.path != self._path:
            return Result.WRONG_PATH, None
        if request.method == "POST":
            return await self._event(request), None
        if request.method == "GET":
            return self._handshake(request)
        return Result.WRONG_METHOD, None

    def _handshake(self, request: web.BaseRequest) -> tuple[Result, str | None]:
        """Answer the provider's question whether this is our callback URL. It needs no broker."""
        asked = request.query
        challenge = asked.get("hub.challenge", "")
        right = is_one_of(asked.get("hub.verify_token"), self._verify_tokens)
        # The provider's are digits; what else could be read back to a browser is nobody's business.
        readable = challenge != "" and challenge.isascii() and challenge.isprintable()
        if right and readable and asked.get("hub.mode") == "subscribe":
            return Result.VERIFIED, challenge
        return Result.WRONG_TOKEN, None

    async def _event(self, request: web.BaseRequest) -> Result:
        came_at = datetime.now(UTC)
        # Nothing is unpacked here, so that nothing can grow.
        if request.headers.get("Content-Encoding", "identity").strip().lower() != "identity":
            return Result.ENCODED
        if (request.content_length or 0) > MAX_BODY_BYTES:
            return Result.TOO_LARGE
        body, time_left = bytearray(), asyncio.timeout(self._read_within_s)

        def give_up() -> None:
            body.clear()
            if not time_left.expired():
                time_left.reschedule(asyncio.get_running_loop().time())

        place = self._room.enter(give_up)
        if place is None:
            return Result.OVERLOADED
        self._idle.clear()
        try:
            refused = await self._read(request, body, place, time_left)
            if refused is None:
                return await self._take(request, bytes(body), came_at)
            return refused
        finally:
            self._room.leave(place)
            if self._room.bodies == 0:
                self._idle.set()

    async def _read(
        self, request: web.BaseRequest, body: bytearray, place: Body, time_left: asyncio.Timeout
    ) -> Result | None:
        """Read the request's *body*; tell why that is not possible, where it is not.

        All that is in *body* is taken from the room.
        """
        try:
            async with time_left:
                if request.headers.get("Expect", "").lower() == "100-continue":
                    await request.writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
                while chunk := await request.content.readany():
                    if len(body) + len(chunk) > MAX_BODY_BYTES:
                        return Result.TOO_LARGE
                    if not self._room.take(place, len(chunk)):
                        return Result.OVERLOADED
                    body += chunk
        except TimeoutError:
            return Result.TOO_SLOW if place.has_place else Result.OVERLOADED
        except (web.RequestPayloadError, HttpProcessingError, OSError):
            return Result.BROKEN_OFF
        except RuntimeError:
            # So the library (3.14) says that the connection was gone before anything was read.
            if request.transport is not None:
                raise
            return Result.BROKEN_OFF
        return None if self._room.finish(place) else Result.OVERLOADED

    async def _take(self, request: web.BaseRequest, body: bytes, came_at: datetime) -> Result:
        signature = request.headers.get("X-Hub-Signature-256")
        # Before anything is read of it: a stranger's body is not parsed.
        if not is_signed(body, signature, self._app_secrets):
            return Result.UNSIGNED if signature is None else Result.FORGED
        if json_object(body) is None:
            return Result.NO_JSON
        try:
            await self._store.put(body, came_at)
        except NotStored:
            return Result.NOT_STORED
        return Result.STORED


def _response(result: Result, text: str | None) -> web.Response:
    answer = ANSWERS[result]
    return web.Response(
        body=(answer.text if text is None else text).encode(),
        status=answer.status,
        headers=_PLAIN | _MORE.get(answer.status, {}),
    )


@dataclass(frozen=True, slots=True)
class Serving:
    """A server that listens on *port*."""

    runner: web.ServerRunner
    receiver: Receiver
    port: int

    async def stop(self, within_s: float, at_once: asyncio.Event) -> bool:
        """Take no more connections and answer what is in hand; see ``Receiver.drain``.

        To be called before the server is left: the library's own end no longer reads what is still on its way.
        """
        for site in self.runner.sites:
            await site.stop()
        return await self.receiver.drain(within_s, at_once)


@asynccontextmanager
async def serve_webhooks(
    receiver: Receiver, *, host: str, port: int, limits: Limits = _LIMITS
) -> AsyncIterator[Serving]:
    """Answer until left; a *port* of 0 is chosen freely. *limits*: of the connections.

    :raises PortTaken: somebody else listens there, or the address is not this machine's.
    """
    server = Server(receiver, limits)
    receiver.watch(server)
    runner = web.ServerRunner(server, shutdown_timeout=_LAST_ANSWERS_S)
    await runner.setup()
    try:
        await listen(runner, host, port, remedy=_REMEDY)
        bound: int = runner.addresses[0][1]
        _log.info("webhook.listening", host=host, port=bound)
        yield Serving(runner, receiver, bound)
    finally:
        await runner.cleanup()
