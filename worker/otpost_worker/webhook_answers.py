"""How a receiver may answer, and what that means to whoever runs it [pure]."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Final


class Result(StrEnum):
    """What became of one request; a label of the metrics."""

    STORED = "stored"
    VERIFIED = "verified"
    FORGED = "forged"
    UNSIGNED = "unsigned"
    WRONG_TOKEN = "wrong_token"  # noqa: S105 - the name of a result
    NO_JSON = "no_json"
    BROKEN_OFF = "broken_off"
    BAD_HTTP = "bad_http"
    TOO_LARGE = "too_large"
    TOO_SLOW = "too_slow"
    ENCODED = "encoded"
    WRONG_PATH = "wrong_path"
    WRONG_METHOD = "wrong_method"
    OVERLOADED = "overloaded"
    NOT_STORED = "not_stored"


class HangUp(StrEnum):
    """Why a connection was closed without an answer; a label of the metrics."""

    FULL = "full"
    NO_REQUEST = "no_request"
    TOO_MUCH = "too_much"
    UNREAD = "unread"


@dataclass(frozen=True, slots=True)
class Answer:
    """An HTTP *status* with a word of *text*.

    *advice* is for the operator's log; None where there is nothing to say, or where who met the trouble says it.
    *alarming*: whether that is a warning. Bots that try any path are not.
    """

    status: int
    text: str
    advice: str | None = None
    alarming: bool = False


@dataclass(frozen=True, slots=True)
class Word:
    """What the operator's log is told of connections that were closed; *alarming* as above."""

    advice: str
    alarming: bool = False


ANSWERS: Final = {
    Result.STORED: Answer(200, "ok"),
    Result.VERIFIED: Answer(200, "ok"),
    Result.FORGED: Answer(
        401,
        "the signature is not right",
        "the signature of a POST fits no app secret of ours: is OTPOST_APP_SECRET that of the app which is subscribed "
        "(App settings > Basic), and was it changed there? Otherwise somebody else posts here",
        alarming=True,
    ),
    Result.UNSIGNED: Answer(
        401,
        "there is no signature",
        "a POST came without X-Hub-Signature-256: does a proxy in front drop the header? Otherwise it was not the "
        "provider's",
        alarming=True,
    ),
    Result.WRONG_TOKEN: Answer(
        403,
        "the verify token is not right",
        "a handshake came with none of our verify tokens: OTPOST_VERIFY_TOKEN has to hold what is typed at the "
        "provider beside the callback URL",
        alarming=True,
    ),
    Result.NO_JSON: Answer(
        400,
        "the body is no JSON object",
        "the body of a POST with the right signature is no JSON object: does something between the provider and us "
        "share the app secret?",
        alarming=True,
    ),
    Result.BROKEN_OFF: Answer(
        400, "the body broke off", "a client went away, or wrote nonsense, before its body had come whole"
    ),
    Result.BAD_HTTP: Answer(400, "this is no HTTP", "somebody sent what is no HTTP. TLS ends at a proxy in front"),
    Result.TOO_LARGE: Answer(
        413, "the body is too large", "a body was larger than 3 MiB; the provider sends 3 MB at the most", alarming=True
    ),
    Result.TOO_SLOW: Answer(
        408,
        "the body came too slowly",
        "a body had not come within its time: a proxy in front should take it whole before it asks us (nginx does, by "
        "default)",
    ),
    Result.ENCODED: Answer(
        415,
        "the body is compressed",
        "a body came with a Content-Encoding, which the provider does not use: does a proxy in front compress?",
        alarming=True,
    ),
    Result.WRONG_PATH: Answer(
        404,
        "there is nothing here",
        "a request came for another path than OTPOST_WEBHOOK_PATH: is it that of the callback URL at the provider, "
        "and does a proxy in front change it?",
    ),
    Result.WRONG_METHOD: Answer(405, "GET and POST only", "a request came that is neither GET nor POST"),
    Result.OVERLOADED: Answer(
        503,
        "there is too much to do",
        "more came at once than we take in hand, and was refused; the provider sends it again. Does the broker confirm "
        "in time? Otherwise start one more receiver behind the proxy",
        alarming=True,
    ),
    Result.NOT_STORED: Answer(503, "it could not be stored"),
}

HANG_UPS: Final = {
    HangUp.FULL: Word(
        "more connections were open than we take, and the one that had sent no request for the longest time was closed "
        "for a new one: a proxy in front keeps strangers away, and needs a few only; otherwise start one more receiver "
        "behind it",
        alarming=True,
    ),
    HangUp.NO_REQUEST: Word(
        "a connection was closed over which no request had come within its time: a proxy in front should take requests "
        "whole before it asks us (nginx does, by default)"
    ),
    HangUp.TOO_MUCH: Word(
        "a connection was closed over which headers without an end came, or many requests before one was answered: the "
        "provider does neither"
    ),
    HangUp.UNREAD: Word("a connection was closed whose client read no answers; the provider and proxies do read them"),
}
