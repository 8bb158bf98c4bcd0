"""``otpost doctor``: facts are gathered, each check on its own, and judged; each finding says what to do."""

from __future__ import annotations

from otpost_worker.doctor.examination import Patient, examine
from otpost_worker.doctor.facts import Expecting
from otpost_worker.doctor.findings import Finding, Level

__all__ = ["Expecting", "Finding", "Level", "Patient", "examine"]
