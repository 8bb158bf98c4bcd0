"""A token's file, read again and again, on a disk that may hang.

Whoever reads from a disk that hangs is held, and nothing can end that from outside. So each read has a thread of its
own: the pool that the event loop shares with name lookups would be used up, and a process that ends waits for that
pool. There is one read at most, and whoever looks does not wait for it long.
"""

from __future__ import annotations

import asyncio
import threading
from contextlib import suppress
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

# A probe waits for it, which may start half a second late (decision.Policy), and has other things to wait for.
PATIENCE_S: Final = 0.25


class TokenFile:
    """Reads the file at *path*; *found* hears each text that was read, also one that nobody waited for any more."""

    def __init__(self, path: Path, found: Callable[[str], None]) -> None:
        self._path = path
        self._found = found
        self._reading: asyncio.Future[None] | None = None
        self._begun_at = 0.0

    async def look(self) -> None:
        """Read the file, or wait for who reads it; at once over where that takes too long already."""
        now = asyncio.get_running_loop().time()
        if self._reading is None:
            self._reading, self._begun_at = self._begin(), now
        left_s = self._begun_at + PATIENCE_S - now
        if left_s > 0:
            await asyncio.wait((self._reading,), timeout=left_s)

    def _begin(self) -> asyncio.Future[None]:
        loop = asyncio.get_running_loop()
        reading: asyncio.Future[None] = loop.create_future()
        # No end of the process waits for a daemon.
        threading.Thread(target=self._read, args=(loop, reading), name="token file", daemon=True).start()
        return reading

    def _read(self, loop: asyncio.AbstractEventLoop, reading: asyncio.Future[None]) -> None:
        text: str | None = None
        try:
            # Perhaps it is just being replaced.
            with suppress(OSError, UnicodeDecodeError):
                text = self._path.read_text(encoding="utf-8")
        finally:
            with suppress(RuntimeError):  # the loop is closed: nobody waits any more
                loop.call_soon_threadsafe(self._end, reading, text)

    def _end(self, reading: asyncio.Future[None], text: str | None) -> None:
        self._reading = None
        reading.set_result(None)
        if text is not None:
            self._found(text.strip())
