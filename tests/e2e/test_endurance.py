"""Thousands of jobs to one recipient, hundreds of thousands to as many: nobody waits for others, no memory grows."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

BENCH = Path(__file__).parents[2] / "bench"
PATIENCE_S = 2400.0

pytestmark = [pytest.mark.long, pytest.mark.timeout(PATIENCE_S + 60)]


def report(script: str) -> dict[str, Any]:
    ended = subprocess.run(
        [sys.executable, str(BENCH / script), "--json"], capture_output=True, text=True, timeout=PATIENCE_S, check=False
    )
    assert ended.returncode == 0, ended.stderr + ended.stdout
    found: dict[str, Any] = json.loads(ended.stdout)
    return found


def test_5000_jobs_to_one_recipient_do_not_delay_5000_to_others_and_cross_no_limit() -> None:
    found = report("flood.py")
    for run in ("alone", "beside"):
        assert found[run]["throughput_refusals"] == 0
        assert found[run]["pair_refusals"] == 0
    assert found["alone"]["requests"] == 5000
    assert found["beside"]["flood_accepted"] + found["beside"]["flood_expired"] == 5000
    # 45 at once, and one every 6 s within the minute that a flood's job lives.
    assert 45 <= found["beside"]["flood_accepted"] <= 55
    assert found["ratio"] <= 1.1


def test_a_workers_memory_does_not_grow_with_the_recipients_that_it_has_seen() -> None:
    found = report("memory.py")
    assert (found["early_jobs"], found["jobs"], found["requests"]) == (20_000, 200_000, 200_000)
    assert found["ratio"] <= 1.1
