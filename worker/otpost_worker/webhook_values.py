"""Single values out of a webhook's JSON, of whatever type they are there [pure].

Nothing here raises. What cannot be used is None: a string may come as a number and a number as a string, everything may
be null, left out, or of another type (``whatsapp.md``, section 4).
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, Final

from otpost_worker.masking import one_line
from otpost_worker.updates import Ignored

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

# Of names that others choose, so much is kept: they get into logs and the labels of metrics.
_MAX_NAME: Final = 40
# The longest event that Meta lists has 42 characters.
_MAX_EVENT: Final = 60
# Lengths are documented for none of the ids; Meta's callback data may have 512 characters.
MAX_ID: Final = 512
_NAME: Final = re.compile(r"[a-z0-9_]+")
_IN_BETWEEN: Final = re.compile(r"[\s-]+")
_NOT_IN_NAMES: Final = re.compile(r"[^a-z0-9_]")
_ID: Final = re.compile(rf"[!-~]{{1,{MAX_ID}}}")
_WHOLE: Final = re.compile(r"-?[0-9]{1,18}")
_SECONDS: Final = re.compile(r"[0-9]{1,12}(?:\.[0-9]{1,9})?")
# Moments outside of these are mistakes (milliseconds, placeholders): 2001-09-09 and 2100-01-01, in Unix seconds.
_FIRST_MOMENT: Final = 1_000_000_000
_LAST_MOMENT: Final = 4_102_444_800
_LANGUAGE: Final = re.compile(r"([A-Za-z]{2,3})(?:[-_]([A-Za-z]{2}))?")


def members(parent: Mapping[str, Any], key: str) -> Iterator[Mapping[str, Any] | Ignored]:
    """Go through the objects in the list under *key*; one that stands there alone counts as a list of one."""
    value = parent.get(key)
    if value is None:
        return
    for member in value if isinstance(value, list) else (value,):
        yield member if isinstance(member, dict) else Ignored(f"malformed {key}")


def member(parent: Mapping[str, Any], key: str) -> Mapping[str, Any]:
    """Read the object under *key*; an empty one where there is none."""
    value = parent.get(key)
    return value if isinstance(value, dict) else {}


def name(value: object, most: int = _MAX_NAME) -> str | None:
    """Read a word of the provider's, such as the name of a field or a status: at most *most* of ``a-z 0-9 _``."""
    if not isinstance(value, str):
        return None
    if _NAME.fullmatch(value) and len(value) <= most:
        return value
    # Cut first, as the rest may be megabytes.
    words = _IN_BETWEEN.sub("_", value[: 2 * most].strip().lower())
    return _NOT_IN_NAMES.sub("", words)[:most] or None


def capitals(value: object) -> str | None:
    """Read an enumeration's value, whatever case it comes in: at most 60 of ``A-Z 0-9 _``."""
    word = name(value, _MAX_EVENT)
    return word.upper() if word is not None else None


def identifier(value: object) -> str | None:
    """Read an id, opaque and case-sensitive: at most 512 printable ASCII characters without spaces."""
    text = _text(value)
    return text if text is not None and _ID.fullmatch(text) else None


def line(value: object, most: int) -> str | None:
    """Read a text of which at most *most* characters are kept, in one line; for those that can hold no number."""
    return one_line(_text(value), most)


def exact(value: object, most: int) -> str | None:
    """Read a text that means something only as a whole: printable, at most *most* characters."""
    text = _text(value)
    return text if text is not None and 0 < len(text) <= most and text.isprintable() else None


def whole(value: object) -> int | None:
    """Read an integer of at most 18 digits."""
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    text = _text(value)
    return int(text) if text is not None and _WHOLE.fullmatch(text) else None


def moment(value: object) -> float | None:
    """Read Unix seconds between the years 2001 and 2100: a string in reports on messages, an integer elsewhere."""
    if isinstance(value, str):
        seconds = float(value) if _SECONDS.fullmatch(value) else 0.0
    elif isinstance(value, (int, float)) and not isinstance(value, bool):
        seconds = value
    else:
        return None
    return float(seconds) if _FIRST_MOMENT <= seconds <= _LAST_MOMENT else None


def language(value: object) -> str | None:
    """Read a template's language as jobs write it: ``en-US``, as webhooks have it, is ``en_US``."""
    text = exact(value, _MAX_NAME)
    if text is None:
        return None
    usual = _LANGUAGE.fullmatch(text)
    if usual is None:
        return text.replace("-", "_")
    return usual[1].lower() + (f"_{usual[2].upper()}" if usual[2] else "")


def _text(value: object) -> str | None:
    if isinstance(value, str):
        return value
    if isinstance(value, int) and not isinstance(value, bool):
        return str(value)
    return None
