"""The judge of every message that tests see: the schema files of the repository, read by a validator of others.

assert_result(body)     # as otpost publishes it
assert_job_agrees(body) # otpost takes no job that the schema refuses
"""

from __future__ import annotations

import json
import re
import time
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from jsonschema import Draft202012Validator, FormatChecker
from jsonschema.exceptions import ValidationError
from jsonschema.validators import extend

from otpost.errors import InvalidJob
from otpost.job import OtpJob

if TYPE_CHECKING:
    from collections.abc import Iterator

    from jsonschema.protocols import Validator

FOLDER: Final = Path(__file__).parents[1] / "schemas"
_KINDS: Final = {"otpost.result.v1": "result", "otpost.event.v1": "event"}


def _pattern(validator: Validator, pattern: str, instance: Any, schema: object) -> Iterator[ValidationError]:  # noqa: ANN401 - JSON
    """Search as ECMA 262 does, where "$" never matches in front of a line's end; JSON Schema's patterns are its."""
    del schema
    if validator.is_type(instance, "string") and not re.search(re.sub(r"\$$", r"\\Z", pattern), str(instance)):
        yield ValidationError(f"{instance!r} does not match {pattern!r}")


_ECMA: Final = extend(Draft202012Validator, {"pattern": _pattern})  # type: ignore[no-untyped-call] # theirs


@cache
def validator(name: str) -> Validator:
    """Compile the schema of a "job", a "result" or an "event"; times are checked too."""
    schema = json.loads((FOLDER / f"otpost.{name}.v1.schema.json").read_text(encoding="utf-8"))
    compiled: Validator = _ECMA(schema, format_checker=FormatChecker(["date-time"]))
    return compiled


def problems(name: str, message: Any) -> list[str]:  # noqa: ANN401 - JSON
    """List what the schema has against a message, with where it stands."""
    return [f"{error.json_path}: {error.message}" for error in validator(name).iter_errors(message)]


def problems_of(kind: str | None, body: bytes) -> list[str]:
    """List what is wrong with a message of that AMQP type; nothing is, where it has none of ours."""
    name = _KINDS.get(kind or "")
    return problems(name, json.loads(body)) if name else []


def assert_result(body: bytes) -> None:
    """Fail unless the body is a result as otpost publishes it."""
    found = problems("result", json.loads(body))
    assert not found, f"this is no result: {found}"


def assert_job_agrees(body: bytes) -> None:
    """Fail if otpost would take a job that the schema refuses."""
    try:
        message: Any = json.loads(body)
    except ValueError:
        return
    refused = problems("job", message)
    if refused:
        try:
            OtpJob.parse(body, now=time.time())
        except InvalidJob:
            return
        raise AssertionError(f"the worker takes a job that the schema refuses: {refused}")
