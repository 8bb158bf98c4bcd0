"""The schemas: each refuses what breaks the contract, and none refuses what otpost takes or publishes."""

from __future__ import annotations

import base64
import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import orjson
import pytest
from hypothesis import event, given
from hypothesis import strategies as st
from jsonschema import Draft202012Validator

from job_strategies import CODES, DIGITS, IDS, LANGUAGES, PROPERTY, REFS, TEMPLATES, valid_fields
from message_schemas import problems
from otpost.errors import InvalidJob
from otpost.event import EventName, SenderEvent, UnreadableEvent
from otpost.job import OtpJob
from otpost.result import OtpResult
from otpost.schemas import FILES, document

FOLDER: Final = Path(__file__).parents[2] / "schemas"
# 2026-01-31T12:00:00Z in Unix seconds.
NOON: Final = 1769860800.0
SEALED: Final = base64.b64encode(bytes(54)).decode()
ERROR: Final[dict[str, Any]] = {
    "kind": "throughput",
    "code": 130429,
    "title": "Rate limit hit",
    "detail": None,
    "http_status": 400,
    "provider_trace_id": "Az8or2yhqkZ",
}
JOB: Final[dict[str, Any]] = {
    "id": "job-1",
    "to": "+12015553931",
    "code": "493817",
    "template": "verification_code",
    "language": "en_US",
    "created_at": "2026-01-31T12:00:00Z",
    "ttl_s": 300,
    "not_before": "2026-01-31T12:00:02Z",
    "ref": {"order": 7},
    "version": 1,
}
RESULT: Final[dict[str, Any]] = {
    "event_id": "job-1/1/2/retrying",
    "job_id": "job-1",
    "sender": "default",
    "status": "retrying",
    "run": 1,
    "attempt": 2,
    "at": "2026-01-31T12:00:00.250Z",
    "provider": "cloud_api",
    "provider_message_id": None,
    "to": "12*******31",
    "ref": {"order": 7},
    "error": ERROR,
    "retry_in_s": 1.5,
    "latency_ms": 1250,
}
EVENT: Final[dict[str, Any]] = {
    "event_id": "default/halted/1",
    "sender": "default",
    "name": "halted",
    "at": "2026-01-31T12:00:00.250Z",
    "template": None,
    "language": None,
    "job_id": None,
    "detail": None,
    "error": ERROR,
}
MESSAGES: Final = {"job": JOB, "result": RESULT, "event": EVENT}


def takes(fields: dict[str, Any]) -> bool:
    """Tell whether the worker takes this job, as JSON; whatever is wrong with its times alone is left out of it."""
    return not refusals(fields)


def refusals(fields: dict[str, Any]) -> list[str]:
    try:
        OtpJob.parse(orjson.dumps(fields), now=NOON)
    except InvalidJob as error:
        return [str(problem) for problem in error.problems]
    return []


# The files


@pytest.mark.parametrize("name", FILES)
def test_the_repositorys_copy_is_what_otpost_schema_prints(name: str) -> None:
    written = json.loads((FOLDER / FILES[name]).read_text(encoding="utf-8"))
    assert written == document(name), "out of date: run 'otpost schema --dir schemas'"


def test_there_is_no_other_file() -> None:
    assert {file.name for file in FOLDER.iterdir()} == {
        "otpost.job.v1.schema.json",
        "otpost.result.v1.schema.json",
        "otpost.event.v1.schema.json",
        "asyncapi.json",
    }


@pytest.mark.parametrize("name", MESSAGES)
def test_each_is_a_schema_of_2020_12(name: str) -> None:
    schema = document(name)
    assert schema["$schema"] == "https://json-schema.org/draft/2020-12/schema"
    Draft202012Validator.check_schema(schema)


# Every field by its name


def misspelt() -> list[Any]:
    cases = [
        (name, message | {field + "x": message[field]}, field)
        for name, message in MESSAGES.items()
        for field in message
    ]
    for name, message in (("result", RESULT), ("event", EVENT)):
        cases += [(name, message | {"error": ERROR | {field + "x": ERROR[field]}}, f"error.{field}") for field in ERROR]
    return [pytest.param(*case, id=f"{case[0]}.{case[2]}") for case in cases]


@pytest.mark.parametrize(("name", "message", "field"), misspelt())
def test_a_misspelt_field_is_refused(name: str, message: dict[str, Any], field: str) -> None:
    *outer, field = field.split(".")
    holder = message[outer[0]] if outer else message
    del holder[field]
    assert any(f"'{field}x' was unexpected" in problem for problem in problems(name, message))


@pytest.mark.parametrize("name", MESSAGES)
def test_what_was_written_by_hand_is_taken(name: str) -> None:
    assert problems(name, MESSAGES[name]) == []


@pytest.mark.parametrize(("name", "field"), [(n, f) for n in ("result", "event") for f in MESSAGES[n]])
def test_a_published_message_has_every_field(name: str, field: str) -> None:
    without = {key: value for key, value in MESSAGES[name].items() if key != field}
    assert problems(name, without) == [f"$: '{field}' is a required property"]


# Jobs


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("id", ""), ("id", "x" * 65), ("id", "a b"), ("id", "job-1\n"), ("id", 7), ("id", None),
        ("to", "12345"), ("to", "+02015553931"), ("to", "+1201555393112345"), ("to", "+44 (0)20 7946 0123"),
        ("to", "+12015553931,+12015553932"), ("to", "+1201/5553931"), ("to", 12015553931), ("to", None),
        ("to", "+1 2 0 1 5 5 5 3 9 3 1" + " " * 50),
        ("code", ""), ("code", "4938 17"), ("code", "1234567890123456"), ("code", "wwW.a"), ("code", "wa.Me"),
        ("code", "bit.ly/abc"), ("code", "T.ME/x"), ("code", "see:a-1.info/"),
        ("code", "a://b"), ("code", "ä"), ("code", 493817), ("code", "493817\n"),
        ("template", ""), ("template", "Verification"), ("template", "x" * 513), ("template", 1),
        ("language", "english"), ("language", "en-US"), ("language", "en_us"), ("language", 1),
        ("created_at", "2026-01-31T12:00:00"), ("created_at", "2026-01-31"), ("created_at", 1769860800),
        ("created_at", "2026-01-31T12:00:00Z\n"), ("not_before", "noon"),
        ("ttl_s", 0), ("ttl_s", -1), ("ttl_s", 5401), ("ttl_s", "300"), ("ttl_s", True),
        ("ref", [1]), ("ref", "order 7"), ("version", 2), ("version", "1"), ("version", True),
    ],
)  # fmt: skip
def test_what_breaks_a_rule_is_refused_by_both(field: str, value: object) -> None:
    broken = JOB | {field: value}
    assert problems("job", broken)
    assert not takes(broken)


@pytest.mark.parametrize(
    "sealed",
    [
        base64.b64encode(bytes(48)).decode(),
        base64.b64encode(bytes(64)).decode(),
        base64.b64encode(bytes(49)).decode().rstrip("="),
        SEALED + "=",
        SEALED[:-1] + "-",
        "493817",
    ],
)
def test_what_cannot_be_a_sealed_code_is_refused_by_both(sealed: str) -> None:
    broken = JOB | {"code": None, "sealed_code": sealed}
    assert problems("job", broken)
    assert not takes(broken)


@pytest.mark.parametrize("size", [49, 50, 51, 54, 60, 63])
def test_a_code_sealed_to_any_length_is_taken_by_both(size: int) -> None:
    sealed = JOB | {"code": None, "sealed_code": base64.b64encode(bytes(size)).decode()}
    assert problems("job", sealed) == []
    assert takes(sealed)


@pytest.mark.parametrize(
    "fields",
    [
        pytest.param({"code": None}, id="no code"),
        pytest.param({"sealed_code": SEALED}, id="two codes"),
        pytest.param({"expires_at": "2026-01-31T12:05:00Z"}, id="two ends"),
        pytest.param({"expires": None}, id="unknown, though null"),
        pytest.param({"ttl": 300}, id="unknown"),
    ],
)
def test_fields_that_may_not_stand_together_are_refused_by_both(fields: dict[str, Any]) -> None:
    assert problems("job", JOB | fields)
    assert not takes(JOB | fields)


@pytest.mark.parametrize("field", ["sealed_code", "template", "language", "ttl_s", "not_before", "ref", "version"])
def test_null_stands_for_a_field_that_is_left_out(field: str) -> None:
    assert problems("job", JOB | {field: None}) == []
    assert takes(JOB | {field: None})


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("to", "12015553931"), ("to", "1234567"), ("to", "123456789012345"), ("to", "+1 (201) 555-3931"),
        ("to", "(+1) 201.555.3931"), ("to", "+1\u00a0201\u202f555\u20103931"), ("to", "[+1] 201 555\u20113931"),
        ("code", "!"), ("code", "~" * 15), ("code", "www"), ("code", "a.b/c"), ("code", "1.23/4"),
        ("code", ".ab/"), ("code", "ab/c.de"), ("id", "a.b:c_d-9"), ("language", "fil"),
        ("created_at", "2026-01-31 12:00:00.5z"), ("created_at", "2026-01-31t13:00:00+01:00"),
        ("ttl_s", 5400), ("ttl_s", 12.5), ("ref", {}),
    ],
)  # fmt: skip
def test_what_keeps_every_rule_is_taken_by_both(field: str, value: object) -> None:
    assert problems("job", JOB | {field: value}) == []
    assert takes(JOB | {field: value})


# What docs/producers.md says that no schema can tell.
BEYOND: Final = {
    "at most 1 KiB of JSON": {"ref": {"text": "x" * 1024}},
    "at most 32 deep": {"ref": {"a": json.loads("[" * 32 + "]" * 32)}},
    "at most 5400 s after created_at": {"ttl_s": None, "expires_at": "2026-01-31T13:30:01Z"},
    "must be earlier than expires_at": {"not_before": "2026-01-31T12:05:00Z"},
    "must be an RFC 3339 time with a zone": {"created_at": "2026-02-30T12:00:00Z"},
    "the job's age is unknown": {"created_at": None},
    "later even from now": {"created_at": "2027-01-31T12:00:00Z", "not_before": None},
    "the only version of a job": {"version": 1.0},
    "at most 16384 are allowed": {"ref": {"text": "x" * 16384}},
}


@pytest.mark.parametrize(("rule", "fields"), BEYOND.items())
def test_what_no_schema_can_tell_is_refused_by_the_worker_alone(rule: str, fields: dict[str, Any]) -> None:
    assert problems("job", JOB | fields) == []
    assert any(rule in refusal for refusal in refusals(JOB | fields))


_PUNCTUATION: Final = st.text(" \u00a0\u202f-\u2010\u2011.()[]", max_size=2)
_JSON: Final = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**60), 2**60) | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=10),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=4,
)  # fmt: skip


@st.composite
def _numbers(draw: st.DrawFn) -> str:
    digits = "".join(digit + draw(_PUNCTUATION) for digit in draw(DIGITS))
    return draw(_PUNCTUATION) + draw(st.sampled_from(["", "+"])) + draw(_PUNCTUATION) + digits


@st.composite
def _times(draw: st.DrawFn, moment: float, zones: list[str]) -> str:
    written = datetime.fromtimestamp(moment, UTC).strftime(f"%Y-%m-%d{draw(st.sampled_from('Tt '))}%H:%M:%S")
    return written + draw(st.sampled_from(["", ".2", ".250", ".250250250"])) + draw(st.sampled_from(zones))


# What is right, and what is not quite.
_RIGHT: Final = {
    "id": IDS,
    "to": _numbers(),
    "code": CODES,
    "sealed_code": st.integers(49, 63).map(lambda size: base64.b64encode(b"7" * size).decode()),
    "template": TEMPLATES | st.none(),
    "language": LANGUAGES | st.none(),
    "expires_at": _times(NOON + 60, ["Z", "z", "+00:00", "-00:00"]),
    "ttl_s": st.floats(30, 5400) | st.integers(30, 5400),
    "created_at": _times(NOON, ["Z", "z", "+00:00"]),
    "not_before": _times(NOON + 1, ["Z", "+00:00"]),
    "ref": REFS,
    "version": st.sampled_from([1, None]),
}
_NEARLY: Final = {
    "id": st.text(max_size=3),
    "to": st.text("+0123456789 (-)", max_size=20),
    "code": st.text("wW.aAmMeE:/1-", max_size=16),
    "sealed_code": st.text("AZaz09+/=", min_size=64, max_size=88),
    "language": st.text("enUS_", max_size=7),
    "expires_at": _times(NOON, ["+24:00", "", "+0000", "+23:59"]),
    "ttl_s": st.floats(-1, 5500) | st.integers(-1, 5500),
    "created_at": _times(NOON, ["+24:00", "", "+0000", "-23:59"]),
    "version": st.sampled_from([1.0, 2, "1", True]),
    "expires": _JSON,
}


@st.composite
def jobs(draw: st.DrawFn) -> dict[str, Any]:
    """Draw jobs of which about half are right, and the others not quite."""
    good = {"id": "job-1", "to": "+12015553931", "code": "493817", "created_at": "2026-01-31T12:00:00Z"}
    job: dict[str, Any] = good | draw(st.fixed_dictionaries({}, optional=_RIGHT))
    for one_of_two in (("code", "sealed_code"), ("expires_at", "ttl_s")):
        if job.keys() >= set(one_of_two) and draw(st.integers(0, 9)):
            del job[draw(st.sampled_from(one_of_two))]
    if draw(st.booleans()):
        field = draw(st.sampled_from([*_NEARLY]))
        job[field] = draw(_NEARLY[field] | _JSON)
    return job


@PROPERTY
@given(jobs())
def test_the_schema_refuses_no_job_that_the_worker_takes(job: dict[str, Any]) -> None:
    found = problems("job", json.loads(orjson.dumps(job)))
    if takes(job):
        event("taken")
        assert found == []


@PROPERTY
@given(jobs())
def test_what_the_worker_refuses_of_what_the_schema_takes_is_in_the_list(job: dict[str, Any]) -> None:
    if problems("job", json.loads(orjson.dumps(job))) == []:
        assert [rule for rule in refusals(job) if not any(known in rule for known in BEYOND)] == []


@PROPERTY
@given(valid_fields())
def test_the_client_publishes_nothing_that_the_schema_refuses(fields: dict[str, Any]) -> None:
    assert problems("job", json.loads(OtpJob(**fields).to_json())) == []


# Results and events


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("status", "lost"), ("run", 0), ("attempt", 0), ("attempt", "1"), ("at", "2026-01-31T12:00:00+00:00"),
        ("at", "noon"), ("to", "+12015553931"), ("to", "12015553931"), ("to", "12*5553931"), ("latency_ms", 1.5),
        ("ref", [1]), ("error", "throughput"), ("error", {"kind": "throughput"}), ("job_id", 7), ("event_id", None),
    ],
)  # fmt: skip
def test_a_result_that_no_worker_publishes_is_refused(field: str, value: object) -> None:
    assert problems("result", RESULT | {field: value})


@pytest.mark.parametrize(
    "name",
    [
        "halted", "resumed", "slowed", "category_changed", "fallback", "code_not_requested",
        "quality_changed", "number_changed", "account_changed",
    ],
)  # fmt: skip
def test_an_event_comes_back_from_the_wire_as_it_was(name: str) -> None:
    read = SenderEvent.parse(json.dumps(EVENT | {"name": name, "price": 1}).encode())
    assert (read.name, read.routing_key) == (name, f"default.event.{name}")
    assert read.error is not None
    assert read.error.code == 130429
    assert problems("event", json.loads(read.to_json())) == []
    assert SenderEvent.parse(read.to_json()) == read


def test_there_are_no_other_events() -> None:
    assert len(EventName) == 9


@pytest.mark.parametrize("body", [b"", b"[]", b"{}", json.dumps(RESULT).encode()])
def test_what_is_no_event_is_refused_without_quoting_it(body: bytes) -> None:
    with pytest.raises(UnreadableEvent, match=r"otpost\.event\.v1") as caught:
        SenderEvent.parse(body)
    assert (caught.value.__cause__, caught.value.__context__) == (None, None)


def test_only_what_is_held_has_a_message_status() -> None:
    held = RESULT | {"message_status": "held_for_quality_assessment"}
    assert problems("result", held) == []
    read = OtpResult.parse(json.dumps(held).encode())
    assert json.loads(read.to_json())["message_status"] == "held_for_quality_assessment"
    assert json.loads(OtpResult.parse(json.dumps(RESULT).encode()).to_json()).keys() == RESULT.keys()


def test_a_result_that_the_client_writes_is_as_published() -> None:
    assert problems("result", json.loads(OtpResult.parse(json.dumps(RESULT).encode()).to_json())) == []
