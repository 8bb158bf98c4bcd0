"""``otpost doctor``: facts are gathered, each check on its own, and judged; each finding says what to do."""

from __future__ import annotations

from otpost_worker.doctor.examination import Patient, examine
from otpost_worker.doctor.findings import Finding, Level

__all__ = ["Finding", "Level", "Patient", "examine"]
