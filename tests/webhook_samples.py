"""Webhook bodies for tests: those of other projects, by file and name, and envelopes around what a test is about."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Final

# The parts of a report on a message.
NUMBER_ID: Final = "106540352242922"
WAMID: Final = "wamid.HBgLMTIwMTU1NTM5MzEVAgARGBI0QUQ2MjA4NEYyRkExNjMyREUA"
SENT: Final[dict[str, Any]] = {
    "id": WAMID,
    "status": "sent",
    "timestamp": "1750030073",
    "recipient_id": "12015553931",
    "biz_opaque_callback_data": "login-7261",
}

_FIXTURES: Final = Path(__file__).parent / "fixtures"
# Each value of these is one body.
_SEVERAL: Final = [
    "pywa/account_update.json",
    "pywa/message_status.json",
    "pywa/template_category_update.json",
    "pywa/template_quality_update.json",
    "pywa/template_status_update.json",
    "pywa/user_marketing_preferences.json",
]
_SINGLE: Final = [
    "restfb/webhook-incoming-message-status-bsuid.json",
    "restfb/webhook-incoming-message-status-group-bsuid.json",
    "restfb/webhook-incoming-message-status-ui.json",
    "restfb/webhook-messageTemplateStatusUpdate-disabling.json",
    "whaloc/account-restriction.json",
    "whaloc/phone-number-quality.json",
    "whaloc/status-failed.json",
    "whaloc/status-sent.json",
    "whaloc/template-approved.json",
    "whaloc/template-quality.json",
    "whaloc/template-rejected.json",
    "whaloc/text-message.json",
    "whatsapp-business-java-api/accountBanned.json",
    "whatsapp-business-java-api/accountRestricted.json",
    "whatsapp-business-java-api/accountReview.json",
    "whatsapp-business-java-api/qualityUpdate.json",
    "whatsapp-business-java-api/reEngagementMessageError.json",
    "whatsapp-business-java-api/templateSchedulingForDisabling.json",
]


def webhook_samples() -> dict[str, Any]:
    """Load all samples: the file's path without its ending, with ``:name`` where it holds several."""
    loaded = {file: json.loads((_FIXTURES / file).read_bytes()) for file in [*_SEVERAL, *_SINGLE]}
    return {
        (f"{file.removesuffix('.json')}:{name}" if name else file.removesuffix(".json")): sample
        for file, content in loaded.items()
        for name, sample in (content.items() if file in _SEVERAL else [("", content)])
    }


def body_of(value: object, field: object = "messages", **entry: object) -> bytes:
    """Put the value of one change into an envelope."""
    change = {"value": value, "field": field}
    return json.dumps(
        {"object": "whatsapp_business_account", "entry": [{"id": "102290129340398", "changes": [change], **entry}]}
    ).encode()


def body_of_statuses(*statuses: object) -> bytes:
    """Put reports on messages into an envelope."""
    metadata = {"display_phone_number": "15550783881", "phone_number_id": "106540352242922"}
    return body_of({"messaging_product": "whatsapp", "metadata": metadata, "statuses": list(statuses)})
