"""`python -m otpost` as a process of its own, forked from one that has loaded the libraries before.

Loading them takes most of the processor time of a short command, and the tests run hundreds. Everything else is as in
a fresh interpreter: the process has its own pid, signals, standard streams and environment, and begins with the module
`otpost` as `__main__`. The command line itself is loaded in it and not before, as it looks at the environment then.
"""

from __future__ import annotations

import asyncio
import multiprocessing
import os
import runpy
import signal
import sys
from typing import IO, TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Mapping
    from multiprocessing.connection import Connection

_SERVER: Final = multiprocessing.get_context("forkserver")
_SERVER.set_forkserver_preload(
    [
        *("aiohttp.web", "rich.progress", "rich.table", "rich.traceback", "click.shell_completion"),
        *("otpost.client", "otpost.sealing", "otpost_worker.app", "otpost_worker.deadletters"),
        *("otpost_worker.simulator", "otpost_worker.doctor", "otpost_worker.timeline", "otpost_worker.receiver"),
    ]
)


class ForkedProcess:
    """One `otpost`, with that part of `asyncio.subprocess.Process` which tests use."""

    def __init__(
        self,
        process: multiprocessing.process.BaseProcess,
        stdin: asyncio.StreamWriter | None,
        outputs: tuple[_Output, _Output],
    ) -> None:
        self.stdin = stdin
        self._process = process
        self._outputs = outputs
        self._ended = asyncio.Event()
        asyncio.get_running_loop().add_reader(process.sentinel, self._on_end)

    @property
    def stdout(self) -> asyncio.StreamReader:
        """What it prints."""
        return self._outputs[0].reader

    @property
    def stderr(self) -> asyncio.StreamReader:
        """What it logs, or complains of."""
        return self._outputs[1].reader

    @property
    def pid(self) -> int:
        """Its process id."""
        assert self._process.pid is not None
        return self._process.pid

    @property
    def returncode(self) -> int | None:
        """Its exit status, or the negative number of the signal that ended it; None while it runs."""
        return self._process.exitcode if self._ended.is_set() else None

    def send_signal(self, number: signal.Signals) -> None:
        """Send it a signal; nothing once it has ended."""
        if not self._ended.is_set():
            os.kill(self.pid, number)

    def kill(self) -> None:
        """End it at once."""
        self.send_signal(signal.SIGKILL)

    def terminate(self) -> None:
        """Ask it to end."""
        self.send_signal(signal.SIGTERM)

    async def wait(self) -> int:
        """Wait for its end and return its exit status."""
        await self._ended.wait()
        assert self._process.exitcode is not None
        return self._process.exitcode

    async def communicate(self, stdin: bytes = b"") -> tuple[bytes, bytes]:
        """Give it all its input, read all its output and wait for its end."""
        if self.stdin is not None:
            self.stdin.write(stdin)
            self.stdin.close()
        out, err, _ = await asyncio.gather(self.stdout.read(), self.stderr.read(), self.wait())
        return out, err

    def read_no_more(self) -> None:
        """Close what it prints into, as 'head -1' does when it has had enough."""
        self.stdout.feed_eof()
        self._outputs[0].close()

    def close(self) -> None:
        """Let go of what is left of it."""
        for transport in (self.stdin, *self._outputs):
            if transport is not None:
                transport.close()

    def _on_end(self) -> None:
        asyncio.get_running_loop().remove_reader(self._process.sentinel)
        self._process.join()
        self._ended.set()


class _Output:
    """One of its outputs, at our end."""

    def __init__(self, reader: asyncio.StreamReader, transport: asyncio.ReadTransport) -> None:
        self.reader = reader
        self._transport = transport

    def close(self) -> None:
        self._transport.close()


async def fork_otpost(*arguments: str, environment: Mapping[str, str], with_input: bool = False) -> ForkedProcess:
    """Start `otpost` with just this environment. Without an input, its standard input is /dev/null."""
    theirs_in, ours_in = _SERVER.Pipe(duplex=False)
    ours_out, theirs_out = _SERVER.Pipe(duplex=False)
    ours_err, theirs_err = _SERVER.Pipe(duplex=False)
    streams = (theirs_in if with_input else None, theirs_out, theirs_err)
    process = _SERVER.Process(target=_run, args=(arguments, dict(environment), streams), daemon=True)
    # The first one waits until the server has loaded everything.
    await asyncio.to_thread(process.start)
    for connection in (theirs_in, theirs_out, theirs_err):
        connection.close()
    stdin = await _writer(ours_in)
    if not with_input:
        stdin.close()
    outputs = (await _output(ours_out), await _output(ours_err))
    return ForkedProcess(process, stdin if with_input else None, outputs)


async def _output(connection: Connection) -> _Output:
    reader = asyncio.StreamReader()
    loop = asyncio.get_running_loop()
    transport, _ = await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), _file(connection, "rb"))
    return _Output(reader, transport)


async def _writer(connection: Connection) -> asyncio.StreamWriter:
    loop = asyncio.get_running_loop()
    protocol = asyncio.StreamReaderProtocol(asyncio.StreamReader())
    transport, _ = await loop.connect_write_pipe(lambda: protocol, _file(connection, "wb"))
    return asyncio.StreamWriter(transport, protocol, None, loop)


def _file(connection: Connection, mode: str) -> IO[Any]:
    """Take the pipe out of the connection, which would frame what goes through."""
    with connection:
        return os.fdopen(os.dup(connection.fileno()), mode, buffering=0)


def _run(
    arguments: tuple[str, ...], environment: dict[str, str], streams: tuple[Connection | None, Connection, Connection]
) -> None:
    """Be `otpost`: the first thing that the new process does."""
    for number, connection in enumerate(streams):
        if connection is None:
            empty = os.open(os.devnull, os.O_RDONLY)
            os.dup2(empty, number)
            os.close(empty)
        else:
            os.dup2(connection.fileno(), number)
            connection.close()
    sys.stdin = open(0, encoding="utf-8", closefd=False)  # noqa: SIM115 - for as long as the process lives
    sys.stdout = open(1, "w", encoding="utf-8", closefd=False)  # noqa: SIM115 - the same
    sys.stderr = open(2, "w", encoding="utf-8", closefd=False, buffering=1, errors="backslashreplace")  # noqa: SIM115 - for as long as the process lives
    os.environ.clear()
    os.environ.update(environment)
    sys.argv = ["otpost", *arguments]
    runpy.run_module("otpost", run_name="__main__", alter_sys=True)
