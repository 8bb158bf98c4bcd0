"""Logs: one event a line, as JSON or for people, with what must not be seen taken out at the very end."""

from __future__ import annotations

import logging
import re
import sys
from typing import TYPE_CHECKING, Any, Final

import orjson
import structlog

from otpost_worker.quieting import quiet_libraries

if TYPE_CHECKING:
    from collections.abc import MutableMapping

    from structlog.typing import Processor

_LEVELS: Final = {"debug": 10, "info": 20, "warning": 30, "error": 40}
_SECRET_KEYS: Final = frozenset(
    {
        "code",
        "sealed_code",
        "sealed_body",
        "private_keys",
        "body",
        "to",
        "access_token",
        "token",
        "authorization",
        "app_secret",
        "verify_token",
    }
)
_NUMBER: Final = re.compile(r"\+[1-9][0-9]{6,14}")
_WAMID: Final = re.compile(r"wamid\.[A-Za-z0-9+/=_-]{8,}")
_PASSWORD: Final = re.compile(r"((?:amqp|redis)s?://[^:/@\s]*):\S*@")
# aiormq prints whole payloads at DEBUG, codes included; none of these may go below INFO.
_LIBRARIES: Final = ("aiormq", "aio_pika", "aiohttp", "asyncio")


def configure_logging(*, log_format: str, level: str) -> None:
    """Send this process's logs to standard error, in *log_format* (``json`` or ``console``)."""
    finish: list[Processor] = [redact]
    if log_format == "json":
        finish.append(structlog.processors.JSONRenderer(serializer=_to_json))
    else:
        finish.append(structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty()))
    begin: list[Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.processors.TimeStamper(fmt="iso", utc=True, key="ts"),
        structlog.processors.format_exc_info,
    ]
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=begin,
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *finish],
        )
    )
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(_LEVELS[level])
    for library in _LIBRARIES:
        logging.getLogger(library).setLevel(max(_LEVELS[level], logging.WARNING))
    quiet_libraries()
    structlog.configure(
        processors=[
            structlog.stdlib.filter_by_level,
            *begin,
            structlog.stdlib.ProcessorFormatter.wrap_for_formatter,
        ],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=True,
    )


def _to_json(event: object, **_: object) -> str:
    return orjson.dumps(event, default=repr).decode()


def redact(_: object, __: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """Take out what must not be seen: the last step before an event is written.

    ``code`` is kept where it is a provider's error code, a number; a one-time password is text.
    """
    for key, value in event.items():
        event[key] = _redacted(key, value)
    return event


def _redacted(key: object, value: object) -> object:
    if value is None or isinstance(value, (bool, int, float)):
        return value
    if key in _SECRET_KEYS:
        return "[hidden]"
    if isinstance(value, dict):
        return {name: _redacted(name, inner) for name, inner in value.items()}
    if isinstance(value, (list, tuple)):
        return [_redacted(None, inner) for inner in value]
    return redact_text(value if isinstance(value, str) else repr(value))


def redact_text(text: str) -> str:
    """Hide phone numbers, passwords in URLs, and all of a message id but its end."""
    text = _PASSWORD.sub(r"\1:***@", text)
    text = _WAMID.sub(lambda match: f"…{match[0][-8:]}", text)
    return _NUMBER.sub(lambda match: f"{match[0][:3]}***{match[0][-2:]}", text)
