"""Run a private Redis of the installed server, for tests and benchmarks.

All its files lie in one temporary folder, and it listens on loopback only, so it neither sees nor disturbs a Redis
that the machine already runs. It keeps what it is told, as a ledger must: append-only file, no eviction::

    with PrivateRedis() as redis:
        print(redis.url)

From a shell::

    python tools/private_redis.py
"""

from __future__ import annotations

import atexit
import contextlib
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Final, Self

from free_ports import HOST, is_free, release_ports, reserve_free_port
from process_groups import STOP_TIMEOUT_S, Watchdog

if TYPE_CHECKING:
    from collections.abc import Sequence
    from types import TracebackType

START_TIMEOUT_S: Final = 20.0
START_ATTEMPTS: Final = 5
POLL_INTERVAL_S: Final = 0.01
# So that each test can have one of its own: a database is emptied at once, a server is not started at once.
DATABASES: Final = 64
_LOG_LINES: Final = 30
# How the answer to PING ends: all is well; the data is still being loaded; a password is wanted.
_LAST_WORDS: Final = (b"+PONG\r\n", b"memory\r\n", b"required.\r\n")


class PrivateRedisError(Exception):
    """The private Redis could not be started."""


class RedisNotFoundError(PrivateRedisError):
    """No Redis server is installed."""


class PrivateRedis:
    """A private Redis: started on entry, gone without a trace on exit.

    `stop` and `kill` keep its data and its port, so `start` brings the same one back; `close`, the end of a ``with``
    block, and the end of the process remove all.

    Args:
        extra_config: further lines for redis.conf, which win over those that stand there already.

    """

    def __init__(self, *, extra_config: Sequence[str] = ()) -> None:
        self._extra_config = tuple(extra_config)
        self._folder: Path | None = None
        self._port: int | None = None
        self._server: subprocess.Popen[bytes] | None = None
        self._watchdog: Watchdog | None = None

    @property
    def port(self) -> int:
        """Its port on 127.0.0.1."""
        if self._port is None:
            message = "this private Redis has no port yet or any more; call start() first"
            raise PrivateRedisError(message)
        return self._port

    @property
    def url(self) -> str:
        """URL of its first database."""
        return self.url_of(0)

    def url_of(self, database: int) -> str:
        """URL of a database, by its number."""
        return f"redis://{HOST}:{self.port}/{database}"

    @property
    def folder(self) -> Path:
        """Temporary folder with all of its files."""
        if self._folder is None:
            message = "this private Redis has no folder yet or any more; call start() first"
            raise PrivateRedisError(message)
        return self._folder

    @property
    def pid(self) -> int:
        """Process id of the running server."""
        if self._server is None:
            message = "this private Redis is not running; call start() first"
            raise PrivateRedisError(message)
        return self._server.pid

    @property
    def is_running(self) -> bool:
        """Whether the server's process is alive."""
        return self._server is not None and self._server.poll() is None

    # Its life

    def start(self) -> None:
        """Start it and wait until it answers; after `stop` or `kill` it is the same one, with its data."""
        if self.is_running:
            return
        atexit.register(self.close)
        fresh = self._port is None
        for attempt in range(1, START_ATTEMPTS + 1):
            self._prepare()
            if is_free(self.port) and self._start_once():
                return
            self.kill()
            if attempt == START_ATTEMPTS:
                message = f"Redis did not start on {HOST}:{self.port}:\n{self.log_tail()}"
                raise PrivateRedisError(message)
            if fresh:
                release_ports([self.port])
                self._port = None

    def stop(self) -> None:
        """End it in good order: it writes down what it holds."""
        if self._server is not None and self._server.poll() is None:
            self.go_on()
            self._server.terminate()
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._server.wait(STOP_TIMEOUT_S)
        self.kill()

    def kill(self) -> None:
        """End it at once (SIGKILL)."""
        if self._server is not None:
            with contextlib.suppress(ProcessLookupError):
                self._server.kill()
            self._server.wait(STOP_TIMEOUT_S)
        if self._watchdog is not None:
            self._watchdog.dismiss()
        self._server = self._watchdog = None

    def restart(self, *, graceful: bool = True) -> None:
        """Stop (or, with ``graceful=False``, kill) it and start it on the same port and data."""
        if graceful:
            self.stop()
        else:
            self.kill()
        self.start()

    def stand_still(self) -> None:
        """Let it keep its connections and answer nothing, until `go_on`."""
        os.kill(self.pid, signal.SIGSTOP)

    def go_on(self) -> None:
        """Let it answer again; what it was sent meanwhile it does now."""
        os.kill(self.pid, signal.SIGCONT)

    def close(self) -> None:
        """End it and remove all its files."""
        self.kill()
        atexit.unregister(self.close)
        if self._folder is not None:
            shutil.rmtree(self._folder, ignore_errors=True)
        if self._port is not None:
            release_ports([self._port])
        self._folder = self._port = None

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def log_tail(self) -> str:
        """Last lines of its log."""
        try:
            text = (self.folder / "redis.log").read_text(encoding="utf-8", errors="replace")
        except OSError:
            return ""
        return "\n".join(text.splitlines()[-_LOG_LINES:])

    # The parts of a start

    def _prepare(self) -> None:
        if self._port is None:
            self._port = reserve_free_port()
        if self._folder is None:
            self._folder = Path(tempfile.mkdtemp(prefix="otpost-redis-"))
        lines = (
            f"bind {HOST}",
            f"port {self._port}",
            "protected-mode yes",
            f"dir {self._folder}",
            f"logfile {self._folder / 'redis.log'}",
            f"databases {DATABASES}",
            "appendonly yes",
            # With everysec, a write may wait for the disk for up to two seconds, and a kill takes it.
            "appendfsync always",
            "maxmemory-policy noeviction",
            # The append-only file is enough: no second copy of it in between.
            'save ""',
            *self._extra_config,
        )
        (self._folder / "redis.conf").write_text("\n".join(lines) + "\n", encoding="utf-8")

    def _start_once(self) -> bool:
        """Start the server; False where it did not come up."""
        self._server = subprocess.Popen(  # noqa: S603 - the installed server
            [_find_server(), str(self.folder / "redis.conf")],
            cwd=self.folder,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            # A group of its own: Ctrl-C in a terminal must not reach it.
            process_group=0,
        )
        self._watchdog = Watchdog(self._server.pid, self.folder)
        deadline = time.monotonic() + START_TIMEOUT_S
        while self.is_running and time.monotonic() < deadline:
            if _answers(self.port, self.pid):
                return True
            time.sleep(POLL_INTERVAL_S)
        return False


def _find_server() -> str:
    server = shutil.which("redis-server")
    if server is None:
        message = "no redis-server found on this machine; run `make redis`, which installs it or says how"
        raise RedisNotFoundError(message)
    return server


def _answers(port: int, pid: int) -> bool:
    """Tell whether it is this very process that answers, with all of its data loaded."""
    try:
        with socket.create_connection((HOST, port), timeout=2.0) as connection:
            connection.settimeout(2.0)
            connection.sendall(b"INFO server\r\nPING\r\n")
            answer = b""
            while not answer.endswith(_LAST_WORDS) and (chunk := connection.recv(4096)):
                answer += chunk
    except OSError:
        return False
    # One that wants a password first says so; nobody else listens on a port that was free just now.
    ours = f"process_id:{pid}\r\n".encode() in answer and answer.endswith(b"+PONG\r\n")
    return ours or answer.startswith(b"-NOAUTH")


def main() -> int:
    """Run one until a signal."""
    done = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: done.set())
    try:
        with PrivateRedis() as redis:
            sys.stderr.write(f"OTPOST_LEDGER_URL={redis.url}\nRedis runs; Ctrl-C ends it.\n")
            while not done.wait(0.5):
                if not redis.is_running:
                    sys.stderr.write(f"Redis ended by itself:\n{redis.log_tail()}\n")
                    return 1
    except PrivateRedisError as error:
        sys.stderr.write(f"{error}\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
