"""What of a job may lie among the dead letters: everything but its code, or nothing but its id.

A body that is a job keeps all of it, its code sealed: replayed, any worker that holds the key can send it. In a body
that is no job nobody knows where the code stands, so that it is sealed as a whole:

    {"id": "job-1", "sealed_body": "…", "body_bytes": 312}

without ``id`` where none could be read. *body_bytes* is how long the body was: of one beyond 64 KiB, four times what
any job may have, only the beginning is kept, as a broker might not take the whole of it any more.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Final

import orjson

from otpost.errors import InvalidJob
from otpost.job import OtpJob, decode_object, is_job_id
from otpost_worker.envelope import readable_id

if TYPE_CHECKING:
    from collections.abc import Callable

    from otpost_worker.envelope import Envelope

MAX_KEPT_BYTES: Final = 64 * 1024
_FIELDS: Final = frozenset({"sealed_body", "body_bytes"})


@dataclass(frozen=True, slots=True)
class SealedBody:
    """A body that is no job, sealed as a whole; *job_id* is None where none could be read in it."""

    job_id: str | None
    sealed: str
    body_bytes: int


def covered(envelope: Envelope, seal: Callable[[bytes], str]) -> Envelope:
    """Give the copy of the envelope that may be buried; *seal* gives the base64 of what it has sealed."""
    try:
        # For ever is not too far ahead: a clock that is wrong makes a body no less of a job.
        job = OtpJob.parse(envelope.body, now=math.inf, published_at=envelope.published_at)
    except InvalidJob:
        return covered_whole(envelope, seal)
    if job.code is None:
        return envelope
    sealed = seal(job.code.encode())
    # What is written anew has each name once, and so no second code.
    fields = {name: value for name, value in decode_object(envelope.body).items() if name != "sealed_code"}
    kept = {("sealed_code" if name == "code" else name): value for name, value in fields.items()}
    return replace(envelope, body=orjson.dumps(kept | {"sealed_code": sealed}))


def covered_whole(envelope: Envelope, seal: Callable[[bytes], str]) -> Envelope:
    """Give the copy that may be buried whatever the body is, a job or not."""
    body = envelope.body
    job_id = readable_id(body)
    named = {"id": job_id} if job_id is not None else {}
    sealed = {"sealed_body": seal(body[:MAX_KEPT_BYTES]), "body_bytes": len(body)}
    return replace(envelope, body=orjson.dumps(named | sealed))


def read_sealed_body(body: bytes) -> SealedBody | None:
    """Read a body that was sealed as a whole; None where it is anything else."""
    try:
        fields: Any = orjson.loads(body)
    except orjson.JSONDecodeError:
        return None
    if not isinstance(fields, dict) or fields.keys() - {"id"} != _FIELDS:
        return None
    job_id, sealed, body_bytes = fields.get("id"), fields["sealed_body"], fields["body_bytes"]
    if not isinstance(sealed, str) or type(body_bytes) is not int:
        return None
    return SealedBody(job_id if is_job_id(job_id) else None, sealed, body_bytes)
