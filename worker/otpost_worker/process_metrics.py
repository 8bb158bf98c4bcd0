"""What every process of ours tells Prometheus: what runs, whether it is ready, what connections it has lost."""

from __future__ import annotations

import platform
from typing import TYPE_CHECKING

from prometheus_client import CollectorRegistry, Counter, Gauge, Info, ProcessCollector, disable_created_metrics

import otpost

if TYPE_CHECKING:
    from collections.abc import Iterable


class ProcessMetrics:
    """One process has one of these; *registry* is what a scrape reads. *connections* are the names of those it has."""

    def __init__(self, connections: Iterable[str]) -> None:
        # Prometheus itself does not read the times at which counters were made.
        disable_created_metrics()  # type: ignore[no-untyped-call]  # it has no annotations
        self.registry = CollectorRegistry()
        ProcessCollector(registry=self.registry)
        Info("otpost_build", "What runs here.", registry=self.registry).info(
            {"version": otpost.__version__, "python": platform.python_version()}
        )
        self._reconnects = Counter(
            "otpost_reconnects", "Connections to the broker that were lost and opened again.", ["connection"],
            registry=self.registry,
        )  # fmt: skip
        self._ready = Gauge("otpost_ready", "Whether /readyz says yes: 1 or 0.", registry=self.registry)
        for connection in connections:
            self._reconnects.labels(connection)

    def set_ready(self, *, ready: bool) -> None:
        """Note what readiness said last."""
        self._ready.set(ready)

    def reconnected(self, connection: str) -> None:
        """Count that *connection* was lost and is open again."""
        self._reconnects.labels(connection).inc()
