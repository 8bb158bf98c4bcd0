"""Noticing that a process wants to run and is not let: else nobody could tell a busy machine from an idle worker."""

from __future__ import annotations

import os
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Final

import orjson

if TYPE_CHECKING:
    from collections.abc import Callable

_LOOK_S: Final = 0.25
# From so much on of the time that went by the process was starved: it waited for a processor, or its timer was late.
SHARE: Final = 0.5
_NS: Final = 1e9


class Watchman:
    """A thread that looks after *who*, the process it is in; *tell* gets each stretch of time in which that starved.

    It asks the system how long the main thread has waited for a processor. A timer's delay alone shows little, as who
    sleeps most is let run first; it counts where the system does not say more.
    """

    def __init__(self, who: str, tell: Callable[[dict[str, object]], None]) -> None:
        self._who = who
        self._tell = tell
        self._file = Path(f"/proc/self/task/{threading.main_thread().native_id}/schedstat")
        self._stopping = threading.Event()
        self._began_at = 0.0
        self._thread = threading.Thread(target=self._watch, name="watchman", daemon=True)

    def begin(self) -> None:
        """Begin to look."""
        self._began_at = time.time()
        self._thread.start()

    def end(self) -> None:
        """Look no more."""
        self._stopping.set()
        self._thread.join()

    def _watch(self) -> None:
        began_at, waited_s = self._began_at, read_waited_s(self._file)
        ended = False
        while not ended:
            ended = self._stopping.wait(_LOOK_S)
            now, waits_s = time.time(), read_waited_s(self._file)
            if has_starved(now - began_at, waits_s - waited_s):
                self._tell({"at": began_at, "until": now, "who": self._who})
            began_at, waited_s = now, waits_s


def has_starved(took_s: float, waited_s: float) -> bool:
    """Tell whether who was to look again after a moment and did so after *took_s*, having *waited_s*, was starved."""
    return max(took_s - _LOOK_S, waited_s) >= SHARE * took_s


def read_waited_s(file: Path) -> float:
    """Read how long a thread has waited to be run; 0 where the system does not say."""
    try:
        return int(file.read_bytes().split()[1]) / _NS
    except (OSError, IndexError, ValueError):
        return 0.0


def writing_to(file: int) -> Callable[[dict[str, object]], None]:
    """Make what is told a line of an open *file*, at once."""

    def write(told: dict[str, object]) -> None:
        os.write(file, orjson.dumps(told, option=orjson.OPT_APPEND_NEWLINE))

    return write


def open_record(file: Path) -> int:
    """Open a file that several processes write lines to."""
    return os.open(file, os.O_CREAT | os.O_WRONLY | os.O_APPEND, 0o600)
