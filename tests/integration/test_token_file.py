"""A token file on a disk that hangs: whoever opens it is held, as by a FIFO into which nobody writes."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import threading
import time
from contextlib import suppress
from typing import TYPE_CHECKING, Final

import pytest

from otpost_worker.outcome import Accepted, Refused
from otpost_worker.ports import Message
from otpost_worker.providers.cloud_api import CloudApi, CloudApiAccount
from otpost_worker.providers.http import open_session
from otpost_worker.simulator import Simulator, SimulatorOptions
from ports_in_memory import ACCEPTED, TOKEN_REFUSED, Clock, World, envelope, job_body

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator
    from pathlib import Path

TOKEN: Final = "EAAtokenQWERT12345"
MESSAGE: Final = Message("+12015553931", "493817", "verification_code", "en_US", "job-1")
# Only a hung test takes as long.
PATIENCE_S: Final = 20.0
# Asks for a token that never comes, and ends.
HOPELESS: Final = """
import asyncio, sys, time
from pathlib import Path
from otpost_worker.providers.cloud_api import CloudApi, CloudApiAccount

async def main():
    account = CloudApiAccount("1", "EAAthe-old-one", token_file=Path(sys.argv[1]))
    print(await CloudApi(account, None, clock=time.time).take_renewal())

asyncio.run(main())
print("ended")
"""


class RunningClock(Clock):
    """A clock that goes on by itself as well, from the moment at which every test begins."""

    def __init__(self) -> None:
        super().__init__()
        self._begun = time.monotonic()

    def __call__(self) -> float:
        return self.now + time.monotonic() - self._begun


@pytest.fixture
def hung_file(tmp_path: Path) -> Iterator[Path]:
    """A file whose readers are held until somebody writes."""
    file = tmp_path / "token"
    os.mkfifo(file)
    yield file
    let_go(file)


@pytest.fixture
async def simulator() -> AsyncIterator[Simulator]:
    async with Simulator(SimulatorOptions(access_token=TOKEN)) as running:
        yield running


@pytest.fixture
async def api(simulator: Simulator, hung_file: Path) -> AsyncIterator[CloudApi]:
    """A provider whose token is refused, and whose file hangs."""
    account = CloudApiAccount("106540352242922", "EAAthe-old-one", simulator.url, token_file=hung_file)
    async with open_session(connections=10, connect_timeout_s=20, timeout_s=30) as session:
        yield CloudApi(account, session, clock=time.time)


def readers() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name == "token file"]


def let_go(file: Path) -> None:
    """Let everybody go who is held by the file: there is somebody who writes, and at once nobody any more."""
    give_up_at = time.monotonic() + PATIENCE_S
    while (held := readers()) and time.monotonic() < give_up_at:
        # Nobody is held yet where a thread has only just begun.
        with suppress(OSError):
            os.close(os.open(file, os.O_WRONLY | os.O_NONBLOCK))
        held[0].join(0.01)


async def test_a_token_file_that_hangs_holds_one_thread_and_nobody_else(api: CloudApi) -> None:
    async with asyncio.timeout(PATIENCE_S):
        # More than the pool has threads for which names are looked up.
        assert [await api.take_renewal() for _ in range(40)] == [False] * 40
        assert len(readers()) == 1
        assert await asyncio.get_running_loop().getaddrinfo("localhost", 80)
        outcome = await api.send(MESSAGE)
    assert isinstance(outcome, Refused)
    assert (outcome.error.code, outcome.outdated) == (190, False)


def test_a_process_ends_whose_token_file_hangs(hung_file: Path) -> None:
    command = (sys.executable, "-c", HOPELESS, str(hung_file))
    ended = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE_S, check=True)
    assert ended.stdout.splitlines() == ["False", "ended"]


async def test_a_token_that_is_read_late_is_taken_all_the_same(api: CloudApi, hung_file: Path) -> None:
    async with asyncio.timeout(PATIENCE_S):
        assert not await api.take_renewal()
        (reader,) = readers()
        await asyncio.to_thread(hung_file.write_text, TOKEN)
        await asyncio.to_thread(reader.join)
        assert await api.take_renewal()
        assert isinstance(await api.send(MESSAGE), Accepted)


async def test_a_halted_sender_is_probed_though_its_token_file_hangs(
    api: CloudApi, simulator: Simulator, tmp_path: Path
) -> None:
    world = World(tmp_path / "ledger.db", answers=[TOKEN_REFUSED])
    world.clock = RunningClock()
    async with asyncio.timeout(PATIENCE_S):
        await world.deliver(envelope())
        world.provider = api  # type: ignore[assignment] # a real one
        world.clock.now += 6
        await world.deliver(envelope(job_body(id="job-2")))
    assert [entry.callback for entry in simulator.journal.entries()] == ["job-2"]


async def test_a_probe_reads_the_token_while_it_waits_for_its_start(tmp_path: Path) -> None:
    # A start every 5.7 s; the first probe may come 5 s after the halt.
    world = World(tmp_path / "ledger.db", answers=[TOKEN_REFUSED, ACCEPTED])
    world.clock, world.rate = RunningClock(), 1 / 5.7

    async def slow_renew() -> None:
        world.clock.now += 0.7

    world.provider.renew = slow_renew  # type: ignore[method-assign] # in this world alone
    async with asyncio.timeout(PATIENCE_S):
        await world.deliver(envelope())
        world.clock.now += world.news[0].at + 5.05 - world.clock()
        await world.deliver(envelope(job_body(id="job-2")))
    assert world.provider.callbacks == ["job-1", "job-2"]
