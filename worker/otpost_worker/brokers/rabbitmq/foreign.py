"""What the AMQP library cannot read of a foreign client's message counts as not there.

Its routing key and properties can hold bytes that are no UTF-8, times beyond all years, tables nested too deep. The
library gives up the whole connection for them, and the broker would deliver such a message again and again, to one
worker after the other: one producer's mistake would stop the jobs of all.
"""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, Final

from pamqp import decode
from pamqp.commands import Basic

if TYPE_CHECKING:
    from collections.abc import Callable

    from pamqp.base import BasicProperties, Frame
    from pamqp.common import FieldValue

_LENGTHS: Final[dict[str, Callable[[bytes], int]]] = {
    "octet": lambda _: 1,
    "shortstr": lambda data: 1 + int.from_bytes(data[:1]),
    "table": lambda data: 4 + int.from_bytes(data[:4]),
    "timestamp": lambda _: 8,
}
# The frames before a message's own, which name the exchange and the routing key that its publisher chose.
_NAMING: Final = (Basic.Deliver, Basic.GetOk, Basic.Return)


def tolerate_foreign_messages() -> None:
    """Let this process take a name or a property that cannot be read for one that is not there."""
    # The library has no other way in.
    Basic.Properties.unmarshal = _unmarshal_properties  # type: ignore[method-assign,assignment]
    for frame in _NAMING:
        frame.unmarshal = _unmarshal_frame  # type: ignore[method-assign,assignment]


def _unmarshal_properties(properties: BasicProperties, flags: int, data: bytes) -> None:
    for name in properties.__slots__:
        if flags & properties.flags[name]:
            length, value = _read(data, properties.amqp_type(name))
            setattr(properties, name, value)
            data = data[length:]


def _unmarshal_frame(frame: Frame, data: bytes) -> None:
    for name in frame.__slots__:
        kind = frame.amqp_type(name)
        length, value = _read(data, kind)
        setattr(frame, name, value)
        # Each of these frames has one bit at the most, which fills an octet of its own.
        data = data[1 if kind == "bit" else length :]


def _read(data: bytes, kind: str) -> tuple[int, FieldValue]:
    try:
        return decode.by_type(data, kind)
    except (ValueError, OverflowError, OSError, RecursionError, struct.error):
        # The rest is numbers: what is wrong with one of those is its length.
        length = _LENGTHS[kind](data) if kind in _LENGTHS else len(data) + 1
        if length > len(data):
            # Not a matter of words any more: what comes next could not be told apart.
            raise
        return length, None
