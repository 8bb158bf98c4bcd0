"""What the AMQP library may log.

At DEBUG it prints every frame whole, and at ERROR a returned message: codes and numbers, in the log of whatever
service uses this client. A level would not do, as that service may set another one later; a filter stays.
"""

from __future__ import annotations

import logging
from typing import Final

from aiormq.abc import ChannelFrame, DeliveredMessage

# A filter holds for its own logger alone, not for those below. aio_pika's and pamqp's print no payload.
_PRINT_PAYLOADS: Final = ("aiormq.connection", "aiormq.channel")


class _NoPayloads(logging.Filter):
    def filter(self, record: logging.LogRecord) -> bool:
        if record.levelno < logging.INFO:
            return False
        if isinstance(record.args, tuple):
            record.args = tuple(_named(argument) for argument in record.args)
        return True


def _named(argument: object) -> object:
    return _Named(argument) if isinstance(argument, (ChannelFrame, DeliveredMessage)) else argument


class _Named:
    """Stands in a log line for what holds a payload."""

    def __init__(self, what: object) -> None:
        self._name = type(what).__name__

    def __repr__(self) -> str:
        return f"(a {self._name})"


def keep_payloads_out_of_logs() -> None:
    """Have the library log nothing below INFO and no payload, whatever level is set before or after."""
    for name in _PRINT_PAYLOADS:
        logging.getLogger(name).addFilter(_NO_PAYLOADS)


_NO_PAYLOADS: Final = _NoPayloads()  # one: to add it again changes nothing
