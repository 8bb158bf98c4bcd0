"""Where a report belongs, and what stands around that attempt: in flight, accepted, delivered, counted."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from typing import Any, Final

import orjson
import pytest

from otpost_worker.attempts import State
from otpost_worker.decision import History
from otpost_worker.envelope import Event, Next, Step
from otpost_worker.outcome import Kind
from otpost_worker.ports import REMEMBERED_AFTER_DEADLINE_S
from otpost_worker.reported_places import Place, place_of
from otpost_worker.steps import Subject
from otpost_worker.stories import AttemptStory, Hearing, JobStory, Report, RunStory
from ports_in_memory import NOW, envelope, job_body

DELIVERED: Final = {Hearing.DELIVERED: Report(NOW + 3, "post-0")}
FAILED: Final = {Hearing.FAILED: Report(NOW + 3, "post-0")}
IN_FLIGHT: Final = {"state": State.CLAIMED, "lease_until": NOW + 20}


def event(event_id: str, **told: object) -> Event:
    fields = {"at": "2026-11-23T20:00:09.000Z", "latency_ms": 4000, "to": "12*******31", "ref": None, "provider": "p"}
    return Event(event_id, event_id.rsplit("/", 1)[1], orjson.dumps(fields | told))


def attempt(number: int, **fields: Any) -> AttemptStory:  # noqa: ANN401 - those of the story
    return replace(AttemptStory(number, State.REFUSED, None, NOW, NOW, None, None, None, None), **fields)


def run_of(number: int, *attempts: AttemptStory, end: Step | None = None, **fields: Any) -> RunStory:  # noqa: ANN401 - those of the story
    forget_at = NOW + 300 + REMEMBERED_AFTER_DEADLINE_S
    known = RunStory(
        number, envelope(), NOW if end else None, end, buried=False, forget_at=forget_at, turn=None, attempts=attempts
    )
    return replace(known, **fields)


def place(*runs: RunStory, of: int = 1, run: int = 1) -> Place:
    found = place_of(JobStory("job-1", runs, "version"), run, of)
    assert found is not None
    return found


def ended(event_id: str, **fields: Any) -> RunStory:  # noqa: ANN401 - those of the story
    return run_of(1, attempt(1), attempt(11), end=Step(event(event_id)), **fields)


def test_a_place_is_found_by_its_run_and_its_attempt_together() -> None:
    runs = (run_of(1, attempt(1), attempt(2)), run_of(2, attempt(1)))
    found = place(*runs, run=2)
    assert (found.run.run, found.attempt.attempt) == (2, 1)
    assert place_of(JobStory("job-1", runs, "version"), 2, 2) is None


@pytest.mark.parametrize(
    ("event_id", "is_end"),
    [
        ("job-1/1/1/accepted", True),
        ("job-1/1/11/accepted", False),
        ("job-1/1/1/failed", False),
        ("job-1/2/1/accepted", False),
    ],
)
def test_the_end_is_this_attempts_only_as_its_own_acceptance(event_id: str, is_end: object) -> None:
    assert place(ended(event_id)).is_end == is_end
    assert not place(run_of(1, attempt(1))).is_end
    assert not place(run_of(1, attempt(1), end=Step(None))).is_end


@pytest.mark.parametrize(
    ("others", "until"),
    [
        ([IN_FLIGHT], IN_FLIGHT["lease_until"]),
        ([{}, IN_FLIGHT], IN_FLIGHT["lease_until"]),
        ([IN_FLIGHT, {**IN_FLIGHT, "lease_until": NOW + 99}], NOW + 99),
        ([{**IN_FLIGHT, "lease_until": NOW + 10}], None),
        ([{**IN_FLIGHT, "lease_until": None}], None),
        ([{**IN_FLIGHT, "state": State.UNKNOWN}], None),
        ([], None),
    ],
)
def test_in_flight_is_another_attempt_whose_lease_goes_on(others: list[dict[str, Any]], until: object) -> None:
    attempts = [attempt(number, **one) for number, one in enumerate(others, 2)]
    assert place(run_of(1, attempt(1, **IN_FLIGHT), *attempts)).others_in_flight_until(NOW + 10) == until


@pytest.mark.parametrize(
    ("other", "stands"),
    [
        ({}, False),
        ({"provider_message_id": "wamid.2"}, True),
        ({"provider_message_id": "wamid.2", "reports": FAILED}, False),
        ({"reports": DELIVERED}, True),
        ({"reports": FAILED}, False),
    ],
)
def test_another_attempt_stands_where_it_was_taken_and_has_not_failed_or_was_delivered(
    other: dict[str, Any], stands: object
) -> None:
    own = attempt(1, provider_message_id="wamid.1", reports=DELIVERED)
    assert place(run_of(1, own, attempt(2, **other))).others_stand == stands


@pytest.mark.parametrize(
    ("other", "stands"),
    [
        (run_of(2, end=Step(event("job-1/2/1/accepted"))), True),
        (run_of(2, end=Step(event("job-1/2/1/accepted")), undelivered=True), False),
        (run_of(2, end=Step(event("job-1/2/1/failed"))), False),
        (run_of(2, end=Step(event("job-1/2/1/failed")), delivered=True), True),
        (run_of(2), False),
    ],
    ids=["accepted", "given up", "failed", "failed and delivered", "under way"],
)
def test_another_run_stands_where_it_was_accepted_and_not_given_up_or_was_delivered(
    other: RunStory, stands: object
) -> None:
    own = run_of(1, attempt(1), end=Step(event("job-1/1/1/accepted")))
    assert place(own, other).others_stand == stands


def test_was_delivered_looks_at_every_attempt_of_the_run_and_of_no_other() -> None:
    read = {Hearing.READ: Report(NOW + 3, "post-0")}
    assert place(run_of(1, attempt(1), attempt(2, reports=read))).was_delivered
    assert not place(run_of(1, attempt(1, reports=FAILED)), run_of(2, attempt(1, reports=DELIVERED))).was_delivered


def test_what_came_before_is_counted_by_its_last_step_and_by_kind() -> None:
    attempts = (
        attempt(1, kind=Kind.UNAVAILABLE, step=Step(None, Next(2, 1, NOW))),
        attempt(2, kind=Kind.UNAVAILABLE, step=Step(None, Next(3, 2, NOW))),
        attempt(3, kind=Kind.UNKNOWN, step=Step(None, Next(4, 3, NOW))),
    )
    assert place(run_of(1, *attempts), of=3).history == History(2, {Kind.UNAVAILABLE: 2})


def test_without_a_step_before_it_the_copy_itself_says_how_many_attempts_count() -> None:
    of = envelope(counted=5)
    assert place(run_of(1, attempt(1, kind=Kind.UNKNOWN), envelope=of)).history == History(5, {})
    ended_before = run_of(1, attempt(1), attempt(2), envelope=of)
    assert place(ended_before, of=2).history == History(5, {})
    closed = run_of(1, attempt(1, step=Step(event("job-1/1/1/retrying"))), attempt(2), envelope=of)
    assert place(closed, of=2).history == History(5, {})


def test_an_attempt_that_a_report_has_settled_hides_nothing_of_what_was_counted_before_it() -> None:
    first = attempt(1, step=Step(None, Next(2, 4, NOW)))
    settled = attempt(2, step=Step(event("job-1/1/2/retrying")))
    assert place(run_of(1, first, settled, attempt(3)), of=3).history.counted == 4


def test_only_the_last_attempt_of_the_run_is_the_highest() -> None:
    three = run_of(1, attempt(1), attempt(2), attempt(3))
    assert [place(three, of=number).is_highest for number in (1, 2, 3)] == [False, False, True]


def test_the_deadline_is_that_of_the_job() -> None:
    assert place(run_of(1, attempt(1))).deadline == NOW + 300


SUBJECT: Final = Subject("job-1", "job-1", "default", 1, 1, to="12*******31", created_at=NOW + 5, provider="p")


def test_whom_it_is_for_is_read_off_the_end_or_else_off_the_first_event_that_was_told() -> None:
    other = attempt(2, step=Step(event("job-1/1/2/retrying", provider="second")))
    ended_run = run_of(1, attempt(1), other, end=Step(event("job-1/1/1/accepted")))
    assert place(ended_run).subject(now=NOW, provider="in memory") == SUBJECT
    unannounced = attempt(1, step=Step(None, Next(2, 1, NOW)))
    assert place(run_of(1, unannounced, other)).subject(now=NOW, provider="x") == replace(SUBJECT, provider="second")


@pytest.mark.parametrize("told", [{"latency_ms": None}, {"at": "soon"}])
def test_an_event_without_a_wait_or_a_time_does_not_say_when_the_job_was_made(told: dict[str, object]) -> None:
    run = run_of(1, attempt(1), end=Step(event("job-1/1/1/accepted", ref={"cart": 7}, **told)))
    expected = replace(SUBJECT, created_at=None, ref={"cart": 7})
    assert place(run).subject(now=NOW, provider="in memory") == expected


def test_where_nothing_was_told_the_job_itself_says_whom_it_is_for() -> None:
    run = run_of(1, attempt(1), envelope=envelope(job_body(ref={"cart": 7})))
    expected = replace(SUBJECT, ref={"cart": 7}, created_at=NOW, provider="in memory")
    assert place(run).subject(now=NOW + 1, provider="in memory") == expected


def test_a_job_without_a_time_of_its_own_was_made_when_the_broker_says() -> None:
    of = envelope(job_body(created_at=None), published_at=datetime.fromtimestamp(NOW, UTC))
    assert place(run_of(1, attempt(1), envelope=of)).subject(now=NOW + 1, provider="p").created_at == NOW


def test_of_a_job_whose_body_is_gone_less_is_said() -> None:
    run = run_of(1, attempt(1), envelope=envelope(b""))
    expected = replace(SUBJECT, to=None, created_at=None)
    assert place(run).subject(now=NOW, provider="p") == expected
