"""Webhook bodies as Meta writes them, and their signature.

Pure. Shapes: Meta's documentation as of 2026 (Graph v24 and later: no `conversation`). What is not ASCII is escaped
with lowercase digits before it is signed, as Meta does: who parses and writes again hashes other bytes.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import zlib
from typing import TYPE_CHECKING, Any, Final

from otpost_worker.simulator.errors import known_error

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from .reports import Report
    from .settings import WebhookSettings

_HREF: Final = "https://developers.facebook.com/docs/whatsapp/cloud-api/support/error-codes/"
_PRICING: Final = {"billable": True, "pricing_model": "PMP", "type": "regular", "category": "authentication"}
# Where a webhook has other words than the answer to a request.
_TEXTS: Final = {
    131026: ("Message undeliverable", "Message Undeliverable."),
    131049: (
        "This message was not delivered to maintain healthy ecosystem engagement.",
        "In order to maintain a healthy ecosystem engagement, the message failed to be delivered.",
    ),
}
# Not ASCII, so that it tells who does not hash the raw bytes.
_PROFILE: Final = {"name": "Zoë M."}


def written(body: object) -> bytes:
    """A body's bytes."""
    return json.dumps(body, separators=(",", ":")).encode()


def signature(secret: str, body: bytes) -> str:
    """The value of `X-Hub-Signature-256`."""
    return "sha256=" + hmac.new(secret.encode(), body, hashlib.sha256).hexdigest()


def statuses(settings: WebhookSettings, reports: Sequence[Report]) -> dict[str, Any]:
    """One body with these statuses: a change for each business number among them."""
    by_number: dict[str, list[Report]] = {}
    for report in reports:
        by_number.setdefault(report.phone_number_id, []).append(report)
    changes = [_status_change(settings, number, several) for number, several in by_number.items()]
    return _enveloped(settings, changes)


def change(settings: WebhookSettings, field: str, value: object, time: int | None) -> dict[str, Any]:
    """One body with one change; *time* (Unix seconds) stands in what concerns the account and not a message."""
    return _enveloped(settings, [{"field": field, "value": value}], time)


def of_number(settings: WebhookSettings, phone_number_id: str, rest: dict[str, Any]) -> dict[str, Any]:
    """The value of a change that concerns one business number."""
    metadata = {"display_phone_number": settings.display_phone_number, "phone_number_id": phone_number_id}
    return {"messaging_product": "whatsapp", "metadata": metadata, **rest}


def contact(recipient: str) -> dict[str, Any]:
    """Somebody on WhatsApp, by the digits of their number."""
    return {"profile": _PROFILE, "wa_id": recipient, "user_id": f"US.{zlib.crc32(recipient.encode()):017d}"}


def error(code: int) -> dict[str, Any]:
    """Meta's error in a webhook."""
    known = known_error(code)
    title, details = _TEXTS.get(code, (known.title, known.details or f"{known.title}."))
    return {"code": code, "title": title, "message": title, "error_data": {"details": details}, "href": _HREF}


def _enveloped(settings: WebhookSettings, changes: list[dict[str, Any]], time: int | None = None) -> dict[str, Any]:
    when = {} if time is None else {"time": time}
    return {
        "object": "whatsapp_business_account",
        "entry": [{"id": settings.account_id, **when, "changes": changes}],
    }


def _status_change(settings: WebhookSettings, phone_number_id: str, reports: Iterable[Report]) -> dict[str, Any]:
    told: list[dict[str, Any]] = []
    contacts: dict[str, dict[str, Any]] = {}
    for report in reports:
        told.append(_status(report))
        if report.status != "failed" and report.recipient not in contacts:
            contacts[report.recipient] = contact(report.recipient)
    rest: dict[str, Any] = {"contacts": list(contacts.values())} if contacts else {}
    return {"field": "messages", "value": of_number(settings, phone_number_id, {**rest, "statuses": told})}


def _status(report: Report) -> dict[str, Any]:
    status: dict[str, Any] = {
        "id": report.message_id,
        "status": report.status,
        "timestamp": str(report.timestamp),
        "recipient_id": report.recipient,
    }
    if report.callback is not None:
        status["biz_opaque_callback_data"] = report.callback
    if report.priced:
        status["pricing"] = _PRICING
    if report.code is not None:
        status["errors"] = [error(report.code)]
    return status
