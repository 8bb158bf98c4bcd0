"""The send request of an authentication template as Meta documents it, and changes of it at one place.

Written by hand from Meta's documentation, so that it can be held against the simulator and the worker alike.
"""

from __future__ import annotations

import copy
from typing import Any, Final

BODY: Final = ("template", "components", 0)
BUTTON: Final = ("template", "components", 1)
BODY_TEXT: Final = (*BODY, "parameters", 0, "text")
BUTTON_TEXT: Final = (*BUTTON, "parameters", 0, "text")
GONE: Final = object()


def send_request(to: str = "+12015553931", code: str = "493817", callback: str | None = "job-1") -> dict[str, Any]:
    parameters = [{"type": "text", "text": code}]
    message: dict[str, Any] = {
        "messaging_product": "whatsapp",
        "recipient_type": "individual",
        "to": to,
        "type": "template",
        "template": {
            "name": "verification_code",
            "language": {"code": "en_US"},
            "components": [
                {"type": "body", "parameters": parameters},
                {"type": "button", "sub_type": "url", "index": "0", "parameters": copy.deepcopy(parameters)},
            ],
        },
    }
    return message if callback is None else {**message, "biz_opaque_callback_data": callback}


def changed(path: tuple[str | int, ...], value: object) -> dict[str, Any]:
    """Change the good request at one place; GONE removes what is there."""
    message = send_request()
    holder: Any = message
    for step in path[:-1]:
        holder = holder[step]
    if value is GONE:
        del holder[path[-1]]
    else:
        holder[path[-1]] = value
    return message
