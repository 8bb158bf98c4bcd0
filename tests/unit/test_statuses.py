"""What follows from one report of one attempt, by what the ledger knows: what is written down, and told in order."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final

import orjson
import pytest

from otpost_worker.attempts import State
from otpost_worker.decision import Policy
from otpost_worker.envelope import Event, Letter, Next, Step, Watch
from otpost_worker.outcome import Error, Kind, Refused
from otpost_worker.ports import REMEMBERED_AFTER_DEADLINE_S
from otpost_worker.statuses import NO_REPORT, Follow, Heard, Later, Nothing, Terms, Verdict, follow, miss
from otpost_worker.stories import Amendment, AttemptChange, AttemptStory, Hearing, JobStory, Report, RunStory
from ports_in_memory import NOW, envelope

if TYPE_CHECKING:
    from otpost_worker.envelope import Envelope

# The job was made at NOW; its deadline is 300 s later, and everything here is judged 10 s later.
TERMS: Final = Terms(
    now=NOW + 10,
    random=1.0,
    policy=Policy(),
    provider="in memory",
    watch_s=630.0,
    cover=lambda it: replace(it, body=b"covered"),
)
RECIPIENT: Final = Error(Kind.RECIPIENT, 131026, "Undeliverable")
USER_LIMIT: Final = Error(Kind.USER_LIMIT, 131049, "Not delivered")
HALTED: Final = Error(Kind.SENDER_HALTED, 131042, "Payment")
LETTER: Final = Letter("recipient", "{}", 1, "2026-11-23T20:00:09.000Z")


def event(event_id: str, *, latency_ms: int | None = 1000) -> Event:
    """An event that was told a second after the job was made."""
    _, run, attempt, status = event_id.split("/")
    told: dict[str, Any] = {
        "event_id": event_id, "job_id": "job-1", "sender": "default", "status": status, "run": int(run),
        "attempt": int(attempt), "at": "2026-11-23T20:00:01.000Z", "provider": "first told", "to": "12*******31",
        "latency_ms": latency_ms, "ref": None,
    }  # fmt: skip
    return Event(event_id, status, orjson.dumps(told))


def attempt(number: int = 1, state: State = State.SETTLED, **fields: Any) -> AttemptStory:  # noqa: ANN401 - those of the story
    known = AttemptStory(number, state, None, NOW, NOW + 1, None, None, None, None)
    return replace(known, **fields)


RETRYING: Final = Step(event("job-1/1/1/retrying"), Next(2, 1, NOW + 6))
TAKEN: Final = attempt(provider_message_id="wamid.1")
LOST: Final = attempt(state=State.UNKNOWN, kind=Kind.UNKNOWN, step=RETRYING, due_at=NOW + 6)
ACCEPTED: Final = Step(event("job-1/1/1/accepted"), watch=Watch(1, 1, NOW + 631))


def story(
    *attempts: AttemptStory,
    end: Step | None = None,
    of: Envelope | None = None,
    others: tuple[RunStory, ...] = (),
    **run: Any,  # noqa: ANN401 - those of the run
) -> JobStory:
    ended_at = NOW + 1 if end is not None else None
    forget_at = NOW + 300 + REMEMBERED_AFTER_DEADLINE_S
    known = RunStory(
        1, of or envelope(), ended_at, end, buried=False, forget_at=forget_at, turn=None, attempts=attempts
    )
    return JobStory("job-1", (replace(known, **run), *others), "version")


def heard(hearing: Hearing, *, after_s: float = 4.0, token: str = "post-1", error: Error | None = None) -> Heard:  # noqa: S107 - no secret
    return Heard(hearing, NOW + after_s, token, "wamid.told", Refused(error) if error else None)


def arrived(known: JobStory, hearing: Hearing = Hearing.DELIVERED, *, of: int = 1, **fields: Any) -> Follow:  # noqa: ANN401 - those of Heard
    verdict = follow(heard(hearing, **fields), known, 1, of, TERMS)
    assert isinstance(verdict, Follow)
    return verdict


def failed(known: JobStory, error: Error = RECIPIENT, *, of: int = 1, terms: Terms = TERMS, **fields: Any) -> Follow:  # noqa: ANN401 - those of Heard
    verdict = follow(heard(Hearing.FAILED, error=error, **fields), known, 1, of, terms)
    assert isinstance(verdict, Follow)
    return verdict


def amendment_of(verdict: Follow) -> Amendment:
    assert verdict.amendment is not None
    return verdict.amendment


def told(verdict: Verdict) -> list[str]:
    """Every step in words, its moments in seconds after the job was made."""
    assert isinstance(verdict, Follow)
    return [_words(step) for step in verdict.steps]


def _words(step: Step) -> str:
    words = [step.event.id.removeprefix("job-1/1/") if step.event else "silently"]
    words += [f"attempt {step.next.attempt} at {step.next.due_at - NOW:g}"] if step.next else []
    words += [f"letter {step.letter.reason}"] if step.letter else []
    words += [f"looked at {step.watch.due_at - NOW:g}"] if step.watch else []
    return ", ".join(words)


def body_of(verdict: Follow, number: int = 0) -> dict[str, Any]:
    found = verdict.steps[number].event
    assert found is not None
    body: dict[str, Any] = orjson.loads(found.body)
    return body


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


def test_an_attempt_whose_worker_still_waits_for_the_answer_is_settled_by_a_report() -> None:
    claimed = attempt(state=State.CLAIMED, lease_until=NOW + 20, recorded_at=None)
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


# Failures


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


DELIVERED: Final = {Hearing.DELIVERED: Report(NOW + 3, "post-0")}
FAILURE: Final = {Hearing.FAILED: Report(NOW + 3, "post-0", USER_LIMIT)}


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


# The same message once more


def test_a_copy_under_another_token_is_nothing() -> None:
    known = story(replace(TAKEN, reports=DELIVERED), end=ACCEPTED)
    assert follow(heard(Hearing.DELIVERED), known, 1, 1, TERMS) == Nothing("copy")


def again(known: JobStory, hearing: Hearing, token: str = "post-0", error: Error | None = None) -> list[str]:  # noqa: S107 - no secret
    verdict = follow(heard(hearing, token=token, error=error), known, 1, 1, TERMS)
    assert isinstance(verdict, Follow)
    assert (verdict.amendment, verdict.latency_s) == (None, None)
    return told(verdict)


@pytest.mark.parametrize(
    ("settled", "expected"),
    [
        (None, ["1/sent"]),
        (Report(NOW + 3, "post-x"), ["1/sent"]),
        (Report(NOW + 3, "post-0"), ["1/accepted, looked at 631", "1/sent"]),
    ],
    ids=["not settled by a report", "settled by another one", "settled by this one"],
)
def test_a_report_that_comes_again_repeats_the_acceptance_only_where_it_told_of_it(
    settled: Report | None, expected: list[str]
) -> None:
    reports = {Hearing.SENT: Report(NOW + 3, "post-0")} | ({Hearing.SETTLED: settled} if settled else {})
    assert again(story(replace(TAKEN, reports=reports), end=ACCEPTED), Hearing.SENT) == expected


def test_an_acceptance_that_is_no_longer_the_end_is_repeated_without_its_check() -> None:
    reports = {Hearing.SENT: Report(NOW + 3, "post-0"), Hearing.SETTLED: Report(NOW + 3, "post-0")}
    taken_back = replace(TAKEN, state=State.TAKEN_BACK, step=RETRYING, reports=reports)
    assert again(story(taken_back), Hearing.SENT) == ["1/accepted", "1/sent"]
    replaced = story(taken_back, attempt(2), end=Step(event("job-1/1/2/accepted")))
    assert again(replaced, Hearing.SENT) == ["1/accepted", "1/sent"]


@pytest.mark.parametrize("state", [State.TAKEN_BACK, State.REFUSED])
def test_a_failure_that_comes_again_begins_its_retry_only_while_nobody_has_taken_it(state: State) -> None:
    first = attempt(state=state, step=RETRYING, reports=FAILURE)
    assert again(story(first), Hearing.FAILED, error=USER_LIMIT) == ["1/retrying, attempt 2 at 6"]
    assert again(story(first, attempt(2)), Hearing.FAILED, error=USER_LIMIT) == ["1/retrying"]
    ended = story(first, end=Step(event("job-1/1/1/expired")))
    assert again(ended, Hearing.FAILED, error=USER_LIMIT) == []


GIVEN_UP: Final = {**FAILURE, Hearing.UNDELIVERED: Report(NOW + 4, "post-0", RECIPIENT)}


@pytest.mark.parametrize(
    ("token_told", "is_buried", "expected"),
    [
        ("post-0", False, ["1/undelivered, letter recipient"]),
        ("post-0", True, ["1/undelivered"]),
        ("check-1", False, ["silently, letter recipient"]),
    ],
)
def test_a_failure_that_comes_again_repeats_what_it_told_and_its_letter_until_that_is_buried(
    token_told: str, is_buried: object, expected: list[str]
) -> None:
    reports = GIVEN_UP | {Hearing.UNDELIVERED: Report(NOW + 4, token_told, RECIPIENT)}
    end = Step(ACCEPTED.event, letter=LETTER)
    # The step of an answer that was lost once is no retry that waits.
    lost_once = replace(TAKEN, reports=reports, step=Step(RETRYING.event))
    known = story(lost_once, end=end, undelivered=True, buried=bool(is_buried))
    assert again(known, Hearing.FAILED, error=RECIPIENT) == expected


@pytest.mark.parametrize(
    ("known", "expected"),
    [
        pytest.param(
            story(attempt(reports=FAILURE), end=Step(event("job-1/1/1/failed"), letter=LETTER)),
            ["1/failed, letter recipient"],
            id="it was the answer",
        ),
        pytest.param(
            story(attempt(reports=FAILURE), end=Step(event("job-1/1/1/failed"), letter=LETTER), buried=True),
            ["1/failed"],
            id="it was the answer, and is buried",
        ),
        pytest.param(
            story(attempt(reports=FAILURE), attempt(2), end=Step(event("job-1/1/2/failed"), letter=LETTER)),
            [],
            id="another attempt was",
        ),
        pytest.param(story(replace(TAKEN, reports=FAILURE), end=ACCEPTED), [], id="it changed nothing"),
        pytest.param(
            story(replace(TAKEN, reports=FAILURE), attempt(2), end=Step(event("job-1/1/2/accepted")), undelivered=True),
            [],
            id="another attempt was given up",
        ),
        pytest.param(story(replace(TAKEN, reports=GIVEN_UP), end=ACCEPTED), [], id="a delivery came after it"),
        pytest.param(story(attempt(reports=FAILURE)), [], id="there is no end"),
        pytest.param(story(attempt(reports=FAILURE), end=Step(None, letter=LETTER)), [], id="the end was never told"),
    ],
)
def test_a_failure_that_comes_again_repeats_the_end_that_followed_from_it_and_no_other(
    known: JobStory, expected: list[str]
) -> None:
    assert again(known, Hearing.FAILED, error=RECIPIENT) == expected
