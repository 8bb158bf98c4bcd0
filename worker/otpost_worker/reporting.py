"""What is told of each request, in the log and to the observer: one canonical event an attempt."""

from __future__ import annotations

from typing import TYPE_CHECKING

import structlog

from otpost_worker.clocks import TOLERATED_S, ClockWatch
from otpost_worker.decision import Decision, Halt, RetryIn
from otpost_worker.outcome import Accepted, Error, Outcome

if TYPE_CHECKING:
    from otpost_worker.envelope import Parcel
    from otpost_worker.observer import Observer
    from otpost_worker.ports import Ticket

_log = structlog.get_logger("otpost.deliver")


class Reporter:
    """Tells of one sender's requests. Times are Unix seconds."""

    def __init__(self, sender: str, observer: Observer) -> None:
        self._sender = sender
        self._observer = observer
        self._clock_watch = ClockWatch("whoever made the job (created_at)")

    def unsendable(self, parcel: Parcel, error: Error) -> None:
        """A job's code cannot be had, so that there is nothing to send."""
        _log.warning(
            "job.unsendable", job_id=parcel.job.id, sender=self._sender, kind=error.kind.value, detail=error.detail
        )

    def request_begun(self, parcel: Parcel, ticket: Ticket, now: float) -> None:
        """A request leaves at *now*."""
        created_at = parcel.job.created_at
        age_s = now - created_at.timestamp() if ticket.attempt == 1 and created_at is not None else None
        if age_s is not None and age_s < -TOLERATED_S:
            self._compare_clocks(parcel.job.id, age_s)
        if ticket.attempt == 1:
            self._observer.job_begun(self._sender)
        waited_s = None if age_s is None else max(0.0, age_s)
        self._observer.request_begun(self._sender, waited_s=waited_s, left_s=parcel.deadline - now)

    def _compare_clocks(self, job_id: str, offset_s: float) -> None:
        """A job may be as old as it likes, but not younger than now.

        Jobs of other producers, whose clocks agree with ours, take nothing of that back.
        """
        if message := self._clock_watch.news(offset_s):
            _log.warning("clock.compared", sender=self._sender, job_id=job_id, message=message)

    def request_ended(self, ticket: Ticket, outcome: Outcome, decision: Decision, *, duration_s: float) -> None:
        """A request has its outcome, and what follows from that is decided."""
        error = None if isinstance(outcome, Accepted) else outcome.error
        retry = decision.retry if isinstance(decision, Halt) else decision
        retry_in_s = retry.delay_s if isinstance(retry, RetryIn) else None
        self._observer.request_ended(self._sender, outcome, duration_s=duration_s, retry_in_s=retry_in_s)
        _log.info(
            "attempt.finished",
            job_id=ticket.job_id,
            run=ticket.run,
            attempt=ticket.attempt,
            sender=self._sender,
            outcome=type(outcome).__name__.lower(),
            decision=type(decision).__name__.lower(),
            kind=error.kind.value if error else None,
            code=error.code if error else None,
            http_status=error.http_status if error else None,
            trace_id=error.provider_trace_id if error else None,
            # Its beginning holds the recipient's number.
            message_id_ends=outcome.provider_message_id[-8:] if isinstance(outcome, Accepted) else None,
            retry_in_s=None if retry_in_s is None else round(retry_in_s, 3),
            duration_ms=round(duration_s * 1000),
        )
