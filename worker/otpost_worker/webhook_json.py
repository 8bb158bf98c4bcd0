r"""Webhook bodies as JSON [pure]: what the fast reader refuses although it is JSON is read by the patient one.

The fast one (orjson) wants text that has an encoding. But the name of somebody's profile may be cut in the middle of
an emoji, and a provider that escapes what is not ASCII then writes one half of it (``\ud83d``), which the grammar of
JSON allows (RFC 8259, section 8.2). One such name must not cost the reports of a thousand messages beside it.
"""

from __future__ import annotations

import json
from typing import Any

import orjson


def json_object(body: bytes) -> dict[str, Any] | None:
    """Read a JSON object; None where *body* is none, or is nested deeper than either reader can go (about 1,000)."""
    try:
        value = orjson.loads(body)
    except orjson.JSONDecodeError:
        value = _patiently(body)
    return value if isinstance(value, dict) else None


def _patiently(body: bytes) -> object:
    try:
        return json.loads(body.decode(), parse_constant=_refuse)
    except (ValueError, RecursionError):
        return None


def _refuse(constant: str) -> object:
    """Refuse NaN and the infinities, which are no JSON.

    :raises ValueError: always.
    """
    raise ValueError(f"{constant} is no JSON")
