"""The outage of publishing is over once what was published on a connection of its own has its answer."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlsplit

from structlog.testing import capture_logs

from chaos.proxy import Proxy, Unwatched, Way
from otpost_worker.brokers.rabbitmq import outbox
from otpost_worker.brokers.rabbitmq.outbox import Outbox
from otpost_worker.brokers.rabbitmq.reconnecting import Reconnecting
from otpost_worker.envelope import Envelope, Event
from otpost_worker.metrics import Metrics
from otpost_worker.outage_log import OutageLog
from published_results import accepted_result
from service import PATIENCE_S, Amqp, declare_topology

if TYPE_CHECKING:
    from collections.abc import MutableMapping

    import pytest

    from broker import Vhost

EVENT: Final = Event("job-1/1/1/accepted", "accepted", accepted_result(1))
CHEAP: Final = Envelope(b'{"id":"job-1"}', "default")
# Headers have to fit into one frame, of 128 KiB.
COSTLY: Final = Envelope(b'{"id":"job-1"}', "default", traceparent="x" * 131_072)
LOSSES: Final = 5
# Class and method of basic.publish and of connection.close, as they are on the wire.
PUBLISH: Final = b"\x00\x3c\x00\x28"
CLOSE: Final = b"\x00\x0a\x00\x32"


def outbox_at(url: str) -> Outbox:
    return Outbox(
        url, name="otpost worker", reconnecting=Reconnecting(lambda: 0.0, OutageLog("broker"), Metrics(["default"]))
    )


class Listener:
    """Hears when the log says that messages are published again."""

    def __init__(self) -> None:
        self._over = asyncio.Event()

    def __call__(self, _logger: object, _method: str, line: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
        if (line["event"], line.get("what")) == ("outage.over", "publishing"):
            self._over.set()
        return line

    async def wait_until_over(self) -> None:
        async with asyncio.timeout(PATIENCE_S):
            await self._over.wait()


class Sabotage(Unwatched):
    """Cuts connections when something is published on them; on the next one no confirm comes until it is closed."""

    def __init__(self) -> None:
        self.proxy: Proxy | None = None

    def asked(self, connection: int, data: bytes) -> None:
        assert self.proxy is not None
        if PUBLISH in data and connection <= LOSSES:
            asyncio.get_running_loop().call_soon(self.proxy.cut)
        elif PUBLISH in data and connection == LOSSES + 1:
            self.proxy.stall(Way.TO_CLIENT)
        elif CLOSE in data and connection == LOSSES + 1:
            self.proxy.resume()


async def test_a_confirm_that_failed_to_come_aside_is_over_when_the_next_one_comes(
    vhost: Vhost, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(outbox, "_CONFIRM_TIMEOUT_S", 1.0)
    await declare_topology(vhost, "default")
    port, sabotage = urlsplit(vhost.url).port or 0, Sabotage()
    listener = Listener()
    with capture_logs([listener]) as said:
        async with Proxy(port, sabotage) as proxy, asyncio.timeout(PATIENCE_S):
            sabotage.proxy = proxy
            async with outbox_at(vhost.url.replace(f":{port}/", f":{proxy.port}/")) as publishing:
                await publishing.publish_event(EVENT, CHEAP)
        assert "publish.unconfirmed" in [line["event"] for line in said]
        await listener.wait_until_over()


async def test_a_refusal_is_an_answer_too_to_what_was_published_aside(vhost: Vhost) -> None:
    await declare_topology(vhost, "default")
    listener = Listener()
    with capture_logs([listener]) as said:
        async with Amqp.connect(vhost.url) as amqp, outbox_at(vhost.url) as publishing, asyncio.timeout(PATIENCE_S):
            # It refuses everything; the stream alone takes the result then.
            await amqp.declare_queue("full", bind="#", x_max_length=0, x_overflow="reject-publish")
            await publishing.publish_event(EVENT, COSTLY)
        assert {"publish.costs_connection", "result.refused"} <= {line["event"] for line in said}
        await listener.wait_until_over()
