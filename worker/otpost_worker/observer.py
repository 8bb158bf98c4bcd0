"""The port of whoever counts what happens: no step of any way depends on it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from otpost_worker.outcome import Outcome, Refused


class Observer(Protocol):
    """Hears what happens on the way of a job, to count it. It neither waits nor fails.

    *sender* may be any name that a routing key can hold; *kind* and *reason* are kinds of the contract.
    """

    def job_begun(self, sender: str) -> None:
        """A run of a job makes its first request, or ends without one."""

    def request_begun(self, sender: str, *, waited_s: float | None, left_s: float) -> None:
        """A request leaves: *waited_s* after the user asked (its run's first alone), *left_s* before the deadline."""

    def request_ended(self, sender: str, outcome: Outcome, *, duration_s: float, retry_in_s: float | None) -> None:
        """A request has its outcome; *retry_in_s* where the job is tried again."""

    def request_lapsed(self, sender: str) -> None:
        """The worker that made a request did not live to tell its outcome."""

    def result_published(self, sender: str, status: str, *, again: bool) -> None:
        """A result is confirmed; *again* where it was recorded before and may have been published before."""

    def job_buried(self, sender: str, reason: str) -> None:
        """A dead letter is confirmed."""

    def report_heard(self, what: str) -> None:
        """Something was reported by webhook, or missed: *what*, a word of few."""

    def failure_reported(self, sender: str, refused: Refused) -> None:
        """A message that the provider had taken was reported as failed; *refused* is what that means."""

    def taken_back(self, sender: str) -> None:
        """The end of a job as accepted is taken back, and it will have another one."""

    def delivery_reported(self, sender: str, *, latency_s: float) -> None:
        """A message was delivered *latency_s* after its user asked for it; told once for each."""

    def reconnected(self, connection: str) -> None:
        """The connection for ``jobs`` or for ``results`` was lost and is open again."""
