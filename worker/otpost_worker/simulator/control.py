"""What the control endpoints take: JSON and query strings to values.

Pure. Every refusal is a `ControlError` whose text says what is wrong, where, and what to write instead.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Final

import orjson

if TYPE_CHECKING:
    from collections.abc import Mapping

    from .limits import LimitSettings

MAX_PAGE: Final = 100_000
MAX_WAIT_S: Final = 600.0
_QUOTA_CODES: Final = (4, 80007)
_SHOWN: Final = 80
_MAX_DIGITS: Final = 15
_MAX_INT: Final = 2**53


class ControlError(ValueError):
    """A control request that makes no sense; the text is meant for whoever wrote it."""


@dataclass(frozen=True, slots=True)
class Fields:
    """A JSON object of a control request, whose fields are taken out one by one by type."""

    where: str
    values: Mapping[str, Any]

    @classmethod
    def of(cls, value: object, where: str, allowed: tuple[str, ...]) -> Fields:
        """Refuse anything but an object with some of the `allowed` fields."""
        if not isinstance(value, dict):
            raise ControlError(f"{where} must be a JSON object with some of {_listed(allowed)}; got {shown(value)}.")
        if strangers := sorted(value.keys() - set(allowed)):
            raise ControlError(f"{where} has no field {strangers[0][:80]!r}; it has {_listed(allowed)}.")
        return cls(where, value)

    def __contains__(self, name: str) -> bool:
        return name in self.values

    def text(self, name: str) -> str | None:
        """A string, or None when it is absent or null."""
        value = self.values.get(name)
        if value is None or isinstance(value, str):
            return value
        raise self._wrong(name, "a string")

    def flag(self, name: str) -> bool | None:
        """True, false, or None when it is absent or null."""
        value = self.values.get(name)
        if value is None or isinstance(value, bool):
            return value
        raise self._wrong(name, "true or false")

    def whole(self, name: str, low: int, high: int = _MAX_INT) -> int | None:
        """A whole number from `low` to `high`, or None when it is absent or null."""
        value = self.values.get(name)
        if value is None:
            return None
        if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
            raise self._wrong(name, f"a whole number from {low} to {high}")
        return value

    def number(self, name: str, low: float, high: float) -> float | None:
        """A number from `low` to `high`, or None when it is absent or null."""
        value = self.values.get(name)
        if value is None:
            return None
        if isinstance(value, bool) or not isinstance(value, int | float) or not low <= value <= high:
            raise self._wrong(name, f"a number from {low:g} to {high:g}")
        return float(value)

    def items(self, name: str) -> list[object]:
        """An array; empty when it is absent or null."""
        value = self.values.get(name)
        if value is None:
            return []
        if not isinstance(value, list):
            raise self._wrong(name, "an array")
        return value

    def _wrong(self, name: str, expected: str) -> ControlError:
        return ControlError(f"{self.where}: {name} must be {expected}; got {shown(self.values[name])}.")


@dataclass(frozen=True, slots=True)
class Page:
    """A look into the journal: entries after `since`, at most `limit`; waits up to `timeout_s` for totals."""

    since: int = 0
    limit: int = 10_000
    wait: int = 0
    wait_taken: int = 0
    timeout_s: float = 30.0


@dataclass(frozen=True, slots=True)
class Quota:
    """Calls are refused with `code` for `seconds`; the usage headers say `minutes`."""

    seconds: float
    code: int = 4
    minutes: int = 1


def parse_body(body: bytes) -> object:
    """The JSON of a control request."""
    try:
        payload: object = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise ControlError(f"the body must be JSON: {error}. Send one JSON object.") from None
    return payload


def parse_page(query: Mapping[str, str]) -> Page:
    """The query of GET /_simulator/requests."""
    allowed = ("since", "limit", "wait", "wait_taken", "timeout_s")
    fields = Fields.of({name: numeric(name, text) for name, text in query.items()}, "the query", allowed)
    given: dict[str, Any] = {
        "since": fields.whole("since", 0),
        "limit": fields.whole("limit", 1, MAX_PAGE),
        "wait": fields.whole("wait", 0),
        "wait_taken": fields.whole("wait_taken", 0),
        "timeout_s": fields.number("timeout_s", 0, MAX_WAIT_S),
    }
    return Page(**_present(given))


def parse_limits(payload: object, current: LimitSettings) -> LimitSettings:
    """The body of PUT /_simulator/limits; what it leaves out stays as it is."""
    allowed = ("rate", "pair", "pair_interval_s", "pair_burst", "throttle_status")
    fields = Fields.of(payload, "limits", allowed)
    given: dict[str, Any] = {
        "rate": fields.number("rate", 0, 1e6),
        "pair": fields.flag("pair"),
        "pair_interval_s": fields.number("pair_interval_s", 0.001, 86400),
        "pair_burst": fields.whole("pair_burst", 1, 1_000_000),
        "throttle_status": fields.whole("throttle_status", 400, 599),
    }
    return replace(current, **_present(given))


def parse_token(payload: object) -> str | None:
    """The body of PUT /_simulator/token: the one token that is accepted, or null for any."""
    fields = Fields.of(payload, "token", ("access_token",))
    if "access_token" not in fields:
        raise ControlError('token: access_token is missing; write {"access_token": "..."}, or null for any.')
    token = fields.text("access_token")
    if token is not None and (not token or token != token.strip()):
        raise ControlError("token: access_token must not be empty or padded; write null to accept any token.")
    return token


def parse_quota(payload: object) -> Quota:
    """The body of PUT /_simulator/quota; 0 seconds ends the shortage."""
    fields = Fields.of(payload, "quota", ("seconds", "code", "minutes"))
    seconds = fields.number("seconds", 0, 86400)
    if seconds is None:
        raise ControlError('quota: seconds is missing; write {"seconds": 10}, or 0 to end the shortage.')
    given: dict[str, Any] = {"code": fields.whole("code", 0), "minutes": fields.whole("minutes", 0, 100_000)}
    quota = Quota(seconds, **_present(given))
    if quota.code not in _QUOTA_CODES:
        raise ControlError(f"quota: code must be 4 or 80007; got {quota.code}. Use a rule for other codes.")
    return quota


def parse_templates(payload: object) -> dict[str, frozenset[tuple[str, str]]]:
    """The body of PUT /_simulator/templates: (name, language) pairs by state, replacing all lists."""
    states = ("missing", "paused", "disabled")
    fields = Fields.of(payload, "templates", states)
    return {
        state: frozenset(
            _template(item, f"templates: {state}[{position}]") for position, item in enumerate(fields.items(state))
        )
        for state in states
    }


def _template(item: object, where: str) -> tuple[str, str]:
    fields = Fields.of(item, where, ("name", "language"))
    name, language = fields.text("name"), fields.text("language")
    if not name:
        raise ControlError(f'{where}: name is missing; write {{"name": "...", "language": "en_US"}}.')
    return name, language or "*"


def shown(value: object) -> str:
    """A value for a sentence: as JSON, cut where it gets long."""
    text = orjson.dumps(value, option=orjson.OPT_NON_STR_KEYS, default=repr).decode()
    return text if len(text) <= _SHOWN else text[: _SHOWN - 3] + "..."


def _present(given: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in given.items() if value is not None}


def _listed(names: tuple[str, ...]) -> str:
    return ", ".join(names)


def numeric(name: str, text: str) -> int | float | str:
    """A value of a query: a number where it is one; numbers with a point are for `timeout_s` alone."""
    if text.isascii() and text.isdigit() and len(text) <= _MAX_DIGITS:
        return int(text)
    try:
        value = float(text)
    except ValueError:
        return text
    return value if math.isfinite(value) and name == "timeout_s" else text
