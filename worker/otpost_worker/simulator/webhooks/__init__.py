"""What the simulated provider reports after its answer: plans of what becomes of a message, and their webhooks."""

from __future__ import annotations

from .letters import Posting
from .plans import PLANS, Plan, Step
from .postman import Postman
from .reports import Report, Reports
from .settings import Retry, WebhookSettings

__all__ = ["PLANS", "Plan", "Posting", "Postman", "Report", "Reports", "Retry", "Step", "WebhookSettings"]
