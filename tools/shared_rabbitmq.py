"""One private RabbitMQ node for several processes: one of them runs it, the others use it by what that one has told.

A node costs some twenty seconds of processor time in a run of the tests, most of it for its start, its plugins and its
statistics; what the tests of one process do to it is little beside that.
"""

from __future__ import annotations

import json
import threading
import time
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Final, NoReturn, Self

from rabbitmq_machine import Ports, PrivateRabbitMQError, accepts
from rabbitmq_node import START_TIMEOUT_S, PrivateRabbitMQ

if TYPE_CHECKING:
    from types import TracebackType

POLL_INTERVAL_S: Final = 0.05
# The one that runs it may need the whole of a start for that.
LOOK_TIMEOUT_S: Final = START_TIMEOUT_S + 10
_TOLD: Final = "node.json"
_REFUSED: Final = "node.error"


class SharedRabbitMQ(PrivateRabbitMQ):
    """A node that another process runs: to be used, not to be started or ended from here."""

    def __init__(self, name: str, folder: Path, ports: Ports) -> None:
        super().__init__(management=True)
        self._name, self._folder, self._ports = name, folder, ports

    @property
    def is_running(self) -> bool:
        """Whether something takes connections on its port."""
        return accepts(self.port)

    def start(self) -> None:
        """Refuse."""
        self._refuse("started")

    def stop(self, timeout_s: float = 0.0) -> None:
        """Refuse."""
        del timeout_s
        self._refuse("stopped")

    def kill(self) -> None:
        """Refuse."""
        self._refuse("killed")

    def close(self) -> None:
        """Refuse."""
        self._refuse("closed")

    def _refuse(self, what: str) -> NoReturn:
        message = f"RabbitMQ node {self.nodename} serves several processes and cannot be {what} by one of them"
        raise PrivateRabbitMQError(message)


class NodeForAll:
    """Runs the node: it starts in the background on entry, and is gone after the end.

    Args:
        folder: where the others look for it; it must exist.

    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._node = PrivateRabbitMQ(management=True)
        self._starting = threading.Thread(target=self._start, name="start of the shared RabbitMQ node")

    def __enter__(self) -> Self:
        self._starting.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._starting.join()
        self._node.close()

    def _start(self) -> None:
        try:
            self._node.start()
        except Exception as error:  # noqa: BLE001 - whatever it was, it is for those who wait for the node
            _write(self._folder / _REFUSED, str(error))
        else:
            told = {"name": self._node.name, "folder": str(self._node.folder), "ports": asdict(self._node.ports)}
            _write(self._folder / _TOLD, json.dumps(told))


def look_for_node(folder: Path) -> SharedRabbitMQ:
    """Wait for the node that another process runs, as told in `folder`.

    :raises PrivateRabbitMQError: it could not be started there, or not in time.
    """
    deadline = time.monotonic() + LOOK_TIMEOUT_S
    while time.monotonic() < deadline:
        if (folder / _TOLD).exists():
            told = json.loads((folder / _TOLD).read_text(encoding="utf-8"))
            return SharedRabbitMQ(told["name"], Path(told["folder"]), Ports(**told["ports"]))
        if (folder / _REFUSED).exists():
            raise PrivateRabbitMQError((folder / _REFUSED).read_text(encoding="utf-8"))
        time.sleep(POLL_INTERVAL_S)
    message = f"no shared RabbitMQ node within {LOOK_TIMEOUT_S:.0f} s; {folder} does not tell of one"
    raise PrivateRabbitMQError(message)


def _write(path: Path, text: str) -> None:
    """Write it so that nobody reads half of it."""
    half = path.with_suffix(".half")
    half.write_text(text, encoding="utf-8")
    half.rename(path)
