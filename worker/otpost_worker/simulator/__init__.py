"""The WhatsApp Cloud API as a local server, for tests, benchmarks and development.

It judges senders independently: it imports nothing of the rest of the service, and validates, limits and
fails as Meta's documentation says. See `behaviour` for the recipients that make it fail on purpose.
"""

from __future__ import annotations

from .cloud import SimulatorOptions, TemplateLists
from .journal import Entry, Journal
from .limits import LimitSettings
from .server import CannotListen, Simulator, serve
from .webhooks import PLANS, Plan, Report, Reports, Retry, Step, WebhookSettings

__all__ = [
    "PLANS",
    "CannotListen",
    "Entry",
    "Journal",
    "LimitSettings",
    "Plan",
    "Report",
    "Reports",
    "Retry",
    "Simulator",
    "SimulatorOptions",
    "Step",
    "TemplateLists",
    "WebhookSettings",
    "serve",
]
