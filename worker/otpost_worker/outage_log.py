"""Outages in the log: a line when one begins, now and then one while it lasts, and one when it is over."""

from __future__ import annotations

import asyncio
import logging
import time
from typing import TYPE_CHECKING

import structlog

from otpost_worker.outages import SETTLE_S, Outage

if TYPE_CHECKING:
    from collections.abc import Callable

_log = structlog.get_logger("otpost.outages")


class OutageLog:
    """Tells of one outage after the other of *what*; used within a running event loop.

    *clock* tells seconds and only goes forward.
    """

    def __init__(self, what: str, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._what = what
        self._clock = clock
        self._outage = Outage()

    @property
    def trouble(self) -> str | None:
        """What is out of order now, and what to do about it; None where nothing is."""
        return self._outage.reason

    def met(
        self,
        event: str,
        reason: str,
        *,
        part: str = "",
        aspect: str = "",
        level: int = logging.WARNING,
        **fields: object,
    ) -> None:
        """Take note that *part* did not work. If that is worth a line in the log, it is *event* with *fields*."""
        word = self._outage.met(reason, now=self._clock(), part=part, aspect=aspect)
        if word is None:
            return
        lasting = {} if word.is_first else {"for_s": round(word.for_s, 1), "times": word.times}
        _log.log(level, event, error=reason, **fields, **lasting)

    def works(self, part: str = "") -> None:
        """Take note that *part* works."""
        if self._outage.works(now=self._clock(), part=part):
            # A little late rather than a little early: then it would never be asked again.
            asyncio.get_running_loop().call_later(SETTLE_S + 0.05, self._tell_if_over)

    def _tell_if_over(self) -> None:
        word = self._outage.over(now=self._clock())
        if word is not None:
            _log.info(
                "outage.over", what=self._what, lasted_s=round(word.for_s, 1), times=word.times, error=word.reason
            )
