"""What the simulator can do with a message, and the recipients that make it do so.

Pure. No real number begins with +999, +991 or +990: these country codes are reserved and spare.

`+999 CCCCCC T SSSSS`: an error. CCCCCC is Meta's code in six digits (000190 is 190), T says how many of the
first requests to this very number get it before one is accepted (0 = all of them), then 0 to 5 free digits
that make numbers distinct. `+999 130429 2 00001` is throttled twice, then accepted.

`+990 BB T S…`: a behaviour by its number BB in `BEHAVIOURS`, T as above, then 1 to 9 free digits. `+990 03
1 00007` takes the first message, cuts the connection without an answer, and answers properly from then on.
From 30 on BB is a plan in `PLANNED`: accepted, and then reported by webhook in some way.

`+991 CCCCCC T SSSSS`: accepted, then `failed` by webhook with code CCCCCC; T and the rest as with +999.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from enum import Enum
from typing import TYPE_CHECKING, Final

from .errors import ErrorAnswer, error_answer, invalid_parameter
from .webhooks.plans import PLANS, Plan, failing

if TYPE_CHECKING:
    from collections.abc import Mapping

TRAP: Final = "/_simulator/trap"
HUGE_BYTES: Final = 5_000_000
_QUOTA_MINUTES: Final = 1

Headers = tuple[tuple[str, str], ...]


class Manner(Enum):
    """How a success reaches the client."""

    WHOLE = "whole"
    HALF = "half"  # the headers and half of the body, then the connection is cut
    TRICKLE = "trickle"  # the body in ten pieces over a second
    HUGE = "huge"  # the same JSON, padded with spaces to HUGE_BYTES
    THEN_CLOSE = "then_close"  # kept alive by its headers, closed all the same right after


@dataclass(frozen=True, slots=True)
class Accept:
    """The message is taken and answered with its id. `new_wa_id`: Meta altered the number, as in Brazil."""

    outcome: str = "accepted"
    manner: Manner = Manner.WHOLE
    message_status: str | None = "accepted"
    new_wa_id: bool = False
    delay_s: float = 0.0
    taken: bool = field(default=True, init=False)


@dataclass(frozen=True, slots=True)
class Refuse:
    """The message is not taken; Meta's error says why."""

    error: ErrorAnswer
    outcome: str = "error"
    delay_s: float = 0.0
    taken: bool = field(default=False, init=False)


@dataclass(frozen=True, slots=True)
class Reply:
    """Any answer, byte by byte; `taken` says whether the message reaches a handset all the same."""

    outcome: str
    status: int
    body: bytes
    taken: bool
    headers: Headers = ()
    delay_s: float = 0.0


@dataclass(frozen=True, slots=True)
class Hang:
    """No answer, ever; the connection stays until the client goes (or 120 s)."""

    outcome: str
    taken: bool
    delay_s: float = 0.0


@dataclass(frozen=True, slots=True)
class Cut:
    """No answer; the connection is cut."""

    outcome: str
    taken: bool
    delay_s: float = 0.0


Behaviour = Accept | Refuse | Reply | Hang | Cut

ACCEPT: Final = Accept()
_JSON: Final[Headers] = (("Content-Type", "application/json; charset=UTF-8"),)
_HTML: Final[Headers] = (("Content-Type", "text/html"),)
_CONTACT: Final = b'{"messaging_product":"whatsapp","contacts":[{"input":"0","wa_id":"0"}]'

BEHAVIOURS: Final[Mapping[str, tuple[str, Behaviour]]] = {
    "01": ("hang", Hang("hang", taken=False)),
    "02": ("cut_before", Cut("cut_before", taken=False)),
    "03": ("cut_after", Cut("cut_after", taken=True)),
    "04": ("half_answer", Accept("half_answer", Manner.HALF)),
    "05": ("no_id", Reply("no_id", 200, _CONTACT + b"}", taken=True, headers=_JSON)),
    "06": (
        "html_500",
        Reply("html_500", 500, b"<html><body>Sorry</body></html>", taken=False, headers=_HTML),
    ),
    "07": (
        "unavailable_503",
        Reply("unavailable_503", 503, b"", taken=False, headers=(("Retry-After", "2"),)),
    ),
    "08": ("redirect", Reply("redirect", 307, b"", taken=False, headers=(("Location", TRAP),))),
    "09": ("huge_answer", Accept("huge_answer", Manner.HUGE)),
    "10": ("slow_1s", Accept(delay_s=1.0)),
    "11": ("held", Accept(message_status="held_for_quality_assessment")),
    "12": ("empty_400", Reply("empty_400", 400, b"", taken=False)),
    "13": ("invalid_json", Reply("invalid_json", 200, b'{"messages": [{"id": ', taken=True, headers=_JSON)),
    "14": ("empty_429", Reply("empty_429", 429, b"", taken=False, headers=(("Retry-After", "1"),))),
    "15": ("hang_after", Hang("hang_after", taken=True)),
    "16": ("transient", Refuse(error_answer(131000, is_transient=True))),
    "17": ("unknown_500", Refuse(error_answer(999999, http_status=500))),
    "18": ("slow_3s", Accept(delay_s=3.0)),
    "19": ("trickle", Accept(manner=Manner.TRICKLE)),
    "20": ("then_close", Accept(manner=Manner.THEN_CLOSE)),
    "21": (
        "empty_messages",
        Reply("empty_messages", 200, _CONTACT + b',"messages":[]}', taken=True, headers=_JSON),
    ),
    "22": ("paused", Accept(message_status="paused")),
    "23": ("no_status", Accept(message_status=None)),
    "24": ("new_wa_id", Accept(new_wa_id=True)),
    "25": (
        "not_utf8",
        Reply("not_utf8", 200, b'{"messages":[{"id":"\xff\xfe"}]}', taken=True, headers=_JSON),
    ),
    "26": (
        "text_error_data",
        Reply(
            "text_error_data",
            400,
            b'{"error":{"message":"(#100) Invalid parameter","type":"OAuthException","code":100,"error_data":"text"}}',
            taken=False,
            headers=_JSON,
        ),
    ),
    "27": ("bare_error", Reply("bare_error", 500, b'{"error":"oops"}', taken=False, headers=_JSON)),
    "28": (
        "bad_gateway",
        Reply("bad_gateway", 502, b"<html>502 Bad Gateway</html>", taken=False, headers=_HTML),
    ),
}

_HELD: Final = Accept(message_status="held_for_quality_assessment")

# Accepted, and reported by webhook so.
PLANNED: Final[Mapping[str, tuple[Accept, Plan]]] = {
    "30": (ACCEPT, PLANS["delivered"]),
    "31": (ACCEPT, PLANS["read"]),
    "32": (ACCEPT, PLANS["never"]),
    "33": (ACCEPT, PLANS["sent_only"]),
    "34": (ACCEPT, PLANS["delivered_without_sent"]),
    "35": (ACCEPT, PLANS["read_without_delivered"]),
    "36": (ACCEPT, PLANS["failed_after_delivered"]),
    "37": (ACCEPT, PLANS["delivered_after_failed"]),
    "38": (ACCEPT, PLANS["reversed"]),
    "39": (ACCEPT, PLANS["twice"]),
    "40": (ACCEPT, PLANS["linked_devices"]),
    "41": (ACCEPT, PLANS["before_answer"]),
    "42": (_HELD, PLANS["never"]),
    "43": (_HELD, PLANS["failed_template"]),
    "44": (_HELD, PLANS["delivered"]),
}

BY_NAME: Final[Mapping[str, Behaviour]] = {"accept": ACCEPT, **dict(BEHAVIOURS.values())}

_ERROR: Final = re.compile(r"99(9|1)([0-9]{6})([0-9])[0-9]{0,5}")
_BY_WEBHOOK: Final = "1"
_BEHAVIOUR: Final = re.compile(r"990([0-9]{2})([0-9])[0-9]{1,9}")


@dataclass(frozen=True, slots=True)
class Magic:
    """What a magic recipient asks for: the behaviour, and for how many of its first requests (0 = all).

    `plan` is what is then reported by webhook; None is the plan for everybody.
    """

    behaviour: Behaviour
    times: int
    plan: Plan | None = None

    def holds(self, seen: int) -> bool:
        """Whether the behaviour still applies after `seen` requests that had it."""
        return self.times == 0 or seen < self.times


def magic(wa_id: str) -> Magic | None:
    """What the digits of an international number ask for; None for everybody else's number."""
    if not wa_id.startswith("99"):
        return None
    if found := _ERROR.fullmatch(wa_id):
        code, times = int(found[2]), int(found[3])
        if found[1] == _BY_WEBHOOK:
            return Magic(ACCEPT, times, failing(code))
        minutes = _QUOTA_MINUTES if code in (4, 80007) else None
        return Magic(Refuse(error_answer(code, regain_minutes=minutes)), times)
    if found := _BEHAVIOUR.fullmatch(wa_id):
        if found[1] in PLANNED:
            behaviour, plan = PLANNED[found[1]]
            return Magic(behaviour, int(found[2]), plan)
        return Magic(_numbered(found[1]), int(found[2]))
    return None


def _numbered(number: str) -> Behaviour:
    if number in BEHAVIOURS:
        return BEHAVIOURS[number][1]
    # Accepting it would make a mistyped test pass.
    there = f"01 to {max(BEHAVIOURS)} and {min(PLANNED)} to {max(PLANNED)}"
    return Refuse(invalid_parameter(f"The simulator has no behaviour {number}; it has {there}."))
