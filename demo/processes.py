"""The programs that the demo starts, and their certain end."""

from __future__ import annotations

import asyncio
import os
import sys
from asyncio.subprocess import DEVNULL, PIPE
from typing import TYPE_CHECKING, Any, Final, TypeVar

if TYPE_CHECKING:
    from asyncio.subprocess import Process
    from collections.abc import Coroutine, Mapping
    from pathlib import Path

T = TypeVar("T")

START_TIMEOUT_S: Final = 30.0
COMMAND_TIMEOUT_S: Final = 40.0
_STOP_TIMEOUT_S: Final = 15.0
_KILL_TIMEOUT_S: Final = 5.0


class DemoFailed(Exception):
    """The demo cannot go on."""


class Children:
    """Runs ``otpost`` with the settings of the demo alone; what each writes goes to a file in *logs*."""

    def __init__(self, settings: Mapping[str, str], logs: Path) -> None:
        self._logs = logs
        foreign = {name: value for name, value in os.environ.items() if not name.startswith("OTPOST_")}
        self._environment = foreign | dict(settings)
        self._running: dict[str, Process] = {}

    async def start(self, name: str, *arguments: str, settings: Mapping[str, str] | None = None) -> Process:
        """Start one that stays; its standard output can be read."""
        with (self._logs / f"{name}.log").open("wb") as log:
            process = await asyncio.create_subprocess_exec(
                *_otpost(arguments),
                env=self._environment | dict(settings or {}),
                stdin=DEVNULL,
                stdout=PIPE,
                stderr=log,
                # Apart from us, so that Ctrl-C in a terminal is ours to pass on.
                process_group=0,
            )
        self._running[name] = process
        return process

    async def run(self, *arguments: str) -> str:
        """Run a command to its end and return what it printed.

        :raises DemoFailed: it failed, or took too long.
        """
        command = f"otpost {' '.join(arguments[:3])}"
        process = await asyncio.create_subprocess_exec(
            *_otpost(arguments), env=self._environment, stdin=DEVNULL, stdout=PIPE, stderr=PIPE, process_group=0
        )
        try:
            async with asyncio.timeout(COMMAND_TIMEOUT_S):
                output, errors = await process.communicate()
        except TimeoutError:
            raise DemoFailed(f"'{command}' took longer than {COMMAND_TIMEOUT_S:g} s") from None
        finally:
            if process.returncode is None:
                process.kill()
                await process.wait()
        if process.returncode != 0:
            raise DemoFailed(f"'{command}' ended with {process.returncode}: {errors.decode(errors='replace').strip()}")
        return output.decode()

    async def while_running(self, work: Coroutine[Any, Any, T], what: str, *, timeout_s: float) -> T:
        """Await *work*, as long as every program runs and *timeout_s* is not over.

        :raises DemoFailed: it was not to be.
        """
        working = asyncio.create_task(work)
        deaths: dict[asyncio.Task[Any], str] = {
            asyncio.create_task(process.wait()): name for name, process in self._running.items()
        }
        try:
            await asyncio.wait({working, *deaths}, timeout=timeout_s, return_when=asyncio.FIRST_COMPLETED)
            if working.done():
                return working.result()
            for name in (name for death, name in deaths.items() if death.done()):
                raise DemoFailed(f"{name} ended with {self._running[name].returncode} while waiting for {what}")
            raise DemoFailed(f"waited {timeout_s:g} s for {what}, in vain")
        finally:
            for task in (working, *deaths):
                task.cancel()
            await asyncio.gather(working, *deaths, return_exceptions=True)

    async def stop(self, *names: str) -> dict[str, int]:
        """Ask programs to stop (all, where none is named) and return their exit statuses; too slow is killed."""
        stopped = {name: self._running[name] for name in names or tuple(self._running)}
        for process in stopped.values():
            if process.returncode is None:
                process.terminate()
        await _ended(stopped.values(), _STOP_TIMEOUT_S)
        for process in stopped.values():
            if process.returncode is None:
                process.kill()
        await _ended(stopped.values(), _KILL_TIMEOUT_S)
        return {name: -9 if process.returncode is None else process.returncode for name, process in stopped.items()}

    def survivors(self) -> list[str]:
        """Name those whose process ids are still in use."""
        return [f"{name} ({process.pid})" for name, process in self._running.items() if _is_alive(process.pid)]


def _otpost(arguments: tuple[str, ...]) -> tuple[str, ...]:
    return (sys.executable, "-m", "otpost", *arguments)


async def _ended(processes: Any, timeout_s: float) -> None:  # noqa: ANN401 - a view of a dict
    waits = [asyncio.create_task(process.wait()) for process in processes]
    if waits:
        _, late = await asyncio.wait(waits, timeout=timeout_s)
        for wait in late:
            wait.cancel()


def _is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
