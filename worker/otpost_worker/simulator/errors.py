"""Meta's error codes as data, and the bodies Meta answers them in.

Pure. Titles and HTTP statuses follow the table of error codes in Meta's Cloud API documentation (copy of
December 2025, the last one with the column of HTTP statuses). Where that table gives no status, 400 stands
here.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

OAUTH: Final = "OAuthException"
GRAPH_METHOD: Final = "GraphMethodException"


@dataclass(frozen=True, slots=True)
class KnownError:
    """One row of the catalogue: what Meta calls a code, and the HTTP status it comes with."""

    title: str
    http_status: int
    details: str | None = None


@dataclass(frozen=True, slots=True)
class ErrorAnswer:
    """An error that is ready to be sent.

    `regain_minutes` is what the usage headers call `estimated_time_to_regain_access` (minutes); None leaves
    the headers out. `retry_after` is sent as it is (Meta documents no such header; proxies add it).
    """

    code: int
    http_status: int
    message: str
    details: str | None = None
    type: str = OAUTH
    subcode: int | None = None
    is_transient: bool | None = None
    retry_after: str | None = None
    regain_minutes: int | None = None


def _rows(http_status: int, rows: dict[int, str | tuple[str, str]]) -> dict[int, KnownError]:
    return {
        code: KnownError(row, http_status) if isinstance(row, str) else KnownError(row[0], http_status, row[1])
        for code, row in rows.items()
    }


CATALOGUE: Final[dict[int, KnownError]] = {
    **_rows(
        400,
        {
            1: "API Unknown",
            4: "Application request limit reached",
            17: "User request limit reached",
            32: "Page request limit reached",
            33: ("Parameter value is not valid", "The business phone number has been deleted."),
            100: "Invalid parameter",
            341: "Application limit reached",
            506: "Duplicate post",
            613: "Calls to this api have exceeded the rate limit.",
            2500: "Unknown path components",
            80007: "Rate limit issues",
            80008: "There have been too many calls to this WhatsApp Business account",
            130403: ("Business has blocked this user", "The recipient is on the business's block list."),
            130429: ("Rate limit hit", "Cloud API message throughput has been reached."),
            130472: (
                "User's number is part of an experiment",
                "Message was not sent as part of an experiment.",
            ),
            131008: ("Required parameter is missing", "A required parameter is missing."),
            131009: ("Parameter value is not valid", "One or more parameter values are invalid."),
            131021: ("Recipient cannot be sender", "Sender and recipient phone number is the same."),
            131026: ("Message undeliverable", "Message undeliverable."),
            131030: ("Recipient phone number not in allowed list", "Add the recipient to the allowed list."),
            131037: ("Display name approval needed", "The number's display name is not approved."),
            131042: ("Business eligibility payment issue", "There is a problem with the payment method."),
            131043: ("Message expired", "The message was not sent during its time to live."),
            131047: (
                "Re-engagement message",
                "More than 24 hours have passed since the customer's last reply.",
            ),
            131048: ("Spam rate limit hit", "Earlier messages were blocked or flagged as spam."),
            131049: ("Meta chose not to deliver", "Kept back to maintain healthy ecosystem engagement."),
            131050: ("User has stopped marketing messages", "The user does not want marketing messages."),
            131051: ("Unsupported message type", "The message type is not supported."),
            131052: ("Media download error", "The media of the user could not be downloaded."),
            131053: ("Media upload error", "The media of the message could not be uploaded."),
            131055: ("Method not allowed", "Only marketing templates can be sent this way."),
            131056: (
                "(Business Account, Consumer Account) pair rate limit hit",
                "Too many messages to this recipient in a short period of time.",
            ),
            131059: ("Invalid cursor", "The cursor has expired."),
            131062: (
                "Business-scoped user ids are not supported for this message",
                "Authentication templates can only be sent to a phone number.",
            ),
            131063: (
                "Marketing messages are disabled",
                "Marketing on Cloud API is switched off for this account.",
            ),
            131064: ("Classification violation limit", "The account is limited for misclassified templates."),
            132000: (
                "Number of parameters does not match the expected number of params",
                "The number of parameters does not match the template.",
            ),
            132005: ("Translated text too long", "The hydrated template text is too long."),
            132007: ("Template format character policy violated", "The content violates a policy."),
            132012: (
                "Parameter format does not match format in the created template",
                "A parameter has another format than the template.",
            ),
            132015: ("Template is paused", "The template is paused due to low quality."),
            132016: ("Template is disabled", "The template was paused too often and is now disabled."),
            132018: ("Template validation error", "There is a problem with the template's parameters."),
            132068: ("Flow is blocked", "The flow is in blocked state."),
            132069: ("Flow is throttled", "The flow is in throttled state."),
            133005: ("Two step verification PIN mismatch", "The PIN is not correct."),
            133006: ("Phone number re-verification needed", "The number must be verified again."),
            133008: ("Too many two step verification PIN guesses", "Too many guesses."),
            133009: ("Two step verification PIN guessed too fast", "The PIN was entered too fast."),
            133010: ("Phone number not registered", "The number is not registered on the platform."),
            133015: ("Please wait a few minutes before registering", "The number was deleted a moment ago."),
            133016: ("Account register deregister rate limit exceeded", "Too many attempts."),
            134011: ("Payments terms pending", "The payments terms are not accepted."),
            134100: ("Only marketing templates supported", "The template is not a marketing template."),
            134101: ("Template syncing in progress", "The template can be used in about ten minutes."),
            135000: ("Generic user error", "The message failed for an unknown problem with its parameters."),
            137000: ("Identity key hash mismatch", "The recipient's identity has changed."),
            2494100: ("Account in maintenance mode", "Try again in some minutes."),
        },
    ),
    **_rows(
        401,
        {
            0: "AuthException: the app user cannot be authenticated",
            102: "API session: login status or access token has expired",
            104: "An access token is required to request this resource.",
            190: "Error validating access token: Session has expired",
        },
    ),
    **_rows(
        403,
        {
            10: "Application does not have permission for this action",
            200: "Provide valid app ID",
            368: "The account is temporarily blocked for policy violations",
            130497: (
                "Business account is restricted from messaging users in this country",
                "Restricted country.",
            ),
            131005: ("Access denied", "The permission is not granted or was removed."),
            131031: ("Business account has been locked", "The account is restricted or disabled."),
        },
    ),
    **_rows(
        404,
        {
            132001: (
                "Template name does not exist in the translation",
                "The template does not exist in this language or is not approved.",
            )
        },
    ),
    **_rows(
        500,
        {
            3: "Application does not have the capability to make this API call.",
            131000: ("Something went wrong", "Message failed to send due to an unknown error."),
            131016: ("Service unavailable", "A service is temporarily unavailable."),
            131045: ("Incorrect certificate", "The number has a registration error."),
            131057: ("Account in maintenance mode", "The account is in maintenance mode."),
            133000: ("Incomplete deregistration", "An earlier deregistration failed."),
            134102: ("Template unavailable", "The template is unavailable for use."),
        },
    ),
    **_rows(503, {2: "Service temporarily unavailable", 133004: ("Server temporarily unavailable", "Try later.")}),
}

_PERMISSIONS: Final = range(201, 300)
_PERMISSION: Final = KnownError("API Permission: not granted or removed", 403)
_UNKNOWN: Final = KnownError("An unknown error has occurred.", 400)
_NO_TOKEN: Final = 104
# Meta's own texts about tokens carry no "(#190)" in front.
_UNNUMBERED: Final = frozenset({0, 102, _NO_TOKEN, 190})


def known_error(code: int) -> KnownError:
    """The catalogue's row for a code; 201-299 share one, a code that Meta never wrote down has HTTP 400."""
    if code in _PERMISSIONS:
        return _PERMISSION
    return CATALOGUE.get(code, _UNKNOWN)


def error_answer(
    code: int,
    *,
    details: str | None = None,
    http_status: int | None = None,
    subcode: int | None = None,
    is_transient: bool | None = None,
    retry_after: str | None = None,
    regain_minutes: int | None = None,
) -> ErrorAnswer:
    """The answer Meta gives for a code; what is not said here comes from the catalogue."""
    known = known_error(code)
    return ErrorAnswer(
        code=code,
        http_status=known.http_status if http_status is None else http_status,
        message=known.title if code in _UNNUMBERED else f"(#{code}) {known.title}",
        details=known.details if details is None else details,
        subcode=subcode,
        is_transient=is_transient,
        retry_after=retry_after,
        regain_minutes=regain_minutes,
    )


def expired_token() -> ErrorAnswer:
    """A token that is not (or no longer) the right one: 190 with subcode 463."""
    return error_answer(190, subcode=463)


def invalid_parameter(message: str) -> ErrorAnswer:
    """Code 100 with a sentence of its own, as Graph words it: which parameter, what is expected."""
    return ErrorAnswer(100, 400, f"(#100) {message}", message)


def body_too_large(limit_bytes: int) -> ErrorAnswer:
    """The request's body is larger than `limit_bytes`."""
    return ErrorAnswer(100, 413, f"(#100) The request is larger than {limit_bytes} bytes.")


def unknown_object(method: str, object_id: str) -> ErrorAnswer:
    """Graph's answer about an id that does not exist, or a method that it has not: 100 with subcode 33."""
    return ErrorAnswer(
        100,
        400,
        f"Unsupported {method.lower()} request. Object with ID '{object_id}' does not exist, cannot be "
        "loaded due to missing permissions, or does not support this operation.",
        type=GRAPH_METHOD,
        subcode=33,
    )


def unknown_path(path: str) -> ErrorAnswer:
    """Graph's answer to an address that leads nowhere."""
    return ErrorAnswer(2500, 400, f"Unknown path components: {path}")


def error_body(answer: ErrorAnswer, fbtrace_id: str) -> dict[str, object]:
    """The JSON object of an error: message, type and code are certain, the rest is there when it is known."""
    error: dict[str, object] = {"message": answer.message, "type": answer.type, "code": answer.code}
    if answer.details is not None:
        error["error_data"] = {"messaging_product": "whatsapp", "details": answer.details}
    if answer.subcode is not None:
        error["error_subcode"] = answer.subcode
    if answer.is_transient is not None:
        error["is_transient"] = answer.is_transient
    error["fbtrace_id"] = fbtrace_id
    return {"error": error}


def error_headers(answer: ErrorAnswer, phone_number_id: str) -> dict[str, str]:
    """The headers that only errors have."""
    headers: dict[str, str] = {}
    if answer.code in _UNNUMBERED:
        # Not what RFC 9110 asks for; this is how Meta writes it, and clients have stumbled over it.
        flaw = "invalid_request" if answer.code == _NO_TOKEN else "invalid_token"
        headers["WWW-Authenticate"] = f'OAuth "Facebook Platform" "{flaw}" "{answer.message}"'
    if answer.retry_after is not None:
        headers["Retry-After"] = answer.retry_after
    if answer.regain_minutes is not None:
        headers["x-app-usage"] = '{"call_count":100,"total_cputime":25,"total_time":25}'
        headers["x-business-use-case-usage"] = usage(phone_number_id, 100, answer.regain_minutes)
    return headers


def usage(phone_number_id: str, call_count: int, regain_minutes: int) -> str:
    """The value of `x-business-use-case-usage`: a share in percent; minutes until calls are possible."""
    return (
        f'{{"{phone_number_id}":[{{"type":"whatsapp","call_count":{call_count},"total_cputime":25,"total_time":25,'
        f'"estimated_time_to_regain_access":{regain_minutes}}}]}}'
    )
