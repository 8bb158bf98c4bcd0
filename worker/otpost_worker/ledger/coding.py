"""What every ledger writes down as JSON."""

from __future__ import annotations

import hashlib
from datetime import datetime
from typing import TYPE_CHECKING, Any

import orjson

from otpost_worker.envelope import Envelope, Reply
from otpost_worker.outcome import Error, Kind
from otpost_worker.standing import Change, News
from otpost_worker.stories import Hearing, Report

if TYPE_CHECKING:
    from collections.abc import Mapping


def envelope_to_json(envelope: Envelope) -> bytes:
    """Encode the envelope without its body, which has a place of its own so that it can be erased."""
    reply = envelope.reply
    return orjson.dumps(
        {
            "sender": envelope.sender,
            "run": envelope.run,
            "attempt": envelope.attempt,
            "counted": envelope.counted,
            "deadline": envelope.deadline,
            "reply": [reply.queue, reply.correlation_id] if reply else None,
            "traceparent": envelope.traceparent,
            "published_at": envelope.published_at,
        }
    )


def envelope_from_json(data: bytes, body: bytes | None) -> Envelope:
    """Decode what ``envelope_to_json`` encoded."""
    fields: dict[str, Any] = orjson.loads(data)
    reply, published_at = fields.pop("reply"), fields.pop("published_at")
    return Envelope(
        body=body or b"",
        reply=Reply(*reply) if reply else None,
        published_at=datetime.fromisoformat(published_at) if published_at else None,
        **fields,
    )


def pseudonym(number: str, key: bytes) -> bytes:
    """Stand in for a recipient's number, which nobody shall read off a ledger's limits."""
    return hashlib.blake2b(number.encode(), key=key, digest_size=12).digest()


def error_from_json(fields: Mapping[str, Any] | None) -> Error | None:
    """Make the error that orjson has read; None of None."""
    return None if fields is None else Error(**{**fields, "kind": Kind(fields["kind"])})


def reports_to_json(reports: Mapping[Hearing, Report]) -> bytes:
    """Encode what was heard of an attempt beside its answer."""
    return orjson.dumps(reports, option=orjson.OPT_NON_STR_KEYS)


def reports_from_json(data: bytes | str | None) -> dict[Hearing, Report]:
    """Decode what ``reports_to_json`` encoded; None is nothing."""
    known: dict[str, Any] = orjson.loads(data) if data else {}
    return {
        Hearing(name): Report(fields["at"], fields["token"], error_from_json(fields["error"]), fields["told"])
        for name, fields in known.items()
    }


def news_to_json(news: tuple[News, ...]) -> bytes:
    """Encode what changed about a sender."""
    return orjson.dumps(news)


def news_from_json(data: bytes) -> tuple[News, ...]:
    """Decode what ``news_to_json`` encoded."""
    return tuple(
        News(**{**fields, "change": Change(fields["change"]), "error": error_from_json(fields["error"])})
        for fields in orjson.loads(data)
    )
