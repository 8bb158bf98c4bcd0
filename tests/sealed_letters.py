"""What lies sealed among the dead letters, opened with a worker's key.

original(letter_body, key)  # the job's fields as they were published; or the bytes of a body that is no job
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import orjson

from otpost.sealing import Opener, PrivateKey

if TYPE_CHECKING:
    from pathlib import Path


def key_beside(ledger: Path) -> PrivateKey:
    """Read the key that a worker without a configured one has made."""
    return PrivateKey.parse(ledger.with_name(f"{ledger.name}.key").read_text(encoding="ascii"))


def original(body: bytes, key: PrivateKey) -> dict[str, Any] | bytes:
    """Open a dead letter's body; it has to be sealed, one way or the other, and to this key."""
    fields: dict[str, Any] = orjson.loads(body)
    if "sealed_body" in fields:
        assert fields.keys() - {"id"} == {"sealed_body", "body_bytes"}
        return _opened(fields["sealed_body"], key)
    assert "code" not in fields
    code = _opened(fields.pop("sealed_code"), key)
    return fields | {"code": code.decode()}


def _opened(sealed: str, key: PrivateKey) -> bytes:
    opened = Opener([key]).open(sealed)
    assert opened is not None, "it is sealed to another key"
    return opened
