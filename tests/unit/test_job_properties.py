"""The job: what holds for every job that anybody could make up, and where a code must never be seen."""

from __future__ import annotations

import json
import traceback
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from job_strategies import DIGITS, PROPERTY, SECRETS, valid_fields
from otpost.errors import InvalidJob
from otpost.job import OtpJob
from otpost_worker.ports import Message
from otpost_worker.providers.cloud_api import request_body
from otpost_worker.simulator.messages import Message as Understood
from otpost_worker.simulator.messages import parse_json, read_message

if TYPE_CHECKING:
    from collections.abc import Callable

NOW: Final = 1769860800.0
# Tracebacks show lines of source, so no test below may spell these out.
SECRET: Final = "QWERT12345asdfg"
DIGITS_ONLY: Final = "493817203"
GOOD: Final[dict[str, Any]] = {"id": "job-1", "to": "+12015553931", "code": SECRET}

JSON: Final = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**60), 2**60) | st.floats(allow_nan=False) | st.text(max_size=10),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)
FIELD_NAMES: Final = st.sampled_from(
    [
        "id", "to", "template", "language", "expires_at", "ttl_s", "created_at", "not_before", "ref", "version",
        "sealed_code",
    ]
)  # fmt: skip


# What means something to Python, to pydantic or to the class itself; to a job it is an unknown field like any other.
AWKWARD_NAMES: Final = [
    "self", "cls", "fields", "data", "__class__", "__init__", "__dict__", "__pydantic_extra__", "model_config",
    "model_fields", "model_fields_set", "deadline", "sealed", "parse", "now", "body", "published_at", "", "\u0000",
]  # fmt: skip


def everything_told(error: BaseException) -> str:
    """All that a log, an error tracker or a person could get to see of an error, without its frames' variables."""
    told: list[str] = []
    seen: set[int] = set()
    waiting: list[BaseException | None] = [error]
    while waiting:
        current = waiting.pop()
        if current is None or id(current) in seen:
            continue
        seen.add(id(current))
        told += [
            str(current),
            repr(current),
            repr(current.args),
            repr(vars(current)),
            *traceback.format_exception(current),
        ]
        waiting += [current.__cause__, current.__context__]
    return "\n".join(told)


def everything_said_of(make: Callable[[], OtpJob]) -> str:
    """What is shown of a job, or of the error in its place."""
    try:
        made = make()
    except InvalidJob as error:
        return everything_told(error)
    return f"{made!r} {made!s}"


def refusal(make: Callable[[], object]) -> str:
    with pytest.raises(InvalidJob) as caught:
        make()
    return everything_told(caught.value)


@PROPERTY
@given(valid_fields())
def test_whatever_is_a_job_is_a_message_that_the_provider_takes(fields: dict[str, Any]) -> None:
    job = OtpJob(**fields)
    assert job.code is not None
    message = Message(job.to, job.code, job.template or "verification_code", job.language or "en_US", job.id)
    understood = read_message(parse_json("application/json", request_body(message)))
    assert isinstance(understood, Understood)
    assert (understood.wa_id, understood.code) == (fields["to"].removeprefix("+"), fields["code"])
    assert (understood.callback, understood.prepended) == (job.id, False)


@PROPERTY
@given(valid_fields())
def test_a_job_comes_back_from_the_wire_as_it_was(fields: dict[str, Any]) -> None:
    job = OtpJob(**fields)
    assert OtpJob.parse(job.to_json(), now=fields["created_at"].timestamp()) == job


def job_or_none(body: bytes) -> OtpJob | None:
    """Read the body as a worker does: it is a job, or it is refused; nothing else may come of it."""
    try:
        return OtpJob.parse(body, now=NOW)
    except InvalidJob:
        return None


@PROPERTY
@given(st.dictionaries(FIELD_NAMES | st.sampled_from(AWKWARD_NAMES) | st.text(max_size=8), JSON, max_size=8))
def test_any_json_object_whatever_is_a_job_or_an_invalid_one(fields: dict[str, Any]) -> None:
    job_or_none(json.dumps(fields).encode())
    job_or_none(json.dumps(GOOD | {"created_at": "2026-01-31T12:00:00Z"} | fields).encode())


@pytest.mark.parametrize("name", AWKWARD_NAMES)
def test_a_field_that_is_named_like_something_of_ours_is_unknown(name: str) -> None:
    fields = GOOD | {"created_at": "2026-01-31T12:00:00Z", name: 1}
    assert job_or_none(json.dumps(fields).encode()) is None
    with pytest.raises(InvalidJob):
        OtpJob(**fields)


@PROPERTY
@given(st.integers(1, 600), st.sampled_from([("[", "]"), ('{"a":', "}")]))
def test_a_ref_is_refused_or_can_be_told_in_a_result(depth: int, brackets: tuple[str, str]) -> None:
    left, right = brackets
    body = json.dumps(GOOD | {"created_at": "2026-01-31T12:00:00Z"})[:-1] + f',"ref":{{"a":{left * depth}'
    job = job_or_none(body.encode() + b"1" + right.encode() * depth + b"}}")
    assert job is None or json.loads(orjson.dumps({"result": {"ref": job.ref}}))


@PROPERTY
@given(DIGITS, st.data())
def test_punctuation_changes_no_number(digits: str, data: st.DataObject) -> None:
    between = st.text(" \u00a0-.", max_size=2)
    written = data.draw(st.sampled_from(["+", ""])) + "".join(
        digit + (data.draw(between) if data.draw(st.booleans()) else "") for digit in digits
    )
    assert OtpJob(to=written, code="493817").to == "+" + digits


@PROPERTY
@given(DIGITS.filter(lambda digits: len(digits) > 9))
def test_brackets_around_an_area_code_change_no_number(digits: str) -> None:
    for left, right in ("()", "[]"):
        written = f"+{digits[:2]} {left}{digits[2:5]}{right} {digits[5:]}"
        assert OtpJob(to=written, code="493817").to == "+" + digits


@PROPERTY
@given(SECRETS, st.dictionaries(FIELD_NAMES, JSON, min_size=1, max_size=4), st.sampled_from(["", "0"]))
def test_no_refusal_of_a_broken_job_shows_its_code(secret: str, fields: dict[str, Any], too_much: str) -> None:
    given_fields = {**GOOD, **fields, "code": secret + too_much}
    body = json.dumps(given_fields).encode()
    assert secret not in everything_said_of(lambda: OtpJob(**given_fields))
    assert secret not in everything_said_of(lambda: OtpJob.parse(body, now=NOW))


@PROPERTY
@given(SECRETS, st.text(max_size=5), st.text(max_size=5), JSON)
def test_no_unknown_fields_name_shows_the_code(secret: str, before: str, behind: str, value: object) -> None:
    fields = {**GOOD, "code": secret, before + secret + behind: value}
    assert secret not in refusal(lambda: OtpJob(**fields))
    assert secret not in refusal(lambda: OtpJob.parse(json.dumps(fields).encode(), now=NOW))


@pytest.mark.parametrize(
    "fields",
    [
        pytest.param({"code": SECRET + "x"}, id="too long"),
        pytest.param({"code": SECRET + "\n"}, id="newline"),
        pytest.param({"code": [SECRET]}, id="list"),
        pytest.param({"code": {SECRET: SECRET}}, id="object"),
        pytest.param({"code": SECRET.encode()}, id="bytes"),
        pytest.param({"sealed_code": SECRET, "code": None}, id="in the clear as sealed_code"),
        pytest.param({"sealed_code": SECRET}, id="both"),
        pytest.param({"to": SECRET}, id="as the number"),
        pytest.param({"id": SECRET + " "}, id="as the id"),
        pytest.param({"template": SECRET}, id="as the template"),
        pytest.param({"language": SECRET}, id="as the language"),
        pytest.param({"ttl_s": SECRET}, id="as the ttl"),
        pytest.param({"expires_at": SECRET}, id="as a time"),
        pytest.param({"ref": SECRET}, id="as the ref"),
        pytest.param({"ref": {"a": SECRET * 100}}, id="in a ref too large"),
        pytest.param({"version": SECRET}, id="as the version"),
        pytest.param({"cod": SECRET}, id="under a misspelled name"),
        pytest.param({SECRET: 1}, id="as a name"),
        pytest.param({"x" + SECRET: 1}, id="in a name"),
        pytest.param({"ttl_s": 60, "expires_at": datetime(2026, 1, 1, tzinfo=UTC)}, id="fields that disagree"),
    ],
)
def test_the_code_is_shown_nowhere_wherever_it_stands(fields: dict[str, Any]) -> None:
    assert SECRET not in refusal(lambda: OtpJob(**(GOOD | fields)))


def test_a_code_that_was_given_as_a_number_is_not_shown_in_a_name_either() -> None:
    fields = GOOD | {"code": int(DIGITS_ONLY), "x" + DIGITS_ONLY: 1}
    assert DIGITS_ONLY not in refusal(lambda: OtpJob(**fields))
    assert DIGITS_ONLY not in refusal(lambda: OtpJob.parse(json.dumps(fields).encode(), now=NOW))


def test_a_name_that_looks_like_a_code_is_not_shown_where_no_code_is_given() -> None:
    fields = {"id": "job-1", "to": "+12015553931", DIGITS_ONLY: 1}
    assert DIGITS_ONLY not in refusal(lambda: OtpJob(**fields))
    assert DIGITS_ONLY not in refusal(lambda: OtpJob.parse(json.dumps(fields).encode(), now=NOW))


@pytest.mark.parametrize("body", [f'{{"code":"{SECRET}"', f'["{SECRET}"]', f'"{SECRET}"', SECRET])
def test_a_body_that_is_no_job_is_not_quoted(body: str) -> None:
    assert SECRET not in refusal(lambda: OtpJob.parse(body.encode(), now=NOW))


def test_a_job_shows_neither_its_code_nor_its_number_nor_its_ref() -> None:
    job = OtpJob(**GOOD, ref={"secret": "of the caller"})
    for shown in (repr(job), str(job), f"{job}", f"{[job]}", f"{(job,)!r}"):
        assert SECRET not in shown
        assert "2015553931" not in shown
        assert "of the caller" not in shown
        assert "job-1" in shown


def test_an_invalid_job_carries_no_error_of_the_validator_along() -> None:
    with pytest.raises(InvalidJob) as caught:
        OtpJob(**GOOD | {"to": "1"})
    assert (caught.value.__cause__, caught.value.__context__) == (None, None)
    with pytest.raises(InvalidJob) as caught:
        OtpJob.parse(b"{", now=NOW)
    assert (caught.value.__cause__, caught.value.__context__) == (None, None)
