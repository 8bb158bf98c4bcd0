"""Everything around the processes of one run: the broker, the simulator, the proxies, and their certain end."""

from __future__ import annotations

import asyncio
import re
import sys
import time
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from broker import fresh_vhost
from chaos.checker.evidence import Unanswered
from chaos.children.probes import set_clock
from chaos.crew import Crew, clean_environment
from chaos.hiring import STARVED, Hiring, clock_file
from chaos.plan import Line, Plan
from chaos.proxy import Proxy
from free_ports import release_ports, reserve_free_port
from private_rabbitmq import PrivateRabbitMQ
from private_redis import PrivateRedis

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping, Sequence
    from pathlib import Path

    from broker import Vhost
    from chaos.reporting import Manner
    from otpost.sealing import PrivateKey

_START_S: Final = 30.0
_CALLBACK: Final = re.compile(rb'"biz_opaque_callback_data":"([^"]*)"')
_TAIL_BYTES: Final = 64


@dataclass
class Answers:
    """Watches a proxy before the simulator: which requests went through and had no answer when their line ended."""

    unanswered: list[Unanswered] = field(default_factory=list)
    _open: dict[int, str] = field(default_factory=dict)
    _tails: dict[int, bytes] = field(default_factory=dict)

    def asked(self, connection: int, data: bytes) -> None:
        """See ``Watch``."""
        seen = self._tails.get(connection, b"") + data
        for callback in _CALLBACK.findall(seen):
            self._open[connection] = callback.decode()
        self._tails[connection] = seen[-_TAIL_BYTES:]

    def answered(self, connection: int, data: bytes) -> None:  # noqa: ARG002 - any answer will do
        """See ``Watch``."""
        self._open.pop(connection, None)

    def ended(self, connection: int) -> None:
        """See ``Watch``."""
        self._tails.pop(connection, None)
        if (callback := self._open.pop(connection, None)) is not None:
            self.unanswered.append(Unanswered(time.time(), callback))


@dataclass
class Stage:
    """What a run plays on. *proxies*: for each line one for each worker or receiver, or one for all.

    *api*: the simulator, past every proxy.
    """

    vhost: Vhost
    redis: PrivateRedis | None
    api: str
    proxies: Mapping[Line, Sequence[Proxy]]
    answers: Sequence[Answers]
    crew: Crew
    folder: Path

    @property
    def node(self) -> PrivateRabbitMQ:
        """The broker's node."""
        return self.vhost.node

    def clock_file(self, worker: str) -> Path:
        """Find the file that a worker's clock goes by."""
        return clock_file(self.folder, worker)

    @property
    def all_proxies(self) -> list[Proxy]:
        """Every proxy there is."""
        return [proxy for proxies in self.proxies.values() for proxy in proxies]


@asynccontextmanager
async def set_stage(
    vhost: Vhost, folder: Path, plan: Plan, *, ledger: str, keys: Sequence[PrivateKey], receivers: int, manner: Manner
) -> AsyncIterator[Stage]:
    """Start the simulator and the proxies, and make everybody ready; all of it is gone when the block ends.

    *ledger*: ``sqlite`` or ``redis``. *keys* are those that the workers hold. *manner*: how the simulator reports.
    """
    workers = len(plan.deaths)
    ports = [reserve_free_port() for _ in range(receivers)]
    async with _simulator(folder) as api, _redis(ledger) as redis:
        answers = [Answers() for _ in range(workers)]
        port = int(api.rsplit(":", 1)[1])
        proxies = {
            Line.BROKER: [Proxy(vhost.node.port) for _ in range(workers)],
            Line.SIMULATOR: [Proxy(port, watch) for watch in answers],
            Line.LEDGER: [Proxy(redis.port) for _ in range(workers if redis else 0) if redis],
            Line.STORING: [Proxy(vhost.node.port) for _ in range(receivers)],
            Line.WEBHOOKS: [Proxy(ports[0], others=ports[1:])],
        }
        hiring = Hiring(vhost, folder, proxies, keys, manner.check_share)
        crew = Crew(
            [hiring.worker(number, deaths) for number, deaths in enumerate(plan.deaths)],
            [hiring.receiver(number, port) for number, port in enumerate(ports)],
            folder,
        )
        stage = Stage(vhost, redis, api, proxies, answers, crew, folder)
        for hand in crew.workers:
            set_clock(stage.clock_file(hand.name), 0.0)
        async with _all_open(stage.all_proxies):
            await manner.teach(api, proxies[Line.WEBHOOKS][0].port)
            try:
                yield stage
            finally:
                await crew.clear_away()
                release_ports(ports)


@asynccontextmanager
async def _all_open(proxies: Sequence[Proxy]) -> AsyncIterator[None]:
    async with AsyncExitStack() as opened:
        for proxy in proxies:
            await opened.enter_async_context(proxy)
        yield


@asynccontextmanager
async def _redis(ledger: str) -> AsyncIterator[PrivateRedis | None]:
    if ledger != "redis":
        yield None
        return
    redis = PrivateRedis()
    await asyncio.to_thread(redis.start)
    try:
        yield redis
    finally:
        await asyncio.to_thread(redis.close)


@asynccontextmanager
async def _simulator(folder: Path) -> AsyncIterator[str]:
    with (folder / "simulator.log").open("wb") as log:
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "chaos.children.simulator", str(folder / STARVED)),
            env=clean_environment(),
            stdin=asyncio.subprocess.PIPE,  # its lifeline
            stdout=asyncio.subprocess.PIPE,
            stderr=log,
            process_group=0,
        )
    try:
        assert process.stdout is not None
        async with asyncio.timeout(_START_S):
            line = await process.stdout.readline()
        yield line.decode().strip()
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()


@asynccontextmanager
async def a_vhost(node: PrivateRabbitMQ | None) -> AsyncIterator[Vhost]:
    """Give a virtual host of its own on *node*; where there is none, on a node of its own."""
    if node is not None:
        with fresh_vhost(node) as vhost:
            yield vhost
        return
    async with PrivateRabbitMQ(management=True) as own:
        with fresh_vhost(own) as vhost:
            yield vhost
