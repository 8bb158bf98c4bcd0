"""Everything around the workers of one run: the broker, the simulator, the proxies, and their certain end."""

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
from chaos.crew import Crew, Hand, clean_environment
from chaos.load import SENDERS
from chaos.plan import Line, Plan
from chaos.proxy import Proxy
from private_rabbitmq import PASSWORD, USER, PrivateRabbitMQ
from private_redis import PrivateRedis

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping, Sequence
    from pathlib import Path

    from broker import Vhost
    from otpost.sealing import PrivateKey

TIMEOUT_S: Final = 2.0
GRACE_S: Final = 10.0
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
    """What a run plays on. *proxies*: for each line one for each worker. *api*: the simulator, past every proxy."""

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

    @property
    def all_proxies(self) -> list[Proxy]:
        """Every proxy there is."""
        return [proxy for proxies in self.proxies.values() for proxy in proxies]


@asynccontextmanager
async def set_stage(
    vhost: Vhost, folder: Path, plan: Plan, *, ledger: str, keys: Sequence[PrivateKey]
) -> AsyncIterator[Stage]:
    """Start the simulator and the proxies, and make the workers ready; all of it is gone when the block ends.

    *ledger*: ``sqlite`` or ``redis``. *keys* are those that the workers hold.
    """
    workers = len(plan.deaths)
    async with _simulator(folder) as api, _redis(ledger) as redis:
        answers = [Answers() for _ in range(workers)]
        port = int(api.rsplit(":", 1)[1])
        proxies = {
            Line.BROKER: [Proxy(vhost.node.port) for _ in range(workers)],
            Line.SIMULATOR: [Proxy(port, watch) for watch in answers],
            Line.LEDGER: [Proxy(redis.port) for _ in range(workers if redis else 0) if redis],
        }
        hands = [
            Hand(f"w{number + 1}", _settings(vhost, folder, proxies, number, keys), plan.deaths[number])
            for number in range(workers)
        ]
        crew = Crew(hands, folder)
        for hand in hands:
            set_clock(crew.clock_file(hand), 0.0)
        stage = Stage(vhost, redis, api, proxies, answers, crew, folder)
        async with _all_open(stage.all_proxies):
            try:
                yield stage
            finally:
                await crew.clear_away()


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
            *(sys.executable, "-m", "chaos.children.simulator"),
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


def _settings(
    vhost: Vhost, folder: Path, proxies: Mapping[Line, Sequence[Proxy]], number: int, keys: Sequence[PrivateKey]
) -> dict[str, str]:
    senders = folder / "senders.toml"
    senders.write_text(
        "".join(
            f'[senders.{sender}]\nphone_number_id = "10654035224292{digit}"\naccess_token = "EAAG-a-token"\n'
            for digit, sender in enumerate(SENDERS)
        ),
        encoding="utf-8",
    )
    broker, simulator = (proxies[line][number].port for line in (Line.BROKER, Line.SIMULATOR))
    redis = proxies[Line.LEDGER]
    given = {
        "broker_url": f"amqp://{USER}:{PASSWORD}@127.0.0.1:{broker}/{vhost.name}",
        "ledger_url": f"redis://127.0.0.1:{redis[number].port}/0" if redis else f"sqlite:///{folder / 'ledger.db'}",
        "private_keys": ",".join(key.reveal() for key in keys),
        "senders_file": senders,
        "template": "verification_code",
        "language": "en_US",
        "api_base": f"http://127.0.0.1:{simulator}",
        "http_timeout_s": TIMEOUT_S,
        "http_connect_timeout_s": 1,
        "shutdown_grace_s": GRACE_S,
        "http_port": 0,
        "log_format": "json",
        "log_level": "debug",
    }
    return clean_environment() | {f"OTPOST_{name.upper()}": str(value) for name, value in given.items()}


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
