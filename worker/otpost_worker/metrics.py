"""Metrics in Prometheus's form. No label holds a number, a job's id or a message's id."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Final

from prometheus_client import Counter, Gauge, Histogram

from otpost.result import Status
from otpost_worker.outcome import Accepted, Refused, Unknown
from otpost_worker.process_metrics import ProcessMetrics

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from otpost_worker.outcome import Outcome
    from otpost_worker.ports import SenderReport

# Whatever was once written into a routing key is no label: there would be one for each typing error.
OTHER: Final = "other"
_NONE: Final = ""
# An answer can name any number as its error's code; so many different ones are worth a line each.
_MAX_CODES: Final = 100
_MAX_CODE: Final = 9_999_999
_REQUEST_BUCKETS_S: Final = (0.025, 0.05, 0.1, 0.2, 0.3, 0.5, 0.75, 1.0, 1.5, 2.0, 3.0, 5.0, 10.0)
_WAIT_BUCKETS_S: Final = (0.01, 0.05, 0.1, 0.25, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0, 60.0, 300.0, 900.0)
_LEFT_BUCKETS_S: Final = (5.0, 10.0, 20.0, 30.0, 60.0, 120.0, 180.0, 300.0, 600.0, 1800.0, 5400.0)
_RETRY_BUCKETS_S: Final = (0.5, 1.0, 2.0, 4.0, 8.0, 16.0, 30.0, 60.0, 120.0, 300.0, 900.0)
_DELIVERY_BUCKETS_S: Final = (1.0, 2.0, 3.0, 5.0, 7.5, 10.0, 15.0, 20.0, 30.0, 60.0, 120.0, 300.0, 600.0)
# What alerts count: the others begin when they happen first.
_STATUSES: Final = (Status.ACCEPTED, Status.FAILED, Status.EXPIRED, Status.RETRYING, Status.UNDELIVERED)
_REPORTED: Final = ("sent", "delivered", "read", "failed", "silence")


class Metrics(ProcessMetrics):
    """Implements ``observer.Observer`` by counting; *senders* are those that are labels of their own."""

    def __init__(self, senders: Iterable[str]) -> None:
        super().__init__(["jobs", "results"])
        self._senders = frozenset(senders)
        self._codes: set[int] = set()
        self._jobs = self._counter("jobs_received", "Jobs, each counted once a run however often it is delivered.")
        self._attempts = self._counter(
            "send_attempts", "Requests that have an outcome, by the kind and the provider's code of a failure.",
            "outcome", "kind", "code",
        )  # fmt: skip
        self._results = self._counter("results", "Results that the broker confirmed, each counted once.", "status")
        self._repeated = self._counter("results_repeated", "Recorded results that were published once more.", "status")
        self._letters = self._counter("dead_letters", "Dead letters that the broker confirmed.", "reason")
        self._unknown = self._counter(
            "unknown_outcomes", "Requests of which nobody can tell whether the provider took them."
        )
        self._unlisted_answers = self._counter(
            "unlisted_answers", "Answers and reports with an error code that the provider's table does not know."
        )
        self._unlisted = self._counter("unlisted_codes", "Error codes that the provider's table does not know.", "code")
        self._duration = self._histogram("send_duration", "How long a request took.", _REQUEST_BUCKETS_S, "outcome")
        self._waited = self._histogram("queue_wait", "From the job's creation to its first request.", _WAIT_BUCKETS_S)
        self._left = self._histogram(
            "deadline_remaining", "What was left to the deadline when a request left.", _LEFT_BUCKETS_S
        )
        self._retry = self._histogram(
            "retry_delay", "How long a failed job waits for its retry.", _RETRY_BUCKETS_S, "kind"
        )
        self._reports = Counter(
            "otpost_webhook_reports", "What webhooks reported, one by one, and what was missed.", ["what"],
            registry=self.registry,
        )  # fmt: skip
        self._taken_back = self._counter("taken_back", "Jobs that were accepted, and are tried again by a webhook.")
        self._failures = self._counter(
            "reported_failures", "Messages that the provider had taken and reported as failed.", "kind", "code"
        )
        self._delivery = self._histogram(
            "delivery_latency", "From the job's creation to the first report of its delivery.", _DELIVERY_BUCKETS_S
        )
        self._in_flight = Gauge("otpost_inflight", "Jobs in hand now.", registry=self.registry)
        self._clock = Gauge(
            "otpost_clock_offset_seconds", "How far our clock is ahead of another one; NaN: not compared yet.",
            ["clock"], registry=self.registry,
        )  # fmt: skip
        self._held = self._gauge("sender_held", "Whether the sender is halted, or one of its templates held.", "what")
        self._notices = self._gauge("sender_notices", "Warnings by webhook that no later one has taken back.")
        self._rate = self._gauge("sender_rate", "Messages a second that the sender may send now.")
        for what in _REPORTED:
            self._reports.labels(what)
        for sender in self._senders:
            self._begin_at_zero(sender)

    def _gauge(self, name: str, what: str, *labels: str) -> Gauge:
        return Gauge(f"otpost_{name}", what, ["sender", *labels], registry=self.registry)

    def _counter(self, name: str, what: str, *labels: str) -> Counter:
        return Counter(f"otpost_{name}", what, ["sender", *labels], registry=self.registry)

    def _histogram(self, name: str, what: str, buckets: tuple[float, ...], *labels: str) -> Histogram:
        return Histogram(f"otpost_{name}_seconds", what, ["sender", *labels], buckets=buckets, registry=self.registry)

    def _begin_at_zero(self, sender: str) -> None:
        """Show what has not happened yet: an alert on an increase misses a counter's first appearance."""
        self._jobs.labels(sender)
        self._attempts.labels(sender, "accepted", _NONE, _NONE)
        self._unknown.labels(sender)
        self._unlisted_answers.labels(sender)
        self._taken_back.labels(sender)
        for status in _STATUSES:
            self._results.labels(sender, status.value)

    # What a scrape asks for

    def watch_in_flight(self, count: Callable[[], int]) -> None:
        """Read the number of jobs in hand from *count* at each scrape."""
        self._in_flight.set_function(count)

    def watch_clock(self, other: str, offset_s: Callable[[], float | None]) -> None:
        """Read at each scrape how many seconds our clock is ahead of the *other*; None where that is not known."""

        def offset() -> float:
            told = offset_s()
            return math.nan if told is None else told

        self._clock.labels(other).set_function(offset)

    def set_standing(self, sender: str, report: SenderReport) -> None:
        """Note how a sender is doing, as the ledger told last; a template's name is no label."""
        templates = sum(hold.template is not None for hold in report.holds)
        self._held.labels(sender, "sender").set(len(report.holds) - templates)
        self._held.labels(sender, "templates").set(templates)
        self._held.labels(sender, "quota").set(report.quota_until is not None)
        self._notices.labels(sender).set(len(report.notices))
        self._rate.labels(sender).set(report.rate)

    # The port

    def job_begun(self, sender: str) -> None:
        """See ``observer.Observer``."""
        self._jobs.labels(self._sender(sender)).inc()

    def request_begun(self, sender: str, *, waited_s: float | None, left_s: float) -> None:
        """See ``observer.Observer``."""
        if waited_s is not None:
            self._waited.labels(self._sender(sender)).observe(waited_s)
        self._left.labels(self._sender(sender)).observe(left_s)

    def request_ended(self, sender: str, outcome: Outcome, *, duration_s: float, retry_in_s: float | None) -> None:
        """See ``observer.Observer``."""
        sender, word = self._sender(sender), type(outcome).__name__.lower()
        error = None if isinstance(outcome, Accepted) else outcome.error
        kind = error.kind.value if error else _NONE
        self._attempts.labels(sender, word, kind, self._code(error.code if error else None)).inc()
        self._duration.labels(sender, word).observe(duration_s)
        if isinstance(outcome, Refused):
            self._count_unlisted(sender, outcome)
        if isinstance(outcome, Unknown):
            self._unknown.labels(sender).inc()
        if retry_in_s is not None:
            self._retry.labels(sender, kind).observe(retry_in_s)

    def request_lapsed(self, sender: str) -> None:
        """See ``observer.Observer``."""
        self._unknown.labels(self._sender(sender)).inc()

    def result_published(self, sender: str, status: str, *, again: bool) -> None:
        """See ``observer.Observer``."""
        (self._repeated if again else self._results).labels(self._sender(sender), status).inc()

    def job_buried(self, sender: str, reason: str) -> None:
        """See ``observer.Observer``."""
        self._letters.labels(self._sender(sender), reason).inc()

    def report_heard(self, what: str) -> None:
        """See ``observer.Observer``."""
        self._reports.labels(what).inc()

    def failure_reported(self, sender: str, refused: Refused) -> None:
        """See ``observer.Observer``."""
        sender, error = self._sender(sender), refused.error
        self._failures.labels(sender, error.kind.value, self._code(error.code)).inc()
        self._count_unlisted(sender, refused)

    def taken_back(self, sender: str) -> None:
        """See ``observer.Observer``."""
        self._taken_back.labels(self._sender(sender)).inc()

    def delivery_reported(self, sender: str, *, latency_s: float) -> None:
        """See ``observer.Observer``."""
        self._delivery.labels(self._sender(sender)).observe(latency_s)

    def _count_unlisted(self, sender: str, refused: Refused) -> None:
        if not refused.listed:
            self._unlisted_answers.labels(sender).inc()
            self._unlisted.labels(sender, self._code(refused.error.code)).inc()

    def _sender(self, name: str) -> str:
        return name if name in self._senders else OTHER

    def _code(self, code: int | None) -> str:
        if code is None:
            return _NONE
        if code not in self._codes:
            # What is longer is no error's code, and might be somebody's number.
            if abs(code) > _MAX_CODE or len(self._codes) >= _MAX_CODES:
                return OTHER
            self._codes.add(code)
        return str(code)
