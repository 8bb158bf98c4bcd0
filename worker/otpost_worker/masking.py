"""What a provider's words may not repeat: phone numbers and codes [pure]."""

from __future__ import annotations

import re
from typing import Final

# More of a text is never kept, in characters.
MAX_TEXT: Final = 300
_HIDDEN: Final = "***"
# How people write numbers.
_BETWEEN: Final = r"[\s().-]*"
# E.164 has at most 15 digits, and no number that can be called internationally has fewer than 7.
_ANY_NUMBER: Final = re.compile(rf"\+?\d(?:{_BETWEEN}\d){{6,}}")
# The base64 of the recipient's number is in it.
_WAMID: Final = re.compile(r"wamid\.\S+", re.IGNORECASE)
_WORD: Final = re.compile(r"[^\s\"'(),;:<>\[\]{}]{4,}")
_DIGIT: Final = re.compile(r"\d")
# What most texts have none of.
_SUSPECT: Final = re.compile(r"\d|wamid\.", re.IGNORECASE)


def without(text: object, *, number: str, code: str) -> str | None:
    """Keep *text* but for what it repeats of a message, whose *number* and *code* are known; None where it is none."""
    if not isinstance(text, str) or not text:
        return None
    # The number first, and however it is written: a short code may be a part of it.
    written = _BETWEEN.join(number.removeprefix("+"))
    return re.sub(written, _HIDDEN, text).replace(code, _HIDDEN)[:MAX_TEXT]


def without_numbers(text: object) -> str | None:
    """Keep the beginning of *text*, in one line, but for all that could be a number; None where nothing is there.

    What comes out of this comes out of it again unchanged.
    """
    # Cut first: what is hidden only gets shorter, and a number that is cut in two is no longer a whole one.
    line = one_line(text, MAX_TEXT)
    if line is None or not _SUSPECT.search(line):
        return line
    return _ANY_NUMBER.sub(_HIDDEN, _WAMID.sub(_HIDDEN, line))


def without_numbers_and_codes(text: object, *, keep: str = "") -> str | None:
    """Keep *text* as ``without_numbers`` does, but for all that could be a one-time password which nobody here knows.

    That is every word of four and more characters with a digit in it, except *keep*, the number of the very error. A
    code without a digit looks like any other word: it cannot be told, and is kept.
    """
    line = without_numbers(text)
    if line is None or not _DIGIT.search(line):
        return line
    return _WORD.sub(lambda word: _kept(word[0], keep), line)


def _kept(word: str, keep: str) -> str:
    return word if not _DIGIT.search(word) or word.strip("#.") == keep else _HIDDEN


def one_line(text: object, most: int) -> str | None:
    """Keep at most *most* characters, none of which is half a one or controls a terminal; None where none is left."""
    if not isinstance(text, str):
        return None
    text = text[:most]
    if not text.isprintable():
        text = "".join(one if one.isprintable() else " " for one in text)
    return text.strip() or None
