"""Free ports of this machine's loopback, each promised once in this process."""

from __future__ import annotations

import random
import socket
import threading
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

HOST = "127.0.0.1"

# Below the ranges from which Linux (32768-60999) and macOS (49152-65535) take the ports of outgoing
# connections: while a server is down for a restart, no client's connection can land on its port.
PORT_RANGE = range(10_000, 32_000)

_reserved_ports: set[int] = set()
_reserve_lock = threading.Lock()


class NoFreePortError(Exception):
    """Every port that was tried is taken."""


def is_free(port: int) -> bool:
    """Tell whether the port could be listened on now."""
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        # Servers listen with the same option; without it a connection in TIME_WAIT would count as "taken".
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
        except OSError:
            return False
    return True


def reserve_free_port() -> int:
    """Choose a free port that no other server of this process was promised.

    :raises NoFreePortError: there is none.
    """
    with _reserve_lock:
        for port in random.sample(PORT_RANGE, k=500):
            if port not in _reserved_ports and is_free(port):
                _reserved_ports.add(port)
                return port
    tried = f"{PORT_RANGE.start}-{PORT_RANGE.stop - 1}"
    message = f"no free port on {HOST} in {tried} after 500 tries; end what occupies them"
    raise NoFreePortError(message)


def release_ports(ports: Iterable[int]) -> None:
    """Let other servers of this process have these ports."""
    with _reserve_lock:
        _reserved_ports.difference_update(ports)
