r"""Webhook bodies as JSON [pure]: one rule for the receiver that answers for a body, and for the workers that read it.

What the fast reader (orjson) refuses although it is JSON is read by the patient one. The fast one wants text that has
an encoding, and numbers that a float can hold. But the name of somebody's profile may be cut in the middle of an emoji,
and a provider that escapes what is not ASCII then writes one half of it (``\ud83d``), which the grammar of JSON allows
(RFC 8259, section 8.2). One such value must not cost the reports of a thousand messages beside it.
"""

from __future__ import annotations

import json
import re
from itertools import accumulate
from typing import Any, Final

import orjson

# The fast reader has a limit of its own (1,024). The patient one can go as deep as its caller's stack leaves it room,
# which is another depth in the receiver than in a worker: so it stops where either has room enough.
PATIENT_DEPTH: Final = 500
# Brackets in a string count for nothing. One that is not closed is no JSON, and goes on to the end.
_STRING: Final = re.compile(rb'"(?:[^"\\]++|\\.)*+"?', re.DOTALL)
_STEPS: Final = {ord("["): 1, ord("{"): 1, ord("]"): -1, ord("}"): -1}
_NO_BRACKETS: Final = bytes(set(range(256)) - _STEPS.keys())


def json_object(body: bytes) -> dict[str, Any] | None:
    """Read a JSON object; None where *body* is none, or is nested deeper than is read.

    That is 1,024 levels, and 500 where there is also something odd in it.
    """
    try:
        value = orjson.loads(body)
    except orjson.JSONDecodeError:
        value = _patiently(body)
    return value if isinstance(value, dict) else None


def _patiently(body: bytes) -> object:
    if _is_too_deep(body):
        return None
    try:
        return json.loads(body.decode(), parse_int=_integer_or_float, parse_constant=_refuse)
    except (ValueError, RecursionError):
        return None


def _is_too_deep(body: bytes) -> bool:
    brackets = _STRING.sub(b"", body).translate(None, _NO_BRACKETS)
    return max(accumulate(map(_STEPS.__getitem__, brackets)), default=0) > PATIENT_DEPTH


def _integer_or_float(digits: str) -> float:
    # As the fast reader does it; and Python refuses to read thousands of digits into an integer.
    return int(digits) if len(digits) < 20 else float(digits)


def _refuse(constant: str) -> object:
    """Refuse NaN and the infinities, which are no JSON.

    :raises ValueError: always.
    """
    raise ValueError(f"{constant} is no JSON")
