"""Webhook bodies as nobody should send them: samples of which something was replaced, dropped, doubled or wrapped."""

from __future__ import annotations

import json
from copy import deepcopy
from typing import TYPE_CHECKING, Any, Final

from webhook_samples import webhook_samples

if TYPE_CHECKING:
    from collections.abc import Callable
    from random import Random

_SAMPLES: Final = [json.dumps(sample) for sample in webhook_samples().values()]
_KEYS: Final = sorted(
    {
        "entry", "changes", "value", "field", "statuses", "messages", "errors", "error_data", "details", "id", "status",
        "timestamp", "time", "biz_opaque_callback_data", "code", "title", "metadata", "phone_number_id", "event",
        "button", "payload", "context", "user_preferences", "restriction_info", "expiration", "ban_info", "alert_info",
        "new_quality_score", "new_category", "correct_category", "message_template_name", "message_template_language",
    }
)  # fmt: skip
_WORDS: Final = [
    "messages", "account_update", "account_alerts", "business_capability_update", "security", "user_preferences",
    "message_template_status_update", "template_category_update", "phone_number_quality_update", "FAILED", "read",
    "DID_NOT_REQUEST_CODE", "ACCOUNT_RESTRICTION", "DISABLED_UPDATE", "DISABLE", "RESTRICTED_BIZ_INITIATED_MESSAGING",
    "en-US", "login-7261/1/2", "1750030073", "131049", "+1 (201) 555-3931", "wamid.HBgLMTIwMTU1NTM5MzEVAgARGBI1",
]  # fmt: skip
_ODD: Final[list[Any]] = [
    None, True, False, 0, -1, 7, 1750030073, 10**18, 10**25, 10**320, -(10**30), 0.5, 1e308, float("nan"), float("inf"),
    "", " ", "\x00\x1b[31m\n", "\ud800", "a\udfff", "\u0661\u0662", "\u202e", "\U0001f511", "x" * 5000, "1" * 5000,
    [], {}, [[]], [{}], [None, [None]], {"": {"": None}}, {"details": [1]}, *_WORDS,
]  # fmt: skip


def mutated_body(random: Random) -> bytes:
    """Make one body: a sample with one to six mutations, and now and then with some bytes changed."""
    # A list around it, so that the root can be replaced like any other node.
    root = [json.loads(random.choice(_SAMPLES))]
    for _ in range(random.randint(1, 6)):
        _mutate(root, random)
    body = json.dumps(root[0]).encode()
    return _garbled(body, random) if random.random() < 0.1 else body


def _mutate(root: list[Any], random: Random) -> None:
    holder, key = random.choice(_places(root))
    random.choice(_MUTATIONS)(holder, key, random)


def _places(root: list[Any]) -> list[tuple[Any, Any]]:
    """Find every node, as the list or object that holds it, and its index or key there."""
    places: list[tuple[Any, Any]] = []
    waiting: list[Any] = [root]
    while waiting:
        holder = waiting.pop()
        keys = holder if isinstance(holder, dict) else range(len(holder))
        places += [(holder, key) for key in keys]
        waiting += [holder[key] for key in keys if isinstance(holder[key], (dict, list))]
    return places or [({"": None}, "")]


def _replace(holder: Any, key: Any, random: Random) -> None:  # noqa: ANN401 - a list or an object of anything
    # Copied, as further mutations may change it, or put it into itself.
    holder[key] = deepcopy(random.choice(_ODD))


def _copy_another(holder: Any, key: Any, random: Random) -> None:  # noqa: ANN401 - any JSON
    other, there = random.choice(_places([json.loads(random.choice(_SAMPLES))]))
    holder[key] = other[there]


def _drop(holder: Any, key: Any, _: Random) -> None:  # noqa: ANN401 - any JSON
    del holder[key]
    if isinstance(holder, list) and not holder:
        holder.append(None)


def _double(holder: Any, key: Any, random: Random) -> None:  # noqa: ANN401 - any JSON
    copy = deepcopy(holder[key])
    if isinstance(holder, list):
        holder.insert(key, copy)
    else:
        holder[random.choice(_KEYS)] = copy


def _rename(holder: Any, key: Any, random: Random) -> None:  # noqa: ANN401 - any JSON
    if isinstance(holder, dict):
        holder[random.choice(_KEYS)] = holder.pop(key)


def _wrap(holder: Any, key: Any, random: Random) -> None:  # noqa: ANN401 - any JSON
    for _ in range(random.choice([1, 1, 1, 2, 20])):
        holder[key] = [holder[key]] if random.random() < 0.5 else {random.choice(_KEYS): holder[key]}


def _change_type(holder: Any, key: Any, random: Random) -> None:  # noqa: ANN401 - any JSON
    value = holder[key]
    if isinstance(value, str):
        holder[key] = int(value[:4000]) if value.isdecimal() else list(value[:50])
    elif isinstance(value, dict):
        holder[key] = list(value.values())
    elif isinstance(value, list):
        holder[key] = {random.choice(_KEYS): member for member in value}
    else:
        holder[key] = str(value)


_MUTATIONS: Final[list[Callable[[Any, Any, Random], None]]] = [
    _replace, _replace, _copy_another, _drop, _double, _rename, _wrap, _change_type,
]  # fmt: skip


def _garbled(body: bytes, random: Random) -> bytes:
    at, depth = random.randrange(len(body)), random.choice([500, 900, 1100, 5000])
    return random.choice(
        [
            body[:at],
            body[at:],
            body[:at] + bytes([random.randrange(256)]) + body[at + 1 :],
            body[:at] + b"\xff\xfe" + body[at:],
            body + body,
            body.replace(b'"', b"'"),
            body.replace(b'"field"', b'"deep": %b, "field"' % (b"[" * depth + b"]" * depth), 1),
        ]
    )
