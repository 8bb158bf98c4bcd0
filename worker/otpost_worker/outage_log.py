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
    """Tells of one outage after the other under the name *event*; used within a running event loop.

    *clock* tells seconds and only goes forward.
    """

    def __init__(
        self, event: str, *, level: int = logging.WARNING, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._event = event
        self._level = level
        self._clock = clock
        self._outage = Outage()

    @property
    def trouble(self) -> str | None:
        """What is out of order now, and what to do about it; None where nothing is."""
        return self._outage.reason

    def met(self, reason: str, *, part: str = "", aspect: str = "", **fields: object) -> None:
        """Take note that *part* did not work; *fields* go into the log line, if there is one."""
        word = self._outage.met(reason, now=self._clock(), part=part, aspect=aspect)
        if word is None:
            return
        lasting = {} if word.is_first else {"for_s": round(word.for_s, 1), "times": word.times}
        _log.log(self._level, self._event, error=reason, **fields, **lasting)

    def works(self, part: str = "") -> None:
        """Take note that *part* works."""
        if self._outage.works(now=self._clock(), part=part):
            # A little late rather than a little early: then it would never be asked again.
            asyncio.get_running_loop().call_later(SETTLE_S + 0.05, self._tell_if_over)

    def _tell_if_over(self) -> None:
        word = self._outage.over(now=self._clock())
        if word is not None:
            _log.info(
                "outage.over", what=self._event, lasted_s=round(word.for_s, 1), times=word.times, error=word.reason
            )
