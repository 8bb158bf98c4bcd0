"""``make demo`` keeps its word: it counts right, notices what is wrong, and leaves nothing behind."""

from __future__ import annotations

import asyncio
import os
import re
import signal
import socket
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from broker import Vhost

ROOT = Path(__file__).parents[2]
DEMO = ROOT / "demo"
# It takes half a minute; this only ends a demo that hangs.
PATIENCE_S = 110.0

# What was sent, expected, seen, and expected/seen of retries, requests and dead letters.
ROWS = (
    "✓ no template (132001) 1 failed template 1 failed template 0/0 1/1 1/1",
    "✓ good jobs 300 accepted 300 accepted 0/0 300/300 0/0",
    "✓ each published twice 10 accepted 10 accepted 0/0 10/10 0/0",
    "✓ not before 3 s from now 10 accepted 10 accepted 0/0 10/10 0/0",
    "✓ too fast (130429) 20 accepted 20 accepted 20/20 40/40 0/0",
    "✓ trouble at Meta (131000) 10 accepted 10 accepted 20/20 30/30 0/0",
    "✓ 503, Retry-After: 2 10 accepted 10 accepted 10/10 20/20 0/0",
    "✓ one recipient's limit 3 accepted 3 accepted 2/2 5/5 0/0",
    "✓ answer lost, sent again 10 accepted 10 accepted 10/10 20/20 0/0",
    "✓ answer lost twice 5 failed unknown 5 failed unknown 5/5 10/10 5/5",
    "✓ not on WhatsApp (131026) 10 failed recipient 10 failed recipient 0/0 10/10 10/10",
    "✓ bad request (131009) 5 failed bad_request 5 failed bad_request 0/0 5/5 5/5",
    "✓ its template is held back 4 expired 4 expired 0/0 0/0 0/0",
    "✓ 500, unknown code 5 failed exhausted 5 failed exhausted 10/10 15/15 5/5",
    "✓ expired before it came 10 expired 10 expired 0/0 0/0 0/0",
    "✓ 503 until it is too late 5 expired 5 expired 5/5 10/10 0/0",
    "✓ token refused (190) 1 expired 1 expired 2/2 2/2 0/0",
    "✓ not JSON 3 failed invalid_job 3 failed invalid_job 0/0 0/0 3/3",
    "✓ unknown field 3 failed invalid_job 3 failed invalid_job 0/0 0/0 3/3",
    "✓ no number 3 failed invalid_job 3 failed invalid_job 0/0 0/0 3/3",
    "✓ no such sender 5 failed no_sender 5 failed no_sender 0/0 0/0 5/5",
    "✓ refused by mistake 1 failed recipient 1 failed recipient 0/0 1/1 1/1",
    "✓ its replay (run 2) 1 accepted 1 accepted 0/0 1/1 0/0",
    "✓ nothing lost 434 jobs, each with exactly one end; no queue holds any more",
    "✓ nothing late 490 requests, none after its deadline, none before its not_before",
    "✓ nothing twice 15 codes went out again, once each: their answers were lost",
    "✓ metrics add up 374 accepted + 41 failed + 20 expired = 435 jobs; 490 attempts = requests",
)
# The demo with one case, of which it expects one request more than there will be.
WRONG = f"""
import sys
sys.path.insert(0, {str(DEMO)!r})
from dataclasses import replace
import run
from cases import CASES
sys.exit(run.main([replace(CASES[1], jobs=2, requests=3)]))
"""


def environment(folder: Path, url: str | None) -> dict[str, str]:
    clean = {name: value for name, value in os.environ.items() if not name.startswith("OTPOST_")}
    named = {} if url is None else {"OTPOST_BROKER_URL": url}
    return {**clean, **named, "TMPDIR": str(folder), "PYTHONUTF8": "1"}


def run_demo(folder: Path, url: str | None, *command: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *(command or (str(DEMO / "run.py"),))],
        env=environment(folder, url),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=PATIENCE_S,
        check=False,
    )


def normalised(output: str) -> list[str]:
    return [" ".join(line.split()) for line in output.splitlines()]


def simulator_is_gone(output: str) -> bool:
    match = re.search(r"simulated at http://127\.0\.0\.1:(\d+)", output)
    assert match is not None, output
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", int(match[1]))) != 0


def wait_until_workers_are_gone(vhost: Vhost) -> None:
    asyncio.run(vhost.wait_for_connections(0, timeout_s=30))


def demo_queues(vhost: Vhost) -> list[str]:
    return [name for name in vhost.queues() if name.startswith("otpost.jobs")]


def test_the_demo_finds_every_outcome_as_expected_and_leaves_nothing_behind(vhost: Vhost, tmp_path: Path) -> None:
    ended = run_demo(tmp_path, vhost.url)
    assert ended.returncode == 0, ended.stdout
    lines = normalised(ended.stdout)
    assert [row for row in ROWS if row not in lines] == [], ended.stdout
    assert len([line for line in lines if line.startswith("✓ nothing leaked no code and no number in")]) == 1
    assert "✗" not in ended.stdout
    assert simulator_is_gone(ended.stdout)
    wait_until_workers_are_gone(vhost)
    assert list(tmp_path.iterdir()) == []
    assert demo_queues(vhost) == []
    assert vhost.ready_count("otpost.dead") == 0


def test_a_number_that_is_not_as_expected_fails_the_demo_marks_its_row_and_keeps_the_logs(
    vhost: Vhost, tmp_path: Path
) -> None:
    ended = run_demo(tmp_path, vhost.url, "-c", WRONG)
    assert ended.returncode == 1, ended.stdout
    assert "✗ good jobs 2 accepted 2 accepted 0/0 3/2 0/0" in normalised(ended.stdout)
    assert "Nothing is left running" not in ended.stdout
    assert simulator_is_gone(ended.stdout)
    wait_until_workers_are_gone(vhost)
    (kept,) = tmp_path.glob("otpost-demo-*/logs")
    assert f"The logs are kept in {kept}" in ended.stdout
    assert {"worker-1.log", "worker-2.log"} <= {log.name for log in kept.iterdir()}
    # The ledger holds codes; only the logs stay.
    assert list(kept.parent.iterdir()) == [kept]


@pytest.mark.parametrize("number", [signal.SIGINT, pytest.param(signal.SIGTERM, marks=pytest.mark.long)])
def test_a_demo_that_is_interrupted_ends_what_it_started(vhost: Vhost, tmp_path: Path, number: signal.Signals) -> None:
    with subprocess.Popen(
        [sys.executable, "-u", str(DEMO / "run.py")],
        env=environment(tmp_path, vhost.url),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    ) as demo:
        assert demo.stdout is not None
        told = ""
        while "Jobs are sent" not in told:
            line = demo.stdout.readline()
            assert line, told
            told += line
        demo.send_signal(number)
        told += demo.communicate(timeout=PATIENCE_S)[0]
    assert demo.returncode == 130, told
    assert "Interrupted." in told
    assert "Traceback" not in told
    assert simulator_is_gone(told)
    wait_until_workers_are_gone(vhost)
    assert list(tmp_path.iterdir()) == []
    assert demo_queues(vhost) == []


@pytest.mark.parametrize("queue", ["otpost.jobs.default", "otpost.delay.05", "otpost.dropped"])
def test_a_broker_with_somebody_elses_jobs_is_refused_and_left_alone(vhost: Vhost, tmp_path: Path, queue: str) -> None:
    vhost.declare_queue(queue, {"x-queue-type": "quorum"})
    assert vhost.publish(queue, b"somebody else's")
    ended = run_demo(tmp_path, vhost.url)
    assert ended.returncode == 1, ended.stdout
    told = " ".join(ended.stdout.split())
    assert f"this broker is in use: 1 messages in {queue}. Nothing was started." in told
    assert set(vhost.queues()) == {queue}
    assert vhost.ready_count(queue) == 1
    assert list(tmp_path.iterdir()) == []


@pytest.mark.long
def test_the_demo_with_a_private_broker_needs_nothing_and_leaves_nothing(tmp_path: Path) -> None:
    ended = run_demo(tmp_path, None)
    assert ended.returncode == 0, ended.stdout
    lines = normalised(ended.stdout)
    assert [row for row in ROWS if row not in lines] == [], ended.stdout
    match = re.search(r"a private RabbitMQ on port (\d+)", ended.stdout)
    assert match is not None
    with socket.socket() as probe:
        assert probe.connect_ex(("127.0.0.1", int(match[1]))) != 0
    assert simulator_is_gone(ended.stdout)
    assert list(tmp_path.iterdir()) == []
