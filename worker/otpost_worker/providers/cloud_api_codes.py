"""The Cloud API's address and error codes, as data.

Source: Meta's error code reference (copies of December 2025 and September 2026), with the retry advice of its
support pages. A code decides alone, whatever the HTTP status: throttles come with 400, permission errors with 500.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from otpost_worker.outcome import Kind

DEFAULT_API_BASE: Final = "https://graph.facebook.com"
DEFAULT_API_VERSION: Final = "v25.0"


@dataclass(frozen=True, slots=True)
class Rule:
    """What a code means: its kind, how often at most it is retried, and the shortest wait that makes sense.

    *listed*: somebody has thought about this code; a rule for any other is a guess.
    """

    kind: Kind
    max_retries: int | None = None
    min_wait_s: float | None = None
    listed: bool = True


_HALTED: Final = Rule(Kind.SENDER_HALTED)
_QUOTA: Final = Rule(Kind.QUOTA)
_UNAVAILABLE: Final = Rule(Kind.UNAVAILABLE)
_USER_LIMIT: Final = Rule(Kind.USER_LIMIT)
_TEMPLATE: Final = Rule(Kind.TEMPLATE)
_RECIPIENT: Final = Rule(Kind.RECIPIENT)
_BAD_REQUEST: Final = Rule(Kind.BAD_REQUEST)

CODES: Final[dict[int, Rule]] = {
    # Authorization
    0: _HALTED,  # the token's user cannot be authenticated
    3: _HALTED,  # capability or permission; documented with HTTP 500
    10: _HALTED,  # permission absent or removed
    102: _HALTED,  # no usable session
    104: _HALTED,  # no token
    190: _HALTED,  # token expired or invalid
    **dict.fromkeys(range(200, 300), _HALTED),  # permission or asset access missing
    131005: _HALTED,  # access denied
    # Throttling
    4: _QUOTA,  # the app's calls
    17: _QUOTA,
    32: _QUOTA,
    341: _QUOTA,
    613: _QUOTA,  # limits elsewhere in Graph
    80007: _QUOTA,  # the WhatsApp business account's calls
    80008: _QUOTA,
    130429: Rule(Kind.THROUGHPUT),  # the number's messages a second
    131048: _HALTED,  # the number is restricted after blocks or spam flags
    131056: Rule(Kind.PAIR_LIMIT),  # too many to this recipient
    131064: _HALTED,  # the account is limited for misclassified templates
    133016: _BAD_REQUEST,  # registration attempts: not reachable by a send
    # Integrity, payment, account, number
    368: _HALTED,
    130497: _RECIPIENT,  # restricted from messaging users in this country
    131031: _HALTED,
    131037: _HALTED,  # display name needs approval
    131042: _HALTED,  # payment
    131045: _HALTED,  # the number's certificate; documented with HTTP 500
    131057: Rule(Kind.UNAVAILABLE, min_wait_s=15.0),  # maintenance mode, up to a minute during an upgrade
    133010: _HALTED,  # the number is not registered
    2494100: Rule(Kind.UNAVAILABLE, min_wait_s=15.0),  # maintenance mode (migration)
    # Request, message, recipient
    1: Rule(Kind.UNAVAILABLE, max_retries=2),  # bad request or server fault, nobody knows
    2: _UNAVAILABLE,  # downtime or overload
    33: _HALTED,  # the business number was deleted
    100: _BAD_REQUEST,  # invalid parameter; subcode 33 is told apart in rule_of
    506: _BAD_REQUEST,
    130403: _RECIPIENT,  # the business has blocked this user
    130472: _USER_LIMIT,  # marketing experiment
    131000: _UNAVAILABLE,
    131001: _BAD_REQUEST,
    131002: _BAD_REQUEST,
    131006: _BAD_REQUEST,
    131008: _BAD_REQUEST,
    131009: _BAD_REQUEST,
    131016: _UNAVAILABLE,
    131021: _BAD_REQUEST,  # recipient is sender
    131026: _RECIPIENT,  # not on WhatsApp, or cannot be reached; which, is not disclosed
    131030: _RECIPIENT,  # not among a test number's allowed recipients
    131043: _RECIPIENT,  # message expired
    131047: _BAD_REQUEST,
    131049: _USER_LIMIT,  # per-user marketing limit
    131050: _RECIPIENT,  # the user stopped marketing messages
    131051: _BAD_REQUEST,
    131052: _BAD_REQUEST,
    131053: _BAD_REQUEST,
    131055: _BAD_REQUEST,
    131059: _BAD_REQUEST,
    131060: _BAD_REQUEST,
    131062: _BAD_REQUEST,  # a business-scoped user id in place of a number
    131063: _TEMPLATE,  # marketing is switched off for the Cloud API
    135000: Rule(Kind.UNAVAILABLE, max_retries=1),  # "generic user error"
    137000: _RECIPIENT,  # the recipient's identity has changed
    # Features that a template to one person has no part in
    131020: _BAD_REQUEST,  # groups
    131041: _BAD_REQUEST,
    **dict.fromkeys(range(131200, 131300), _BAD_REQUEST),
    **dict.fromkeys(range(138000, 140000), _BAD_REQUEST),  # calling
    147005: _BAD_REQUEST,  # usernames
    # Templates
    132000: _BAD_REQUEST,  # parameter count
    132001: _TEMPLATE,  # missing in that language, or not approved
    132005: _BAD_REQUEST,
    132007: _TEMPLATE,  # violates a policy
    132012: _BAD_REQUEST,
    132015: _TEMPLATE,  # paused
    132016: _TEMPLATE,  # disabled
    132018: _BAD_REQUEST,
    132068: _BAD_REQUEST,
    132069: _BAD_REQUEST,
    134011: _BAD_REQUEST,
    134100: _BAD_REQUEST,
    134101: _BAD_REQUEST,
    134102: _BAD_REQUEST,
    134103: _BAD_REQUEST,
    # Registration
    133000: _BAD_REQUEST,
    133001: _BAD_REQUEST,
    133002: _BAD_REQUEST,
    133003: _BAD_REQUEST,
    133004: _UNAVAILABLE,  # server unavailable
    133005: _BAD_REQUEST,
    133006: _BAD_REQUEST,
    133007: _BAD_REQUEST,
    133008: _BAD_REQUEST,
    133009: _BAD_REQUEST,
    133015: _BAD_REQUEST,
    136024: _BAD_REQUEST,
    136025: _BAD_REQUEST,
    # Making and editing templates
    2388019: _BAD_REQUEST,  # as many as there may be
    2388039: _BAD_REQUEST,
    2388040: _BAD_REQUEST,
    2388047: _BAD_REQUEST,
    2388072: _BAD_REQUEST,
    2388073: _BAD_REQUEST,
    2388293: _BAD_REQUEST,
    2388299: _BAD_REQUEST,
}

# An object id that does not exist, or that the token may not see: the sender is set up wrongly.
_INVISIBLE_OBJECT: Final = (100, 33)
_UNKNOWN_CODE_RETRIES: Final = 2


def rule_of(code: int, subcode: int | None, *, status: int, transient: bool) -> Rule:
    """Look up what *code* means; an unknown one is judged by the HTTP *status*, cautiously, so that it cannot loop."""
    if (code, subcode) == _INVISIBLE_OBJECT:
        return _HALTED
    known = CODES.get(code)
    if known is not None:
        return known
    if transient or status >= 500 or status == 429:
        return Rule(Kind.UNAVAILABLE, max_retries=_UNKNOWN_CODE_RETRIES, listed=False)
    return Rule(Kind.BAD_REQUEST, listed=False)


# What only templates of the category MARKETING can meet: on an authentication template, Meta has changed its category.
MARKETING_ONLY: Final = frozenset({130472, 131049, 131050, 131063})
# Meta's advice for "something went wrong" that comes by webhook: send it once more at the most.
_REPORTED_WRONG: Final = Rule(Kind.UNAVAILABLE, max_retries=1)


def rule_of_report(code: int) -> Rule:
    """Look up what *code* means where it comes by webhook; an unknown one cannot be judged, and is not tried again."""
    return _REPORTED_WRONG if code == 131000 else CODES.get(code, Rule(Kind.BAD_REQUEST, listed=False))


_PERMISSION: Final = "give its system user the permission whatsapp_business_messaging and this account, and a new token"
_ACCOUNT: Final = "see the account and its phone number in Meta's WhatsApp Manager, and Business Support Home"


def remedy_of(code: int | None, *, token_source: str, read_again: bool = False) -> str:
    """Tell an operator what to do about a refusal that halts the sender.

    *token_source* is where its token is from; *read_again*: the worker notices a new one there by itself.
    """
    then = "it is read again by itself" if read_again else "then restart the workers"
    match code:
        case 0 | 102 | 104 | 190:
            return f"the access token is expired, revoked or wrong: put a new one into {token_source}; {then}"
        case 3 | 10 | 131005:
            return f"the access token lacks a permission: {_PERMISSION} into {token_source}; {then}"
        case int() if 200 <= code < 300:
            return f"the access token lacks a permission: {_PERMISSION} into {token_source}; {then}"
        case 33 | 100:
            return f"check the sender's phone_number_id, and that the token from {token_source} may see that number"
        case 131042:
            return "add or renew the means of payment of the WhatsApp account in Meta's billing settings"
        case 133010:
            return "the phone number is not registered for the Cloud API: register it with its PIN"
        case None:
            return f"check OTPOST_API_BASE, OTPOST_API_VERSION and the token from {token_source}"
        case _:
            return _ACCOUNT


def rule_of_status(status: int, *, transient: bool = False) -> Rule:
    """Judge an error that carries no code, as proxies and gateways send them.

    What speaks of the address or the login concerns every job of the sender, not the one at hand.
    """
    if status == 429:
        return Rule(Kind.THROUGHPUT)
    if transient or status in (408, 425) or status >= 500:
        return _UNAVAILABLE
    if 300 <= status < 400 or status in (401, 403, 404, 405, 407):
        return _HALTED
    return _BAD_REQUEST
