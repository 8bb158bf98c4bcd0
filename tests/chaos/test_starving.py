"""A process notes when it is not let run, by the system's own count, or by a timer that is late."""

from __future__ import annotations

import signal
import sys
import threading
import time
from subprocess import DEVNULL, PIPE, Popen
from typing import TYPE_CHECKING, Any, Final

import orjson
import pytest

from chaos.crew import clean_environment
from chaos.starving import has_starved, read_waited_s

if TYPE_CHECKING:
    from pathlib import Path

PATIENCE_S: Final = 30.0
STILL_S: Final = 1.0
CHILD: Final = """
import sys
from chaos.starving import Watchman, writing_to
watchman = Watchman("child", writing_to(1))
watchman.begin()
print("ready", flush=True)
sys.stdin.read()
watchman.end()
"""


@pytest.mark.parametrize(
    ("took_s", "waited_s", "starved"),
    [
        (0.25, 0.0, ""),
        (0.30, 0.14, ""),
        (0.30, 0.15, "starved"),
        (0.49, 0.0, ""),
        (0.50, 0.0, "starved"),
    ],
)
def test_half_of_the_time_in_a_queue_is_starving_and_a_timer_that_is_as_late_again(
    took_s: float, waited_s: float, starved: str
) -> None:
    assert has_starved(took_s, waited_s) == (starved == "starved")


def test_the_wait_is_the_second_number_and_none_where_the_system_does_not_say(tmp_path: Path) -> None:
    file = tmp_path / "schedstat"
    file.write_text("816153022 1500000000 4711\n")
    assert read_waited_s(file) == 1.5
    assert read_waited_s(tmp_path / "none") == 0.0
    file.write_text("")
    assert read_waited_s(file) == 0.0


def test_a_process_that_was_made_to_stand_still_says_for_how_long() -> None:
    command = [sys.executable, "-c", CHILD]
    with Popen(command, env=clean_environment(), stdin=PIPE, stdout=PIPE, stderr=DEVNULL) as child:
        killing = threading.Timer(PATIENCE_S, child.kill)
        killing.start()
        try:
            assert child.stdout is not None
            assert child.stdout.readline() == b"ready\n"
            child.send_signal(signal.SIGSTOP)
            time.sleep(STILL_S)  # that time goes by is what this is about
            child.send_signal(signal.SIGCONT)
            told, _ = child.communicate()
        finally:
            killing.cancel()
    spans: list[dict[str, Any]] = [orjson.loads(line) for line in told.splitlines()]
    assert {one["who"] for one in spans} == {"child"}
    assert max(one["until"] - one["at"] for one in spans) >= STILL_S
