"""The result: its JSON, its statuses, and what of a phone number it shows."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any, Final

import pytest

from otpost.result import EVENT_TYPE, RESULT_TYPE, OtpResult, ResultError, Status, UnreadableResult, mask_number

FIELDS: Final[dict[str, Any]] = {
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
    "error": {
        "kind": "throughput",
        "code": 130429,
        "title": "Rate limit hit",
        "detail": None,
        "http_status": 400,
        "provider_trace_id": "Az8or2yhqkZ",
    },
    "retry_in_s": 1.5,
    "latency_ms": 1250,
}


def wire(**fields: object) -> bytes:
    return json.dumps({name: value for name, value in {**FIELDS, **fields}.items() if value is not ...}).encode()


def test_a_result_is_read_field_by_field() -> None:
    result = OtpResult.parse(wire())
    assert (result.event_id, result.job_id, result.sender) == ("job-1/1/2/retrying", "job-1", "default")
    assert (result.status, result.run, result.attempt) == (Status.RETRYING, 1, 2)
    assert result.at == datetime(2026, 1, 31, 12, 0, 0, 250_000, tzinfo=UTC)
    assert (result.provider, result.provider_message_id, result.to) == ("cloud_api", None, "12*******31")
    assert (result.ref, result.retry_in_s, result.latency_ms) == ({"order": 7}, 1.5, 1250)
    assert result.error == ResultError(
        kind="throughput", code=130429, title="Rate limit hit", http_status=400, provider_trace_id="Az8or2yhqkZ"
    )


def test_a_result_travels_with_every_field_and_comes_back_as_it_was() -> None:
    sent = OtpResult.parse(wire()).to_json()
    assert json.loads(sent).keys() == FIELDS.keys()
    assert json.loads(sent)["error"] == FIELDS["error"]
    assert OtpResult.parse(sent) == OtpResult.parse(wire())


def test_fields_of_a_later_version_are_ignored() -> None:
    later = wire(price=1, error={"kind": "quota", "helpful": True})
    assert OtpResult.parse(later).error == ResultError(kind="quota")


def test_a_body_without_an_id_has_a_result_without_one() -> None:
    assert OtpResult.parse(wire(job_id=None)).job_id is None


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"null",
        b"[]",
        b"{}",
        b"\xff",
        wire(status="lost"),
        wire(event_id=...),
        wire(run="first"),
        wire(at="yesterday"),
        wire(ref=[1]),
    ],
)
def test_what_is_no_result_is_refused_without_quoting_it(body: bytes) -> None:
    with pytest.raises(UnreadableResult, match=r"otpost\.result\.v1") as caught:
        OtpResult.parse(body)
    assert (caught.value.__cause__, caught.value.__context__) == (None, None)
    assert "job-1" not in str(caught.value)


@pytest.mark.parametrize(
    ("status", "ends"),
    [
        ("accepted", True),
        ("retrying", False),
        ("failed", True),
        ("expired", True),
        ("sent", False),
        ("delivered", False),
        ("read", False),
        ("undelivered", False),
    ],
)
def test_three_statuses_end_a_job(status: str, *, ends: bool) -> None:
    assert Status(status).ends_job is ends
    assert OtpResult.parse(wire(status=status)).ends_job is ends


def test_there_are_no_other_statuses() -> None:
    assert len(Status) == 8


def test_message_types_are_the_contracts() -> None:
    assert (RESULT_TYPE, EVENT_TYPE) == ("otpost.result.v1", "otpost.event.v1")


@pytest.mark.parametrize(
    ("number", "masked"),
    [
        ("+12015553931", "12*******31"),
        ("+1234567", "12***67"),
        ("+123456789012345", "12***********45"),
    ],
)
def test_a_masked_number_shows_its_first_two_and_last_two_digits(number: str, masked: str) -> None:
    assert mask_number(number) == masked
