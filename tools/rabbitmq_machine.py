"""What a machine has for a private RabbitMQ node: the installed programs, and what answers on its ports."""

from __future__ import annotations

import base64
import http.client
import os
import shutil
import socket
from dataclasses import dataclass
from pathlib import Path

from free_ports import HOST

USER = "guest"
PASSWORD = "guest"  # noqa: S105 - the server's own default, which it accepts from loopback only

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


class PrivateRabbitMQError(Exception):
    """The private node could not be started, stopped or asked."""


class RabbitMQNotFoundError(PrivateRabbitMQError):
    """No RabbitMQ server is installed."""


class PortTakenError(PrivateRabbitMQError):
    """Somebody else took a port between our choice of it and the node's start."""


@dataclass(frozen=True)
class Ports:
    """The ports of one node, all on loopback."""

    amqp: int
    distribution: int
    epmd: int
    management: int

    def all(self) -> tuple[int, ...]:
        """List them."""
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


def find_epmd() -> str:
    """Find Erlang's name daemon."""
    epmd = shutil.which("epmd", path=search_path())
    if epmd is None:
        message = "epmd, Erlang's name daemon, is not on the PATH; install Erlang anew (`make broker` says how)"
        raise RabbitMQNotFoundError(message)
    return epmd


def search_path() -> str:
    """Give the PATH with the folders in which Erlang and RabbitMQ put their programs."""
    return os.pathsep.join([os.environ.get("PATH", os.defpath), *BINARY_FOLDERS])


def tail_of(path: Path, lines: int) -> str:
    """Read a file's last lines; nothing where there is no file."""
    try:
        text = path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
    return "\n".join(text.splitlines()[-lines:])


def accepts(port: int) -> bool:
    """Tell whether something takes connections on the port."""
    try:
        with socket.create_connection((HOST, port), timeout=2.0):
            return True
    except OSError:
        return False


def answers_amqp(port: int, name: str) -> bool:
    """Tell whether the node of that name greets an AMQP client: its cluster name is part of the greeting."""
    try:
        with socket.create_connection((HOST, port), timeout=2.0) as connection:
            connection.settimeout(2.0)
            connection.sendall(b"AMQP\x00\x00\x09\x01")
            greeting = b""
            while chunk := connection.recv(4096):
                greeting += chunk
                if name.encode() in greeting:
                    return True
    except OSError:
        return False
    return False


def answers_management(port: int) -> bool:
    """Tell whether the management plugin takes the default login."""
    token = base64.b64encode(f"{USER}:{PASSWORD}".encode()).decode()
    connection = http.client.HTTPConnection(HOST, port, timeout=5.0)
    try:
        connection.request("GET", "/api/whoami", headers={"Authorization": f"Basic {token}"})
        return connection.getresponse().status == http.HTTPStatus.OK
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()
