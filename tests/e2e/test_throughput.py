"""Twenty thousand jobs through two workers: every one is sent once, and ends once."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

BENCH = Path(__file__).parents[2] / "bench/throughput.py"
PATIENCE_S = 900.0


@pytest.mark.long
@pytest.mark.timeout(1000)
def test_twenty_thousand_jobs_have_one_request_and_one_end_each() -> None:
    ended = subprocess.run(
        [sys.executable, str(BENCH), "--json"], capture_output=True, text=True, timeout=PATIENCE_S, check=False
    )
    assert ended.returncode == 0, ended.stderr + ended.stdout
    report = json.loads(ended.stdout)
    # 20,000 published beforehand, and 1,000 one by one.
    assert report["results"] == 21_000
    assert report["accepted"] == 21_000
    assert report["requests"] == 21_000
    assert report["requests_twice"] == 0
    assert report["other_events"] == 0
    assert report["left_in_queues"] == 0
