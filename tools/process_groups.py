"""The process group of a private server, and a watchdog that outlives us."""

from __future__ import annotations

import contextlib
import os
import subprocess
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

STOP_TIMEOUT_S = 30.0

# Told "end" it leaves; told nothing until the end of its input - its parent died without a word -
# it ends the server and clears up. A pipe works on Linux and macOS, and from whichever thread.
WATCHDOG = """
read -r word && exit 0
kill -s KILL -- "-$1" 2>/dev/null
sleep 1
rm -rf "$2"
"""


class Watchdog:
    """Ends the process group *group* and removes *folder* should this process die without a word."""

    def __init__(self, group: int, folder: Path) -> None:
        self._process = subprocess.Popen(  # noqa: S603 - the script above
            ["/bin/sh", "-c", WATCHDOG, "watchdog", str(group), str(folder)],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )

    def dismiss(self) -> None:
        """Let it go: all is ended."""
        with contextlib.suppress(BrokenPipeError):
            self._process.communicate(b"end\n", timeout=STOP_TIMEOUT_S)


def group_is_alive(group: int) -> bool:
    """Tell whether a process group has any process left."""
    try:
        os.killpg(group, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        # macOS says so of a group that has only zombies left.
        return False
    return True
