"""The summary of many runs says what struck, and how often the checker let something pass."""

from __future__ import annotations

from typing import TYPE_CHECKING

from chaos.checker.limits import CLOCK, HELD_UP
from chaos.telling import Told, sum_up

if TYPE_CHECKING:
    from pathlib import Path

    import pytest


def test_the_summary_says_how_often_each_excuse_was_used_and_that_a_limits_was_not(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    unplanned = "ended as expired, which was not planned"
    runs = [
        Told(1, "redis", 0, [], 40.0, {HELD_UP: 2}),
        Told(2, "sqlite", 0, [], 40.0, {HELD_UP: 1, unplanned: 7}),
    ]
    assert sum_up(runs, tmp_path, [1, 2])
    lines = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert [*HELD_UP.split(), "3", "2"] in lines
    assert [*CLOCK.split(), "0", "0"] in lines
    assert [*unplanned.split(), "7", "1"] in lines
