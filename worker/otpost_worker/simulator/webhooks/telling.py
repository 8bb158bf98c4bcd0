"""What a test asks the simulator to tell: one control request to one webhook body.

Pure. The kinds: a status, a template's status, category or quality, the account, the number, a user's preference, the
button "I did not request a code", an error of the system, any change at all, and any bytes at all.
"""

from __future__ import annotations

import base64
import binascii
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Literal

from otpost_worker.simulator.control import ControlError, Fields, shown

from . import bodies
from .plans import read_code, read_status

if TYPE_CHECKING:
    from .plans import Status
    from .settings import WebhookSettings

Signature = Literal["right", "wrong", "none"]
SIGNATURES: Final = ("right", "wrong", "none")
_ADDRESS: Final = ("message_id", "callback")
_STATUS: Final = (*_ADDRESS, "status", "timestamp", "code")
_TEMPLATE_STATUS: Final = ("name", "language", "event", "reason", "category", "title", "description", "disable_date")
_TEMPLATE_CATEGORY: Final = ("name", "language", "new_category", "previous_category", "correct_category")
_TEMPLATE_QUALITY: Final = ("name", "language", "new", "previous")
_ACCOUNT: Final = ("event", "ban_state", "ban_date", "violation_type", "restrictions", "expiration")
_NUMBER: Final = ("event", "current_limit", "old_limit")
_PREFERENCE: Final = ("to", "value")
_ERROR: Final = ("code", "phone_number_id")
_CHANGE: Final = ("field", "value")
_SOMEBODY: Final = "16505551234"
_A_NUMBER: Final = "106540352242922"
_MAX_HEADER: Final = 1000


@dataclass(frozen=True, slots=True)
class Known:
    """A message that a control request is about, as far as the journal knows it."""

    message_id: str
    callback: str | None = None
    phone_number_id: str = _A_NUMBER
    recipient: str = _SOMEBODY


@dataclass(frozen=True, slots=True)
class StatusOf:
    """One more status of a message; *timestamp* None means now."""

    message: Known
    status: Status
    timestamp: int | None
    code: int | None


@dataclass(frozen=True, slots=True)
class Body:
    """The bytes of a webhook of a *kind*."""

    kind: str
    body: bytes


@dataclass(frozen=True, slots=True)
class Telling:
    """What to post; how it is signed, or under which header instead; whether it is tried again until it had a 200."""

    what: StatusOf | Body
    signature: Signature = "right"
    signature_header: str | None = None
    retry: bool = True


# Finds a message by its id or by its callback.
Find = Callable[[str | None, str | None], Known | None]


def parse_telling(payload: object, settings: WebhookSettings, find: Find, *, at: float) -> Telling:
    """The body of POST /_simulator/webhooks; *at* is now, in seconds since the epoch."""
    kinds = (*_KINDS, "not_requested", "status", "body", "body_base64")
    fields = Fields.of(payload, "the webhook", (*kinds, "signature", "signature_header", "retry"))
    found = [kind for kind in kinds if kind in fields]
    if len(found) != 1:
        raise ControlError(
            f"the webhook must have exactly one of {', '.join(kinds)}; it has {', '.join(found) or 'none'}."
        )
    signed, header = _signature(fields), _header(fields)
    given = fields.flag("retry")
    retry = (signed == "right" and header is None) if given is None else given
    return Telling(_what(fields, found[0], settings, find, at), signed, header, retry)


def _what(fields: Fields, kind: str, settings: WebhookSettings, find: Find, at: float) -> StatusOf | Body:
    value = fields.values[kind]
    match kind:
        case "status":
            return _status(value, find)
        case "body":
            return Body("raw", (fields.text("body") or "").encode("utf-8", "surrogatepass"))
        case "body_base64":
            return Body("raw", _decoded(fields.text("body_base64") or ""))
        case "not_requested":
            return Body(kind, bodies.written(_not_requested(value, settings, find, at)))
        case _:
            return Body(kind, bodies.written(_KINDS[kind](value, settings, int(at))))


def _signature(fields: Fields) -> Signature:
    text = fields.text("signature") or "right"
    match text:
        case "right" | "wrong" | "none":
            return text
        case _:
            raise ControlError(f"the webhook: signature must be one of {', '.join(SIGNATURES)}; got {shown(text)}.")


def _header(fields: Fields) -> str | None:
    text = fields.text("signature_header")
    if text is not None and not (text.isprintable() and len(text) <= _MAX_HEADER):
        raise ControlError(f"the webhook: signature_header must be printable, on one line, at most {_MAX_HEADER} long.")
    return text


def _decoded(text: str) -> bytes:
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        raise ControlError(f"the webhook: body_base64 must be base64; got {shown(text)}.") from None


# Of a message


def _message(fields: Fields, find: Find) -> Known:
    message_id, callback = fields.text("message_id"), fields.text("callback")
    if (message_id is None) == (callback is None):
        raise ControlError(f"{fields.where} must have exactly one of message_id and callback: which message is it?")
    if (known := find(message_id, callback)) is not None:
        return known
    if message_id is None:
        raise ControlError(f"{fields.where}: no message with the callback {shown(callback)} was taken.")
    # Webhooks about messages that nobody here sent exist: two apps on one account.
    return Known(message_id)


def _status(value: object, find: Find) -> StatusOf:
    fields = Fields.of(value, "status", _STATUS)
    status = read_status(fields)
    return StatusOf(_message(fields, find), status, fields.whole("timestamp", 0), read_code(fields, status))


def _not_requested(value: object, settings: WebhookSettings, find: Find, at: float) -> dict[str, Any]:
    fields = Fields.of(value, "not_requested", _ADDRESS)
    known = _message(fields, find)
    tapped = {
        "context": {"from": settings.display_phone_number, "id": known.message_id},
        "from": known.recipient,
        "id": f"{known.message_id[:60]}.{int(at)}",
        "timestamp": str(int(at)),
        "type": "button",
        "button": {"payload": "DID_NOT_REQUEST_CODE", "text": "I didn't request a code"},
    }
    rest = {"contacts": [bodies.contact(known.recipient)], "messages": [tapped]}
    return bodies.change(settings, "messages", bodies.of_number(settings, known.phone_number_id, rest), None)


# Of a template


def _of_template(fields: Fields) -> dict[str, Any]:
    name = _required(fields, "name")
    return {
        "message_template_id": 10**15 + zlib.crc32(name.encode()),
        "message_template_name": name,
        # Sending writes en_US, webhooks write en-US.
        "message_template_language": (fields.text("language") or "en_US").replace("_", "-"),
    }


def _template_status(value: object, settings: WebhookSettings, at: int) -> dict[str, Any]:
    fields = Fields.of(value, "template_status", _TEMPLATE_STATUS)
    about: dict[str, Any] = {
        "event": _required(fields, "event"),
        **_of_template(fields),
        "reason": fields.text("reason") or "NONE",
        "message_template_category": fields.text("category") or "AUTHENTICATION",
    }
    if (title := fields.text("title")) is not None:
        about["other_info"] = {"title": title, "description": fields.text("description") or title}
    if (date := fields.text("disable_date")) is not None:
        about["disable_info"] = {"disable_date": date}
    return bodies.change(settings, "message_template_status_update", about, at)


def _template_category(value: object, settings: WebhookSettings, at: int) -> dict[str, Any]:
    fields = Fields.of(value, "template_category", _TEMPLATE_CATEGORY)
    about = {**_of_template(fields), "new_category": _required(fields, "new_category")}
    if (correct := fields.text("correct_category")) is not None:
        # A day ahead: new_category is still the present one.
        about |= {"correct_category": correct, "category_update_timestamp": at + 86_400}
    elif (previous := fields.text("previous_category")) is not None:
        about["previous_category"] = previous
    return bodies.change(settings, "template_category_update", about, at)


def _template_quality(value: object, settings: WebhookSettings, at: int) -> dict[str, Any]:
    fields = Fields.of(value, "template_quality", _TEMPLATE_QUALITY)
    scores = {
        "previous_quality_score": fields.text("previous") or "GREEN",
        "new_quality_score": _required(fields, "new"),
    }
    return bodies.change(settings, "message_template_quality_update", {**scores, **_of_template(fields)}, at)


# Of the account and its numbers


def _account(value: object, settings: WebhookSettings, at: int) -> dict[str, Any]:
    fields = Fields.of(value, "account", _ACCOUNT)
    about: dict[str, Any] = {"event": _required(fields, "event")}
    if (state := fields.text("ban_state")) is not None:
        about["ban_info"] = {"waba_ban_state": state, "waba_ban_date": fields.text("ban_date") or "April 17, 2025"}
    if (violation := fields.text("violation_type")) is not None:
        about["violation_info"] = {"violation_type": violation}
    if restrictions := fields.items("restrictions"):
        until = fields.whole("expiration", 0) or at + 86_400
        about["restriction_info"] = [{"restriction_type": kind, "expiration": until} for kind in restrictions]
    return bodies.change(settings, "account_update", about, at)


def _number(value: object, settings: WebhookSettings, at: int) -> dict[str, Any]:
    fields = Fields.of(value, "number", _NUMBER)
    about = {"display_phone_number": settings.display_phone_number, "event": _required(fields, "event")}
    about |= {name: text for name in ("current_limit", "old_limit") if (text := fields.text(name)) is not None}
    return bodies.change(settings, "phone_number_quality_update", about, at)


def _preference(value: object, settings: WebhookSettings, at: int) -> dict[str, Any]:
    fields = Fields.of(value, "preference", _PREFERENCE)
    wa_id = (fields.text("to") or _SOMEBODY).removeprefix("+")
    wish = _required(fields, "value")
    preference = {
        "wa_id": wa_id,
        "detail": f"User requested to {wish} marketing messages",
        "category": "marketing_messages",
        "value": wish,
        "timestamp": at,
    }
    rest = {"contacts": [bodies.contact(wa_id)], "user_preferences": [preference]}
    return bodies.change(settings, "user_preferences", bodies.of_number(settings, _A_NUMBER, rest), None)


def _error(value: object, settings: WebhookSettings, at: int) -> dict[str, Any]:  # noqa: ARG001 - one shape for all
    fields = Fields.of(value, "error", _ERROR)
    code = fields.whole("code", 0)
    if code is None:
        raise ControlError("error: code is missing; write one of Meta's, like 130429.")
    number = fields.text("phone_number_id") or _A_NUMBER
    return bodies.change(
        settings, "messages", bodies.of_number(settings, number, {"errors": [bodies.error(code)]}), None
    )


def _change(value: object, settings: WebhookSettings, at: int) -> dict[str, Any]:
    fields = Fields.of(value, "change", _CHANGE)
    return bodies.change(settings, _required(fields, "field"), fields.values.get("value"), at)


def _required(fields: Fields, name: str) -> str:
    text = fields.text(name)
    if not text:
        raise ControlError(f"{fields.where}: {name} is missing.")
    return text


_KINDS: Final[dict[str, Callable[[object, WebhookSettings, int], dict[str, Any]]]] = {
    "template_status": _template_status,
    "template_category": _template_category,
    "template_quality": _template_quality,
    "account": _account,
    "number": _number,
    "preference": _preference,
    "error": _error,
    "change": _change,
}
