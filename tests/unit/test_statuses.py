"""What follows from one report of one attempt, by what the ledger knows: what is written down, and told in order."""

from __future__ import annotations

from dataclasses import replace

import pytest

from otpost_worker.attempts import State
from otpost_worker.envelope import Step
from otpost_worker.outcome import Kind
from otpost_worker.statuses import NO_REPORT, Follow, Later, Nothing, follow, miss
from otpost_worker.stories import Amendment, AttemptChange, Hearing, JobStory, Report
from ports_in_memory import NOW
from reported_stories import (
    ACCEPTED,
    DELIVERED,
    LETTER,
    LOST,
    RECIPIENT,
    RETRYING,
    TAKEN,
    TERMS,
    amendment_of,
    arrived,
    attempt,
    body_of,
    event,
    heard,
    story,
    told,
)

# Attempts that nobody knows


@pytest.mark.parametrize(("run", "number"), [(1, 2), (2, 1)])
def test_a_report_of_an_attempt_that_is_not_known_has_to_come_again(run: int, number: int) -> None:
    assert follow(heard(Hearing.SENT), story(TAKEN, end=ACCEPTED), run, number, TERMS) == Later()


def test_a_check_of_what_is_forgotten_says_nothing() -> None:
    assert miss(story(TAKEN, end=ACCEPTED), 2, 1, "check-1", TERMS) == Nothing("forgotten")


# Sent, delivered, read


def test_sent_is_written_beside_what_is_known_and_changes_nothing_else() -> None:
    failure = Report(NOW + 2, "post-0", RECIPIENT)
    verdict = arrived(story(replace(TAKEN, reports={Hearing.FAILED: failure}), end=ACCEPTED), Hearing.SENT)
    reports = {Hearing.FAILED: failure, Hearing.SENT: Report(NOW + 4, "post-1")}
    assert verdict.amendment == Amendment(1, 1, reports, "wamid.told")
    assert (told(verdict), verdict.latency_s) == (["1/sent"], None)
    assert body_of(verdict)["provider_message_id"] == "wamid.1"


def test_an_event_names_the_message_as_its_report_does_where_no_answer_named_it() -> None:
    assert body_of(arrived(story(attempt(), end=ACCEPTED)))["provider_message_id"] == "wamid.told"


@pytest.mark.parametrize("hearing", [Hearing.DELIVERED, Hearing.READ])
def test_a_delivery_is_noted_of_the_run_and_lets_its_body_go(hearing: Hearing) -> None:
    amendment = amendment_of(arrived(story(TAKEN, end=ACCEPTED), hearing))
    assert (amendment.delivered, amendment.undelivered, amendment.body, amendment.end) == (True, False, b"", None)


def test_a_later_sent_leaves_a_run_given_up_or_delivered_as_it_is() -> None:
    given_up = amendment_of(arrived(story(TAKEN, end=ACCEPTED, undelivered=True), Hearing.SENT))
    assert (given_up.undelivered, given_up.delivered, given_up.body) == (True, False, None)
    delivered = amendment_of(arrived(story(TAKEN, end=ACCEPTED, delivered=True), Hearing.SENT))
    assert (delivered.undelivered, delivered.delivered, delivered.body) == (False, True, None)


@pytest.mark.parametrize(("is_buried", "end"), [(False, Step(ACCEPTED.event)), (True, None)])
def test_what_arrives_after_it_was_given_up_stands_again_and_needs_no_letter_any_more(
    is_buried: object, end: Step | None
) -> None:
    known = story(TAKEN, end=replace(ACCEPTED, letter=LETTER), undelivered=True, buried=bool(is_buried))
    amendment = amendment_of(arrived(known))
    assert (amendment.undelivered, amendment.delivered, amendment.body, amendment.end) == (False, True, b"", end)


@pytest.mark.parametrize(("is_buried", "body"), [(False, None), (True, b"")])
def test_a_failed_run_of_which_something_arrives_keeps_its_body_until_its_letter_is_buried(
    is_buried: object, body: bytes | None
) -> None:
    end = Step(event("job-1/1/2/failed"), letter=LETTER)
    known = story(TAKEN, attempt(2, kind=Kind.RECIPIENT), end=end, buried=bool(is_buried))
    amendment = amendment_of(arrived(known))
    assert (amendment.body, amendment.end) == (body, None)


@pytest.mark.parametrize(("after_s", "latency_s"), [(4.0, 4.0), (-1.0, 0.0)])
def test_the_first_delivery_tells_how_long_the_user_waited_and_never_less_than_nothing(
    after_s: float, latency_s: float
) -> None:
    assert arrived(story(TAKEN, end=ACCEPTED), after_s=after_s).latency_s == latency_s


def test_no_wait_is_told_of_what_is_no_first_delivery_or_of_a_job_without_a_time() -> None:
    read_before = replace(TAKEN, reports={Hearing.READ: Report(NOW + 3, "post-0")})
    assert arrived(story(read_before, end=ACCEPTED)).latency_s is None
    assert arrived(story(TAKEN, end=ACCEPTED), Hearing.SENT).latency_s is None
    assert arrived(story(TAKEN, end=Step(event("job-1/1/1/accepted", latency_ms=None)))).latency_s is None


# Reports that settle


def test_sent_in_place_of_a_lost_answer_is_the_acceptance_with_its_check_and_its_copy() -> None:
    verdict = arrived(story(LOST), Hearing.SENT)
    assert told(verdict) == ["1/accepted, looked at 640", "1/sent"]
    assert verdict.amendment == Amendment(
        1,
        1,
        {Hearing.SENT: Report(NOW + 4, "post-1"), Hearing.SETTLED: Report(NOW + 10, "post-1")},
        "wamid.told",
        # What was told of it stays, and no further attempt follows.
        AttemptChange(State.SETTLED, step=Step(RETRYING.event)),
        verdict.steps[0],
        body=b"covered",
    )
    assert body_of(verdict)["provider_message_id"] == "wamid.told"


def test_a_delivery_in_place_of_a_lost_answer_leaves_no_check_and_no_copy_and_tells_the_wait() -> None:
    verdict = arrived(story(LOST))
    assert told(verdict) == ["1/accepted", "1/delivered"]
    assert (amendment_of(verdict).body, verdict.latency_s) == (b"", 4.0)


def test_where_nobody_watches_what_settles_leaves_no_check_and_no_copy() -> None:
    verdict = follow(heard(Hearing.SENT), story(LOST), 1, 1, replace(TERMS, watch_s=None))
    assert isinstance(verdict, Follow)
    assert told(verdict) == ["1/accepted", "1/sent"]
    assert amendment_of(verdict).body == b""


@pytest.mark.parametrize("hearing", [Hearing.SENT, Hearing.DELIVERED, Hearing.READ])
def test_a_report_waits_for_an_answer_that_somebody_may_have_in_hand(hearing: Hearing) -> None:
    claimed = story(attempt(state=State.CLAIMED, lease_until=NOW + 20, recorded_at=None))
    assert follow(heard(hearing), claimed, 1, 1, TERMS) == Later(NOW + 20)


@pytest.mark.parametrize("hearing", [Hearing.SENT, Hearing.DELIVERED])
def test_what_would_end_a_run_waits_while_another_attempt_of_it_is_in_flight(hearing: Hearing) -> None:
    in_flight = attempt(2, State.CLAIMED, lease_until=NOW + 15, recorded_at=None)
    assert follow(heard(hearing), story(LOST, in_flight), 1, 1, TERMS) == Later(NOW + 15)
    over = story(LOST, replace(in_flight, lease_until=NOW + 10))
    assert told(arrived(over, hearing))[-1] == f"1/{hearing}"
    ended = story(LOST, in_flight, end=ACCEPTED)
    assert told(arrived(ended, hearing)) == [f"1/{hearing}"]


def test_an_attempt_whose_lease_has_ended_without_an_answer_is_settled_by_a_report() -> None:
    claimed = attempt(state=State.CLAIMED, lease_until=NOW + 10, recorded_at=None)
    verdict = arrived(story(claimed), Hearing.SENT)
    assert amendment_of(verdict).change == AttemptChange(State.SETTLED)
    assert told(verdict) == ["1/accepted, looked at 640", "1/sent"]
    # With no event to read them off, it is the job itself that tells whom it was for and who sends.
    assert (body_of(verdict)["to"], body_of(verdict)["provider"]) == ("12*******31", "in memory")


def test_what_settles_an_attempt_of_a_run_that_has_ended_ends_it_no_second_time() -> None:
    end = Step(event("job-1/1/2/accepted"))
    verdict = arrived(story(LOST, attempt(2, provider_message_id="wamid.2"), end=end))
    assert told(verdict) == ["1/delivered"]
    amendment = amendment_of(verdict)
    assert amendment.change == AttemptChange(State.SETTLED, step=Step(RETRYING.event))
    assert (amendment.end, amendment.body, verdict.latency_s) == (None, None, 4.0)


@pytest.mark.parametrize("state", [State.TAKEN_BACK, State.REFUSED, State.SETTLED])
def test_a_delivery_ends_a_run_that_is_tried_again_and_a_sent_does_not(state: State) -> None:
    known = story(attempt(state=state, step=RETRYING, provider_message_id="wamid.1"))
    assert told(arrived(known)) == ["1/accepted", "1/delivered"]
    sent = arrived(known, Hearing.SENT)
    assert told(sent) == ["1/sent"]
    assert (amendment_of(sent).change, amendment_of(sent).end) == (None, None)


@pytest.mark.parametrize("state", [State.TAKEN_BACK, State.REFUSED, State.SETTLED])
def test_a_delivery_changes_no_end_that_is_there_already(state: State) -> None:
    end = Step(event("job-1/1/2/accepted"))
    known = story(attempt(state=state, step=RETRYING, provider_message_id="wamid.1"), attempt(2), end=end)
    verdict = arrived(known)
    assert told(verdict) == ["1/delivered"]
    assert amendment_of(verdict).change is None


def test_an_acceptance_that_was_taken_back_is_told_once_more_in_its_own_words() -> None:
    words = event("job-1/1/1/accepted").body.decode()
    reports = {Hearing.SETTLED: Report(NOW + 5, "~answer", told=words)}
    verdict = arrived(story(attempt(state=State.TAKEN_BACK, step=RETRYING, reports=reports)))
    assert verdict.steps[0].event == event("job-1/1/1/accepted")
    assert amendment_of(verdict).reports[Hearing.SETTLED] == Report(NOW + 5, "post-1", told=words)


def test_an_acceptance_that_only_a_report_told_of_keeps_its_own_moment_and_id() -> None:
    reports = {Hearing.SETTLED: Report(NOW + 5, "post-0")}
    known = story(attempt(state=State.TAKEN_BACK, step=RETRYING, reports=reports, provider_message_id="wamid.1"))
    accepted = body_of(arrived(known))
    assert (accepted["at"], accepted["provider_message_id"]) == ("2026-11-23T20:00:05.000Z", "wamid.1")


# Silence


def test_silence_is_written_beside_what_is_known_and_says_what_to_do() -> None:
    sent = {Hearing.SENT: Report(NOW + 2, "post-0")}
    verdict = miss(story(replace(TAKEN, reports=sent), end=ACCEPTED), 1, 1, "check-1", TERMS)
    assert isinstance(verdict, Follow)
    assert told(verdict) == ["1/undelivered"]
    body = body_of(verdict)
    assert body["error"] == {
        "kind": "no_report",
        "code": None,
        "title": "No delivery reported",
        "detail": "the provider took the message, and has not said since that it arrived; offer another channel",
        "http_status": None,
        "provider_trace_id": None,
    }
    assert body["provider_message_id"] == "wamid.1"
    silence = Report(NOW + 10, "check-1", NO_REPORT)
    assert verdict.amendment == Amendment(1, 1, {**sent, Hearing.UNDELIVERED: silence})


@pytest.mark.parametrize(
    "known",
    [
        pytest.param(story(replace(TAKEN, reports=DELIVERED), end=ACCEPTED), id="it was delivered"),
        pytest.param(story(TAKEN, attempt(2, reports=DELIVERED), end=ACCEPTED), id="another attempt was"),
        pytest.param(story(TAKEN, end=ACCEPTED, undelivered=True), id="it was given up"),
        pytest.param(story(replace(TAKEN, state=State.TAKEN_BACK)), id="it was taken back"),
        pytest.param(story(TAKEN, attempt(2), end=Step(event("job-1/1/2/accepted"))), id="another attempt is the end"),
    ],
)
def test_nothing_is_missed_of_what_is_settled_another_way(known: JobStory) -> None:
    assert miss(known, 1, 1, "check-1", TERMS) == Nothing("settled")


def test_the_same_check_once_more_tells_the_silence_again_and_another_one_is_a_copy() -> None:
    silence = {Hearing.UNDELIVERED: Report(NOW + 8, "check-1", RECIPIENT)}
    # It may have been given up meanwhile: what was told is told all the same.
    known = story(replace(TAKEN, reports=silence), end=ACCEPTED, undelivered=True)
    again = miss(known, 1, 1, "check-1", TERMS)
    assert isinstance(again, Follow)
    assert (again.amendment, told(again)) == (None, ["1/undelivered"])
    assert body_of(again)["at"] == "2026-11-23T20:00:08.000Z"
    assert miss(known, 1, 1, "check-2", TERMS) == Nothing("copy")
