"""Our clock against others': how far it is off, and that it is said once."""

from __future__ import annotations

from typing import Final

import pytest

from otpost_worker.clocks import ClockWatch, clock_offset_s

# Sun, 06 Nov 1994 08:49:37 GMT
THEN: Final = 784111777.0
DATE: Final = "Sun, 06 Nov 1994 08:49:37 GMT"


@pytest.mark.parametrize(
    ("sent_at", "received_at", "offset_s"),
    [
        (THEN, THEN + 0.2, 0.0),
        (THEN + 0.9, THEN + 0.95, 0.0),  # the header leaves out the fraction of its second
        (THEN - 5, THEN + 5, 0.0),  # a slow answer
        (THEN + 61, THEN + 62, 60.0),
        (THEN - 62, THEN - 60, -60.0),
    ],
)
def test_the_offset_is_the_smallest_that_explains_the_header(
    sent_at: float, received_at: float, offset_s: float
) -> None:
    assert clock_offset_s(DATE, sent_at=sent_at, received_at=received_at) == offset_s


@pytest.mark.parametrize("date", [None, "", "yesterday", "784111777", "Sun, 99 Nov 1994 08:49:37 GMT"])
def test_what_is_no_date_says_nothing(date: str | None) -> None:
    assert clock_offset_s(date, sent_at=THEN, received_at=THEN) is None


def test_an_offset_is_said_once_and_again_only_when_it_changes() -> None:
    watch = ClockWatch("the provider")
    offsets = [0.0, 29.0, 31.0, 40.0, 55.0, 70.0, 70.0, -40.0, -20.0, 0.0, 35.0]
    said = [(offset, message) for offset in offsets if (message := watch.news(offset))]
    assert [offset for offset, _ in said] == [31.0, 70.0, -40.0, -20.0, 35.0]
    assert [message.partition(",")[0] for _, message in said] == [
        "the clock of this machine is 31 s ahead of that of the provider",
        "the clock of this machine is 70 s ahead of that of the provider",
        "the clock of this machine is 40 s behind that of the provider",
        "the clock of this machine agrees with that of the provider again",
        "the clock of this machine is 35 s ahead of that of the provider",
    ]


def seen(watch: ClockWatch) -> tuple[float | None, str | None]:
    return watch.offset_s, watch.trouble


def test_what_is_wrong_is_told_for_as_long_as_it_is() -> None:
    watch = ClockWatch("the provider")
    assert seen(watch) == (None, None)
    for _ in range(2):
        watch.news(95.0)
        offset_s, trouble = seen(watch)
        assert offset_s == 95.0
        assert trouble == (
            "the clock of this machine is 95 s ahead of that of the provider, so codes expire too early; set the one "
            "that is wrong (timedatectl and chronyc tell which)"
        )
    watch.news(-3.0)
    assert seen(watch) == (-3.0, None)
