"""Looking into a ledger that workers use: nothing is written, nothing is made, and no worker waits for it."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from otpost.urls import visible_url
from otpost_worker.ledger.opening import SQLITE
from otpost_worker.ledger.sqlite.reading import open_file_to_read
from otpost_worker.ports import Archive

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from contextlib import AbstractAsyncContextManager

    from otpost_worker.ports import Clock, SenderReport


class LedgerReader(Archive, Protocol):
    """What can be asked of a ledger without writing to it."""

    @property
    def writable(self) -> bool:
        """Whether whoever asks could write to it too, as far as that can be told."""

    @property
    def warnings(self) -> Sequence[str]:
        """What may lose its contents, and what to do about it."""

    async def report(self, rates: Mapping[str, float], quotas: Mapping[str, str]) -> Mapping[str, SenderReport]:
        """See ``ports.Standings``."""

    async def turn(self, job_id: str) -> float | None:
        """Tell when the recipient's turn comes that was booked for a job (Unix seconds), claimed before or not."""


def open_to_read(url: str, *, clock: Clock = time.time) -> AbstractAsyncContextManager[LedgerReader]:
    """Give the ledger that *url* (``OTPOST_LEDGER_URL``) names, to be entered.

    :raises NoLedger: on entering it, where there is none. :raises LedgerUnavailable: it cannot be read.
    """
    if url.startswith(SQLITE):
        return open_file_to_read(Path(url.removeprefix(SQLITE)), clock=clock)
    from otpost_worker.ledger.redis.reading import RedisReader  # noqa: PLC0415 - as in open_ledger

    return RedisReader(url, clock=clock)


def visible(url: str) -> str:
    """Show a ledger's URL without its password; a file's is its path."""
    return url.removeprefix(SQLITE) if url.startswith(SQLITE) else visible_url(url)
