"""Properties that the AMQP library cannot read: a foreign client's bytes that are no UTF-8, times beyond all years.

The library gives up the whole connection for them. The broker would deliver such a message again and again, and to each
worker, so that one producer's mistake would stop the jobs of all.
"""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, Final

from pamqp import decode
from pamqp.commands import Basic

if TYPE_CHECKING:
    from collections.abc import Callable

    from pamqp.base import BasicProperties
    from pamqp.common import FieldValue

_LENGTHS: Final[dict[str, Callable[[bytes], int]]] = {
    "octet": lambda _: 1,
    "shortstr": lambda data: 1 + data[0],
    "table": lambda data: 4 + int.from_bytes(data[:4]),
    "timestamp": lambda _: 8,
}


def tolerate_foreign_properties() -> None:
    """Let this process take a property that cannot be read for one that is not there."""
    Basic.Properties.unmarshal = _unmarshal  # type: ignore[method-assign,assignment]  # the library has no other way in


def _unmarshal(properties: BasicProperties, flags: int, data: bytes) -> None:
    for name in properties.__slots__:
        if flags & properties.flags[name]:
            length, value = _read(data, properties.amqp_type(name))
            setattr(properties, name, value)
            data = data[length:]


def _read(data: bytes, kind: str) -> tuple[int, FieldValue]:
    try:
        return decode.by_type(data, kind)
    except (ValueError, OverflowError, OSError, struct.error):
        length = _LENGTHS[kind](data)
        if length > len(data):
            # Not a matter of words any more: what comes next could not be told apart.
            raise
        return length, None
