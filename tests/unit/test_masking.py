"""What a provider's words may repeat: nothing that is a number, and nothing that could be a code."""

from __future__ import annotations

import re
from typing import Final

import pytest
from hypothesis import given
from hypothesis import strategies as st

from job_strategies import DIGITS, PROPERTY
from otpost_worker.masking import one_line, without, without_numbers, without_numbers_and_codes

# Texts with much in them that looks like a number or a code, and parts of such.
TALK: Final = st.text(st.sampled_from("0123456789 ()+-.#'*wamid/x\n\ud800\u0663"), max_size=400) | st.text(max_size=400)
RUN: Final = re.compile(r"\d(?:[\s().-]*\d){6}")


@pytest.mark.parametrize(
    ("text", "kept"),
    [
        ("+1 (201) 555-3931 got 493817", "+*** got ***"),
        ("12015553931", "***"),
        ("nothing", "nothing"),
        ("", None),
        (None, None),
        (12015553931, None),
    ],
)
def test_a_known_number_and_a_known_code_are_hidden_however_they_are_written(text: object, kept: str | None) -> None:
    assert without(text, number="+12015553931", code="493817") == kept


@pytest.mark.parametrize(
    ("text", "kept"),
    [
        ("call +1 (201) 555-3931 now", "call *** now"),
        ("call 555-3931", "call ***"),
        ("since January 31, 2021", "since January 31, 2021"),
        ("at most 250000 a day", "at most 250000 a day"),
        ("123456", "123456"),
        ("1234567", "***"),
        ("WAMID.HBgLMTIw= failed", "*** failed"),
        ("   ", None),
        ("\n\x00", None),
        pytest.param("a" * 299 + "12345678", "a" * 299 + "1", id="cut"),
        (None, None),
        (12015553931, None),
    ],
)
def test_whatever_could_be_a_number_is_hidden(text: object, kept: str | None) -> None:
    assert without_numbers(text) == kept


@pytest.mark.parametrize(
    ("text", "kept"),
    [
        ("code 4938 for 24 hours", "code *** for 24 hours"),
        ("code 'J$Fp9YnP'", "code '***'"),
        ('{"text":"A1B2C3"}', '{"text":"***"}'),
        ("(#131026) and #131047", "(#131026) and ***"),
        ("error 131026.", "error 131026."),
        ("code JFPNYN", "code JFPNYN"),
    ],
)
def test_whatever_could_be_a_code_with_a_digit_is_hidden_but_the_errors_own_number(text: str, kept: str) -> None:
    assert without_numbers_and_codes(text, keep="131026") == kept


@PROPERTY
@given(TALK)
def test_what_was_masked_is_masked_no_further(text: str) -> None:
    for mask in (without_numbers, without_numbers_and_codes):
        once = mask(text)
        assert mask(once) == once
        assert once is None or not RUN.search(once)


@PROPERTY
@given(DIGITS, st.text(max_size=100), st.text(max_size=100))
def test_no_number_is_told_wherever_it_stands(number: str, before: str, after: str) -> None:
    assert number not in (without_numbers(f"{before}{number}{after}") or "")


@PROPERTY
@given(st.text(st.characters(categories=None), max_size=50))
def test_a_line_can_be_written_and_shown(text: str) -> None:
    line = one_line(text, 40)
    assert line is None or (line.isprintable() and len(line.encode()) > 0)


def test_of_a_text_about_a_known_message_no_more_is_kept_than_of_any_other() -> None:
    assert without("a" * 301, number="+12015553931", code="493817") == "a" * 300


def test_what_cannot_be_printed_is_a_space() -> None:
    assert one_line("a\x1bb\nc", 300) == "a b c"
