"""Between AMQP messages and what is reported: webhooks, and checks that fell due [pure]."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final
from uuid import uuid4

import orjson

from otpost.job import is_job_id
from otpost.rabbitmq import properties
from otpost.topology import HEADER_ATTEMPT, HEADER_UPDATES
from otpost_worker.brokers.rabbitmq.messages import text_of
from otpost_worker.updates import Posted

if TYPE_CHECKING:
    from aiormq import spec
    from aiormq.abc import DeliveredMessage

    from otpost_worker.envelope import Watch

WEBHOOK_TYPE: Final = "otpost.webhook.v1"
CHECK_TYPE: Final = "otpost.check.v1"
_MAX_TRIES: Final = 1000
# A quorum queue counts.
_RETURNS: Final = "x-delivery-count"
# As many as fit into a body of 3 MB, and more.
_INDICES: Final = re.compile(r"[0-9]{1,7}(?:,[0-9]{1,7}){0,9999}")


@dataclass(frozen=True, slots=True)
class Check:
    """It is time to look whether a delivery of this attempt was reported; *token* tells this check from another one.

    *returns*: how often it was given back, as far as the broker says.
    """

    job_id: str
    run: int
    attempt: int
    token: str
    returns: int = field(default=0, compare=False)


def posted_of(message: DeliveredMessage) -> Posted:
    """Read what was posted off a delivery, of the receiver's or of one that comes back from the ladder."""
    told = message.header.properties
    headers: dict[str, Any] = told.headers or {}
    tries = headers.get(HEADER_ATTEMPT)
    token = text_of(told.correlation_id) or text_of(told.message_id) or uuid4().hex
    only = text_of(headers.get(HEADER_UPDATES)) or ""
    return Posted(
        message.body,
        token,
        tries if type(tries) is int and 0 <= tries <= _MAX_TRIES else 0,
        tuple(map(int, only.split(","))) if _INDICES.fullmatch(only) else (),
    )


def webhook_properties(posted: Posted) -> spec.Basic.Properties:
    """Build the properties of a report that is to come back: an id of its own, and the token of what it came with."""
    headers: dict[str, str | int] = {HEADER_ATTEMPT: posted.tries}
    if posted.only:
        headers[HEADER_UPDATES] = ",".join(map(str, posted.only))
    return properties(kind=WEBHOOK_TYPE, message_id=uuid4().hex, correlation_id=posted.token, headers=headers)


def check_properties() -> spec.Basic.Properties:
    """Build the properties of a check."""
    return properties(kind=CHECK_TYPE, message_id=uuid4().hex)


def check_body(job_id: str, watch: Watch) -> bytes:
    """Write what is to be looked at."""
    return orjson.dumps({"job_id": job_id, "run": watch.run, "attempt": watch.attempt})


def check_of(message: DeliveredMessage) -> Check | None:
    """Read a check off a delivery; None where it is none."""
    try:
        fields: Any = orjson.loads(message.body)
    except orjson.JSONDecodeError:
        return None
    if not isinstance(fields, dict):
        return None
    job_id, run, attempt = fields.get("job_id"), fields.get("run"), fields.get("attempt")
    if not isinstance(job_id, str) or not is_job_id(job_id) or type(run) is not int or type(attempt) is not int:
        return None
    told = message.header.properties
    returns = (told.headers or {}).get(_RETURNS)
    token = text_of(told.message_id) or uuid4().hex
    return Check(job_id, run, attempt, token, returns if type(returns) is int else 0)
