"""What is told of a request: one event each, and of a clock that is off no more than has to be said."""

from __future__ import annotations

from typing import Final

import pytest
import structlog

from otpost_worker import reporting
from otpost_worker.decision import Bury, Done, RetryIn
from otpost_worker.envelope import Defaults, Envelope, Parcel, open_envelope
from otpost_worker.metrics import Metrics
from otpost_worker.outcome import Accepted, Error, Kind, Refused
from otpost_worker.ports import Ticket
from otpost_worker.reporting import Reporter
from ports_in_memory import NOW, job_body

WAMID: Final = "wamid.HBgLMTIwMTU1NTM5MzEVAgARGBI4Qzc5QUJDREVGMTIzNDU2AA=="


@pytest.fixture(autouse=True)
def _own_log(monkeypatch: pytest.MonkeyPatch) -> None:
    """A logger that was used before, under another test's configuration, keeps that one for good."""
    monkeypatch.setattr(reporting, "_log", structlog.get_logger())


def reporter() -> Reporter:
    return Reporter("default", Metrics(["default"]))


def parcel(created_at: str) -> Parcel:
    opened = open_envelope(Envelope(job_body(created_at=created_at), "default"), Defaults("code", "en"), now=NOW)
    assert isinstance(opened, Parcel)
    return opened


def ticket(attempt: int = 1) -> Ticket:
    return Ticket("job-1", 1, attempt, "token")


def test_each_attempt_is_one_event_with_all_that_support_asks_for() -> None:
    error = Error(Kind.UNAVAILABLE, code=131016, title="Down", http_status=503, provider_trace_id="Az8or2yhqkZfEZ")
    with structlog.testing.capture_logs() as told:
        reporter().request_ended(ticket(3), Refused(error), RetryIn(0.75049, 3, error), duration_s=0.31249)
    assert told == [
        {
            "log_level": "info", "event": "attempt.finished", "job_id": "job-1", "run": 1, "attempt": 3,
            "sender": "default", "outcome": "refused", "decision": "retryin", "kind": "unavailable", "code": 131016,
            "http_status": 503, "trace_id": "Az8or2yhqkZfEZ", "message_id_ends": None, "retry_in_s": 0.75,
            "duration_ms": 312,
        }
    ]  # fmt: skip


def test_of_a_message_id_only_the_end_is_told_which_holds_no_number() -> None:
    with structlog.testing.capture_logs() as told:
        reporter().request_ended(ticket(), Accepted(WAMID), Done(Accepted(WAMID)), duration_s=0.1)
    assert told[0]["message_id_ends"] == "NDU2AA=="
    assert WAMID not in str(told)


def test_a_job_from_the_future_is_told_of_once_although_other_jobs_are_on_time() -> None:
    telling = reporter()
    with structlog.testing.capture_logs() as told:
        for _ in range(3):
            telling.request_begun(parcel("2026-11-23T20:01:35Z"), ticket(), NOW)
            telling.request_begun(parcel("2026-11-23T19:59:59Z"), ticket(), NOW)
    assert [entry["event"] for entry in told] == ["clock.compared"]
    assert "95 s behind that of whoever made the job (created_at)" in told[0]["message"]


def test_a_job_that_is_half_a_minute_ahead_or_an_hour_old_is_not_told_of() -> None:
    telling = reporter()
    with structlog.testing.capture_logs() as told:
        telling.request_begun(parcel("2026-11-23T20:00:29Z"), ticket(), NOW)
        telling.request_begun(parcel("2026-11-23T19:00:00Z"), ticket(), NOW)
    assert told == []


def test_a_buried_job_has_no_retry() -> None:
    error = Error(Kind.RECIPIENT, code=131026)
    with structlog.testing.capture_logs() as told:
        reporter().request_ended(ticket(), Refused(error), Bury(error), duration_s=0.1)
    assert (told[0]["decision"], told[0]["retry_in_s"]) == ("bury", None)
