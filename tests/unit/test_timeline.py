"""One job's life in order, from what ledger and results know of it, and what it waits for now."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final

import pytest

from known_states import end_step, event, retry_step
from otpost.event import SenderEvent
from otpost.result import OtpResult
from otpost_worker.attempts import State
from otpost_worker.envelope import Envelope, Step, Watch
from otpost_worker.outcome import Error, Kind
from otpost_worker.pacing import Hold
from otpost_worker.ports import HoldReport, SenderReport
from otpost_worker.stories import AttemptStory, Hearing, Report, RunStory
from otpost_worker.timeline import timeline
from otpost_worker.waiting import waits_for, waits_unclaimed

if TYPE_CHECKING:
    from collections.abc import Sequence

# 2009-02-13T23:31:30Z
THEN: Final = 1234567890.0
DEADLINE: Final = THEN + 300
ENVELOPE: Final = Envelope(b"", "default", published_at=datetime.fromtimestamp(THEN, UTC))


def attempt(number: int, state: State, at: float, **fields: Any) -> AttemptStory:  # noqa: ANN401 - those of AttemptStory
    """An attempt that was claimed at `at` and recorded half a second later."""
    recorded_at = None if state is State.CLAIMED else at + 0.5
    story = AttemptStory(number, state, None, at, recorded_at, None, None, None, None)
    return replace(story, **fields)


def run_of(*attempts: AttemptStory, **fields: Any) -> RunStory:  # noqa: ANN401 - those of RunStory
    story = RunStory(1, ENVELOPE, None, None, False, DEADLINE + 86400, None, attempts)  # noqa: FBT003 - buried
    return replace(story, **fields)


def result(event_id: str, at: float, **fields: object) -> OtpResult:
    job_id, run, number, status = event_id.split("/")
    told: dict[str, object] = {
        "event_id": event_id, "job_id": job_id, "sender": "default", "status": status, "run": int(run),
        "attempt": int(number), "at": datetime.fromtimestamp(at, UTC), "to": "12*******31",
    }  # fmt: skip
    return OtpResult.model_validate(told | fields)


def told(runs: Sequence[RunStory], results: Sequence[OtpResult] | None = ()) -> list[tuple[float, str]]:
    return [(round(moment.at - THEN, 3), moment.text) for moment in timeline(runs, results)]


REFUSED: Final = attempt(
    1, State.REFUSED, THEN + 1, kind=Kind.UNAVAILABLE, step=retry_step(1, THEN + 4), due_at=THEN + 4
)
ACCEPTED: Final = attempt(2, State.SETTLED, THEN + 4.1, provider_message_id="wamid.HBgLMTIwMTU1NTM5MzEVAgARGBI5")


def test_a_job_that_was_accepted_on_its_second_attempt() -> None:
    run = run_of(REFUSED, ACCEPTED, end=end_step(2, "accepted"), ended_at=THEN + 4.6)
    results = [
        result("job-1/1/1/retrying", THEN + 1.5, latency_ms=1700),
        result("job-1/1/2/accepted", THEN + 4.6, latency_ms=4800),
    ]
    assert told([run], results) == [
        (-0.2, "the job is made (created_at)"),
        (1.0, "a worker claims it for a request"),
        (1.5, "the provider did not take it; result 'retrying' published"),
        (4.0, "the next attempt is due"),
        (4.1, "a worker claims it for a request"),
        (4.6, "the provider took it, message id …AgARGBI5"),
        (4.6, "the run ends as accepted; result 'accepted' published"),
    ]
    moments = timeline([run], results)
    assert [(moment.run, moment.attempt) for moment in moments] == [
        (None, None), (1, 1), (1, 1), (1, 2), (1, 2), (1, 2), (1, None),
    ]  # fmt: skip


def test_what_was_reported_by_webhook_stands_where_it_happened_and_once() -> None:
    refused = Error(Kind.USER_LIMIT, 131049, "Not delivered")
    reports = {
        Hearing.SENT: Report(THEN + 5, "t-1"), Hearing.FAILED: Report(THEN + 6, "t-2", refused),
        Hearing.UNDELIVERED: Report(THEN + 6.5, "t-2", refused), Hearing.SETTLED: Report(THEN + 4.2, "t-1"),
    }  # fmt: skip
    run = run_of(replace(ACCEPTED, reports=reports), end=end_step(2, "accepted"), ended_at=THEN + 4.6)
    results = [result("job-1/1/2/sent", THEN + 5), result("job-1/1/2/accepted", THEN + 4.6)]
    assert told([run], results)[-4:] == [
        (4.6, "the run ends as accepted; result 'accepted' published"),
        (5.0, "the provider reports that it sent the message; result 'sent' published"),
        (6.0, "the provider reports that it failed: user_limit 131049 (Not delivered)"),
        (6.5, "it counts as undelivered: user_limit 131049 (Not delivered); no result 'undelivered' was found"),
    ]


def test_without_the_results_nothing_is_said_of_what_was_published() -> None:
    run = run_of(REFUSED, ACCEPTED, end=end_step(2, "accepted"), ended_at=THEN + 4.6)
    assert told([run], None)[:3] == [
        (0.0, "it is published"),
        (1.0, "a worker claims it for a request"),
        (1.5, "the provider did not take it"),
    ]
    assert told([run], [])[2] == (1.5, "the provider did not take it; no result 'retrying' was found")


def test_why_it_failed_is_told_once_and_its_dead_letter_last() -> None:
    step = failing("recipient", 131026, "Message undeliverable")
    run = run_of(
        attempt(1, State.SETTLED, THEN + 1, kind=Kind.RECIPIENT, step=step), end=step, ended_at=THEN + 1.5, buried=True
    )
    assert told([run], None)[2:] == [
        (1.5, "the provider did not take it: recipient 131026 (Message undeliverable)"),
        (1.5, "the run ends as failed"),
        (1.5, "the job is among the dead letters: recipient"),
    ]
    unmentioned = replace(run, attempts=(replace(run.attempts[0], step=None),), buried=False)
    assert told([unmentioned], None)[2:] == [
        (1.5, "the provider did not take it: recipient"),
        (1.5, "the run ends as failed: recipient 131026 (Message undeliverable)"),
        (1.5, "the job is not yet confirmed among the dead letters: recipient"),
    ]


def failing(kind: str, code: int, title: str) -> Step:
    failed = end_step(1, "failed")
    error = {"kind": kind, "code": code, "title": title}
    told = OtpResult.parse(event("job-1/1/1/failed").body).model_dump() | {"error": error}
    assert failed.event is not None
    assert failed.letter is not None
    body = OtpResult.model_validate(told).to_json()
    letter = replace(failed.letter, died_at="2009-02-13T23:31:31.400Z")
    return replace(failed, event=replace(failed.event, body=body), letter=letter)


@pytest.mark.parametrize(
    ("state", "text"),
    [
        (State.UNKNOWN, "nobody can tell whether the provider took it"),
        (State.TAKEN_BACK, "the provider took it, and took that back by webhook"),
    ],
)
def test_each_outcome_has_its_words(state: State, text: str) -> None:
    assert told([run_of(attempt(1, state, THEN))], None)[-1] == (0.5, text)


def test_each_moment_says_what_it_is_and_whom_it_is_about() -> None:
    read = replace(ACCEPTED, reports={Hearing.READ: Report(THEN + 30, "post-1")})
    run = run_of(REFUSED, read, end=end_step(2, "failed"), ended_at=THEN + 4.6)
    known = [
        (one.what.value, one.run, one.attempt) for one in timeline([run], [result("job-1/2/7/expired", THEN + 60)])
    ]
    assert known == [
        ("published", None, None), ("claimed", 1, 1), ("outcome", 1, 1), ("due", 1, 2), ("claimed", 1, 2),
        ("outcome", 1, 2), ("ended", 1, None), ("reported", 1, 2), ("result", 2, 7), ("dead_letter", 1, 2),
    ]  # fmt: skip
    assert "the provider reports that it was read" in told([run], None)[7][1]


def test_without_the_time_of_its_publishing_a_job_begins_with_its_first_claim() -> None:
    unknown = replace(ENVELOPE, published_at=None)
    (first, *_) = timeline([run_of(REFUSED, envelope=unknown)], None)
    assert (first.what.value, first.at) == ("claimed", THEN + 1)


@pytest.mark.parametrize(("end", "ended_at"), [(None, THEN + 5), (end_step(2, "accepted"), None)])
def test_a_run_is_told_to_end_only_where_both_its_end_and_its_moment_are_known(
    end: Step | None, ended_at: float | None
) -> None:
    moments = timeline([run_of(REFUSED, ACCEPTED, end=end, ended_at=ended_at)], None)
    assert "ended" not in [one.what.value for one in moments]


def test_what_the_ledger_has_forgotten_is_told_from_the_results() -> None:
    error = {"kind": "unavailable", "code": 131000, "detail": "try again"}
    results = [
        result("job-1/1/1/retrying", THEN + 1, error=error, retry_in_s=3.5),
        result("job-1/1/2/accepted", THEN + 5, provider_message_id="wamid.HBgLMTIwMTU1NTM5MzEVAgARGBI5"),
    ]
    assert told([], results) == [
        (1.0, "result 'retrying' published: unavailable 131000 (try again); again in 3.5 s"),
        (5.0, "result 'accepted' published, message id …AgARGBI5"),
    ]


def test_runs_follow_one_another() -> None:
    first = run_of(attempt(1, State.SETTLED, THEN), end=end_step(1, "expired"), ended_at=THEN + 0.5)
    second = replace(run_of(attempt(1, State.CLAIMED, THEN + 100)), run=2)
    moments = timeline([first, second], None)
    assert [moment.run for moment in moments if moment.what == "claimed"] == [1, 2]
    assert moments[-1].run == 2


def test_when_the_job_was_made_is_counted_from_what_our_own_clock_told() -> None:
    # The provider tells whole seconds, so that what it sent at once seems to have come before the job.
    results = [
        result("job-1/1/2/sent", THEN, latency_ms=0),
        result("job-1/1/2/accepted", THEN + 0.5, latency_ms=41),
        result("job-1/1/2/delivered", THEN - 60, latency_ms=0),
    ]
    assert told([], results)[:2] == [(0.459, "the job is made (created_at)"), (0.0, "result 'sent' published")]
    assert told([], results[:1]) == [(0.0, "the job is made (created_at)"), (0.0, "result 'sent' published")]


def test_a_report_stands_behind_the_claim_and_the_answer_of_its_second() -> None:
    reports = {Hearing.SENT: Report(THEN + 4, "t-1"), Hearing.DELIVERED: Report(THEN + 2, "t-2")}
    run = run_of(replace(ACCEPTED, reports=reports), end=end_step(2, "accepted"), ended_at=THEN + 4.6)
    assert [text for _, text in told([run], None)][1:] == [
        "a worker claims it for a request",
        "the provider reports that it was delivered",
        "the provider took it, message id …AgARGBI5",
        "the provider reports that it sent the message",
        "the run ends as accepted",
    ]


def test_what_the_provider_holds_is_told_with_the_end() -> None:
    end = end_step(2, "accepted")
    assert end.event is not None
    body = OtpResult.parse(end.event.body).model_dump() | {"message_status": "held_for_quality_assessment"}
    held = replace(end, event=replace(end.event, body=OtpResult.model_validate(body).to_json()))
    assert told([run_of(ACCEPTED, end=held, ended_at=THEN + 4.6)], None)[-1] == (
        4.6, "the run ends as accepted, held by the provider (held_for_quality_assessment)",
    )  # fmt: skip


def sender_event(event_id: str, at: float, **fields: object) -> SenderEvent:
    name = event_id.rpartition("/")[2]
    known: dict[str, object] = {"event_id": event_id, "sender": "default", "name": name}
    return SenderEvent.model_validate(known | {"at": datetime.fromtimestamp(at, UTC)} | fields)


NOT_ASKED_FOR: Final = "the recipient says that they did not ask for this code: let it expire"
NOT_REQUESTED: Final = sender_event("job-1/1/2/code_not_requested", THEN + 5, detail=NOT_ASKED_FOR)


def test_a_code_that_nobody_had_requested_is_told_once_behind_the_reports_of_its_second() -> None:
    reports = {Hearing.DELIVERED: Report(THEN + 5, "t-1"), Hearing.READ: Report(THEN + 6, "t-2")}
    run = run_of(replace(ACCEPTED, reports=reports), end=end_step(2, "accepted"), ended_at=THEN + 4.6)
    moments = timeline([run], None, [NOT_REQUESTED, NOT_REQUESTED])[-3:]
    assert [(moment.at - THEN, moment.what.value, moment.run, moment.attempt) for moment in moments] == [
        (5.0, "reported", 1, 2), (5.0, "event", 1, 2), (6.0, "reported", 1, 2),
    ]  # fmt: skip
    assert moments[1].text == f"{NOT_ASKED_FOR}; event 'code_not_requested' published"


def test_an_event_that_seems_to_come_before_its_attempt_stands_behind_it() -> None:
    # The provider tells whole seconds of another clock.
    early = replace_at(NOT_REQUESTED, THEN + 2)
    run = run_of(REFUSED, ACCEPTED, end=end_step(2, "accepted"), ended_at=THEN + 4.6)
    assert [text for _, text in told_with(early, [run])] == [
        "it is published",
        "a worker claims it for a request",
        "the provider did not take it",
        "the next attempt is due",
        "a worker claims it for a request",
        f"{NOT_ASKED_FOR}; event 'code_not_requested' published",
        "the provider took it, message id …AgARGBI5",
        "the run ends as accepted",
    ]


@pytest.mark.parametrize(
    ("event", "text"),
    [
        (sender_event("job-1/1/1/category_changed", THEN + 5, error={"kind": "user_limit", "code": 131049}),
            "user_limit 131049; event 'category_changed' published"),
        (sender_event("job-1/1/1/code_not_requested", THEN + 5), "event 'code_not_requested' published"),
        (sender_event(f"job-1/1/{'9' * 5000}/halted", THEN + 5), "event 'halted' published"),
    ],
    ids=["an error", "nothing said", "an id that is none of ours"],
)  # fmt: skip
def test_of_an_event_that_says_little_that_is_told(event: SenderEvent, text: str) -> None:
    assert told_with(event, [])[-1] == (5.0, text)


def test_an_event_of_a_job_that_the_ledger_has_forgotten_stands_behind_its_making() -> None:
    made = result("job-1/1/2/accepted", THEN + 6, latency_ms=500)
    moments = timeline([], [made], [NOT_REQUESTED])
    assert [(moment.at - THEN, moment.what.value) for moment in moments] == [
        (5.5, "made"), (5.0, "event"), (6.0, "result"),
    ]  # fmt: skip


def told_with(event: SenderEvent, runs: Sequence[RunStory]) -> list[tuple[float, str]]:
    return [(round(moment.at - THEN, 3), moment.text) for moment in timeline(runs, None, [event])]


def replace_at(event: SenderEvent, at: float) -> SenderEvent:
    return event.model_copy(update={"at": datetime.fromtimestamp(at, UTC)})


# -- what it waits for ---------------------------------------------------------------------------------


def waits(run: RunStory, report: SenderReport | None = None, *, now: float = THEN + 10) -> list[str]:
    return waits_for(run, DEADLINE, report, now=now)


WATCHED: Final = replace(end_step(1, "accepted"), watch=Watch(1, 1, THEN + 30))
LETTER: Final = end_step(1, "failed").letter
DUE_LATER: Final = attempt(1, State.REFUSED, THEN + 1, due_at=THEN + 14)
QUEUE: Final = "otpost.jobs.default"
ITS_TURN: Final = (
    "its recipient's turn, in 12.0 s: after 45 messages at once, or a refusal for its limit, one number gets one every "
    "6 s"
)
AT_THE_LATEST: Final = "at the latest its deadline, in 290.0 s"


@pytest.mark.parametrize(
    ("run", "expected"),
    [
        (run_of(end=end_step(1, "expired"), ended_at=THEN), ["nothing: it has ended as expired"]),
        (run_of(end=WATCHED, ended_at=THEN), [
            "a report of its delivery; it has ended as accepted, and counts as undelivered in 20.0 s"
        ]),
        (
            run_of(end=WATCHED, ended_at=THEN, delivered=True),
            ["nothing: it has ended as accepted, and was delivered"],
        ),
        (
            run_of(replace(ACCEPTED, reports={Hearing.UNDELIVERED: Report(THEN, "t-1")}), end=WATCHED, ended_at=THEN),
            ["nothing: it has ended as accepted, but counts as undelivered since"],
        ),
        (
            run_of(end=replace(WATCHED, letter=LETTER), ended_at=THEN, undelivered=True, buried=True),
            [
                (
                    "nothing: it has ended as accepted, but counts as undelivered since; 'otpost dead show' shows "
                    "its letter until somebody replays it"
                )
            ],
        ),
        (
            run_of(end=end_step(1, "failed"), ended_at=THEN),
            ["its dead letter to be confirmed by the broker; it has ended as failed"],
        ),
        (
            run_of(end=end_step(1, "failed"), ended_at=THEN, buried=True),
            [
                "nothing: it has ended as failed; 'otpost dead show' shows its letter until somebody replays it"
            ],
        ),
        (
            run_of(attempt(1, State.CLAIMED, THEN + 8, lease_until=THEN + 18)),
            ["the worker that has claimed attempt 1 and is sending it; the claim ends in 8.0 s"],
        ),
        (run_of(DUE_LATER), ["its next attempt, which is due in 4.0 s; it is on the delay ladder", AT_THE_LATEST]),
        (
            run_of(replace(DUE_LATER, due_at=THEN + 9)),
            [
                f"a worker to take it from {QUEUE} (its next attempt was due 1.0 s ago), if it has come there",
                AT_THE_LATEST,
            ],
        ),
        (
            run_of(replace(DUE_LATER, due_at=THEN + 9), turn=THEN + 22),
            [ITS_TURN, AT_THE_LATEST],
        ),
        (run_of(), [f"a worker to take it from {QUEUE}, if it has come there", AT_THE_LATEST]),
    ],
)  # fmt: skip
def test_what_a_job_waits_for(run: RunStory, expected: list[str]) -> None:
    assert waits(run) == expected


def test_a_claim_that_lapsed_waits_for_its_next_delivery() -> None:
    [wait] = waits(run_of(attempt(2, State.CLAIMED, THEN - 5, lease_until=THEN + 5)))
    assert wait.startswith(
        "its next delivery: whoever claimed attempt 2 has not told its outcome, and the claim ended 5.0"
    )


def test_a_halted_sender_a_held_template_and_a_used_up_quota_are_told() -> None:
    hold = Hold(THEN, THEN + 40)
    error = Error(Kind.SENDER_HALTED, code=190, title="Session expired")
    report = SenderReport(
        80.0,
        THEN + 70,
        (HoldReport(hold, None, None, error, "a new token"), HoldReport(hold, "login", "en", None, None)),
    )
    assert waits(run_of(DUE_LATER), report)[1:] == [
        "its sender, which is halted (Session expired); the next probe goes out in 30.0 s; a new token",
        "the template login (en), if it is this job's, which is held back; the next probe goes out in 30.0 s",
        "the quota of its sender's app or account, which is used up and comes back in 60.0 s",
        AT_THE_LATEST,
    ]


def test_a_probe_whose_time_has_come_is_the_next_job() -> None:
    report = SenderReport(80.0, None, (HoldReport(Hold(THEN, THEN + 5), None, None, None, None),))
    assert waits(run_of(DUE_LATER), report)[1] == "its sender, which is halted; the next job is a probe"


def test_a_turn_and_a_quota_that_are_over_keep_nobody() -> None:
    over = SenderReport(80.0, THEN + 10, ())
    assert waits(run_of(turn=THEN + 10), over) == [
        f"a worker to take it from {QUEUE}, if it has come there",
        AT_THE_LATEST,
    ]


def test_a_job_past_its_deadline_waits_for_whoever_ends_it() -> None:
    wait = waits(run_of(DUE_LATER), now=DEADLINE + 5)[-1]
    assert wait == "its end: the deadline was 5.0 s ago, so that the next worker that gets it ends it"


def test_of_a_job_that_nobody_has_claimed_the_turn_may_be_known() -> None:
    assert waits_unclaimed(None, now=THEN) == []
    assert waits_unclaimed(THEN + 12, now=THEN) == [ITS_TURN]
