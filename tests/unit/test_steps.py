"""From a decision to events, dead letters and the next attempt: the JSON of the contract's third section."""

from __future__ import annotations

import json
from typing import Any, Final

import pytest

from otpost.errors import Problem
from otpost.result import OtpResult
from otpost_worker.decision import Bury, Decision, Done, Expire, Halt, RetryIn
from otpost_worker.envelope import Defaults, Envelope, Event, Next, Parcel, Step, Unreadable, Watch, open_envelope
from otpost_worker.outcome import Accepted, Error, Kind
from otpost_worker.standing import Change, News
from otpost_worker.steps import (
    Subject,
    buried_only,
    failed,
    invalid,
    sender_event,
    step_of,
    subject_of,
    subject_of_unreadable,
)

CREATED: Final = 1769860800.0  # 2026-01-31T12:00:00Z
NOW: Final = CREATED + 1.25
CODE: Final = "QWERT12345asdfg"
BODY: Final = (
    b'{"id":"job-1","to":"+12015553931","code":"QWERT12345asdfg","ref":{"order":7},'
    b'"created_at":"2026-01-31T12:00:00Z","template":"t","language":"en"}'
)
ERROR: Final = Error(Kind("throughput"), 130429, "Rate limit hit", "too fast", 400, "Az8or2")
ERROR_JSON: Final = {
    "kind": "throughput",
    "code": 130429,
    "title": "Rate limit hit",
    "detail": "too fast",
    "http_status": 400,
    "provider_trace_id": "Az8or2",
}


def subject(body: bytes = BODY, *, run: int = 1, attempt: int = 2) -> Subject:
    parcel = open_envelope(Envelope(body, "default", run=run, attempt=attempt), Defaults(), now=CREATED)
    assert isinstance(parcel, Parcel)
    return subject_of(parcel, provider="cloud_api")


def told(event: Event | None) -> dict[str, Any]:
    assert event is not None
    told: dict[str, Any] = json.loads(event.body)
    assert told["event_id"] == event.id
    assert told["status"] == event.status
    # What one side writes the other can read.
    OtpResult.parse(event.body)
    return told


def test_an_accepted_message_is_told_with_every_field_of_the_contract() -> None:
    step = step_of(Done(Accepted("wamid.HBgLMTIw")), subject(), now=NOW)
    assert told(step.event) == {
        "event_id": "job-1/1/2/accepted",
        "job_id": "job-1",
        "sender": "default",
        "status": "accepted",
        "run": 1,
        "attempt": 2,
        "at": "2026-01-31T12:00:01.250Z",
        "provider": "cloud_api",
        "provider_message_id": "wamid.HBgLMTIw",
        "to": "12*******31",
        "ref": {"order": 7},
        "error": None,
        "retry_in_s": None,
        "latency_ms": 1250,
    }
    assert (step.next, step.letter, step.ends_job) == (None, None, True)


def test_what_the_provider_holds_is_told_with_its_own_word_for_that() -> None:
    step = step_of(Done(Accepted("wamid.HBgLMTIw", "held_for_quality_assessment")), subject(), now=NOW)
    assert told(step.event)["message_status"] == "held_for_quality_assessment"


def test_an_accepted_message_is_looked_at_again_where_reports_come() -> None:
    step = step_of(Done(Accepted("wamid.HBgLMTIw")), subject(run=2), now=NOW, watch_s=630.0)
    assert step.watch == Watch(2, 2, NOW + 630.0)
    assert Step.from_json(step.to_json()) == step


def test_a_retry_is_told_and_leads_to_the_next_attempt() -> None:
    step = step_of(RetryIn(1.23456, 3, ERROR), subject(run=2), now=NOW)
    event = told(step.event)
    assert (event["event_id"], event["error"], event["retry_in_s"]) == ("job-1/2/2/retrying", ERROR_JSON, 1.235)
    assert event["provider_message_id"] is None
    assert step.next == Next(attempt=3, counted=3, due_at=NOW + 1.23456)
    assert (step.letter, step.ends_job) == (None, False)


def test_a_halt_is_told_like_a_retry() -> None:
    retry = RetryIn(30.0, 0, Error(Kind("sender_halted"), 190))
    assert step_of(Halt(retry), subject(), now=NOW) == step_of(retry, subject(), now=NOW)


def test_a_retry_that_may_not_come_is_not_told() -> None:
    step = step_of(RetryIn(5.0, 1, ERROR, announced=False), subject(), now=NOW)
    assert (step.event, step.next) == (None, Next(3, 1, NOW + 5))


@pytest.mark.parametrize(("error", "expected"), [(ERROR, ERROR_JSON), (None, None)])
def test_an_expired_job_is_a_result_and_never_a_dead_letter(error: Error | None, expected: object) -> None:
    step = step_of(Expire(error), subject(), now=NOW)
    event = told(step.event)
    assert (event["event_id"], event["error"]) == ("job-1/1/2/expired", expected)
    assert (step.next, step.letter, step.ends_job) == (None, None, True)


def test_a_failed_job_is_a_result_and_a_dead_letter() -> None:
    step = step_of(Bury(Error(Kind("recipient"), 131026, "Undeliverable")), subject(), now=NOW)
    event = told(step.event)
    assert event["event_id"] == "job-1/1/2/failed"
    assert (event["error"]["kind"], event["error"]["code"]) == ("recipient", 131026)
    assert step.letter is not None
    assert (step.letter.reason, step.letter.attempt) == ("recipient", 2)
    assert step.letter.died_at == "2026-01-31T12:00:01.250Z"
    assert json.loads(step.letter.error) == event["error"]
    assert (step.next, step.ends_job) == (None, True)


@pytest.mark.parametrize(
    "decision",
    [Done(Accepted("wamid.X")), RetryIn(1.0, 1, ERROR), Expire(None), Bury(ERROR)],
    ids=["done", "retry", "expire", "bury"],
)
def test_no_step_holds_the_code_or_the_whole_number(decision: Decision) -> None:
    kept = step_of(decision, subject(), now=NOW).to_json()
    assert CODE.encode() not in kept
    assert b"2015553931" not in kept


def test_a_latency_is_never_negative_and_unknown_without_a_creation() -> None:
    assert told(step_of(Expire(None), subject(), now=CREATED - 5).event)["latency_ms"] == 0
    ageless = BODY.replace(b'"created_at":"2026-01-31T12:00:00Z"', b'"expires_at":"2026-01-31T12:05:00Z"')
    assert told(step_of(Expire(None), subject(ageless), now=NOW).event)["latency_ms"] is None


def test_the_same_decision_has_the_same_event_id_again() -> None:
    first, second = (step_of(Expire(None), subject(), now=now).event for now in (NOW, NOW + 60))
    assert first is not None
    assert second is not None
    assert first.id == second.id


def test_a_step_may_speak_of_an_earlier_attempt_than_the_deliverys() -> None:
    parcel = open_envelope(Envelope(BODY, "default", attempt=3), Defaults(), now=CREATED)
    assert isinstance(parcel, Parcel)
    step = failed(ERROR, subject_of(parcel, provider=None, attempt=2), now=NOW)
    assert told(step.event)["event_id"] == "job-1/1/2/failed"
    assert told(step.event)["provider"] is None


# What is no job

PROBLEMS: Final = (Problem("to", "must be one phone number"), Problem("", "is no job"))


def unreadable(job_id: str | None) -> Unreadable:
    return Unreadable(Envelope(BODY, "default", attempt=4), PROBLEMS, job_id)


def test_an_invalid_job_says_every_problem() -> None:
    error = invalid(unreadable("job-1"))
    assert (error.kind, error.detail) == ("invalid_job", "to: must be one phone number; is no job")
    step = failed(error, subject_of_unreadable(unreadable("job-1"), nonce="ab12"), now=NOW)
    event = told(step.event)
    assert (event["event_id"], event["job_id"]) == ("job-1/1/4/failed", "job-1")
    assert (event["to"], event["ref"], event["latency_ms"]) == (None, None, None)
    assert step.letter is not None
    assert step.letter.reason == "invalid_job"


def test_of_a_body_with_very_many_problems_a_thousand_characters_are_told() -> None:
    # It travels in a header of the dead letter as well, for which AMQP has only so much room.
    many = Unreadable(Envelope(BODY, "default"), tuple(Problem(f"f{n:03}", "is wrong") for n in range(500)), "job-1")
    detail = invalid(many).detail
    assert detail is not None
    assert len(detail) == 1000
    assert detail.startswith("f000: is wrong; f001: is wrong; ")


def test_a_body_without_an_id_has_an_event_of_its_own() -> None:
    event = told(
        failed(invalid(unreadable(None)), subject_of_unreadable(unreadable(None), nonce="ab12"), now=NOW).event
    )
    assert (event["event_id"], event["job_id"]) == ("~ab12/1/4/failed", None)


def test_an_invalid_body_under_a_known_id_is_a_dead_letter_without_a_result() -> None:
    step = buried_only(invalid(unreadable("job-1")), attempt=4, now=NOW)
    assert (step.event, step.next, step.ends_job) == (None, None, False)
    assert step.letter is not None
    assert (step.letter.reason, step.letter.attempt) == ("invalid_job", 4)


# What concerns a sender


@pytest.mark.parametrize(
    ("news", "name", "detail"),
    [
        pytest.param(News(Change.HALTED, "default", NOW, error=ERROR), "halted", None, id="halted"),
        pytest.param(News(Change.RESUMED, "default", NOW), "resumed", None, id="resumed"),
        pytest.param(
            News(Change.SLOWED, "default", NOW, rate=40.0),
            "slowed",
            "40 messages a second from now on, growing back step by step",
            id="slowed",
        ),
        pytest.param(
            News(Change.PAUSED, "default", NOW, until=CREATED + 61.25),
            "slowed",
            "the quota is used up: nothing is sent until 2026-01-31T12:01:01.250Z",
            id="paused, which is slowest of all",
        ),
    ],
)
def test_what_is_new_about_a_sender_is_told_in_a_word_and_in_words(news: News, name: str, detail: str | None) -> None:
    event = json.loads(sender_event(news).to_json())
    assert (event["name"], event["detail"], event["at"]) == (name, detail, "2026-01-31T12:00:01.250000Z")
    assert event["error"] == (ERROR_JSON if news.error else None)


def test_what_is_new_about_a_template_names_it_in_the_event_and_in_its_id() -> None:
    event = sender_event(News(Change.HALTED, "default", NOW, "login", "en_US"))
    assert (event.template, event.language) == ("login", "en_US")
    assert event.event_id == "default/login/en_US/halted/1769860801250"


def test_the_id_of_a_senders_event_fits_into_a_message_however_long_its_templates_name_is() -> None:
    names = ("a" * 512, "a" * 511 + "b")
    ids = [sender_event(News(Change.HALTED, "default", NOW, name, "en_US")).event_id for name in names]
    # AMQP lets no id of a message be longer.
    assert max(map(len, ids)) <= 255
    assert ids[0] != ids[1]
    assert ids[0] == sender_event(News(Change.HALTED, "default", NOW, names[0], "en_US")).event_id
