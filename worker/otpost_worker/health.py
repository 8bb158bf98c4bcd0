"""Health over HTTP: ``/healthz`` (alive), ``/readyz`` (able to work), ``/metrics``."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

import orjson
import structlog
from aiohttp import web
from prometheus_client.exposition import choose_encoder

from otpost.errors import OtpostError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from otpost_worker.process_metrics import ProcessMetrics

# A probe waits for a second or so itself.
CHECK_TIMEOUT_S: Final = 1.0
_NO_STORE: Final = {"Cache-Control": "no-store"}

# Tells what is wrong, or None where nothing is.
Check = Callable[[], Awaitable[str | None]]

_log = structlog.get_logger("otpost.health")


class PortTaken(OtpostError):
    """A server cannot listen where it should."""


@dataclass
class Readiness:
    """Whether this process can work: *checks* by name.

    *notices*: by name, what an operator should know though it can work, or None where there is nothing.
    """

    checks: dict[str, Check] = field(default_factory=dict)
    notices: dict[str, Callable[[], object]] = field(default_factory=dict)

    async def ask(self) -> dict[str, str | None]:
        """Make all checks at once; each has a second to answer. With no checks yet, the process is starting."""
        if not self.checks:
            return {"started": "the process is starting"}
        troubles = await asyncio.gather(*map(_bounded, self.checks.values()))
        return dict(zip(self.checks, troubles, strict=True))


async def _bounded(check: Check) -> str | None:
    try:
        async with asyncio.timeout(CHECK_TIMEOUT_S):
            return await check()
    except TimeoutError:
        return f"no answer within {CHECK_TIMEOUT_S:g} s"


@asynccontextmanager
async def serve_health(host: str, port: int, readiness: Readiness, metrics: ProcessMetrics) -> AsyncIterator[int]:
    """Answer probes and scrapes until left; gives the port, which was chosen freely where *port* is 0.

    :raises PortTaken: somebody else listens there, or the address is not this machine's.
    """
    pages = _Pages(readiness, metrics)
    application = web.Application()
    application.add_routes(
        [
            web.get("/healthz", pages.healthz),
            web.get("/readyz", pages.readyz),
            web.get("/metrics", pages.metrics),
        ]
    )
    runner = web.AppRunner(application, access_log=None, shutdown_timeout=1.0)
    await runner.setup()
    try:
        remedy = "choose another OTPOST_HTTP_PORT (0 takes a free one) or OTPOST_HTTP_HOST"
        await listen(runner, host, port, remedy=remedy)
        bound = runner.addresses[0][1]
        _log.info("health.listening", host=host, port=bound)
        yield bound
    finally:
        await runner.cleanup()


async def listen(runner: web.BaseRunner, host: str, port: int, *, remedy: str) -> None:
    """Have *runner* take connections.

    :raises PortTaken: somebody else listens there, or the address is not this machine's; *remedy* is what to do then.
    """
    try:
        await web.TCPSite(runner, host, port).start()
    except (OSError, UnicodeError) as error:
        raise PortTaken(f"cannot listen on {host} port {port}: {_reason(error)}; {remedy}") from error


def _reason(error: OSError | UnicodeError) -> str:
    """Name the cause without asyncio's own words, which repeat the address."""
    if isinstance(error, UnicodeError):
        return "this is no name of a host"
    if error.errno is not None and error.errno > 0:
        return os.strerror(error.errno)
    return str(error.strerror or error)


class _Pages:
    def __init__(self, readiness: Readiness, metrics: ProcessMetrics) -> None:
        self._readiness = readiness
        self._metrics = metrics

    async def healthz(self, _: web.Request) -> web.Response:
        """Answer: the event loop turns. Nothing else restarts mend, so nothing else is asked."""
        return web.Response(text="ok\n", headers=_NO_STORE)

    async def readyz(self, _: web.Request) -> web.Response:
        troubles = await self._readiness.ask()
        ready = not any(troubles.values())
        self._metrics.set_ready(ready=ready)
        notices = {name: notice() for name, notice in self._readiness.notices.items()}
        body = {
            "ready": ready,
            "checks": {name: trouble or "ok" for name, trouble in troubles.items()},
            "notices": {name: notice for name, notice in notices.items() if notice},
        }
        return web.Response(
            body=orjson.dumps(body, option=orjson.OPT_APPEND_NEWLINE),
            status=200 if ready else 503,
            content_type="application/json",
            headers=_NO_STORE,
        )

    async def metrics(self, request: web.Request) -> web.Response:
        # Readiness is asked for its gauge: who scrapes may probe nothing.
        self._metrics.set_ready(ready=not any((await self._readiness.ask()).values()))
        encode, content_type = choose_encoder(request.headers.get("Accept", ""))
        return web.Response(body=encode(self._metrics.registry), headers={**_NO_STORE, "Content-Type": content_type})
