"""Rules: whose next messages get which behaviour. They come before the magic recipients.

Pure, but for the count of how often a rule may still be used.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Final

from .behaviour import ACCEPT, BY_NAME, Behaviour, Refuse, Reply
from .control import ControlError, Fields, shown
from .errors import error_answer
from .webhooks.plans import parse_plan

if TYPE_CHECKING:
    from .messages import Message
    from .webhooks.plans import Plan

MAX_RULES: Final = 1000
_MAX_HEADER: Final = 1000
_SUCCESS: Final = 2
_MAX_DELAY_S: Final = 120.0
_HEADER_NAME: Final = re.compile(r"[A-Za-z0-9-]{1,100}")
# The server sets these from the body itself; another value would break the connection, not the answer.
_FRAMING: Final = frozenset({"content-length", "transfer-encoding", "connection"})
_ANSWER: Final = (
    "error",
    "http_status",
    "is_transient",
    "subcode",
    "retry_after",
    "details",
    "minutes",
    "behaviour",
    "status",
    "body",
    "headers",
    "taken",
)
_ERROR_ONLY: Final = _ANSWER[1:7]
_REPLY_ONLY: Final = _ANSWER[9:]


@dataclass(frozen=True, slots=True)
class Match:
    """Which messages a rule is about: all that is said must be true, nothing said is everybody."""

    phone_number_id: str | None = None
    to: str | None = None
    to_prefix: str | None = None
    template: str | None = None

    def fits(self, phone_number_id: str, message: Message) -> bool:
        """Whether this message is meant. Numbers are compared as digits with their `+`."""
        number = "+" + message.wa_id
        return (
            (self.phone_number_id is None or self.phone_number_id == phone_number_id)
            and (self.to is None or self.to == number)
            and (self.to_prefix is None or number.startswith(self.to_prefix))
            and (self.template is None or self.template == message.template)
        )


@dataclass(frozen=True, slots=True)
class Rule:
    """A behaviour for the messages that fit, `times` times (None = for ever), and the plan of what is reported of them.

    `plan` None is the plan for everybody.
    """

    match: Match
    behaviour: Behaviour
    times: int | None
    plan: Plan | None
    source: dict[str, Any]


class RuleBook:
    """The rules in force, oldest first; the first that fits wins, a spent one is gone."""

    def __init__(self) -> None:
        self._rules: list[Rule] = []

    def add(self, rule: Rule) -> None:
        """Put a rule behind the others."""
        if len(self._rules) >= MAX_RULES:
            raise ControlError(f"there are {MAX_RULES} rules already; DELETE /_simulator/rules first.")
        self._rules.append(rule)

    def clear(self) -> None:
        """Forget all rules."""
        self._rules.clear()

    def find(self, phone_number_id: str, message: Message) -> Rule | None:
        """The rule for this message."""
        for rule in self._rules:
            if rule.match.fits(phone_number_id, message):
                return rule
        return None

    def spend(self, rule: Rule) -> None:
        """The rule was used once."""
        if rule.times is None:
            return
        position = next(index for index, held in enumerate(self._rules) if held is rule)
        if rule.times == 1:
            del self._rules[position]
        else:
            self._rules[position] = replace(rule, times=rule.times - 1)

    def listed(self) -> list[dict[str, Any]]:
        """The rules as they were posted, `times` being what is left of it."""
        return [{**rule.source, "times": rule.times} for rule in self._rules]


def parse_rule(payload: object) -> Rule:
    """The body of POST /_simulator/rules."""
    fields = Fields.of(payload, "the rule", ("match", "times", "answer", "delay_s", "webhooks"))
    behaviour = _answer(fields.values.get("answer"))
    delay_s = fields.number("delay_s", 0, _MAX_DELAY_S)
    if delay_s is not None:
        behaviour = replace(behaviour, delay_s=delay_s)
    asked = fields.values.get("webhooks")
    plan = None if asked is None else parse_plan(asked, "the rule: webhooks")
    return Rule(_match(fields.values.get("match")), behaviour, fields.whole("times", 1), plan, dict(fields.values))


def _match(value: object) -> Match:
    fields = Fields.of({} if value is None else value, "match", ("phone_number_id", "to", "to_prefix", "template"))
    for name in ("to", "to_prefix"):
        number = fields.text(name)
        if number is not None and not re.fullmatch(r"\+[0-9]{0,15}", number):
            raise ControlError(f"match: {name} must be + and digits, like +12015553931; got {shown(number)}.")
    return Match(fields.text("phone_number_id"), fields.text("to"), fields.text("to_prefix"), fields.text("template"))


def _answer(value: object) -> Behaviour:
    if value is None:
        return ACCEPT
    fields = Fields.of(value, "answer", _ANSWER)
    kinds = [kind for kind in ("error", "behaviour", "status") if kind in fields]
    if len(kinds) != 1:
        raise ControlError("answer must have exactly one of error (a code), behaviour (a name), status (HTTP).")
    _only(fields, kinds[0])
    if kinds[0] == "error":
        return _error(fields)
    return _named(fields) if kinds[0] == "behaviour" else _reply(fields)


def _only(fields: Fields, kind: str) -> None:
    allowed = {"error": _ERROR_ONLY, "behaviour": (), "status": _REPLY_ONLY}[kind]
    if strangers := sorted(fields.values.keys() - {kind, *allowed}):
        raise ControlError(
            f"answer: {strangers[0]} does not go with {kind}; beside it there may be: "
            f"{', '.join(allowed) or 'nothing'}."
        )


def _error(fields: Fields) -> Refuse:
    code = fields.whole("error", 0)
    if code is None:
        raise ControlError("answer: error must be one of Meta's codes, like 130429; got null.")
    answer = error_answer(
        code,
        details=fields.text("details"),
        http_status=fields.whole("http_status", 400, 599),
        subcode=fields.whole("subcode", 0),
        is_transient=fields.flag("is_transient"),
        retry_after=_header_value(fields.text("retry_after"), "retry_after"),
        regain_minutes=fields.whole("minutes", 0, 100_000),
    )
    return Refuse(answer)


def _named(fields: Fields) -> Behaviour:
    name = fields.text("behaviour")
    if name is None or name not in BY_NAME:
        raise ControlError(f"answer: there is no behaviour {shown(name)}; there are {', '.join(BY_NAME)}.")
    return BY_NAME[name]


def _reply(fields: Fields) -> Reply:
    status = fields.whole("status", 200, 599)
    if status is None:
        raise ControlError("answer: status must be an HTTP status from 200 to 599; got null.")
    body = (fields.text("body") or "").encode()
    if body and status in (204, 304):
        raise ControlError(f"answer: HTTP {status} has no body; leave body out.")
    taken = fields.flag("taken")
    return Reply("custom", status, body, status // 100 == _SUCCESS if taken is None else taken, _headers(fields))


def _headers(fields: Fields) -> tuple[tuple[str, str], ...]:
    given = fields.values.get("headers")
    headers = Fields.of({} if given is None else given, "headers", tuple(given) if isinstance(given, dict) else ())
    return tuple((_header_name(name), _header_value(headers.text(name), name) or "") for name in headers.values)


def _header_name(name: str) -> str:
    if not _HEADER_NAME.fullmatch(name) or name.lower() in _FRAMING:
        raise ControlError(f"headers: {name[:80]!r} cannot be set; use letters, digits, -; framing is taken.")
    return name


def _header_value(value: str | None, name: str) -> str | None:
    if value is not None and not (value.isascii() and value.isprintable() and len(value) <= _MAX_HEADER):
        raise ControlError(
            f"answer: {name[:80]} must be printable ASCII on one line, at most {_MAX_HEADER} characters."
        )
    return value
