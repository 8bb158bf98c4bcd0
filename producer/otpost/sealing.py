"""Codes sealed to the workers' public key: libsodium's sealed boxes, which every language can make.

private = PrivateKey(secrets.token_bytes(32))
sealed = private.public.seal(b"493817")
Opener([private]).open(sealed)  # b"493817"

A key is written as what it is: ``otpost-public:`` or ``otpost-private:`` and the base64 of its 32 bytes. PyNaCl is
loaded when something is first sealed or opened, and not before. Sealing the same code twice gives two different
texts: the random numbers in them are libsodium's own.
"""

from __future__ import annotations

import base64
import binascii
import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, Self

from otpost.errors import InvalidKey, SealingUnavailable

if TYPE_CHECKING:
    from collections.abc import Iterable
    from types import ModuleType

PUBLIC_PREFIX: Final = "otpost-public:"
PRIVATE_PREFIX: Final = "otpost-private:"
_KEY_BYTES: Final = 32
_BETWEEN_KEYS: Final = re.compile(r"[\s,]+")


@dataclass(frozen=True, slots=True)
class PublicKey:
    """What codes are sealed to. It may be shown to anybody: nothing can be opened with it."""

    raw: bytes

    def __post_init__(self) -> None:
        _check_size(self.raw, "public")

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read a key from its text.

        :raises InvalidKey: it is no public key.
        """
        return cls(_raw_of(text, "public", PUBLIC_PREFIX))

    def __str__(self) -> str:
        """The key as text."""
        return PUBLIC_PREFIX + base64.b64encode(self.raw).decode()

    def seal(self, secret: bytes) -> str:
        """Seal *secret* to this key; the text is the base64 of 48 bytes more than it has.

        :raises InvalidKey: no such key can exist. :raises SealingUnavailable: PyNaCl is not installed.
        """
        sodium, refusal = _sodium()
        try:
            box: bytes = sodium.crypto_box_seal(secret, self.raw)
        except refusal:
            raise InvalidKey(
                "public", "it is one of the few points of the curve to which nothing can be sealed"
            ) from None
        return base64.b64encode(box).decode()


@dataclass(frozen=True, slots=True)
class PrivateKey:
    """What sealed codes are opened with. Any 32 random bytes are one; ``repr`` and ``str`` hide them."""

    raw: bytes = field(repr=False)

    def __post_init__(self) -> None:
        _check_size(self.raw, "private")

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read a key from its text.

        :raises InvalidKey: it is no private key; what was given is not shown.
        """
        return cls(_raw_of(text, "private", PRIVATE_PREFIX))

    @classmethod
    def parse_all(cls, text: str) -> tuple[Self, ...]:
        """Read keys that commas or white space stand between; there has to be one at least.

        :raises InvalidKey: one of them is no private key; *place* tells which.
        """
        texts = [one for one in _BETWEEN_KEYS.split(text) if one]
        if not texts:
            raise InvalidKey("private", f"there is none; one is {PRIVATE_PREFIX} and the base64 of 32 bytes")
        keys = []
        for place, one in enumerate(texts, 1):
            try:
                keys.append(cls.parse(one))
            except InvalidKey as error:
                if len(texts) == 1:
                    raise
                raise InvalidKey("private", error.reason, place=place) from None
        return tuple(keys)

    def reveal(self) -> str:
        """The key as text: for the file that it is kept in, and nothing else."""
        return PRIVATE_PREFIX + base64.b64encode(self.raw).decode()

    @property
    def public(self) -> PublicKey:
        """The key that seals what this one opens.

        :raises SealingUnavailable: PyNaCl is not installed.
        """
        sodium, _ = _sodium()
        return PublicKey(sodium.crypto_scalarmult_base(self.raw))


class Opener:
    """Opens what was sealed to any of *keys*.

    :raises SealingUnavailable: PyNaCl is not installed.
    """

    def __init__(self, keys: Iterable[PrivateKey]) -> None:
        self._sodium, self._refusal = _sodium()
        self._pairs = [(key.public.raw, key.raw) for key in keys]

    def open(self, sealed: str) -> bytes | None:
        """Open *sealed*; None where it was sealed to none of the keys, or is no sealed text at all."""
        try:
            box = base64.b64decode(sealed, validate=True)
        except ValueError:
            return None
        for public, private in self._pairs:
            try:
                opened: bytes = self._sodium.crypto_box_seal_open(box, public, private)
            except self._refusal:
                continue
            return opened
        return None


def _raw_of(text: str, kind: str, prefix: str) -> bytes:
    # Whoever mixes the two up would give a secret away, or learn of it at the first job.
    mixed_up = {PUBLIC_PREFIX: "that is a public key", PRIVATE_PREFIX: "that is a private key"}
    text = text.strip()
    for other, what in mixed_up.items():
        if text.startswith(other) and other != prefix:
            raise InvalidKey(kind, f"{what}, and one that begins with {prefix} is needed")
    try:
        raw = base64.b64decode(text.removeprefix(prefix), validate=True)
    except (binascii.Error, ValueError):
        raw = b""
    if not text.startswith(prefix) or len(raw) != _KEY_BYTES or base64.b64encode(raw).decode() != text[len(prefix) :]:
        raise InvalidKey(kind, f"one is {prefix} and the base64 of 32 bytes; 'otpost keys generate' makes a pair")
    return raw


def _check_size(raw: bytes, kind: str) -> None:
    if len(raw) != _KEY_BYTES:
        raise InvalidKey(kind, f"one has {_KEY_BYTES} bytes, and this has {len(raw)}")


def _sodium() -> tuple[ModuleType, type[Exception]]:
    """Load libsodium: its functions, and what they raise where they refuse."""
    try:
        from nacl import bindings, exceptions  # noqa: PLC0415 - whoever seals nothing need not have it, nor load it
    except ImportError as error:
        raise SealingUnavailable from error
    return bindings, exceptions.CryptoError
