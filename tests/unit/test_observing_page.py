"""The page for operators names every metric and every log event that there is, and none that there is not."""

from __future__ import annotations

import re
from pathlib import Path

from prometheus_client import generate_latest

from otpost_worker.metrics import Metrics
from otpost_worker.outcome import Error, Kind, Refused
from otpost_worker.webhook_metrics import WebhookMetrics

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "observing.md").read_text(encoding="utf-8")


def listed(heading: str) -> set[str]:
    """The names in code style in the first column of the table below `heading`."""
    part = PAGE.partition(f"\n## {heading}\n")[2].partition("\n## ")[0]
    rows = [line.split("|")[1] for line in part.splitlines() if line.startswith("| `")]
    return {name for row in rows for name in re.findall(r"`([^`]+)`", row)}


def test_every_metric_is_on_the_page() -> None:
    metrics, receiver = Metrics(["default"]), WebhookMetrics()
    metrics.request_ended("default", Refused(Error(Kind.UNAVAILABLE)), duration_s=0.1, retry_in_s=1.0)
    suffixes = {"counter": "_total", "info": "_info"}
    ours = {
        family.name + suffixes.get(family.type, "")
        for family in (*metrics.registry.collect(), *receiver.registry.collect())
        if family.name.startswith("otpost_")
    }
    assert listed("Metrics") == ours


def test_every_log_event_is_on_the_page() -> None:
    source = "\n".join(
        path.read_text(encoding="utf-8")
        for path in (ROOT / "worker" / "otpost_worker").rglob("*.py")
        if "simulator" not in path.parts
    )
    # Outages are told of by what meets them: outage.met("broker.lost", …), or a function that ends in that.
    told = r'(?:_log\.(?:debug|info|warning|error)|\.met|_not_published|_warn_of_ledger)\(\s*"([^"]+)"'
    events = set(re.findall(told, source)) | set(re.findall(r'event = "([^"]+)" if .* else "([^"]+)"', source)[0])
    assert len(events) >= 15
    assert listed("Logs") == events


def test_what_an_alert_counts_is_there_at_zero_before_it_happens_first() -> None:
    # Prometheus sees no increase in a series that begins at 1.
    registries = Metrics(["default"]).registry, WebhookMetrics().registry
    fresh = "".join(generate_latest(registry).decode() for registry in registries)
    counted = re.findall(r"(?:rate|increase)\((otpost_\w+)(?:\{(.*?)\})?\[", PAGE)
    assert ("otpost_unlisted_answers_total", "") in counted
    for name, label in counted:
        what, _, values = label.partition("=~")
        for one in [f'{what}="{value}"' for value in values.strip('"').split("|")] if values else [label]:
            series = [line for line in fresh.splitlines() if line.startswith(name + "{") and one in line]
            assert series, (name, one)
            assert all(line.endswith(" 0.0") for line in series)
