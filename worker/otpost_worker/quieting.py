"""What the libraries may say in a program of ours; apart from telemetry, which short commands start without."""

from __future__ import annotations

import logging


def quiet_libraries() -> None:
    """Keep the broker library from telling, with a stack trace, what we tell with a remedy."""
    logging.getLogger("aiormq").setLevel(logging.CRITICAL)
