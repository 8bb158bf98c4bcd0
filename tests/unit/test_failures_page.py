"""docs/failures.md: every row names tests that there are."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "failures.md").read_text(encoding="utf-8")
HEADINGS = ("|--", "| it dies", "| what |", "| when")


def rows() -> list[str]:
    return [line for line in PAGE.splitlines() if line.startswith("|") and not line.startswith(HEADINGS)]


def known_tests() -> set[str]:
    sources = (path.read_text(encoding="utf-8") for path in (ROOT / "tests").rglob("test_*.py"))
    return {name for source in sources for name in re.findall(r"^(?:async )?def (test_\w+)\(", source, re.MULTILINE)}


def test_every_row_is_proved_by_a_test_that_there_is() -> None:
    assert len(rows()) > 30
    for row in rows():
        named = set(re.findall(r"`(test_\w+)`", row))
        assert named, row
        assert named <= known_tests(), named - known_tests()


def test_every_test_that_the_page_names_is_there() -> None:
    assert set(re.findall(r"`(test_\w+)`", PAGE)) <= known_tests()
