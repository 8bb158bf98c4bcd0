"""What follows from a report that a message failed, which had been taken, or may have been."""

from __future__ import annotations

from dataclasses import replace

import pytest

from otpost_worker.attempts import State
from otpost_worker.envelope import Next, Step
from otpost_worker.outcome import Error, Kind
from otpost_worker.statuses import Later, follow
from otpost_worker.stories import Amendment, AttemptChange, Hearing, JobStory, Report
from ports_in_memory import NOW, envelope
from reported_stories import (
    ACCEPTED,
    DELIVERED,
    FAILURE,
    HALTED,
    LOST,
    RECIPIENT,
    RETRYING,
    TAKEN,
    TERMS,
    USER_LIMIT,
    amendment_of,
    arrived,
    attempt,
    body_of,
    event,
    failed,
    heard,
    story,
    told,
)


def test_a_failure_waits_for_an_answer_that_is_on_its_way_and_for_no_other() -> None:
    claimed = attempt(state=State.CLAIMED, recorded_at=None)
    failure = heard(Hearing.FAILED, error=RECIPIENT)
    for lease_until, is_later in [(NOW + 10.5, True), (NOW + 10, False), (NOW, False), (None, False)]:
        verdict = follow(failure, story(replace(claimed, lease_until=lease_until)), 1, 1, TERMS)
        assert isinstance(verdict, Later) == is_later
    # One that has an outcome waits for none, whatever is left of its lease.
    assert told(failed(story(replace(LOST, lease_until=NOW + 20)))) == ["1/failed, letter recipient"]


@pytest.mark.parametrize(("lease_until", "is_later"), [(NOW + 10.5, True), (NOW + 10, False), (None, False)])
def test_a_failure_of_the_end_waits_while_another_attempt_is_in_flight(
    lease_until: float | None, is_later: object
) -> None:
    second = attempt(2, State.CLAIMED, lease_until=lease_until)
    verdict = follow(heard(Hearing.FAILED, error=RECIPIENT), story(TAKEN, second, end=ACCEPTED), 1, 1, TERMS)
    assert isinstance(verdict, Later) == is_later


def test_the_lease_of_an_attempt_with_an_outcome_holds_up_no_failure() -> None:
    second = attempt(2, State.REFUSED, lease_until=NOW + 20)
    assert told(failed(story(TAKEN, second, end=ACCEPTED))) == ["1/undelivered, letter recipient"]


def test_a_failure_of_an_attempt_that_is_no_end_waits_for_nobody() -> None:
    second = attempt(2, State.CLAIMED, lease_until=NOW + 20)
    verdict = failed(story(LOST, second))
    assert verdict.steps == ()
    assert verdict.amendment == Amendment(1, 1, {Hearing.FAILED: Report(NOW + 4, "post-1", RECIPIENT)}, "wamid.told")


@pytest.mark.parametrize(
    "known",
    [
        pytest.param(story(replace(TAKEN, reports=DELIVERED), end=ACCEPTED), id="it was delivered"),
        pytest.param(story(TAKEN, attempt(2, reports=DELIVERED), end=ACCEPTED), id="another one was"),
        pytest.param(story(TAKEN, attempt(2, provider_message_id="wamid.2"), end=ACCEPTED), id="another one stands"),
        pytest.param(story(TAKEN, end=ACCEPTED, undelivered=True), id="it was given up"),
        pytest.param(story(LOST, end=Step(event("job-1/1/1/failed"))), id="the run has failed"),
        pytest.param(story(LOST, attempt(2, State.REFUSED)), id="a later attempt decides"),
        pytest.param(story(attempt(state=State.REFUSED, step=RETRYING)), id="it was refused"),
    ],
)
@pytest.mark.parametrize("error", [RECIPIENT, USER_LIMIT])
def test_of_a_failure_that_changes_nothing_it_is_only_noted_that_it_came(known: JobStory, error: Error) -> None:
    verdict = failed(known, error)
    assert (verdict.steps, verdict.latency_s) == ((), None)
    amendment = amendment_of(verdict)
    expected = {**known.runs[0].attempts[0].reports, Hearing.FAILED: Report(NOW + 4, "post-1", error)}
    assert amendment == Amendment(1, 1, expected, "wamid.told", undelivered=known.runs[0].undelivered)


def test_a_failure_says_whether_a_delivery_overrules_it_also_when_it_comes_again() -> None:
    delivered = story(replace(TAKEN, reports=DELIVERED), end=ACCEPTED)
    assert failed(delivered).overruled
    assert not failed(story(TAKEN, end=ACCEPTED)).overruled
    assert failed(story(replace(TAKEN, reports={**DELIVERED, **FAILURE}), end=ACCEPTED), token="post-0").overruled
    assert not failed(story(replace(TAKEN, reports=FAILURE), end=ACCEPTED), token="post-0").overruled
    both = story(replace(TAKEN, reports={**DELIVERED, **FAILURE}), end=ACCEPTED)
    assert not arrived(both, token="post-0").overruled


def test_a_failure_leaves_a_delivered_run_delivered() -> None:
    assert amendment_of(failed(story(replace(TAKEN, reports=DELIVERED), end=ACCEPTED, delivered=True))).delivered


def test_a_failure_for_a_lost_answer_ends_the_job_with_its_letter_and_keeps_the_body_for_it() -> None:
    verdict = failed(story(LOST))
    assert told(verdict) == ["1/failed, letter recipient"]
    amendment = amendment_of(verdict)
    assert amendment.change == AttemptChange(State.SETTLED, Kind.RECIPIENT)
    assert (amendment.end, amendment.body, amendment.undelivered) == (verdict.steps[0], None, False)


def test_a_failure_for_a_lost_answer_that_comes_too_late_expires_and_lets_the_body_go() -> None:
    verdict = failed(story(attempt(state=State.UNKNOWN)), USER_LIMIT, terms=replace(TERMS, now=NOW + 290))
    assert told(verdict) == ["1/expired"]
    amendment = amendment_of(verdict)
    assert amendment.change == AttemptChange(State.SETTLED, Kind.USER_LIMIT)
    assert (amendment.end, amendment.body) == (verdict.steps[0], b"")


@pytest.mark.parametrize(
    ("before", "at"),
    [
        (RETRYING, "2026-11-23T20:00:01.000Z"),
        (None, "2026-11-23T20:00:10.000Z"),
        (Step(None, Next(2, 1, NOW + 6)), "2026-11-23T20:00:10.000Z"),
    ],
    ids=["told", "nothing known", "not told"],
)
def test_a_failure_for_a_lost_answer_is_tried_again_and_told_as_it_was_told_before(
    before: Step | None, at: str
) -> None:
    verdict = failed(story(replace(LOST, step=before)), USER_LIMIT)
    assert told(verdict) == ["1/retrying, attempt 2 at 40"]
    assert body_of(verdict)["at"] == at
    amendment = amendment_of(verdict)
    assert amendment.change == AttemptChange(State.REFUSED, Kind.USER_LIMIT, verdict.steps[0])
    assert (amendment.end, amendment.reopened, amendment.body) == (None, False, None)


@pytest.mark.parametrize(("error", "due_s"), [(USER_LIMIT, 40), (HALTED, 15.5)])
def test_what_is_worth_another_try_is_taken_back_and_the_run_is_open_again(error: Error, due_s: float) -> None:
    verdict = failed(story(TAKEN, end=ACCEPTED), error)
    assert told(verdict) == [f"1/retrying, attempt 2 at {due_s}"]
    amendment = amendment_of(verdict)
    assert amendment.change == AttemptChange(State.TAKEN_BACK, error.kind, verdict.steps[0])
    assert (amendment.reopened, amendment.end, amendment.undelivered, amendment.body) == (True, None, False, None)
    # The answer itself told of the acceptance, no report: its words are kept for the case that it arrives.
    words = event("job-1/1/1/accepted").body.decode()
    assert amendment.reports[Hearing.SETTLED] == Report(NOW + 10, "~answer", told=words)
    assert amendment.reports[Hearing.FAILED] == Report(NOW + 4, "post-1", error)


def test_behind_a_later_attempt_there_is_no_place_for_another_one() -> None:
    known = story(TAKEN, attempt(2, State.REFUSED, kind=Kind.USER_LIMIT), end=ACCEPTED)
    assert told(failed(known, USER_LIMIT)) == ["1/undelivered, letter user_limit"]


def test_what_would_be_tried_again_too_late_is_given_up_for_its_own_reason() -> None:
    verdict = failed(story(TAKEN, end=ACCEPTED), USER_LIMIT, terms=replace(TERMS, now=NOW + 266))
    assert told(verdict) == ["1/undelivered, letter user_limit"]


def test_a_resend_that_was_never_told_makes_no_secret_of_a_taking_back() -> None:
    # Where unknown answers are not sent again, nobody heard of a retry.
    known = replace(TAKEN, reports={Hearing.SETTLED: Report(NOW + 5, "post-0")}, step=Step(None))
    assert told(failed(story(known, end=ACCEPTED), USER_LIMIT)) == ["1/retrying, attempt 2 at 40"]


def test_a_second_taking_back_keeps_the_moment_and_the_report_that_settled_it() -> None:
    settled = Report(NOW + 5, "post-0")
    known = replace(TAKEN, reports={Hearing.SETTLED: settled}, step=Step(RETRYING.event))
    verdict = failed(story(known, end=ACCEPTED), USER_LIMIT)
    # That it is tried again was written down when the answer was lost, under the same id: it is told in those words.
    assert told(verdict) == ["1/retrying, attempt 2 at 40"]
    assert verdict.steps[0].event == RETRYING.event
    words = event("job-1/1/1/accepted").body.decode()
    assert amendment_of(verdict).reports[Hearing.SETTLED] == replace(settled, told=words)


@pytest.mark.parametrize("error", [USER_LIMIT, HALTED])
def test_without_a_copy_nothing_is_tried_again_or_buried_and_the_failure_itself_is_told(error: Error) -> None:
    verdict = failed(story(TAKEN, end=ACCEPTED, of=envelope(b"")), error)
    assert told(verdict) == ["1/undelivered"]
    assert body_of(verdict)["error"]["code"] == error.code
    amendment = amendment_of(verdict)
    assert (amendment.end, amendment.undelivered, amendment.reopened) == (Step(ACCEPTED.event), True, False)


def test_what_is_given_up_is_written_down_with_its_reason_and_its_letter() -> None:
    verdict = failed(story(TAKEN, end=ACCEPTED))
    assert told(verdict) == ["1/undelivered, letter recipient"]
    amendment = amendment_of(verdict)
    assert amendment.reports == {
        Hearing.FAILED: Report(NOW + 4, "post-1", RECIPIENT),
        Hearing.UNDELIVERED: Report(NOW + 10, "post-1", RECIPIENT),
    }
    assert amendment.change == AttemptChange(State.SETTLED, Kind.RECIPIENT)
    assert (amendment.end, amendment.undelivered) == (Step(ACCEPTED.event, letter=verdict.steps[0].letter), True)
    assert body_of(verdict)["provider_message_id"] == "wamid.1"


def test_a_failure_after_silence_was_told_is_buried_and_not_told_a_second_time() -> None:
    silence = Report(NOW + 8, "check-1", RECIPIENT)
    verdict = failed(story(replace(TAKEN, reports={Hearing.UNDELIVERED: silence}), end=ACCEPTED))
    assert told(verdict) == ["silently, letter recipient"]
    assert amendment_of(verdict).reports[Hearing.UNDELIVERED] == silence
