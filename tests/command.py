"""The `otpost` command as people and scripts run it: a process of its own, with nobody at the terminal."""

from __future__ import annotations

import asyncio
import io
import logging
import os
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import orjson
import structlog

from forked import ForkedProcess, fork_otpost
from otpost_worker.cli import run
from service import CODE, NUMBER, PATIENCE_S

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator, Mapping

    import pytest

_ENVIRONMENT: Final = {name: value for name, value in os.environ.items() if not name.startswith("OTPOST_")}


@dataclass(frozen=True)
class Finished:
    """What a command left behind."""

    status: int
    out: str
    err: str

    @property
    def objects(self) -> list[dict[str, Any]]:
        """The JSON objects that it printed, one a line."""
        return [orjson.loads(line) for line in self.out.splitlines()]


@asynccontextmanager
async def started_otpost(*arguments: str, environment: Mapping[str, str] | None = None) -> AsyncIterator[ForkedProcess]:
    """Start `otpost` with just these settings; it has ended when the block has."""
    process = await fork_otpost(*arguments, environment={**_ENVIRONMENT, **(environment or {})}, with_input=True)
    try:
        yield process
    finally:
        process.kill()
        await process.communicate()
        process.close()


async def finished(process: ForkedProcess, stdin: bytes = b"") -> Finished:
    """Wait for its end. No command ever prints the code, the whole number or a stack trace."""
    async with asyncio.timeout(PATIENCE_S):
        out, err = (text.decode() for text in await process.communicate(stdin))
    assert process.returncode is not None
    for output in (out, err):
        assert CODE not in output
        assert NUMBER.removeprefix("+") not in output
        assert "Traceback" not in output
    return Finished(process.returncode, out, err)


async def otpost(*arguments: str, stdin: bytes = b"", environment: Mapping[str, str] | None = None) -> Finished:
    """Run `otpost` to its end."""
    async with started_otpost(*arguments, environment=environment) as process:
        return await finished(process, stdin)


def otpost_here(
    *arguments: str,
    environment: Mapping[str, str],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> Finished:
    """Run `otpost` to its end in this process, which saves the second that starting another one takes."""
    for name in [name for name in os.environ if name.startswith("OTPOST_")]:
        monkeypatch.delenv(name)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr("sys.argv", ["otpost", *arguments])
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO()))
    with _logging_restored():
        status = run()
    out, err = capsys.readouterr()
    return Finished(status, out, err)


@contextmanager
def _logging_restored() -> Iterator[None]:
    root = logging.getLogger()
    before = root.handlers[:], root.level
    libraries = {name: logging.getLogger(name).level for name in ("aiormq", "aio_pika", "aiohttp", "asyncio")}
    try:
        yield
    finally:
        root.handlers[:], level = before
        root.setLevel(level)
        for name, was in libraries.items():
            logging.getLogger(name).setLevel(was)
        structlog.reset_defaults()
