"""The HTTP server below a receiver: aiohttp's, which by itself sets no limit to who sends nothing or reads nothing."""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING, Final, Protocol

import structlog
from aiohttp import web
from aiohttp.http_exceptions import HttpProcessingError
from aiohttp.web_protocol import ERROR

from otpost_worker.webhook_answers import HangUp
from otpost_worker.webhook_connections import MAX_AHEAD_BYTES, Phase, Places, overdue

if TYPE_CHECKING:
    from aiohttp import StreamReader
    from aiohttp.abc import AbstractStreamWriter
    from aiohttp.http import RawRequestMessage

    from otpost_worker.webhook_connections import Limits

# How long the rest of a body that was refused is still read, so that its sender gets to see the answer.
_LINGER_S: Final = 2.0
_READ_BUFFER_BYTES: Final = 16 * 1024

_log = structlog.get_logger("otpost.webhook")


class Answering(Protocol):
    """Who answers what comes, and hears of what could not be answered."""

    async def answer(self, request: web.BaseRequest) -> web.StreamResponse:
        """Answer one request."""

    def refuse_nonsense(self) -> None:
        """Take note of what could not be read as a request, and was answered with 400."""

    def hung_up(self, why: HangUp) -> None:
        """Take note of a connection that was closed without an answer."""


class Connection(web.RequestHandler):
    """A connection that ends where it holds its place for nothing.

    The library (3.14) closes one only after an answer and the time of idle connections, and then waits for as long as
    the client likes to read what it was sent.
    """

    __slots__ = ("_ahead", "_body", "_limits", "_phase", "_places", "_timer", "_told", "_until", "_wire")

    def __init__(self, server: Server, loop: asyncio.AbstractEventLoop) -> None:
        super().__init__(
            server,
            loop=loop,
            keepalive_timeout=server.limits.keep_alive_s,
            logger=server.logger,
            access_log=None,  # type: ignore[arg-type] # none is what it takes for none
            lingering_time=_LINGER_S,
            read_bufsize=_READ_BUFFER_BYTES,
            auto_decompress=False,
        )
        self._limits = server.limits
        self._places = server.places
        self._told = server.told
        self._wire: asyncio.Transport | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._body: StreamReader | None = None
        self._ahead = 0
        self._phase = Phase.ASKING
        self._until = 0.0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Take a place; who waits for the longest time makes room where there is none."""
        # First, as the library's own task has to begin before its connection may end: it raises otherwise.
        super().connection_made(transport)
        self._wire = self.transport
        self._enter(Phase.ASKING)
        self._look()
        leaving = self._places.take(self)
        if leaving is not None:
            leaving.hang_up(HangUp.FULL)

    def connection_lost(self, exc: BaseException | None) -> None:
        """Give back the place."""
        super().connection_lost(exc)
        self._leave()

    def data_received(self, data: bytes) -> None:
        """Read on; further requests, and headers that are not whole, only up to a limit."""
        # What follows a body that is whole, or the first bytes of all.
        if data and (self._body is None or self._body.is_eof()):
            if self._phase is Phase.IDLE:
                self._enter(Phase.ASKING)
            if self._ahead > MAX_AHEAD_BYTES:
                self.hang_up(HangUp.TOO_MUCH)
                return
            self._ahead += len(data)
        super().data_received(data)

    def begin(self, body: StreamReader) -> None:
        """Take note of a request whose headers are here."""
        self._body, self._ahead = body, 0
        self._places.begin(self)
        self._enter(Phase.ANSWERING)

    async def finish_response(
        self, request: web.BaseRequest, resp: web.StreamResponse, start_time: float | None
    ) -> tuple[web.StreamResponse, bool]:
        """Send an answer; then the connection is idle."""
        finished = await super().finish_response(request, resp, start_time)
        self._places.rest(self)
        # Of the next request something may be here already.
        self._enter(Phase.ASKING if self._ahead else Phase.IDLE)
        return finished

    def pause_writing(self) -> None:
        """Take note that an answer is not read: that is no request in hand."""
        super().pause_writing()
        self._places.rest(self)
        self._enter(Phase.UNREAD)

    def resume_writing(self) -> None:
        """Take note that it was read."""
        super().resume_writing()
        if self._phase is Phase.UNREAD:
            self._places.begin(self)
            self._enter(Phase.ANSWERING)

    def hang_up(self, why: HangUp | None) -> None:
        """Close the connection at once, whatever is on its way; *why* is told, if anything."""
        if self._wire is None:
            return
        # Not close(): that waits for the client to read.
        self._wire.abort()
        self._leave()
        if why is not None:
            self._told.hung_up(why)

    def _leave(self) -> None:
        self._wire = None
        self._places.leave(self)
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _enter(self, phase: Phase) -> None:
        self._phase = phase
        self._until = self._loop.time() + self._limits.lasts_s(phase)

    def _look(self) -> None:
        """Hang up once a phase takes too long.

        It looks every now and then, and exactly when a phase ends: a timer for each request would cost more.
        """
        now = self._loop.time()
        if now >= self._until:
            self.hang_up(overdue(self._phase))
        else:
            self._timer = self._loop.call_at(min(self._until, now + self._limits.read_within_s), self._look)


class Server(web.Server):
    """Makes connections that share so many places."""

    def __init__(self, told: Answering, limits: Limits) -> None:
        self.told = told
        self.limits = limits
        self.places: Places[Connection] = Places(limits.connections)
        self.logger = logging.Logger("otpost.webhook.http", logging.DEBUG)  # noqa: LOG001 - of this server alone
        self.logger.addHandler(_Troubles(told))
        super().__init__(told.answer, request_factory=_request)

    def __call__(self) -> Connection:
        """Make the protocol of one connection."""
        return Connection(self, self._loop)


def _request(
    message: RawRequestMessage,
    payload: StreamReader,
    protocol: web.RequestHandler,
    writer: AbstractStreamWriter,
    task: asyncio.Task[None],
) -> web.BaseRequest:
    """Make a request of what was parsed; of what none can be made of, one that is refused.

    The library itself (3.14) stumbles over a CONNECT without a target, and leaves its connection open for ever.
    """
    if isinstance(protocol, Connection):
        protocol.begin(payload)
    loop = asyncio.get_running_loop()
    try:
        return web.BaseRequest(message, payload, protocol, writer, task, loop)
    except Exception:  # noqa: BLE001 - whatever it may be
        return web.BaseRequest(ERROR, payload, protocol, writer, task, loop)


class _Troubles(logging.Handler):
    """Hears what the HTTP library makes a stack trace of: mostly strangers who speak no HTTP."""

    def __init__(self, told: Answering) -> None:
        super().__init__()
        self._told = told

    def emit(self, record: logging.LogRecord) -> None:
        error = record.exc_info[1] if record.exc_info else None
        if isinstance(error, HttpProcessingError):
            self._told.refuse_nonsense()
        else:
            _log.error("webhook.crashed", exc_info=error)
