"""One private RabbitMQ node: its processes, from the start to the end."""

from __future__ import annotations

import asyncio
import atexit
import contextlib
import os
import re
import secrets
import shutil
import signal
import subprocess
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Self

from free_ports import HOST, is_free, release_ports, reserve_free_port
from process_groups import STOP_TIMEOUT_S, Watchdog, group_is_alive
from rabbitmq_folder import NodeOptions, node_environment, write_files
from rabbitmq_machine import (
    PASSWORD,
    USER,
    Ports,
    PortTakenError,
    PrivateRabbitMQError,
    accepts,
    answers_amqp,
    answers_management,
    find_epmd,
    find_server_folder,
    tail_of,
)
from rabbitmq_processes import CTL_TIMEOUT_S, run_ctl

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from types import TracebackType

START_TIMEOUT_S = 90.0
START_ATTEMPTS = 5
POLL_INTERVAL_S = 0.05
# Enough to reach back over the crash reports to the line that tells the cause.
FAILURE_LOG_LINES = 100

PORT_TAKEN = re.compile(r"eaddrinuse|address (is )?already in use|port \d+ (is )?in use|could not bind", re.IGNORECASE)


class PrivateRabbitMQ:
    """A private RabbitMQ node: started on entry, gone without a trace on exit.

    `stop` and `kill` keep the node's data and ports, so `start` brings the same node back;
    `close`, the end of a ``with`` or ``async with`` block, and the end of the process remove all.

    Args:
        management: also run the management plugin, on a port of its own.
        port: the AMQP port on 127.0.0.1; None takes a free one.
        extra_config: further lines for rabbitmq.conf.
        quick_stats: refresh queue statistics every half second instead of every five, at a small
            price in CPU time; None does so when the management plugin runs.
        start_timeout_s: seconds the node may take to start.

    """

    def __init__(
        self,
        *,
        management: bool = False,
        port: int | None = None,
        extra_config: Sequence[str] = (),
        quick_stats: bool | None = None,
        start_timeout_s: float = START_TIMEOUT_S,
    ) -> None:
        self._fixed_port = port
        self._options = NodeOptions(management, management if quick_stats is None else quick_stats, tuple(extra_config))
        self._start_timeout_s = start_timeout_s
        self._name = f"otpost-{secrets.token_hex(4)}"
        self._folder: Path | None = None
        self._ports: Ports | None = None
        self._epmd: subprocess.Popen[bytes] | None = None
        self._server: subprocess.Popen[bytes] | None = None
        self._watchdog: Watchdog | None = None
        self._has_started_once = False

    # -- where it is ---------------------------------------------------------------------------

    @property
    def name(self) -> str:
        """Name of the node and of its cluster, without the host."""
        return self._name

    @property
    def nodename(self) -> str:
        """Erlang name of the node."""
        return f"{self._name}@localhost"

    @property
    def folder(self) -> Path:
        """Temporary folder with all of the node's files."""
        if self._folder is None:
            message = f"RabbitMQ node {self.nodename} has no folder yet or any more; call start() first"
            raise PrivateRabbitMQError(message)
        return self._folder

    @property
    def ports(self) -> Ports:
        """All its ports on 127.0.0.1."""
        return self._known_ports()

    @property
    def port(self) -> int:
        """AMQP port on 127.0.0.1."""
        return self._known_ports().amqp

    @property
    def amqp_url(self) -> str:
        """URL of the default virtual host."""
        return self.amqp_url_of("/")

    def amqp_url_of(self, vhost: str) -> str:
        """URL of the virtual host named `vhost`."""
        return f"amqp://{USER}:{PASSWORD}@{HOST}:{self.port}/{vhost.replace('/', '%2F')}"

    @property
    def management_port(self) -> int:
        """Port of the management plugin on 127.0.0.1."""
        if not self._options.management:
            message = f"RabbitMQ node {self.nodename} has no management plugin; pass management=True"
            raise PrivateRabbitMQError(message)
        return self._known_ports().management

    @property
    def management_url(self) -> str:
        """Base URL of the management plugin, without credentials and without a closing slash."""
        return f"http://{HOST}:{self.management_port}"

    @property
    def pid(self) -> int:
        """Process id of the running server."""
        if self._server is None:
            message = f"RabbitMQ node {self.nodename} is not running; call start() first"
            raise PrivateRabbitMQError(message)
        return self._server.pid

    @property
    def group(self) -> int:
        """Process group of the server and its name daemon."""
        if self._epmd is None:
            message = f"RabbitMQ node {self.nodename} is not running; call start() first"
            raise PrivateRabbitMQError(message)
        return self._epmd.pid

    @property
    def is_running(self) -> bool:
        """Whether the server's process is alive."""
        return self._server is not None and self._server.poll() is None

    def log_tail(self, lines: int = 40) -> str:
        """Last lines of what the node wrote to its output and its logs."""
        if self._folder is None:
            return ""
        files = [self._folder / "output.log", *sorted((self._folder / "log").glob("*.log"))]
        parts = [f"--- {path.name}\n{tail}" for path in files if (tail := tail_of(path, lines))]
        return "\n".join(parts)

    # -- life ----------------------------------------------------------------------------------

    def start(self) -> None:
        """Start the node and wait until it takes connections.

        A node that was stopped or killed comes back on the same ports with the same data.
        """
        if self.is_running:
            return
        atexit.register(self.close)
        for attempt in range(1, START_ATTEMPTS + 1):
            try:
                self._start_once()
            except PortTakenError:
                self.kill()
                if attempt == START_ATTEMPTS:
                    raise
                self._change_ports_if_allowed()
            except BaseException:
                self.kill()
                raise
            else:
                self._has_started_once = True
                return

    def stop(self, timeout_s: float = STOP_TIMEOUT_S) -> None:
        """End the node in good order: SIGTERM, and SIGKILL when `timeout_s` seconds did not do."""
        if self._server is not None and self._server.poll() is None:
            self._server.terminate()
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._server.wait(timeout_s)
        self.kill()

    def kill(self) -> None:
        """End the node at once, as a power cut would (SIGKILL for all its processes)."""
        if self._epmd is not None:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(self._epmd.pid, signal.SIGKILL)
        for process in (self._server, self._epmd):
            if process is not None:
                process.wait(STOP_TIMEOUT_S)
        self._await_group_end()
        if self._watchdog is not None:
            self._watchdog.dismiss()
            self._watchdog = None
        self._server = self._epmd = None

    def restart(self, *, graceful: bool = True) -> None:
        """Stop (or, with ``graceful=False``, kill) the node and start it on the same ports and data."""
        if graceful:
            self.stop()
        else:
            self.kill()
        self.start()

    def close(self) -> None:
        """End the node and remove all its files; nothing needs saving, so it is killed."""
        self.kill()
        atexit.unregister(self.close)
        if self._folder is not None:
            shutil.rmtree(self._folder, ignore_errors=True)
        if self._ports is not None:
            release_ports(self._ports.all())
        self._folder = self._ports = None
        self._has_started_once = False

    async def start_async(self) -> None:
        """Run `start` without blocking the event loop."""
        await asyncio.to_thread(self.start)

    async def stop_async(self, timeout_s: float = STOP_TIMEOUT_S) -> None:
        """Run `stop` without blocking the event loop."""
        await asyncio.to_thread(self.stop, timeout_s)

    async def kill_async(self) -> None:
        """Run `kill` without blocking the event loop."""
        await asyncio.to_thread(self.kill)

    async def restart_async(self, *, graceful: bool = True) -> None:
        """Run `restart` without blocking the event loop."""
        await asyncio.to_thread(lambda: self.restart(graceful=graceful))

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    async def __aenter__(self) -> Self:
        await self.start_async()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await asyncio.to_thread(self.close)

    def sync(self) -> None:
        """Have the node write down which queues it has, before a test kills it.

        It keeps that list in tables that are saved every half second. A queue that was declared since then comes back
        from a kill without a leader, and no client can do anything about it.
        """
        self.ctl("eval", "mnesia:sync_log(), [dets:sync(Table) || Table <- dets:all()], ok.")

    def ctl(self, *arguments: str, timeout_s: float = CTL_TIMEOUT_S) -> str:
        """Run `rabbitmqctl` against the node (a second or two each) and return what it printed."""
        return run_ctl(self.nodename, self.folder, self._environment(), arguments, timeout_s)

    # -- the parts of a start --------------------------------------------------------------------

    def _start_once(self) -> None:
        deadline = time.monotonic() + self._start_timeout_s
        server = find_server_folder() / "rabbitmq-server"
        self._prepare_folder()
        self._fail_if_taken()
        self._spawn_epmd(deadline)
        with (self.folder / "output.log").open("ab") as output:
            self._server = subprocess.Popen(  # noqa: S603 - the installed server, fixed arguments
                [str(server)],
                env=self._environment(),
                cwd=self.folder,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                process_group=self.group,
            )
        self._await_ready(deadline)

    def _spawn_epmd(self, deadline: float) -> None:
        """Start the node's own name daemon, in the foreground so that it is ours to end.

        Left to itself, Erlang starts one as a daemon that outlives the node.
        """
        port = self._known_ports().epmd
        with (self.folder / "output.log").open("wb") as output:
            self._epmd = subprocess.Popen(  # noqa: S603 - Erlang's own tool, fixed arguments
                [find_epmd(), "-address", HOST, "-port", str(port)],
                env=self._environment(),
                cwd=self.folder,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                # One group for all of the node, apart from ours: Ctrl-C in a terminal must not reach it.
                process_group=0,
            )
        self._watchdog = Watchdog(self.group, self.folder)
        while not accepts(port):
            self._fail_if_ended(self._epmd, "epmd")
            self._fail_if_late(deadline, f"epmd on {HOST}:{port}")
            time.sleep(POLL_INTERVAL_S / 5)

    def _await_ready(self, deadline: float) -> None:
        ports = self._known_ports()
        self._await(lambda: answers_amqp(ports.amqp, self._name), f"AMQP on {HOST}:{ports.amqp}", deadline)
        if self._options.management:
            what = f"management on {HOST}:{ports.management}"
            self._await(lambda: answers_management(ports.management), what, deadline)

    def _await(self, answers: Callable[[], bool], what: str, deadline: float) -> None:
        while not answers():
            self._fail_if_ended(self._server, "rabbitmq-server")
            self._fail_if_late(deadline, what)
            time.sleep(POLL_INTERVAL_S)

    def _fail_if_taken(self) -> None:
        for port in self._known_ports().all():
            if not is_free(port):
                message = f"RabbitMQ node {self.nodename} cannot start: {HOST}:{port} is taken by another program"
                raise PortTakenError(message)

    def _fail_if_ended(self, process: subprocess.Popen[bytes] | None, what: str) -> None:
        if process is None or process.poll() is None:
            return
        tail = self.log_tail(FAILURE_LOG_LINES)
        ending = f"ended with code {process.returncode} while starting"
        message = f"{what} of RabbitMQ node {self.nodename} {ending}:\n{tail}"
        # The output is of this life only; the log may tell of an earlier one's trouble with ports.
        if PORT_TAKEN.search(tail_of(self.folder / "output.log", FAILURE_LOG_LINES)):
            raise PortTakenError(message)
        raise PrivateRabbitMQError(message)

    def _fail_if_late(self, deadline: float, what: str) -> None:
        if time.monotonic() >= deadline:
            message = (
                f"RabbitMQ node {self.nodename} did not start within {self._start_timeout_s} s "
                f"(waited for {what}):\n{self.log_tail(FAILURE_LOG_LINES)}"
            )
            raise PrivateRabbitMQError(message)

    def _await_group_end(self) -> None:
        if self._epmd is None:
            return
        deadline = time.monotonic() + STOP_TIMEOUT_S
        while group_is_alive(self._epmd.pid):
            if time.monotonic() >= deadline:
                message = (
                    f"process group {self._epmd.pid} of RabbitMQ node {self.nodename} is still there "
                    f"{STOP_TIMEOUT_S} s after SIGKILL; look with `ps -o pid,stat,args -g {self._epmd.pid}`"
                )
                raise PrivateRabbitMQError(message)
            time.sleep(POLL_INTERVAL_S / 5)

    # -- ports, files, environment ------------------------------------------------------------------

    def _known_ports(self) -> Ports:
        if self._ports is None:
            message = f"RabbitMQ node {self.nodename} has no ports yet or any more; call start() first"
            raise PrivateRabbitMQError(message)
        return self._ports

    def _choose_ports(self) -> Ports:
        amqp = self._fixed_port if self._fixed_port is not None else reserve_free_port()
        return Ports(amqp, reserve_free_port(), reserve_free_port(), reserve_free_port())

    def _change_ports_if_allowed(self) -> None:
        """Take other ports on a first start; a restart has to keep them for the clients' sake."""
        if self._has_started_once:
            time.sleep(1.0)
            return
        release_ports(self._known_ports().all())
        self._ports = None

    def _prepare_folder(self) -> None:
        if self._ports is None:
            self._ports = self._choose_ports()
        if self._folder is None:
            self._folder = Path(tempfile.mkdtemp(prefix="otpost-rabbitmq-"))
        write_files(self._folder, self._ports, self._options)

    def _environment(self) -> dict[str, str]:
        return node_environment(self.folder, self._known_ports(), self.nodename)
