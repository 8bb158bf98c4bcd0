"""What a receiver refuses, in the log: a line for each kind when it comes first, and a reminder now and then."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import structlog

from otpost_worker.outages import Outage
from otpost_worker.webhook_answers import ANSWERS

if TYPE_CHECKING:
    from collections.abc import Callable

    from otpost_worker.webhook_answers import Result

_log = structlog.get_logger("otpost.webhook")


class RefusalLog:
    """Whoever floods us with nonsense writes one line every five minutes; *clock* only goes forward, in seconds."""

    def __init__(self, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._kinds: dict[Result, Outage] = {}

    def met(self, result: Result) -> None:
        """Take note of an answer; nothing of the request is told, as a stranger wrote it."""
        answer = ANSWERS[result]
        if answer.advice is None:
            return
        word = self._kinds.setdefault(result, Outage()).met(answer.advice, now=self._clock())
        if word is None:
            return
        told = {"result": result.value, "status": answer.status, "error": word.reason}
        lasting = {} if word.is_first else {"for_s": round(word.for_s, 1), "times": word.times}
        if answer.alarming:
            _log.warning("webhook.refused", **told, **lasting)
        else:
            _log.info("webhook.refused", **told, **lasting)
