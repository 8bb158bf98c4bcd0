"""What a receiver refuses, in the log: a line for each kind when it comes first, and a reminder now and then."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import structlog

from otpost_worker.outages import Outage
from otpost_worker.webhook_answers import ANSWERS, HANG_UPS, HangUp

if TYPE_CHECKING:
    from collections.abc import Callable

    from otpost_worker.webhook_answers import Result

_log = structlog.get_logger("otpost.webhook")


class RefusalLog:
    """Whoever floods us with nonsense writes one line every five minutes; *clock* only goes forward, in seconds."""

    def __init__(self, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._kinds: dict[Result | HangUp, Outage] = {}

    def met(self, what: Result | HangUp) -> None:
        """Take note of an answer, or of none; nothing of the request is told, as a stranger wrote it."""
        if isinstance(what, HangUp):
            self._met(what, HANG_UPS[what].advice, {}, alarming=HANG_UPS[what].alarming)
            return
        answer = ANSWERS[what]
        if answer.advice is not None:
            self._met(what, answer.advice, {"status": answer.status}, alarming=answer.alarming)

    def _met(self, what: Result | HangUp, advice: str, more: dict[str, int], *, alarming: bool) -> None:
        word = self._kinds.setdefault(what, Outage()).met(advice, now=self._clock())
        if word is None:
            return
        told = {"result": what.value, **more, "error": word.reason}
        lasting = {} if word.is_first else {"for_s": round(word.for_s, 1), "times": word.times}
        if alarming:
            _log.warning("webhook.refused", **told, **lasting)
        else:
            _log.info("webhook.refused", **told, **lasting)
