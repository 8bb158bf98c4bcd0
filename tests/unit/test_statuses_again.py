"""What is told once more where the same report comes again, as after a crash."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Final

import pytest

from otpost_worker.attempts import State
from otpost_worker.envelope import Step
from otpost_worker.statuses import Follow, Nothing, follow
from otpost_worker.stories import Hearing, JobStory, Report
from ports_in_memory import NOW
from reported_stories import (
    ACCEPTED,
    DELIVERED,
    FAILURE,
    LETTER,
    RECIPIENT,
    RETRYING,
    TAKEN,
    TERMS,
    USER_LIMIT,
    attempt,
    event,
    heard,
    story,
    told,
)

if TYPE_CHECKING:
    from otpost_worker.outcome import Error


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
