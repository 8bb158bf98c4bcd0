"""Meta's WhatsApp Cloud API: the request, what its answers mean, and sending."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, Any, Final

import orjson
import structlog
from yarl import URL

from otpost_worker.clocks import ClockWatch, clock_offset_s
from otpost_worker.masking import MAX_TEXT, without
from otpost_worker.outcome import Accepted, Error, Kind, Outcome, Refused, Unknown
from otpost_worker.providers.cloud_api_codes import (
    DEFAULT_API_BASE,
    DEFAULT_API_VERSION,
    Rule,
    remedy_of,
    rule_of,
    rule_of_report,
    rule_of_status,
)
from otpost_worker.providers.http import Reply, post
from otpost_worker.providers.token_file import TokenFile

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from pathlib import Path

    import aiohttp

    from otpost_worker.ports import Clock, Message
    from otpost_worker.updates import ProviderError

NAME: Final = "cloud_api"
# Whose clock the Date header tells.
PROVIDER: Final = "the provider"
_MAX_WAIT_S: Final = 24 * 3600.0
_TRACE_HEADERS: Final = ("x-fb-trace-id", "x-fb-request-id", "x-fb-debug")

_log = structlog.get_logger("otpost.cloud_api")


def request_body(message: Message) -> bytes:
    """Encode the message. The code stands in it twice, in the body and in the button, as the template asks for it.

    ``to`` goes with its ``+``: without it Meta would prepend the business number's own country code.
    """
    code = [{"type": "text", "text": message.code}]
    return orjson.dumps(
        {
            "messaging_product": "whatsapp",
            "recipient_type": "individual",
            "to": message.to,
            "biz_opaque_callback_data": message.callback,
            "type": "template",
            "template": {
                "name": message.template,
                "language": {"code": message.language},
                "components": [
                    {"type": "body", "parameters": code},
                    {"type": "button", "sub_type": "url", "index": "0", "parameters": code},
                ],
            },
        }
    )


def outcome_of(reply: Reply, message: Message, *, now: float) -> Outcome:
    """Judge an answer. Nothing of what it echoes of *message* gets into the outcome's texts."""
    answer = _object(reply.body)
    if 200 <= reply.status < 300:
        return _taken(answer, reply)
    error = answer.get("error")
    fields: Mapping[str, Any] = error if isinstance(error, dict) else {}
    code, subcode = _integer(fields.get("code")), _integer(fields.get("error_subcode"))
    transient = fields.get("is_transient") is True
    if code is None:
        rule = rule_of_status(reply.status, transient=transient)
    else:
        rule = rule_of(code, subcode, status=reply.status, transient=transient)
    asked_s = retry_after_s(reply.headers.get("Retry-After"), now=now)
    if rule.kind is Kind.QUOTA:
        asked_s = quota_pause_s(reply.headers.get("x-business-use-case-usage")) or asked_s
    return Refused(
        Error(
            kind=rule.kind,
            code=code,
            title=without(fields.get("message"), number=message.to, code=message.code) or f"HTTP status {reply.status}",
            detail=without(_details(fields), number=message.to, code=message.code),
            http_status=reply.status,
            provider_trace_id=_trace_id(fields, reply.headers),
        ),
        not_before_s=max(asked_s or 0.0, rule.min_wait_s or 0.0) or None,
        max_retries=rule.max_retries,
        listed=rule.listed,
    )


def refusal_of_report(error: ProviderError) -> Refused:
    """Judge a failure that was reported by webhook; a code that comes both ways means the same."""
    rule = Rule(Kind.BAD_REQUEST, listed=False) if error.code is None else rule_of_report(error.code)
    return Refused(
        Error(rule.kind, error.code, error.title or "Not delivered", error.detail),
        not_before_s=rule.min_wait_s,
        max_retries=rule.max_retries,
        listed=rule.listed,
    )


def _taken(answer: Mapping[str, Any], reply: Reply) -> Accepted | Unknown:
    messages = answer.get("messages")
    first = messages[0] if isinstance(messages, list) and messages and isinstance(messages[0], dict) else {}
    message_id, status = first.get("id"), first.get("message_status")
    if isinstance(message_id, str) and message_id:
        return Accepted(message_id, _message_status(status))
    return Unknown(
        Error(
            Kind.UNKNOWN,
            title="Success without a message id",
            detail="the provider's answer could not be understood",
            http_status=reply.status,
            provider_trace_id=_trace_id({}, reply.headers),
        )
    )


def _message_status(status: object) -> str | None:
    """Read why a message is not passed on at once; None where it is. Results carry it: a word and nothing else."""
    if not isinstance(status, str) or status == "accepted":
        return None
    return status.lower() if re.fullmatch(r"[A-Za-z_]{1,64}", status) else "unknown"


def retry_after_s(value: str | None, *, now: float) -> float | None:
    """Read a Retry-After header, seconds or a date (RFC 9110 10.2.3); None where it says nothing usable.

    Meta does not document the header, so what cannot be read is not there.
    """
    if value is None:
        return None
    if re.fullmatch(r"[0-9]{1,9}(\.[0-9]{1,6})?", value.strip()):
        return min(float(value), _MAX_WAIT_S)
    try:
        moment = parsedate_to_datetime(value)
    except (ValueError, TypeError, OverflowError):
        return None
    wait = (moment if moment.tzinfo else moment.replace(tzinfo=UTC)) - datetime.fromtimestamp(now, UTC)
    return min(wait.total_seconds(), _MAX_WAIT_S) if wait.total_seconds() > 0 else None


def quota_pause_s(header: str | None) -> float | None:
    """Read from a usage header how long the quota stays exhausted; its longest time counts.

    Meta gives ``estimated_time_to_regain_access`` in minutes, in lists by business.
    """
    usage = _object(header.encode(errors="replace")) if header else {}
    rows: Iterable[Any] = (row for rows in usage.values() if isinstance(rows, list) for row in rows)
    minutes = [
        float(value)
        for row in rows
        if isinstance(row, dict)
        and isinstance(value := row.get("estimated_time_to_regain_access"), (int, float))
        and not isinstance(value, bool)
        and 0 < value < _MAX_WAIT_S
    ]
    return min(max(minutes) * 60, _MAX_WAIT_S) if minutes else None


def _object(body: bytes | None) -> dict[str, Any]:
    try:
        decoded = orjson.loads(body or b"")
    except orjson.JSONDecodeError:
        return {}
    return decoded if isinstance(decoded, dict) else {}


def _integer(value: object) -> int | None:
    if isinstance(value, bool):
        return None
    if isinstance(value, int):
        return value
    return int(value) if isinstance(value, str) and re.fullmatch(r"[0-9]{1,9}", value) else None


def _details(fields: Mapping[str, Any]) -> str | None:
    data = fields.get("error_data")
    details = data.get("details") if isinstance(data, dict) else data
    return details if isinstance(details, str) else None


def _trace_id(fields: Mapping[str, Any], headers: Mapping[str, str]) -> str | None:
    inside = fields.get("fbtrace_id")
    if isinstance(inside, str) and inside:
        return inside[:MAX_TEXT]
    header = next((headers[name] for name in _TRACE_HEADERS if name in headers), None)
    # Bytes that are no UTF-8 are half characters here, which nothing can be written with.
    return header[:MAX_TEXT].encode("ascii", errors="replace").decode() if header is not None else None


def is_token(text: str) -> bool:
    """Tell whether *text* can be an access token: printable ASCII without spaces, as it goes into a header."""
    return re.fullmatch(r"[!-~]+", text) is not None


@dataclass(frozen=True, slots=True)
class CloudApiAccount:
    """Where one sender's messages go, and with which token; the ``repr`` hides the token.

    *token_source* is the setting or the file where an operator can renew it; *token_file* is that file, where it is
    one that can be read again.
    """

    phone_number_id: str
    access_token: str
    api_base: str = DEFAULT_API_BASE
    api_version: str = DEFAULT_API_VERSION
    token_source: str = "OTPOST_ACCESS_TOKEN"  # noqa: S105 - the setting's name
    token_file: Path | None = None

    def __repr__(self) -> str:
        """Everything but the token."""
        return f"CloudApiAccount(phone_number_id={self.phone_number_id!r}, api_base={self.api_base!r})"


class CloudApi:
    """Implements ``ports.Provider`` for one sender, over a session and a watch that it shares with others."""

    def __init__(
        self,
        account: CloudApiAccount,
        session: aiohttp.ClientSession,
        *,
        clock: Clock,
        clock_watch: ClockWatch | None = None,
    ) -> None:
        self._session = session
        self._clock = clock
        self._clock_watch = clock_watch or ClockWatch(PROVIDER)
        self._token_source = account.token_source
        self._token_file = TokenFile(account.token_file, self._take_token) if account.token_file else None
        self._url = URL(f"{account.api_base.rstrip('/')}/{account.api_version}/{account.phone_number_id}/messages")
        self._token = account.access_token
        # Whether there is a new token of which the watch was not told yet.
        self._renewed = False

    @property
    def name(self) -> str:
        """What results call it."""
        return NAME

    async def send(self, message: Message) -> Outcome:
        """Make one request; see ``ports.Provider``."""
        sent_at, token = self._clock(), self._token
        headers = {"Authorization": f"Bearer {token}", "Content-Type": "application/json"}
        reply = await post(self._session, self._url, request_body(message), headers)
        if not isinstance(reply, Reply):
            return reply
        self._compare_clocks(reply.headers.get("Date"), sent_at)
        outcome = outcome_of(reply, message, now=self._clock())
        if isinstance(outcome, Refused) and outcome.error.kind is Kind.SENDER_HALTED:
            return await self._explained(outcome, token)
        return outcome

    async def _explained(self, refused: Refused, token: str) -> Refused:
        """Say what to do about a refusal of the sender; nothing, where only the *token* that was used is outdated."""
        await self.renew()
        if token != self._token:
            return replace(refused, outdated=True)
        read_again = self._token_file is not None
        remedy = remedy_of(refused.error.code, token_source=self._token_source, read_again=read_again)
        return replace(refused, remedy=remedy)

    async def renew(self) -> None:
        """Read the token's file again; see ``ports.Provider``."""
        if self._token_file is not None:
            await self._token_file.look()

    async def take_renewal(self) -> bool:
        """Tell of a new token, once; see ``ports.Provider``."""
        await self.renew()
        renewed, self._renewed = self._renewed, False
        return renewed

    def _take_token(self, token: str) -> None:
        # What can be no token is perhaps just being written; the old one goes on being refused until then.
        if token != self._token and is_token(token):
            self._token, self._renewed = token, True

    def _compare_clocks(self, date: str | None, sent_at: float) -> None:
        offset_s = clock_offset_s(date, sent_at=sent_at, received_at=self._clock())
        if offset_s is not None and (message := self._clock_watch.news(offset_s)):
            _log.warning("clock.compared", message=message)
