"""Run a private RabbitMQ node of the installed server, for tests, the demo and benchmarks.

Everything the node needs lives in one temporary folder, and it listens on loopback only, so it
neither sees nor disturbs a RabbitMQ that the machine already runs::

    with PrivateRabbitMQ(management=True) as node:
        print(node.amqp_url, node.management_url)

From a shell::

    python tools/private_rabbitmq.py --foreground --management
    python tools/private_rabbitmq.py --port 5699 -- some-command with arguments

The command finds the addresses in ``OTPOST_AMQP_URL`` and ``OTPOST_MANAGEMENT_URL``.
"""

from __future__ import annotations

import argparse
import asyncio
import atexit
import base64
import contextlib
import http.client
import os
import random
import re
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Self

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from types import TracebackType

HOST = "127.0.0.1"
USER = "guest"
PASSWORD = "guest"  # noqa: S105 - the server's own default, which it accepts from loopback only

START_TIMEOUT_S = 90.0
STOP_TIMEOUT_S = 30.0
CTL_TIMEOUT_S = 60.0
START_ATTEMPTS = 5
POLL_INTERVAL_S = 0.05
# Enough to reach back over the crash reports to the line that tells the cause.
FAILURE_LOG_LINES = 100

# Below the ranges from which Linux (32768-60999) and macOS (49152-65535) take the ports of outgoing
# connections: while the node is down for a restart, no client's connection can land on its port.
PORT_RANGE = range(10_000, 32_000)

# Debian's `rabbitmq-server` on the PATH insists on the rabbitmq user; the real script is in
# /usr/lib/rabbitmq/bin, so the folders are searched before the PATH is.
SERVER_FOLDERS = (
    "/usr/lib/rabbitmq/bin",
    "/usr/local/opt/rabbitmq/sbin",
    "/home/linuxbrew/.linuxbrew/opt/rabbitmq/sbin",
)
BINARY_FOLDERS = (
    "/usr/local/bin",
    "/opt/homebrew/bin",
    "/home/linuxbrew/.linuxbrew/bin",
    "/usr/lib/erlang/bin",
    "/usr/lib64/erlang/bin",
)

# Told "end" it leaves; told nothing until the end of its input - its parent died without a word -
# it ends the node and clears up. A pipe works on Linux and macOS, and from whichever thread.
WATCHDOG = """
read -r word && exit 0
kill -s KILL -- "-$1" 2>/dev/null
sleep 1
rm -rf "$2"
"""

PORT_TAKEN = re.compile(r"eaddrinuse|address (is )?already in use|port \d+ (is )?in use|could not bind", re.IGNORECASE)

_reserved_ports: set[int] = set()
_reserve_lock = threading.Lock()


class PrivateRabbitMQError(Exception):
    """The private node could not be started, stopped or asked."""


class RabbitMQNotFoundError(PrivateRabbitMQError):
    """No RabbitMQ server is installed."""


class _PortTakenError(PrivateRabbitMQError):
    """Somebody else took a port between our choice of it and the node's start."""


@dataclass(frozen=True)
class _Ports:
    amqp: int
    distribution: int
    epmd: int
    management: int

    def all(self) -> tuple[int, ...]:
        return (self.amqp, self.distribution, self.epmd, self.management)


def find_server_folder() -> Path:
    """Find the folder that holds a `rabbitmq-server` and its `rabbitmqctl`."""
    homebrew = os.environ.get("HOMEBREW_PREFIX", "/opt/homebrew")
    for folder in (*SERVER_FOLDERS, f"{homebrew}/opt/rabbitmq/sbin"):
        if os.access(Path(folder) / "rabbitmq-server", os.X_OK):
            return Path(folder)
    on_path = shutil.which("rabbitmq-server")
    if on_path is not None:
        return Path(on_path).parent
    message = "no rabbitmq-server found on this machine; run `make broker`, which installs it or says how"
    raise RabbitMQNotFoundError(message)


def _find_epmd() -> str:
    epmd = shutil.which("epmd", path=_search_path())
    if epmd is None:
        message = "epmd, Erlang's name daemon, is not on the PATH; install Erlang anew (`make broker` says how)"
        raise RabbitMQNotFoundError(message)
    return epmd


def _search_path() -> str:
    return os.pathsep.join([os.environ.get("PATH", os.defpath), *BINARY_FOLDERS])


def _is_free(port: int) -> bool:
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        # Erlang listens with the same option; without it a connection in TIME_WAIT would count as "taken".
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
        except OSError:
            return False
    return True


def _reserve_free_port() -> int:
    """Choose a free port that no other node of this process was promised."""
    with _reserve_lock:
        for port in random.sample(PORT_RANGE, k=500):
            if port not in _reserved_ports and _is_free(port):
                _reserved_ports.add(port)
                return port
    tried = f"{PORT_RANGE.start}-{PORT_RANGE.stop - 1}"
    message = f"no free port on {HOST} in {tried} after 500 tries; end what occupies them"
    raise PrivateRabbitMQError(message)


def _release_ports(ports: _Ports) -> None:
    with _reserve_lock:
        _reserved_ports.difference_update(ports.all())


def _tail(path: Path, lines: int) -> str:
    try:
        text = path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
    return "\n".join(text.splitlines()[-lines:])


def _group_is_alive(group: int) -> bool:
    try:
        os.killpg(group, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        # macOS says so of a group that has only zombies left.
        return False
    return True


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
        self._management = management
        self._fixed_port = port
        self._extra_config = tuple(extra_config)
        self._quick_stats = management if quick_stats is None else quick_stats
        self._start_timeout_s = start_timeout_s
        self._name = f"otpost-{secrets.token_hex(4)}"
        self._folder: Path | None = None
        self._ports: _Ports | None = None
        self._epmd: subprocess.Popen[bytes] | None = None
        self._server: subprocess.Popen[bytes] | None = None
        self._watchdog: subprocess.Popen[bytes] | None = None
        self._has_started_once = False

    # -- where it is ---------------------------------------------------------------------------

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
        if not self._management:
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
        parts = [f"--- {path.name}\n{tail}" for path in files if (tail := _tail(path, lines))]
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
            except _PortTakenError:
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
        self._dismiss_watchdog()
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
            _release_ports(self._ports)
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
        command = [str(find_server_folder() / "rabbitmqctl"), "--quiet", "--node", self.nodename, *arguments]
        try:
            done = subprocess.run(  # noqa: S603 - the installed tool, arguments from our own tests
                command,
                env=self._environment(),
                cwd=self.folder,
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                timeout=timeout_s,
                check=False,
            )
        except subprocess.TimeoutExpired as error:
            message = f"rabbitmqctl {' '.join(arguments)} took longer than {timeout_s} s on {self.nodename}"
            raise PrivateRabbitMQError(message) from error
        if done.returncode != 0:
            message = (
                f"rabbitmqctl {' '.join(arguments)} on {self.nodename} ended with code {done.returncode}: "
                f"{(done.stderr or done.stdout).strip()}"
            )
            raise PrivateRabbitMQError(message)
        return done.stdout

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
                [_find_epmd(), "-address", HOST, "-port", str(port)],
                env=self._environment(),
                cwd=self.folder,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                # One group for all of the node, apart from ours: Ctrl-C in a terminal must not reach it.
                process_group=0,
            )
        self._spawn_watchdog()
        while not _accepts(port):
            self._fail_if_ended(self._epmd, "epmd")
            self._fail_if_late(deadline, f"epmd on {HOST}:{port}")
            time.sleep(POLL_INTERVAL_S / 5)

    def _spawn_watchdog(self) -> None:
        self._watchdog = subprocess.Popen(  # noqa: S603 - the script above
            ["/bin/sh", "-c", WATCHDOG, "watchdog", str(self.group), str(self.folder)],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )

    def _dismiss_watchdog(self) -> None:
        if self._watchdog is None:
            return
        with contextlib.suppress(BrokenPipeError):
            self._watchdog.communicate(b"end\n", timeout=STOP_TIMEOUT_S)
        self._watchdog = None

    def _await_ready(self, deadline: float) -> None:
        ports = self._known_ports()
        checks = [("AMQP", self._answers_amqp, ports.amqp)]
        if self._management:
            checks.append(("management", self._answers_management, ports.management))
        for what, answers, port in checks:
            while not answers(port):
                self._fail_if_ended(self._server, "rabbitmq-server")
                self._fail_if_late(deadline, f"{what} on {HOST}:{port}")
                time.sleep(POLL_INTERVAL_S)

    def _answers_amqp(self, port: int) -> bool:
        """Tell whether this very node greets an AMQP client: its cluster name is part of the greeting."""
        try:
            with socket.create_connection((HOST, port), timeout=2.0) as connection:
                connection.settimeout(2.0)
                connection.sendall(b"AMQP\x00\x00\x09\x01")
                greeting = b""
                while chunk := connection.recv(4096):
                    greeting += chunk
                    if self._name.encode() in greeting:
                        return True
        except OSError:
            return False
        return False

    def _answers_management(self, port: int) -> bool:
        token = base64.b64encode(f"{USER}:{PASSWORD}".encode()).decode()
        connection = http.client.HTTPConnection(HOST, port, timeout=5.0)
        try:
            connection.request("GET", "/api/whoami", headers={"Authorization": f"Basic {token}"})
            return connection.getresponse().status == http.HTTPStatus.OK
        except (OSError, http.client.HTTPException):
            return False
        finally:
            connection.close()

    def _fail_if_taken(self) -> None:
        for port in self._known_ports().all():
            if not _is_free(port):
                message = f"RabbitMQ node {self.nodename} cannot start: {HOST}:{port} is taken by another program"
                raise _PortTakenError(message)

    def _fail_if_ended(self, process: subprocess.Popen[bytes] | None, what: str) -> None:
        if process is None or process.poll() is None:
            return
        tail = self.log_tail(FAILURE_LOG_LINES)
        ending = f"ended with code {process.returncode} while starting"
        message = f"{what} of RabbitMQ node {self.nodename} {ending}:\n{tail}"
        # The output is of this life only; the log may tell of an earlier one's trouble with ports.
        if PORT_TAKEN.search(_tail(self.folder / "output.log", FAILURE_LOG_LINES)):
            raise _PortTakenError(message)
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
        while _group_is_alive(self._epmd.pid):
            if time.monotonic() >= deadline:
                message = (
                    f"process group {self._epmd.pid} of RabbitMQ node {self.nodename} is still there "
                    f"{STOP_TIMEOUT_S} s after SIGKILL; look with `ps -o pid,stat,args -g {self._epmd.pid}`"
                )
                raise PrivateRabbitMQError(message)
            time.sleep(POLL_INTERVAL_S / 5)

    # -- ports, files, environment ------------------------------------------------------------------

    def _known_ports(self) -> _Ports:
        if self._ports is None:
            message = f"RabbitMQ node {self.nodename} has no ports yet or any more; call start() first"
            raise PrivateRabbitMQError(message)
        return self._ports

    def _choose_ports(self) -> _Ports:
        amqp = self._fixed_port if self._fixed_port is not None else _reserve_free_port()
        return _Ports(amqp, _reserve_free_port(), _reserve_free_port(), _reserve_free_port())

    def _change_ports_if_allowed(self) -> None:
        """Take other ports on a first start; a restart has to keep them for the clients' sake."""
        if self._has_started_once:
            time.sleep(1.0)
            return
        _release_ports(self._known_ports())
        self._ports = None

    def _prepare_folder(self) -> None:
        if self._ports is None:
            self._ports = self._choose_ports()
        if self._folder is None:
            self._folder = Path(tempfile.mkdtemp(prefix="otpost-rabbitmq-"))
        for name in ("home", "mnesia", "log", "plugins"):
            (self._folder / name).mkdir(exist_ok=True)
        cookie = self._folder / "home" / ".erlang.cookie"
        if not cookie.exists():
            cookie.write_text(secrets.token_hex(20), encoding="ascii")
            # Erlang refuses a cookie that others can read.
            cookie.chmod(0o400)
        plugins = "[rabbitmq_management]." if self._management else "[]."
        (self._folder / "enabled_plugins").write_text(f"{plugins}\n", encoding="ascii")
        (self._folder / "rabbitmq.conf").write_text("\n".join(self._config_lines()) + "\n", encoding="utf-8")
        (self._folder / "advanced.config").write_text(self._advanced_config(), encoding="ascii")
        # Keeps the machine's own rabbitmq-env.conf out.
        (self._folder / "rabbitmq-env.conf").touch()

    def _config_lines(self) -> Iterator[str]:
        ports = self._known_ports()
        yield f"listeners.tcp.local = {HOST}:{ports.amqp}"
        yield "vm_memory_high_watermark.absolute = 1GB"
        yield "disk_free_limit.absolute = 20MB"
        # The default of 512 MB per write-ahead log is more than a test's temporary folder should hold.
        yield "raft.wal_max_size_bytes = 64000000"
        if self._management:
            yield f"management.tcp.ip = {HOST}"
            yield f"management.tcp.port = {ports.management}"
        if self._quick_stats:
            yield "collect_statistics_interval = 500"
        yield from self._extra_config

    def _advanced_config(self) -> str:
        """What rabbitmq.conf has no key for: how often queues report, and the plugin collects, the counts."""
        if not self._quick_stats:
            return "[].\n"
        applications = ["{rabbit, [{quorum_tick_interval, 500}]}"]
        if self._management:
            # (seconds kept, seconds between two looks): 5 s between two looks is the default.
            policies = ", ".join(f"{{{policy}, [{{60, 1}}]}}" for policy in ("global", "basic", "detailed"))
            applications += [
                f"{{{application}, [{{sample_retention_policies, [{policies}]}}]}}"
                for application in ("rabbitmq_management", "rabbitmq_management_agent")
            ]
        return f"[{', '.join(applications)}].\n"

    def _environment(self) -> dict[str, str]:
        """Environment for every process of the node: all of the caller's but what steers another RabbitMQ."""
        folder, ports = self.folder, self._known_ports()
        foreign = ("RABBITMQ_", "ERL_", "NOTIFY_SOCKET")
        kept = {key: value for key, value in os.environ.items() if not key.startswith(foreign)}
        loopback_only = "-kernel inet_dist_use_interface {127,0,0,1}"
        return kept | {
            "PATH": _search_path(),
            "HOME": str(folder / "home"),
            "LANG": "C.UTF-8",
            "LC_ALL": "C.UTF-8",
            "ERL_EPMD_ADDRESS": HOST,
            "ERL_EPMD_PORT": str(ports.epmd),
            "ERL_CRASH_DUMP": str(folder / "erl_crash.dump"),
            # Makes the start script become the server instead of staying as its parent; the name is odd
            # but the effect is plain: the process we started is the process to signal.
            "RUNNING_UNDER_SYSTEMD": "true",
            "RABBITMQ_NODENAME": self.nodename,
            "RABBITMQ_DIST_PORT": str(ports.distribution),
            "RABBITMQ_CONF_ENV_FILE": str(folder / "rabbitmq-env.conf"),
            "RABBITMQ_CONFIG_FILE": str(folder / "rabbitmq.conf"),
            "RABBITMQ_ADVANCED_CONFIG_FILE": str(folder / "advanced.config"),
            "RABBITMQ_ENABLED_PLUGINS_FILE": str(folder / "enabled_plugins"),
            "RABBITMQ_MNESIA_BASE": str(folder / "mnesia"),
            "RABBITMQ_GENERATED_CONFIG_DIR": str(folder / "generated"),
            "RABBITMQ_SCHEMA_DIR": str(folder / "schema"),
            "RABBITMQ_PLUGINS_EXPAND_DIR": str(folder / "plugins"),
            "RABBITMQ_LOG_BASE": str(folder / "log"),
            "RABBITMQ_PID_FILE": str(folder / "server.pid"),
            # Schedulers that sleep instead of spinning leave the cores to what is being tested.
            "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS": f"+sbwt none +sbwtdcpu none +sbwtdio none {loopback_only}",
            "RABBITMQ_CTL_ERL_ARGS": loopback_only,
        }


def _accepts(port: int) -> bool:
    try:
        with socket.create_connection((HOST, port), timeout=2.0):
            return True
    except OSError:
        return False


# -- command line ------------------------------------------------------------------------------------


def _parse(arguments: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Run a private RabbitMQ node on loopback.")
    parser.add_argument("--port", type=int, default=None, help="AMQP port (default: a free one)")
    parser.add_argument("--management", action="store_true", help="also run the management plugin")
    parser.add_argument("--foreground", action="store_true", help="run until Ctrl-C (the default)")
    parser.add_argument("command", nargs="*", help="after `--`: run this command, then end the node")
    options = parser.parse_args(arguments)
    if options.foreground and options.command:
        parser.error("--foreground and a command exclude each other; leave one out")
    return options


def _run_command(node: PrivateRabbitMQ, command: Sequence[str], urls: dict[str, str]) -> int:
    try:
        return subprocess.call(list(command), env=os.environ | urls)  # noqa: S603 - the developer's own command
    except OSError as error:
        sys.stderr.write(f"cannot run {command[0]!r} next to RabbitMQ node {node.nodename}: {error}\n")
        return 127


def _wait_for_signal(node: PrivateRabbitMQ) -> int:
    done = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: done.set())
    while not done.wait(0.5):
        if not node.is_running:
            sys.stderr.write(f"RabbitMQ node {node.nodename} ended by itself:\n{node.log_tail()}\n")
            return 1
    return 0


def main(arguments: Sequence[str]) -> int:
    """Run a node around a command, or until a signal."""
    options = _parse(arguments)
    try:
        with PrivateRabbitMQ(port=options.port, management=options.management) as node:
            urls = {"OTPOST_AMQP_URL": node.amqp_url}
            if options.management:
                urls["OTPOST_MANAGEMENT_URL"] = node.management_url
            sys.stderr.writelines(f"{key}={value}\n" for key, value in urls.items())
            if options.command:
                return _run_command(node, options.command, urls)
            sys.stderr.write("RabbitMQ runs; Ctrl-C ends it.\n")
            return _wait_for_signal(node)
    except PrivateRabbitMQError as error:
        sys.stderr.write(f"{error}\n")
        return 1
    except KeyboardInterrupt:
        return 130


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
