"""Metrics of a receiver. No label holds anything that a stranger wrote."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from prometheus_client import Counter, Gauge, Histogram

from otpost_worker.process_metrics import ProcessMetrics
from otpost_worker.webhook_answers import HangUp, Result

if TYPE_CHECKING:
    from otpost_worker.webhook_connections import Places
    from otpost_worker.webhook_room import Room

# The connection's name, for logs, metrics and the broker's own list.
CONNECTION: Final = "webhooks"
# Meta's own load test asks for a median of 250 ms and less than 1 % above 1 s.
_BUCKETS_S: Final = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.0, 5.0, 10.0)


class WebhookMetrics(ProcessMetrics):
    """Counts requests by what became of them."""

    def __init__(self) -> None:
        super().__init__([CONNECTION])
        self._requests = Counter(
            "otpost_webhook_requests", "Requests to the receiver, by what became of them.", ["result"],
            registry=self.registry,
        )  # fmt: skip
        self._duration = Histogram(
            "otpost_webhook_duration_seconds", "From a request's headers to its answer.", ["result"],
            buckets=_BUCKETS_S, registry=self.registry,
        )  # fmt: skip
        self._in_hand = Gauge(
            "otpost_webhook_inflight", "Bodies that are being read or stored now.", registry=self.registry
        )
        self._bytes = Gauge("otpost_webhook_inflight_bytes", "Their bytes.", registry=self.registry)
        self._connections = Gauge(
            "otpost_webhook_connections", "Connections that are open now.", registry=self.registry
        )
        self._hang_ups = Counter(
            "otpost_webhook_hang_ups", "Connections that were closed without an answer, by why.", ["reason"],
            registry=self.registry,
        )  # fmt: skip
        for result in Result:
            self._requests.labels(result.value)
        for why in HangUp:
            self._hang_ups.labels(why.value)

    def watch(self, room: Room) -> None:
        """Read at each scrape what is in hand."""
        self._in_hand.set_function(lambda: room.bodies)
        self._bytes.set_function(lambda: room.bytes)

    def watch_connections(self, places: Places[Any]) -> None:
        """Read at each scrape how many there are."""
        self._connections.set_function(lambda: places.taken)

    def hung_up(self, why: HangUp) -> None:
        """Count one connection that was closed without an answer."""
        self._hang_ups.labels(why.value).inc()

    def answered(self, result: Result, *, duration_s: float | None) -> None:
        """Count one answer; *duration_s* is None where nothing of the request could be read."""
        self._requests.labels(result.value).inc()
        if duration_s is not None:
            self._duration.labels(result.value).observe(duration_s)
