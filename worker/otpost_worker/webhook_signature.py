"""Who sent a webhook: its signature over the raw bytes, and the token of the handshake [pure].

Source of both rules: Meta, "Webhooks: getting started" (``X-Hub-Signature-256``, ``hub.verify_token``). Several secrets
hold at once, so that one can be changed without a moment in which the other side's is refused.
"""

from __future__ import annotations

import hmac
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterable

_SCHEME: Final = b"sha256="


def is_signed(body: bytes, signature: str | None, secrets: Iterable[bytes]) -> bool:
    """Tell whether *signature*, the header as it came, is that of *body* under any of *secrets*.

    Whatever the header holds, this raises nothing. How long it takes tells nothing of how much of it is right.
    """
    given = _bytes(signature)
    right = False
    for secret in secrets:
        expected = _SCHEME + hmac.digest(secret, body, "sha256").hex().encode()
        right |= hmac.compare_digest(given, expected)
    return right


def is_one_of(given: str | None, tokens: Iterable[bytes]) -> bool:
    """Tell whether *given* is one of *tokens*, as they are; without any, nothing is."""
    offered = _bytes(given)
    right = False
    for token in tokens:
        right |= hmac.compare_digest(offered, token)
    return right and given is not None


def _bytes(text: str | None) -> bytes:
    """Make bytes of any text at all: the comparison raises for text outside ASCII."""
    return (text or "").encode("utf-8", "surrogatepass")
