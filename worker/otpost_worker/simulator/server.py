"""The simulator's server: bytes in, bytes out; what becomes of a request is decided in `cloud`."""

from __future__ import annotations

import asyncio
import os
import time
from contextlib import suppress
from typing import TYPE_CHECKING, Final, Self, assert_never

import orjson
from aiohttp import web

from .answering import JSON, MAX_BODY_BYTES, as_json, explained, payload, plain
from .behaviour import HUGE_BYTES, TRAP, Accept, Cut, Hang, Manner, Refuse, Reply
from .cloud import (
    Arrival,
    Cloud,
    Question,
    SimulatorOptions,
    TemplateLists,
    Verdict,
    is_version,
    success_body,
)
from .control import (
    parse_limits,
    parse_page,
    parse_quota,
    parse_templates,
    parse_token,
)
from .errors import (
    ErrorAnswer,
    body_too_large,
    error_body,
    error_headers,
    invalid_parameter,
    unknown_object,
    unknown_path,
    usage,
)
from .numbers import parse_impairments
from .rules import parse_rule
from .webhook_desk import WebhookDesk
from .webhooks.postman import Postman

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import TracebackType

    from .journal import Journal
    from .webhooks import Reports

_CONTROL: Final = "/_simulator/"
_HANG_S: Final = 120.0
_TRICKLE_S: Final = 1.0
_PIECES: Final = 10
# A hanging request is let go at once when the server closes; this bounds what a client can add to it.
_CLOSE_S: Final = 0.5
# "Sometimes": Meta shows the usage header once enough calls were made.
_USAGE_EVERY: Final = 50

_VERSION: Final = "v25.0"

_PAGE: Final = """\
WhatsApp Cloud API simulator: a stand-in for graph.facebook.com in tests and development. No message leaves
it.

POST   /{version}/{phone-number-id}/messages   send, as with Meta
GET    /{version}/{phone-number-id}            fields=health_status, as with Meta
GET    /_simulator/requests                    what was received (since, limit, wait, wait_taken, timeout_s)
DELETE /_simulator/requests                    forget it
GET    /_simulator/stats                       counts
GET    /_simulator/rules                       rules in force; POST adds one, DELETE removes all
GET    /_simulator/limits                      limits in force; PUT changes them
PUT    /_simulator/token                       the one token that is accepted, or null
PUT    /_simulator/quota                       refuse all calls for some seconds
PUT    /_simulator/templates                   missing, paused and disabled templates
PUT    /_simulator/number                      what health_status says
GET    /_simulator/webhooks                    where webhooks go; PUT changes it, POST sends one
GET    /_simulator/reports                     what was reported of messages (since, limit, callback, message_id,
                                               wait_answered, settled, timeout_s); DELETE forgets it
GET    /_simulator/posts                       the POSTs of webhooks, and how they were answered (since, limit)
GET    /_simulator/health                      200
"""


class CannotListen(Exception):
    """Somebody else listens there, or the address is not this machine's."""

    def __init__(self, host: str, port: int, error: OSError | UnicodeError) -> None:
        super().__init__(f"cannot listen on {host} port {port}: {_reason(error)}")


def _reason(error: OSError | UnicodeError) -> str:
    if isinstance(error, UnicodeError):
        return "this is no name of a host"
    # asyncio's own words repeat the address; what comes of looking up a name has numbers of its own, below 0.
    return os.strerror(error.errno) if error.errno is not None and error.errno > 0 else str(error.strerror or error)


class Simulator:
    """The Cloud API on a local port, for as long as the `async with` block lasts.

    async with Simulator(SimulatorOptions(rate=0)) as simulator:
        ...  # send to simulator.url, look at simulator.journal
    """

    def __init__(self, options: SimulatorOptions | None = None) -> None:
        self.options = options or SimulatorOptions()
        self._cloud = Cloud(self.options, os.urandom(5))
        self._postman = Postman(self.options.webhooks, self.options.journal_limit)
        self._desk = WebhookDesk(self._postman, self._cloud.journal)
        self._closing = asyncio.Event()
        self._answers = 0
        self._runner: web.AppRunner | None = None
        self._port = 0

    @property
    def port(self) -> int:
        """The port it listens on; 0 before it does."""
        return self._port

    @property
    def url(self) -> str:
        """Where it listens, without a slash at the end."""
        host = f"[{self.options.host}]" if ":" in self.options.host else self.options.host
        return f"http://{host}:{self._port}"

    @property
    def journal(self) -> Journal:
        """What was received."""
        return self._cloud.journal

    @property
    def reports(self) -> Reports:
        """What is reported of the messages by webhook, and how that was answered."""
        return self._postman.reports

    @property
    def webhooks(self) -> WebhookDesk:
        """Webhooks: change how they are sent, send one, wait for them."""
        return self._desk

    async def __aenter__(self) -> Self:
        self._closing.clear()
        self._runner = web.AppRunner(
            self._application(), access_log=None, handler_cancellation=True, shutdown_timeout=_CLOSE_S
        )
        await self._runner.setup()
        try:
            await web.TCPSite(self._runner, self.options.host, self.options.port, backlog=1024).start()
        except BaseException as error:
            await self._runner.cleanup()
            if isinstance(error, (OSError, UnicodeError)):
                raise CannotListen(self.options.host, self.options.port, error) from error
            raise
        self._port = self._runner.addresses[0][1]
        await self._postman.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._closing.set()
        self.journal.release()
        await self._postman.close()
        if self._runner is not None:
            await self._runner.cleanup()

    def _application(self) -> web.Application:
        application = web.Application(client_max_size=MAX_BODY_BYTES)
        router = application.router
        router.add_route("*", "/{version}/{phone_number_id}/messages", self._messages)
        router.add_get(r"/{version:v[0-9.]+}/{phone_number_id}", self._number)
        router.add_get("/", self._page)
        router.add_route("*", TRAP, self._trap)
        for method, name, handler in (
            ("GET", "requests", self._requests),
            ("DELETE", "requests", self._clear),
            ("GET", "stats", self._stats),
            ("GET", "rules", self._rules),
            ("POST", "rules", self._add_rule),
            ("DELETE", "rules", self._drop_rules),
            ("GET", "limits", self._limits),
            ("PUT", "limits", self._set_limits),
            ("PUT", "token", self._set_token),
            ("PUT", "quota", self._set_quota),
            ("PUT", "templates", self._set_templates),
            ("PUT", "number", self._set_number),
            ("GET", "health", self._health),
            *self._desk.routes(),
        ):
            router.add_route(method, _CONTROL + name, explained(handler))
        router.add_route("*", "/{path:.*}", self._nowhere)
        return application

    # Sending

    async def _messages(self, request: web.Request) -> web.StreamResponse:
        version = plain(request.match_info["version"])
        phone_number_id = plain(request.match_info["phone_number_id"])
        if request.method != "POST":
            return self._refused(unknown_object(request.method, phone_number_id[:60]))
        try:
            body = await request.read()
        except web.HTTPRequestEntityTooLarge:
            return self._refused(body_too_large(MAX_BODY_BYTES))
        except web.RequestPayloadError:
            return self._refused(invalid_parameter("The request's body cannot be decoded."))
        arrival = Arrival(version, phone_number_id, request.headers.get("Authorization"), request.content_type, body)
        verdict = self._cloud.receive(arrival, at=time.time(), now=time.monotonic())
        await self._desk.expect(verdict)
        if verdict.behaviour.delay_s:
            await self._pause(verdict.behaviour.delay_s)
        return await self._carry_out(request, version, verdict)

    async def _number(self, request: web.Request) -> web.StreamResponse:
        version, number_id = (plain(request.match_info[part]) for part in ("version", "phone_number_id"))
        question = Question(version, number_id, request.headers.get("Authorization"), request.query.get("fields"))
        answer = self._cloud.ask_number(question, now=time.monotonic())
        if isinstance(answer, ErrorAnswer):
            return self._refused(answer, version, number_id)
        return web.Response(body=orjson.dumps(answer), headers=self._headers(version))

    async def _carry_out(self, request: web.Request, version: str, verdict: Verdict) -> web.StreamResponse:
        entry, behaviour = verdict.entry, verdict.behaviour
        match behaviour:
            case Accept():
                body = orjson.dumps(success_body(entry, behaviour))
                headers = self._headers(version)
                if entry.seq % _USAGE_EVERY == 0:
                    headers["x-business-use-case-usage"] = usage(entry.phone_number_id, 1, 0)
                entry.answered_at = time.time()
                return await self._accepted(request, behaviour.manner, body, headers)
            case Refuse():
                entry.answered_at = time.time()
                return self._refused(behaviour.error, version, entry.phone_number_id)
            case Reply():
                entry.answered_at = time.time()
                return web.Response(status=behaviour.status, body=behaviour.body, headers=dict(behaviour.headers))
            case Hang():
                await self._pause(_HANG_S)
                return _cut(request)
            case Cut():
                return _cut(request)
            case _:
                assert_never(behaviour)

    async def _accepted(
        self, request: web.Request, manner: Manner, body: bytes, headers: dict[str, str]
    ) -> web.StreamResponse:
        if manner is Manner.WHOLE:
            return web.Response(body=body, headers=headers)
        if manner is Manner.HUGE:
            return web.Response(body=body.ljust(HUGE_BYTES), headers=headers)
        answer = web.StreamResponse(headers=headers)
        answer.content_length = len(body)
        # A client that has gone meanwhile is no fault of this server.
        with suppress(ConnectionError):
            await answer.prepare(request)
            await self._write(answer, manner, body)
        if manner is not Manner.TRICKLE and request.transport is not None:
            request.transport.close()
        return answer

    async def _write(self, answer: web.StreamResponse, manner: Manner, body: bytes) -> None:
        if manner is Manner.HALF:
            await answer.write(body[: len(body) // 2])
            return
        if manner is Manner.TRICKLE:
            step = -(-len(body) // _PIECES)
            for start in range(0, len(body), step):
                await answer.write(body[start : start + step])
                await self._pause(_TRICKLE_S / _PIECES)
        else:
            await answer.write(body)
        await answer.write_eof()

    async def _pause(self, seconds: float) -> None:
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._closing.wait()

    def _headers(self, version: str) -> dict[str, str]:
        self._answers += 1
        trace_id = self._cloud.trace_id(self._answers)
        return {
            "Content-Type": JSON,
            # What was asked for, if it is a version at all: a header cannot carry just anything.
            "facebook-api-version": version if is_version(version) else _VERSION,
            "x-fb-trace-id": trace_id,
            "x-fb-request-id": trace_id,
        }

    def _refused(self, error: ErrorAnswer, version: str = _VERSION, phone_number_id: str = "0") -> web.Response:
        headers = self._headers(version)
        body = error_body(error, headers["x-fb-trace-id"])
        headers.update(error_headers(error, phone_number_id))
        return web.Response(status=error.http_status, body=orjson.dumps(body), headers=headers)

    # Control

    async def _page(self, _request: web.Request) -> web.Response:
        return web.Response(text=_PAGE)

    async def _health(self, _request: web.Request) -> web.Response:
        return as_json({"status": "ok"})

    async def _trap(self, request: web.Request) -> web.Response:
        self.journal.trap(with_token="Authorization" in request.headers)
        return as_json({"trap": "This address is only reached by following a redirect, which a sender must not do."})

    async def _requests(self, request: web.Request) -> web.Response:
        page = parse_page(request.query)
        complete = True
        if page.wait or page.wait_taken:
            complete = await self.journal.wait(page.wait, page.wait_taken, page.timeout_s)
        found = self.journal.entries(page.since, page.limit)
        return as_json(
            {
                "requests": found,
                "next": found[-1].seq if found else page.since,
                "total": self.journal.total,
                "complete": complete,
            }
        )

    async def _clear(self, _request: web.Request) -> web.Response:
        cleared = self.journal.total
        self._cloud.clear()
        return as_json({"cleared": cleared})

    async def _stats(self, _request: web.Request) -> web.Response:
        return as_json({**self.journal.stats(), "webhooks": self._postman.stats()})

    async def _rules(self, _request: web.Request) -> web.Response:
        return as_json({"rules": self._cloud.rules.listed()})

    async def _add_rule(self, request: web.Request) -> web.Response:
        self._cloud.rules.add(parse_rule(await payload(request)))
        return as_json({"rules": self._cloud.rules.listed()}, 201)

    async def _drop_rules(self, _request: web.Request) -> web.Response:
        dropped = len(self._cloud.rules.listed())
        self._cloud.rules.clear()
        return as_json({"dropped": dropped})

    async def _limits(self, _request: web.Request) -> web.Response:
        return as_json(self._cloud.limits.settings)

    async def _set_limits(self, request: web.Request) -> web.Response:
        self._cloud.set_limits(parse_limits(await payload(request), self._cloud.limits.settings))
        return await self._limits(request)

    async def _set_token(self, request: web.Request) -> web.Response:
        self._cloud.access_token = parse_token(await payload(request))
        return as_json({"access_token": self._cloud.access_token})

    async def _set_quota(self, request: web.Request) -> web.Response:
        quota = parse_quota(await payload(request))
        self._cloud.exhaust(quota, time.monotonic())
        return as_json(quota)

    async def _set_templates(self, request: web.Request) -> web.Response:
        self._cloud.templates = TemplateLists.of(parse_templates(await payload(request)))
        return as_json({"status": "ok"})

    async def _set_number(self, request: web.Request) -> web.Response:
        self._cloud.impairments = parse_impairments(await payload(request))
        return as_json({"status": "ok"})

    async def _nowhere(self, request: web.Request) -> web.Response:
        if request.path.startswith(_CONTROL):
            missing = f"there is no {request.method} {plain(request.path)}; GET / lists what there is."
            return as_json({"error": missing}, 404)
        return self._refused(unknown_path(plain(request.path)))


async def serve(options: SimulatorOptions, stop: asyncio.Event, announce: Callable[[str], None]) -> None:
    """Run a simulator until `stop` is set; `announce` gets its URL once it listens."""
    async with Simulator(options) as simulator:
        announce(simulator.url)
        await stop.wait()


def _cut(request: web.Request) -> web.Response:
    """Cut the connection. The response is only what the framework wants returned; it is never written."""
    if request.transport is not None:
        request.transport.abort()
    return web.Response()
