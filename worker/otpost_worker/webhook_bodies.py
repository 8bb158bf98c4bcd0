"""Webhook bodies: read into the closed union of ``updates``, and written for a report that has to come again [pure].

What is read is what ``whatsapp.md``, section 4, describes, and whatever else may come in its place: a body is the
provider's, was signed and is answered already, so nothing in it raises and nothing keeps its neighbours from being
read. What is of no use becomes an ``Ignored``, whose words are ours but for one cleaned name.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, Final

import orjson

from otpost.job import is_job_id
from otpost_worker.masking import without_numbers_and_codes
from otpost_worker.updates import (
    Ignored,
    MessageReport,
    NotRequested,
    Preference,
    ProviderError,
    Reported,
    ServiceTrouble,
    Update,
)
from otpost_worker.webhook_changes import (
    Around,
    account_alert,
    account_review,
    account_update,
    capability_update,
    number_quality,
    security,
    template_change,
)
from otpost_worker.webhook_json import json_object
from otpost_worker.webhook_values import (
    MAX_ID,
    exact,
    identifier,
    member,
    members,
    moment,
    name,
    whole,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

# Kinds of Ignored that one body can make; the rest is one kind more.
_MAX_KINDS: Final = 20
_FURTHER_KINDS: Final = "further kinds"
_REPORTED: Final = {status.value: status for status in Reported}
_NOT_REQUESTED: Final = "did_not_request_code"
# As large as the broker's headers may say them, without leading zeros.
_MAX_COUNT: Final = 1_000_000
_COUNT: Final = re.compile(r"[1-9][0-9]{0,6}")

_READERS: Final[Mapping[str, Callable[[Mapping[str, Any], Around], Update]]] = {
    "message_template_status_update": template_change,
    "message_template_quality_update": template_change,
    "template_category_update": template_change,
    "account_update": account_update,
    "account_review_update": account_review,
    "account_alerts": account_alert,
    "business_capability_update": capability_update,
    "phone_number_quality_update": number_quality,
    "security": security,
}


def read_updates(body: bytes) -> list[Update]:
    """Read everything out of *body*, whatever it is, in its order, and what was ignored after it.

    Never empty, and never with more than 21 ``Ignored``: one of each kind.
    """
    root = json_object(body)
    if root is None:
        # The receiver reads by the same rule, and stores none of these.
        return [Ignored("no JSON object")]
    updates: list[Update] = []
    kinds: dict[str, None] = {}
    for update in _entries(root):
        if not isinstance(update, Ignored):
            updates.append(update)
        else:
            kinds[update.what if len(kinds) < _MAX_KINDS or update.what in kinds else _FURTHER_KINDS] = None
    return [*updates, *map(Ignored, kinds)] or [Ignored("nothing")]


def _entries(root: Mapping[str, Any]) -> Iterator[Update]:
    for entry in members(root, "entry"):
        if isinstance(entry, Ignored):
            yield entry
            continue
        around = Around(identifier(entry.get("id")), moment(entry.get("time")))
        for change in members(entry, "changes"):
            if isinstance(change, Ignored):
                yield change
            else:
                yield from _change(change, around)


def _change(change: Mapping[str, Any], around: Around) -> Iterator[Update]:
    field, value = name(change.get("field")), change.get("value")
    if not isinstance(value, dict):
        yield Ignored(f"field {field or 'unnamed'} without a value")
    elif field in ("messages", None):
        yield from _messages(value, around)
    elif field == "user_preferences":
        yield from _preferences(value)
    elif reader := _READERS.get(field):
        yield reader(value, around)
    else:
        yield Ignored(f"field {field}")


def _messages(value: Mapping[str, Any], around: Around) -> Iterator[Update]:
    """Read the field that holds reports on our messages, messages to us, and errors that belong to neither."""
    number_id = identifier(member(value, "metadata").get("phone_number_id"))
    for status in members(value, "statuses"):
        yield status if isinstance(status, Ignored) else _report(status, number_id)
    for message in members(value, "messages"):
        yield message if isinstance(message, Ignored) else _inbound(message, number_id)
    for error in members(value, "errors"):
        yield error if isinstance(error, Ignored) else ServiceTrouble(around.account_id, number_id, _error(error))


def _report(status: Mapping[str, Any], number_id: str | None) -> MessageReport | Ignored:
    word = name(status.get("status")) or "unnamed"
    reported = _REPORTED.get(word)
    if reported is None:
        # ``played`` is of voice messages, ``deleted`` of old lists.
        return Ignored(f"status {word}")
    message_id = identifier(status.get("id"))
    callback = exact(status.get("biz_opaque_callback_data"), MAX_ID)
    if message_id is None and callback is None:
        return Ignored("status without an id")
    error = _first_error(status) if reported is Reported.FAILED else None
    return MessageReport(reported, message_id, callback, moment(status.get("timestamp")), error, number_id)


def _first_error(status: Mapping[str, Any]) -> ProviderError | None:
    """Read the first error that has a code; else the first one."""
    errors = [_error(error) for error in members(status, "errors") if not isinstance(error, Ignored)]
    return next((error for error in errors if error.code is not None), errors[0] if errors else None)


def _error(error: Mapping[str, Any]) -> ProviderError:
    code = whole(error.get("code"))
    data = error.get("error_data")
    # Other endpoints of Meta have a plain string there.
    details = data.get("details") if isinstance(data, dict) else data
    keep = str(code)
    return ProviderError(
        code,
        # ``message`` is the same text.
        without_numbers_and_codes(error.get("title"), keep=keep)
        or without_numbers_and_codes(error.get("message"), keep=keep),
        without_numbers_and_codes(details, keep=keep),
    )


def _inbound(message: Mapping[str, Any], number_id: str | None) -> NotRequested | Ignored:
    """Read what a user wrote or tapped. Only the button under a code, "I didn't request a code", means something."""
    if name(member(message, "button").get("payload")) != _NOT_REQUESTED:
        return Ignored(f"message {name(message.get('type')) or 'unnamed'}")
    code_message_id = identifier(member(message, "context").get("id"))
    if code_message_id is None:
        return Ignored("button without a message")
    return NotRequested(code_message_id, moment(message.get("timestamp")), number_id)


def _preferences(value: Mapping[str, Any]) -> Iterator[Preference | Ignored]:
    for preference in members(value, "user_preferences"):
        if isinstance(preference, Ignored):
            yield preference
        else:
            wish = name(preference.get("value"))
            yield Preference(wish) if wish is not None else Ignored("preference without a value")


def minimal_body(update: MessageReport | NotRequested) -> bytes:
    """Write a webhook's body with this one update, which ``read_updates`` reads as *update* again.

    It holds no number: neither the recipient's nor the business's.
    """
    value: dict[str, Any] = {"messaging_product": "whatsapp"}
    if isinstance(update, NotRequested):
        value["messages"] = [_tap(update)]
    else:
        value["statuses"] = [_status(update)]
    if update.number_id is not None:
        value["metadata"] = {"phone_number_id": update.number_id}
    change = {"field": "messages", "value": value}
    return orjson.dumps({"object": "whatsapp_business_account", "entry": [{"changes": [change]}]})


def _tap(update: NotRequested) -> dict[str, Any]:
    button = {"type": "button", "button": {"payload": _NOT_REQUESTED}, "context": {"id": update.message_id}}
    return button if update.at is None else {**button, "timestamp": _seconds(update.at)}


def _status(report: MessageReport) -> dict[str, Any]:
    status: dict[str, Any] = {"status": report.status.value}
    if report.message_id is not None:
        status["id"] = report.message_id
    if report.callback is not None:
        status["biz_opaque_callback_data"] = report.callback
    if report.at is not None:
        status["timestamp"] = _seconds(report.at)
    if report.error is not None:
        error = {"code": report.error.code, "title": report.error.title, "error_data": {"details": report.error.detail}}
        status["errors"] = [error]
    return status


def _seconds(moment: float) -> str:
    """Write a time as Meta does: a string of seconds."""
    return str(float(moment)).removesuffix(".0")


def attempt_of(callback: str) -> tuple[str, int, int] | None:
    """Read our own word for an attempt: the job's id, the run, the attempt; None where it is none of ours.

    The job's id alone stands for the first attempt of the first run (contract, section 8), and only the id alone.
    """
    job_id, *counts = callback.split("/")
    if not is_job_id(job_id):
        return None
    if not counts:
        return job_id, 1, 1
    if len(counts) != 2 or not all(_COUNT.fullmatch(count) for count in counts):
        return None
    run, attempt = map(int, counts)
    if (run, attempt) == (1, 1) or max(run, attempt) > _MAX_COUNT:
        return None
    return job_id, run, attempt
