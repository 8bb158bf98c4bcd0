"""Between AMQP messages and envelopes [pure]."""

from __future__ import annotations

import re
from datetime import datetime
from typing import TYPE_CHECKING, Any, Final

from otpost import topology
from otpost.job import JOB_TYPE
from otpost.rabbitmq import properties
from otpost.times import parse_rfc3339, rfc3339
from otpost_worker.envelope import Envelope, Letter, Reply

if TYPE_CHECKING:
    from aiormq import spec
    from aiormq.abc import DeliveredMessage

_MAX_COUNT: Final = 1_000_000
# AMQP's short strings: names of queues, correlation ids.
_MAX_SHORT_BYTES: Final = 255
# W3C Trace Context: version, trace, parent, flags; later versions may go on after that. What is longer than a
# frame would cost the connection with each copy that carries it.
_MAX_TRACE: Final = 512
_IDS = r"(?!0{32})[0-9a-f]{32}-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}"
_TRACE = re.compile(rf"00-{_IDS}|(?!00|ff)[0-9a-f]{{2}}-{_IDS}(?:-[!-~]*)?")


def envelope_of(message: DeliveredMessage, sender: str) -> Envelope:
    """Read an envelope off a delivery. Whatever a foreign client wrote into the headers, there is one."""
    told = message.header.properties
    headers: dict[str, Any] = told.headers or {}
    return Envelope(
        body=message.body,
        sender=sender,
        run=_count(headers, topology.HEADER_RUN, least=1),
        attempt=_count(headers, topology.HEADER_ATTEMPT, least=1),
        counted=_count(headers, topology.HEADER_COUNTED, least=0),
        drops=_count(headers, topology.HEADER_DROPS, least=0),
        deadline=_deadline(headers),
        reply=_reply(told),
        traceparent=_trace(headers),
        published_at=told.timestamp if isinstance(told.timestamp, datetime) else None,
    )


def job_headers(envelope: Envelope) -> dict[str, str | int]:
    """Write the headers of a copy anew; what has its default is left out, ``x-death`` is never copied."""
    headers: dict[str, str | int] = {
        topology.HEADER_RUN: envelope.run,
        topology.HEADER_ATTEMPT: envelope.attempt,
        topology.HEADER_COUNTED: envelope.counted,
    }
    if envelope.drops:
        headers[topology.HEADER_DROPS] = envelope.drops
    if envelope.deadline is not None:
        headers[topology.HEADER_DEADLINE] = rfc3339(envelope.deadline)
    if envelope.traceparent is not None:
        headers[topology.HEADER_TRACEPARENT] = envelope.traceparent
    return headers


def job_properties(
    envelope: Envelope, message_id: str, more: dict[str, str | int] | None = None
) -> spec.Basic.Properties:
    """Build the properties of a copy of the job, with *more* headers where it is a dead letter."""
    return properties(
        kind=JOB_TYPE,
        message_id=message_id,
        headers=job_headers(envelope) | (more or {}),
        timestamp=envelope.published_at,
        reply_to=envelope.reply.queue if envelope.reply else None,
        correlation_id=envelope.reply.correlation_id if envelope.reply else None,
    )


def letter_headers(envelope: Envelope, letter: Letter) -> dict[str, str | int]:
    """Write what a dead letter says beside the job."""
    return {
        topology.HEADER_ATTEMPT: letter.attempt,
        topology.HEADER_REASON: letter.reason,
        topology.HEADER_ERROR: letter.error,
        topology.HEADER_DIED_AT: letter.died_at,
        topology.HEADER_SENDER: envelope.sender,
    }


def _count(headers: dict[str, Any], name: str, *, least: int) -> int:
    value = headers.get(name)
    return value if type(value) is int and least <= value <= _MAX_COUNT else least


def _deadline(headers: dict[str, Any]) -> float | None:
    value = text_of(headers.get(topology.HEADER_DEADLINE))
    return parse_rfc3339(value) if value else None


def _reply(told: spec.Basic.Properties) -> Reply | None:
    queue = _short(told.reply_to)
    return Reply(queue, _short(told.correlation_id)) if queue else None


def _short(value: object) -> str | None:
    text = text_of(value)
    return text if text is not None and len(text.encode()) <= _MAX_SHORT_BYTES else None


def _trace(headers: dict[str, Any]) -> str | None:
    value = text_of(headers.get(topology.HEADER_TRACEPARENT))
    return value if value is not None and len(value) <= _MAX_TRACE and _TRACE.fullmatch(value) else None


def text_of(value: object) -> str | None:
    """Read a header that a client may have sent as text or as bytes; None where it is neither."""
    if isinstance(value, (bytes, bytearray)):
        return value.decode("utf-8", errors="replace")
    return value if isinstance(value, str) else None
