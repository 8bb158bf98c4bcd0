"""The simulated cloud: takes one request after the other and says what becomes of each.

No I/O and no clock in here: bytes, times and randomness come in, a journal entry and a behaviour come out.
The order of the checks: address, token, quota, the message's form, rules, templates, magic recipients,
limits.
"""

from __future__ import annotations

import base64
import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from .behaviour import ACCEPT, Accept, Behaviour, Magic, Refuse, Reply, magic
from .errors import ErrorAnswer, error_answer, expired_token, unknown_object, unknown_path
from .journal import Entry, Journal
from .limits import Limits, LimitSettings
from .messages import Glimpse, Message, glimpse, parse_json, read_message
from .numbers import Impairment, describe
from .rules import Rule, RuleBook
from .webhooks import WebhookSettings

if TYPE_CHECKING:
    from collections.abc import Mapping

    from .control import Quota
    from .webhooks import Plan

_VERSION: Final = re.compile(r"v[0-9]{1,3}\.[0-9]{1,2}")
_NUMBER_ID: Final = re.compile(r"[0-9]{1,30}")
_ERROR_CLASSES: Final = (4, 5)
# Magic recipients are remembered for as long as a long test can need; then the oldest are forgotten.
_MAX_MAGIC: Final = 1_000_000
_TEMPLATE_CODES: Final = (("missing", 132001), ("paused", 132015), ("disabled", 132016))


@dataclass(frozen=True, slots=True)
class TemplateLists:
    """Templates that are not approved, as (name, language) pairs; the language `*` means every language."""

    missing: frozenset[tuple[str, str]] = frozenset()
    paused: frozenset[tuple[str, str]] = frozenset()
    disabled: frozenset[tuple[str, str]] = frozenset()

    @classmethod
    def of(cls, lists: Mapping[str, frozenset[tuple[str, str]]]) -> TemplateLists:
        """From lists by state, as the control endpoint takes them."""
        return cls(lists["missing"], lists["paused"], lists["disabled"])

    def refusal(self, name: str, language: str) -> ErrorAnswer | None:
        """Meta's error for a template on one of the lists."""
        if not (self.missing or self.paused or self.disabled):
            return None
        for state, code in _TEMPLATE_CODES:
            pairs: frozenset[tuple[str, str]] = getattr(self, state)
            if (name, language) in pairs or (name, "*") in pairs:
                return error_answer(code)
        return None


@dataclass(frozen=True, slots=True)
class SimulatorOptions:
    """How a simulator starts. Limits, token and templates can be replaced while it runs.

    `port` 0 takes a free one. `access_token` None accepts any token. `country_code` is the business
    number's own, put in front of a `to` without `+`. `rate` is in messages per second and number (0 = no
    limit); `pair_interval_s` in seconds; the limits' defaults are Meta's. `throttle_status` is the HTTP
    status of 130429. `journal_limit` holds for requests and for reports. `webhooks`: none without a URL.
    """

    host: str = "127.0.0.1"
    port: int = 0
    access_token: str | None = None
    country_code: str = "1"
    rate: float = 80.0
    pair: bool = True
    pair_interval_s: float = 6.0
    pair_burst: int = 45
    throttle_status: int = 400
    templates: TemplateLists = field(default_factory=TemplateLists)
    journal_limit: int = 1_000_000
    webhooks: WebhookSettings = field(default_factory=WebhookSettings)

    def __post_init__(self) -> None:
        if self.rate < 0 or self.pair_interval_s <= 0 or self.pair_burst < 1 or self.journal_limit < 1:
            raise ValueError("rate must be 0 or more, pair_interval_s, pair_burst and journal_limit more than 0")
        if self.throttle_status // 100 not in _ERROR_CLASSES:
            raise ValueError("throttle_status must be an HTTP error status, such as 400 or 429")
        if self.access_token is not None and not self.access_token.strip():
            raise ValueError("access_token must not be empty; None accepts any token")

    @property
    def limits(self) -> LimitSettings:
        """The limits to start with."""
        return LimitSettings(self.rate, self.pair, self.pair_interval_s, self.pair_burst, self.throttle_status)


@dataclass(frozen=True, slots=True)
class Arrival:
    """A send request as it came in: the address's two parts, two headers, the body."""

    version: str
    phone_number_id: str
    authorization: str | None
    content_type: str
    body: bytes


@dataclass(frozen=True, slots=True)
class Question:
    """A question about a business number: the address's two parts, a header, and the fields that are asked for."""

    version: str
    phone_number_id: str
    authorization: str | None
    fields: str | None


@dataclass(frozen=True, slots=True)
class Verdict:
    """What becomes of a request: its entry in the journal, how it is answered, and what is reported of the message.

    `plan` None is the plan for everybody.
    """

    entry: Entry
    behaviour: Behaviour
    plan: Plan | None = None


@dataclass(frozen=True, slots=True)
class _Ruling:
    behaviour: Behaviour
    refused_by: str | None = None
    plan: Plan | None = None


class Cloud:
    """The state of the simulated cloud. `salt` (random bytes) keeps the ids of two runs apart."""

    def __init__(self, options: SimulatorOptions, salt: bytes) -> None:
        self.options = options
        self.access_token = options.access_token
        self.templates = options.templates
        self.impairments: tuple[Impairment, ...] = ()
        self.limits = Limits(options.limits)
        self.rules = RuleBook()
        self.journal = Journal(options.journal_limit)
        self._salt = salt[:5].ljust(5, b"\0")
        self._quota: Quota | None = None
        self._quota_until = 0.0
        self._magic_seen: dict[str, int] = {}

    def receive(self, arrival: Arrival, *, at: float, now: float) -> Verdict:
        """Judge one request.

        `at` is the time of day (epoch seconds), `now` a clock that never goes back (seconds).
        """
        payload = parse_json(arrival.content_type, arrival.body)
        read = payload if isinstance(payload, ErrorAnswer) else read_message(payload, self.options.country_code)
        token_problem = self._token_problem(arrival.authorization)
        ruling = self._rule(arrival, token_problem, read, now)
        seen = read if isinstance(read, Message) else glimpse(payload)
        entry = self._entry(arrival, seen, ruling, at, token_ok=token_problem is None)
        if isinstance(read, ErrorAnswer):
            entry.invalid = read.details or read.message
        self.journal.record(entry)
        return Verdict(entry, ruling.behaviour, ruling.plan)

    def ask_number(self, question: Question, *, now: float) -> dict[str, Any] | ErrorAnswer:
        """Tell about a business number; `now` is a clock that never goes back (seconds)."""
        if problem := _number_problem("GET", question.version, question.phone_number_id):
            return problem
        if problem := self._token_problem(question.authorization):
            return problem
        if self._quota is not None and now < self._quota_until:
            return error_answer(self._quota.code, regain_minutes=self._quota.minutes)
        return describe(question.phone_number_id, question.fields, self.impairments)

    def exhaust(self, quota: Quota, now: float) -> None:
        """Refuse every call for the quota's seconds from `now`."""
        self._quota, self._quota_until = quota, now + quota.seconds

    def set_limits(self, settings: LimitSettings) -> None:
        """Other limits from now on; what was sent so far is forgotten."""
        self.limits = Limits(settings)

    def clear(self) -> None:
        """Forget the requests so far, also how often magic recipients were tried."""
        self.journal.clear()
        self._magic_seen.clear()

    def trace_id(self, number: int) -> str:
        """An id for support, different for each request of a run."""
        return "A" + base64.urlsafe_b64encode(self._salt * 2 + number.to_bytes(5, "big")).decode()

    def _rule(
        self, arrival: Arrival, token_problem: ErrorAnswer | None, read: Message | ErrorAnswer, now: float
    ) -> _Ruling:
        if address_problem := _number_problem("POST", arrival.version, arrival.phone_number_id):
            return _Ruling(Refuse(address_problem))
        if token_problem is not None:
            return _Ruling(Refuse(token_problem), "token")
        if self._quota is not None and now < self._quota_until:
            answer = error_answer(self._quota.code, regain_minutes=self._quota.minutes)
            return _Ruling(Refuse(answer), "quota")
        if isinstance(read, ErrorAnswer):
            return _Ruling(Refuse(read))
        return self._send(arrival.phone_number_id, read, now)

    def _send(self, phone_number_id: str, message: Message, now: float) -> _Ruling:
        rule = self.rules.find(phone_number_id, message)
        wanted: Magic | None = None
        behaviour: Behaviour = ACCEPT
        plan: Plan | None = None
        if rule is not None:
            behaviour, plan = rule.behaviour, rule.plan
        elif refusal := self.templates.refusal(message.template, message.language):
            return _Ruling(Refuse(refusal))
        elif (wanted := self._magic(message)) is not None:
            behaviour, plan = wanted.behaviour, wanted.plan
        # Only what is taken counts against the limits, and what they refuse spends neither a rule nor a try.
        if behaviour.taken and (limit := self.limits.take(phone_number_id, message.wa_id, now)):
            return _Ruling(self._throttled(limit), limit)
        self._spend(rule, wanted, message.wa_id)
        return _Ruling(behaviour, plan=plan)

    def _magic(self, message: Message) -> Magic | None:
        wanted = magic(message.wa_id)
        if wanted is None or not wanted.holds(self._magic_seen.get(message.wa_id, 0)):
            return None
        return wanted

    def _spend(self, rule: Rule | None, wanted: Magic | None, wa_id: str) -> None:
        if rule is not None:
            self.rules.spend(rule)
        elif wanted is not None and wanted.times:
            self._magic_seen[wa_id] = self._magic_seen.get(wa_id, 0) + 1
            if len(self._magic_seen) > _MAX_MAGIC:
                del self._magic_seen[next(iter(self._magic_seen))]

    def _throttled(self, limit: str) -> Refuse:
        if limit == "pair":
            return Refuse(error_answer(131056))
        return Refuse(error_answer(130429, http_status=self.limits.settings.throttle_status))

    def _token_problem(self, authorization: str | None) -> ErrorAnswer | None:
        scheme, _, token = (authorization or "").partition(" ")
        token = token.strip()
        if scheme.lower() != "bearer" or not token:
            return error_answer(104)
        if self.access_token is not None and token != self.access_token:
            return expired_token()
        return None

    def _entry(self, arrival: Arrival, seen: Message | Glimpse, ruling: _Ruling, at: float, *, token_ok: bool) -> Entry:
        behaviour, seq = ruling.behaviour, self.journal.next_seq
        entry = Entry(
            seq=seq,
            at=at,
            phone_number_id=arrival.phone_number_id[:30],
            outcome=behaviour.outcome,
            taken=behaviour.taken,
            token_ok=token_ok,
            to=seen.to,
            code=seen.code,
            template=seen.template,
            language=seen.language,
            callback=seen.callback,
            refused_by=ruling.refused_by,
        )
        if isinstance(seen, Message):
            entry.recipient, entry.prepended = seen.wa_id, seen.prepended
        if seen.code and seen.callback:
            entry.code_in_callback = seen.code in seen.callback
        if behaviour.taken and isinstance(seen, Message):
            entry.wamid = wamid(seen.wa_id, self._salt, seq)
        _note_answer(entry, behaviour)
        return entry


def _note_answer(entry: Entry, behaviour: Behaviour) -> None:
    if isinstance(behaviour, Accept):
        entry.http_status = 200
    elif isinstance(behaviour, Reply):
        entry.http_status = behaviour.status
    elif isinstance(behaviour, Refuse):
        entry.http_status, entry.error_code = behaviour.error.http_status, behaviour.error.code


def is_version(text: str) -> bool:
    """Whether this part of an address is a Graph version, like v25.0."""
    return _VERSION.fullmatch(text) is not None


def _number_problem(method: str, version: str, phone_number_id: str) -> ErrorAnswer | None:
    if not is_version(version):
        return unknown_path(f"/{version[:60]}")
    if not _NUMBER_ID.fullmatch(phone_number_id):
        return unknown_object(method, phone_number_id[:60])
    return None


def wamid(recipient: str, salt: bytes, number: int) -> str:
    """A message id like Meta's: base64 of the recipient's digits and a unique part."""
    unique = (salt[:5] + number.to_bytes(4, "big")).hex().upper().encode()
    digits = recipient.encode()
    number_part = b"\x1c\x18" + bytes([len(digits)]) + digits
    raw = number_part + b"\x15\x02\x00\x11\x18" + bytes([len(unique)]) + unique + b"\x00"
    return "wamid." + base64.b64encode(raw).decode()


def wa_id_of(entry: Entry, behaviour: Behaviour) -> str:
    """The digits of the number that gets the message, as Meta writes them."""
    wa_id = entry.recipient or ""
    if isinstance(behaviour, Accept) and behaviour.new_wa_id:
        # Brazil and Mexico: a digit comes or goes behind the country code.
        return wa_id[:2] + "9" + wa_id[2:]
    return wa_id


def success_body(entry: Entry, behaviour: Accept) -> dict[str, object]:
    """The JSON object that confirms a message: accepted, which is not delivered."""
    message = {"id": entry.wamid}
    if behaviour.message_status is not None:
        message["message_status"] = behaviour.message_status
    return {
        "messaging_product": "whatsapp",
        "contacts": [{"input": entry.to, "wa_id": wa_id_of(entry, behaviour)}],
        "messages": [message],
    }
