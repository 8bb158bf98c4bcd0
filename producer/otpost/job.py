"""The job: one request to send one one-time password (contract, section 1)."""

from __future__ import annotations

import re
import secrets
import time
from datetime import UTC, datetime
from typing import Annotated, Any, Final, Self
from uuid import UUID

import orjson
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, WithJsonSchema
from pydantic_core import PydanticCustomError

from otpost.errors import InvalidJob, Problem
from otpost.sealing import PublicKey
from otpost.times import moment_of

JOB_TYPE: Final = "otpost.job.v1"
MAX_BODY_BYTES: Final = 16 * 1024
MAX_REF_BYTES: Final = 1024
# Every result nests it once more, and JSON libraries refuse to write, or to read, what is too deep.
MAX_REF_DEPTH: Final = 32
MAX_LIFETIME_S: Final = 5400.0
DEFAULT_LIFETIME_S: Final = 600.0
# A deadline is judged by the worker's clock; a producer's clock may run ahead by this much
# before a job that says nothing of its creation is refused as living too long.
CLOCK_SLACK_S: Final = 60.0

_ID = re.compile(r"[A-Za-z0-9_.:\-]{1,64}")
_NUMBER = re.compile(r"\+?([1-9][0-9]{6,14})")
# How people write numbers: spaces (also the non-breaking ones), hyphens, dots, brackets.
_PUNCTUATION = str.maketrans("", "", " \u00a0\u202f-\u2010\u2011.()[]")
_TRUNK_PREFIX = re.compile(r"[(\[]\s*0\s*[)\]]")
_CODE = re.compile(r"[!-~]{1,15}")
# With a scheme, or a host and a path, such as bit.ly/abc.
_LINK = re.compile(r"://|www\.|wa\.me|[a-z0-9-]\.[a-z]{2,}/", re.IGNORECASE)
# Base64 of 49 to 63 bytes: a sealed box of libsodium adds 48 to the code.
_SEALED_CODE = re.compile(r"(?:[A-Za-z0-9+/]{4}){16,20}(?:[A-Za-z0-9+/]{4}|[A-Za-z0-9+/]{3}=|[A-Za-z0-9+/]{2}==)")
_TEMPLATE = re.compile(r"[a-z0-9_]{1,512}")
_LANGUAGE = re.compile(r"[a-z]{2,3}(_[A-Z]{2})?")
SENDER_NAME_RULE: Final = "a sender's name is 1 to 40 of a-z 0-9 _ -"
_SENDER = re.compile(r"[a-z0-9_-]{1,40}")
# The same rules in JSON Schema, whose patterns know no flags and match anywhere unless they are anchored.
_BETWEEN = r"[ \u00a0\u202f\-\u2010\u2011.()\[\]]*"
_ID_SCHEMA = WithJsonSchema({"type": "string", "pattern": f"^{_ID.pattern}$"})
_TO_SCHEMA = WithJsonSchema(
    {
        "type": "string",
        "maxLength": 64,
        "pattern": rf"^{_BETWEEN}\+?{_BETWEEN}[1-9](?:{_BETWEEN}[0-9]){{6,14}}{_BETWEEN}$",
        "not": {"pattern": _TRUNK_PREFIX.pattern},
    }
)
_CODE_SCHEMA = WithJsonSchema(
    {
        "type": "string",
        "pattern": f"^{_CODE.pattern}$",
        "not": {"pattern": r"://|[Ww][Ww][Ww]\.|[Ww][Aa]\.[Mm][Ee]|[A-Za-z0-9-]\.[A-Za-z]{2,}/"},
    }
)
_SEALED_CODE_SCHEMA = WithJsonSchema({"type": "string", "pattern": f"^{_SEALED_CODE.pattern}$"})
_TEMPLATE_SCHEMA = WithJsonSchema({"type": "string", "pattern": f"^{_TEMPLATE.pattern}$"})
_LANGUAGE_SCHEMA = WithJsonSchema({"type": "string", "pattern": f"^{_LANGUAGE.pattern}$"})
# Not the format "date-time", which many validators ignore and some take to forbid the space.
_TIME_SCHEMA = WithJsonSchema(
    {
        "type": "string",
        "pattern": "^[0-9]{4}-[0-9]{2}-[0-9]{2}[Tt ][0-9]{2}:[0-9]{2}:[0-9]{2}([.][0-9]+)?"
        "([Zz]|[+-][0-9]{2}:[0-9]{2})$",
    }
)
_TTL_SCHEMA = WithJsonSchema({"type": "number", "exclusiveMinimum": 0, "maximum": MAX_LIFETIME_S})
_REF_SCHEMA = WithJsonSchema({"type": "object"})
_VERSION_SCHEMA = WithJsonSchema({"type": ["integer", "null"], "enum": [1, None]})

_FIELD_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_\-]{0,63}")


def _refuse(rule: str) -> PydanticCustomError:
    return PydanticCustomError("rule", "{rule}", {"rule": rule})


def _text(value: object, pattern: re.Pattern[str], rule: str) -> str:
    if isinstance(value, str) and pattern.fullmatch(value):
        return value
    raise _refuse(rule)


def _id(value: object) -> str:
    return _text(value, _ID, "must be a string of 1 to 64 of A-Z a-z 0-9 _ . : -")


def _to(value: object) -> str:
    rule = "must be one phone number with its country code, 7 to 15 digits, such as +12015553931"
    if not isinstance(value, str) or len(value) > 64:
        raise _refuse(rule)
    if _TRUNK_PREFIX.search(value):
        # +44 (0)20 … is written for people, who know to leave the 0 out when they dial the country code.
        raise _refuse("must not hold a trunk prefix such as (0): leave it out after the country code")
    match = _NUMBER.fullmatch(value.translate(_PUNCTUATION))
    if match is None:
        raise _refuse(rule)
    return "+" + match[1]


def _code(value: object) -> str:
    code = _text(value, _CODE, "must be a string of 1 to 15 printable ASCII characters without spaces")
    if _LINK.search(code):
        raise _refuse("must not hold a link")
    return code


def _sealed_code(value: object) -> str:
    return _text(value, _SEALED_CODE, "must be the base64 of a code sealed to the workers' public key")


def _template(value: object) -> str:
    return _text(value, _TEMPLATE, "must be a template's name: 1 to 512 of a-z 0-9 _")


def _language(value: object) -> str:
    return _text(value, _LANGUAGE, "must be a template's language such as en_US or de")


def _time(value: object) -> datetime:
    moment = value if isinstance(value, datetime) else moment_of(value)
    try:
        if moment is not None and moment.tzinfo is not None:
            return moment.astimezone(UTC)
    except OverflowError:
        pass
    raise _refuse("must be an RFC 3339 time with a zone, such as 2026-01-31T12:00:00Z")


def _ttl(value: object) -> float:
    if isinstance(value, (int, float)) and not isinstance(value, bool) and 0 < value <= MAX_LIFETIME_S:
        return float(value)
    raise _refuse("must be a number of seconds, more than 0 and at most 5400")


def _ref(value: object) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise _refuse("must be an object")
    try:
        encoded = orjson.dumps(value)
    except TypeError:
        rule = f"must be an object of JSON values with string keys, nested at most {MAX_REF_DEPTH} deep"
        raise _refuse(rule) from None
    if len(encoded) > MAX_REF_BYTES:
        raise _refuse("must be at most 1 KiB of JSON")
    if encoded.count(b"{") + encoded.count(b"[") > MAX_REF_DEPTH and _depth(orjson.loads(encoded)) > MAX_REF_DEPTH:
        raise _refuse(f"must be nested at most {MAX_REF_DEPTH} deep")
    return value


def _depth(outermost: object) -> int:
    """Count how many objects and lists lie within one another at the deepest place."""
    depth, level = 0, [outermost]
    while level := [one for one in level if isinstance(one, (dict, list))]:
        depth += 1
        level = [inner for one in level for inner in (one.values() if isinstance(one, dict) else one)]
    return depth


def _version(value: object) -> int:
    if value == 1 and type(value) is int:
        return 1
    raise _refuse("must be 1, the only version of a job that is known here")


def _now() -> datetime:
    return datetime.now(UTC)


def new_job_id() -> str:
    """Make a UUIDv7 (RFC 9562): unique, and sorted by the time it was made."""
    milliseconds = time.time_ns() // 1_000_000
    value = (milliseconds & 0xFFFF_FFFF_FFFF) << 80 | 0x7 << 76 | secrets.randbits(12) << 64
    return str(UUID(int=value | 0b10 << 62 | secrets.randbits(62)))


def is_job_id(value: object) -> bool:
    """Tell whether *value* can be the id of a job."""
    return isinstance(value, str) and _ID.fullmatch(value) is not None


def is_code(value: object) -> bool:
    """Tell whether *value* can be a one-time password, as what a sealed one opens to has to be."""
    return isinstance(value, str) and _CODE.fullmatch(value) is not None and _LINK.search(value) is None


def is_sender_name(value: object) -> bool:
    """Tell whether *value* can be the name of a sender: 1 to 40 of ``a-z 0-9 _ -``."""
    return isinstance(value, str) and _SENDER.fullmatch(value) is not None


class OtpJob(BaseModel):
    """One one-time password for one recipient; immutable, and its ``repr`` hides the code.

    *id* is the idempotency key: a job sent again under the same id reaches its recipient once. Without one,
    a UUIDv7 is made. The code is worthless after *expires_at*; *ttl_s* (seconds after *created_at*) may stand
    in its place, and with neither it is 600 s.

    :raises InvalidJob: with every broken rule, naming fields but never a value.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)

    id: Annotated[str, BeforeValidator(_id), _ID_SCHEMA] = Field(
        default_factory=new_job_id,
        description="Your idempotency key: the same id is sent once, a new code needs a new id.",
    )
    to: Annotated[str, BeforeValidator(_to), _TO_SCHEMA] = Field(
        repr=False, description="One phone number with its country code, 7 to 15 digits."
    )
    code: Annotated[str, BeforeValidator(_code), _CODE_SCHEMA] | None = Field(
        default=None, repr=False, description="The one-time password. Exactly one of code and sealed_code."
    )
    sealed_code: Annotated[str, BeforeValidator(_sealed_code), _SEALED_CODE_SCHEMA] | None = Field(
        default=None, repr=False, description="Base64 of the code, sealed to the workers' public key (libsodium)."
    )
    template: Annotated[str, BeforeValidator(_template), _TEMPLATE_SCHEMA] | None = Field(
        default=None, description="An approved authentication template; the sender's own where it has one."
    )
    language: Annotated[str, BeforeValidator(_language), _LANGUAGE_SCHEMA] | None = Field(
        default=None, description="The template's language; the sender's own where it has one."
    )
    expires_at: Annotated[datetime, BeforeValidator(_time), _TIME_SCHEMA] | None = Field(
        default=None, description="The code is never sent after this instant, at most 5400 s after created_at."
    )
    ttl_s: Annotated[float, BeforeValidator(_ttl), _TTL_SCHEMA] | None = Field(
        default=None, description="Seconds after created_at, in place of expires_at; 600 with neither."
    )
    created_at: Annotated[datetime, BeforeValidator(_time), _TIME_SCHEMA] | None = Field(
        default_factory=_now, description="When the user asked; the AMQP timestamp where it is left out."
    )
    not_before: Annotated[datetime, BeforeValidator(_time), _TIME_SCHEMA] | None = Field(
        default=None, description="Not sent before this instant, which is earlier than the end."
    )
    ref: Annotated[dict[str, Any], BeforeValidator(_ref), _REF_SCHEMA] | None = Field(
        default=None,
        repr=False,
        description="Your own context, at most 1 KiB of JSON, 32 deep, echoed in every result.",
    )
    version: Annotated[int, BeforeValidator(_version), _VERSION_SCHEMA] = Field(
        default=1, description="Of the format of jobs."
    )

    # "self" by its place alone: the body of a job may have a field of any name.
    def __init__(self, /, **fields: Any) -> None:  # noqa: ANN401 - pydantic judges them
        problems: list[Problem] = []
        try:
            super().__init__(**fields)
        except ValidationError as error:
            problems += _problems(error, fields)
        problems += _contradictions(fields)
        # Outside the except block, so that neither __cause__ nor __context__ carries the input.
        if problems := problems or _times_that_disagree(self):
            raise InvalidJob(problems)

    @property
    def deadline(self) -> float:
        """The instant after which the code is never sent, in Unix seconds."""
        if self.expires_at is not None:
            return self.expires_at.timestamp()
        assert self.created_at is not None  # noqa: S101 - a job with neither is refused
        return self.created_at.timestamp() + (self.ttl_s or DEFAULT_LIFETIME_S)

    def sealed(self, public_key: PublicKey | str) -> Self:
        """Give the same job with its code sealed to the workers' key; one that is sealed already comes back as it is.

        :raises InvalidKey: it is no public key. :raises SealingUnavailable: PyNaCl is not installed.
        """
        if self.code is None:
            return self
        key = PublicKey.parse(public_key) if isinstance(public_key, str) else public_key
        return self.model_copy(update={"code": None, "sealed_code": key.seal(self.code.encode())})

    def to_json(self) -> bytes:
        """Encode the job as it travels: UTF-8 JSON without the fields that were left out."""
        return orjson.dumps({name: value for name, value in self.__dict__.items() if value is not None})

    @classmethod
    def parse(cls, body: bytes, *, now: float, published_at: datetime | None = None) -> Self:
        """Decode a job as it came from the broker.

        *now* is the reader's clock in Unix seconds; *published_at*, the AMQP ``timestamp``, stands in for
        a missing ``created_at``. Unlike the constructor it makes up neither an id nor a time of creation.

        :raises InvalidJob: the body is no job; every broken rule is listed.
        """
        fields = decode_object(body)
        if "id" not in fields:
            fields["id"] = None
        if fields.get("created_at") is None:
            fields["created_at"] = published_at
        # null means "left out", as most JSON libraries write an unset optional field; an unknown one stays unknown.
        may_be_null = cls.model_fields.keys() - {"id", "created_at"}
        job = cls(**{name: value for name, value in fields.items() if value is not None or name not in may_be_null})
        if job.deadline > now + MAX_LIFETIME_S + CLOCK_SLACK_S:
            raise InvalidJob(
                [
                    Problem(
                        "expires_at",
                        "must be at most 5400 s after the job was made; it is later even from now: if the job is "
                        "right, the clock of its producer or of this worker is wrong",
                    )
                ]
            )
        return job


def decode_object(body: bytes) -> dict[str, Any]:
    """Decode *body* into a JSON object of at most 16 KiB.

    :raises InvalidJob: too large, no JSON, or no object.
    """
    if len(body) > MAX_BODY_BYTES:
        raise InvalidJob([Problem("", f"the body has {len(body)} bytes; at most {MAX_BODY_BYTES} are allowed")])
    try:
        decoded = orjson.loads(body)
    except orjson.JSONDecodeError:
        decoded = None
        rule = "the body is not JSON in UTF-8"
    else:
        rule = "the body must be a JSON object"
    if not isinstance(decoded, dict):
        raise InvalidJob([Problem("", rule)])
    return decoded


def _contradictions(fields: dict[str, Any]) -> list[Problem]:
    """Find what is wrong with which fields are there, whatever they hold."""
    given = {name for name, value in fields.items() if value is not None}
    problems = []
    if len(given & {"code", "sealed_code"}) != 1:
        problems.append(Problem("code", "exactly one of code and sealed_code is needed"))
    if {"expires_at", "ttl_s"} <= given:
        problems.append(Problem("expires_at", "expires_at and ttl_s exclude each other"))
    # The constructor makes up a time of creation where none is named; None says that there is none.
    if "expires_at" not in given and fields.get("created_at", "now") is None:
        age = "the job's age is unknown: give expires_at or created_at in the body, or the AMQP timestamp"
        problems.append(Problem("created_at", age))
    return problems


def _times_that_disagree(job: OtpJob) -> list[Problem]:
    problems = []
    if job.created_at is not None and job.deadline > job.created_at.timestamp() + MAX_LIFETIME_S:
        problems.append(Problem("expires_at", "must be at most 5400 s after created_at"))
    if job.not_before is not None and job.not_before.timestamp() >= job.deadline:
        problems.append(Problem("not_before", "must be earlier than expires_at"))
    return problems


def _problems(error: ValidationError, fields: dict[str, Any]) -> list[Problem]:
    """Translate pydantic's findings; *fields* is needed only to keep the code out of field names."""
    code = fields.get("code")
    secret = str(code) if isinstance(code, (str, int)) and code else None
    return [
        _problem(str(e["loc"][0]) if e["loc"] else "", e["type"], e["msg"], secret)
        for e in error.errors(include_input=False, include_url=False, include_context=False)
    ]


def _problem(field: str, kind: str, message: str, secret: str | None) -> Problem:
    if kind == "extra_forbidden":
        if not _FIELD_NAME.fullmatch(field) or (secret is not None and secret in field):
            return Problem("", "an unknown field, whose name is not shown, is not allowed")
        return Problem(field, "unknown field; check its spelling")
    if kind == "missing":
        return Problem(field, "is required")
    return Problem(field, message)
