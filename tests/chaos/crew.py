"""The workers and receivers of a run: real processes, each started again when it ends, until they are sent home."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Final

import orjson

from chaos.checker.evidence import Life

if TYPE_CHECKING:
    from asyncio.subprocess import Process
    from collections.abc import Mapping, Sequence

    from chaos.plan import Death

# Where `chaos` and what it imports are found by a process of its own.
TESTS: Final = Path(__file__).resolve().parent.parent
_PAUSE_S: Final = 0.5
_PATIENCE_S: Final = 40.0
_POLL_S: Final = 0.05


@dataclass
class Hand:
    """One worker or receiver: what it runs with which settings, where its processes die, and its present process.

    *begun*: what its log says once it is at work.
    """

    name: str
    command: Sequence[str]
    begun: bytes
    environment: Mapping[str, str]
    deaths: Sequence[Death] = ()
    process: Process | None = None
    log: Path | None = None
    told: str = ""
    logs: list[Path] = field(default_factory=list)


class Crew:
    """Keeps *workers* and *receivers* at work. Their logs go into *folder*.

    *lives*: every process that has ended, and how.
    """

    def __init__(self, workers: Sequence[Hand], receivers: Sequence[Hand], folder: Path) -> None:
        self.workers = workers
        self.receivers = receivers
        self.hands = (*workers, *receivers)
        self.lives: list[Life] = []
        self._folder = folder
        self._leaving = False
        self._keeping: list[asyncio.Task[None]] = []

    def begin(self) -> None:
        """Start everybody."""
        self._keeping = [asyncio.create_task(self._keep(hand)) for hand in self.hands]

    async def _keep(self, hand: Hand) -> None:
        deaths = iter(hand.deaths)
        while not self._leaving:
            began_at, hand.told = time.time(), ""
            death = next(deaths, None)
            await self._start(hand, death)
            assert hand.process is not None
            status = await hand.process.wait()
            if status == -signal.SIGKILL and death is not None and hand.told != "kill":
                hand.told = "probe"
            name = hand.logs[-1].name
            self.lives.append(Life(hand.name, hand.process.pid, began_at, time.time(), status, hand.told, name))
            if not hand.told:
                await asyncio.sleep(_PAUSE_S)

    async def _start(self, hand: Hand, death: Death | None) -> None:
        hand.log = self._folder / f"{hand.name}-{len(hand.logs) + 1}.log"
        hand.logs.append(hand.log)
        command = [sys.executable, *hand.command]
        if death is not None:
            command += ["--dies", death.point, "--nth", str(death.nth)]
        with hand.log.open("wb") as log:
            hand.process = await asyncio.create_subprocess_exec(
                *command,
                env=hand.environment,
                stdin=asyncio.subprocess.PIPE,  # its lifeline
                stdout=log,
                stderr=log,
                # Apart from us: Ctrl-C in a terminal is ours to pass on.
                process_group=0,
            )

    def signal(self, hand: Hand, number: signal.Signals) -> bool:
        """Send a signal to the present process; whether there was one."""
        if hand.process is None or hand.process.returncode is not None or hand.told:
            return False
        hand.told = "kill" if number is signal.SIGKILL else "term"
        hand.process.send_signal(number)
        return True

    async def at_work(self) -> None:
        """Wait until everybody has begun to work, or has died in the attempt to."""
        async with asyncio.timeout(_PATIENCE_S):
            waiting = list(self.hands)
            while waiting:
                waiting = [hand for hand in waiting if not _has_begun(hand)]
                await asyncio.sleep(_POLL_S)

    async def go_home(self) -> None:
        """Ask everybody to stop, and wait until they have; who takes too long is killed, and judged for it."""
        self._leaving = True
        for hand in self.hands:
            self.signal(hand, signal.SIGTERM)
        _, late = await asyncio.wait(self._keeping, timeout=_PATIENCE_S)
        if late:
            for hand in self.hands:
                if hand.process is not None and hand.process.returncode is None:
                    hand.process.kill()
            await asyncio.wait(late, timeout=_PATIENCE_S)

    async def clear_away(self) -> None:
        """End whatever still runs, without a word."""
        self._leaving = True
        for task in self._keeping:
            task.cancel()
        await asyncio.gather(*self._keeping, return_exceptions=True)
        for hand in self.hands:
            if hand.process is not None and hand.process.returncode is None:
                hand.process.kill()
                await hand.process.wait()

    def health_port(self, hand: Hand) -> int | None:
        """Find where the present process answers scrapes: its log says so."""
        if hand.log is None:
            return None
        for line in hand.log.read_bytes().split(b"\n"):
            if b"health.listening" in line:
                return int(orjson.loads(line)["port"])
        return None


def _has_begun(hand: Hand) -> bool:
    return len(hand.logs) > 1 or (hand.log is not None and hand.begun in hand.log.read_bytes())


def clean_environment() -> dict[str, str]:
    """Give the environment without settings of ours, and with the way to the suite's own modules."""
    clean = {name: value for name, value in os.environ.items() if not name.startswith("OTPOST_")}
    ways = [str(TESTS), str(TESTS.parent / "tools"), *filter(None, [clean.get("PYTHONPATH")])]
    return clean | {"PYTHONPATH": os.pathsep.join(ways)}
