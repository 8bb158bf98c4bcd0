"""What every ledger keeps of what is heard after an answer: who sent which message, reports, what is taken back."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from known_states import DEADLINE, claim_request, claimed, end_run, end_step, event, retry_step
from ledger_entries import ACCEPTED, REFUSED, UNKNOWN
from otpost_worker.attempts import State, Wait
from otpost_worker.envelope import Letter, Step
from otpost_worker.outcome import Error, Kind
from otpost_worker.ports import Claimed, Entry, Noted, Recorded
from otpost_worker.stories import Amendment, AttemptChange, Hearing, JobStory, Report
from ports_in_memory import NOW, Clock, envelope, job_body

if TYPE_CHECKING:
    from ledger_implementations import OpenLedger

KEPT = b'{"id": "job-1", "sealed_code": "c2VhbGVk"}'
SENT = {Hearing.SENT: Report(NOW + 3, "t-1")}
LETTER = Letter("recipient", "{}", 1, "2026-11-23T20:00:09.000Z")


async def known(ledger: OpenLedger, job_id: str = "job-1") -> JobStory:
    story = await ledger.look_up(job_id)
    assert story is not None
    return story


async def accepted_and_kept(ledger: OpenLedger) -> None:
    await ledger.record(await claimed(ledger), replace(ACCEPTED, kept=KEPT))


def taken_back(*, due_at: float = NOW + 40) -> Amendment:
    reports = {Hearing.FAILED: Report(NOW + 9, "t-2", Error(Kind.USER_LIMIT, 131049, "Not delivered", "so it is"))}
    change = AttemptChange(State.TAKEN_BACK, Kind.USER_LIMIT, retry_step(1, due_at))
    return Amendment(1, 1, reports, change=change, reopened=True)


# Finding


async def test_the_attempt_is_found_by_the_id_that_the_provider_gave_it(ledger: OpenLedger) -> None:
    await end_run(ledger, "accepted")
    assert await ledger.find("wamid.1") == ("job-1", 1, 1)
    assert await ledger.find("wamid.2") is None


async def test_an_id_that_only_a_report_told_is_found_too(ledger: OpenLedger) -> None:
    await ledger.record(await claimed(ledger), UNKNOWN)
    assert await ledger.amend(await known(ledger), Amendment(1, 1, SENT, message_id="wamid.9"))
    assert await ledger.find("wamid.9") == ("job-1", 1, 1)
    assert (await known(ledger)).runs[0].attempts[0].provider_message_id == "wamid.9"


async def test_an_id_is_no_longer_found_when_its_job_is_forgotten(ledger: OpenLedger, clock: Clock) -> None:
    await end_run(ledger, "accepted")
    clock.reach(DEADLINE + 24 * 3600 + 1)
    await ledger.forget()
    assert await ledger.find("wamid.1") is None


async def test_a_job_that_nobody_knows_has_no_story(ledger: OpenLedger) -> None:
    assert await ledger.look_up("job-1") is None


# Reports


async def test_reports_are_kept_as_they_were_written(ledger: OpenLedger) -> None:
    await end_run(ledger, "accepted")
    reports = {**SENT, Hearing.FAILED: Report(NOW + 4.5, "t-2", Error(Kind.RECIPIENT, 131026, "Undeliverable"))}
    assert await ledger.amend(await known(ledger), Amendment(1, 1, reports))
    story = await known(ledger)
    assert story.runs[0].attempts[0].reports == reports
    assert (await ledger.story("job-1"))[0].attempts[0].reports == reports


async def test_of_two_that_were_judged_by_the_same_story_the_second_is_refused(ledger: OpenLedger) -> None:
    await end_run(ledger, "accepted")
    story = await known(ledger)
    assert await ledger.amend(story, Amendment(1, 1, SENT))
    assert not await ledger.amend(story, Amendment(1, 1, {Hearing.READ: Report(NOW + 5, "t-2")}))
    assert (await known(ledger)).runs[0].attempts[0].reports == SENT


async def test_whatever_a_worker_writes_to_the_job_makes_a_story_an_old_one(ledger: OpenLedger) -> None:
    ticket = await claimed(ledger)
    story = await known(ledger)
    await ledger.record(ticket, ACCEPTED)
    assert not await ledger.amend(story, Amendment(1, 1, SENT))
    assert await ledger.amend(await known(ledger), Amendment(1, 1, SENT))


async def test_the_first_id_of_a_message_stays(ledger: OpenLedger) -> None:
    await end_run(ledger, "accepted")
    await ledger.amend(await known(ledger), Amendment(1, 1, SENT, message_id="wamid.other"))
    assert (await known(ledger)).runs[0].attempts[0].provider_message_id == "wamid.1"


# Settling


async def test_a_report_that_it_was_taken_ends_the_run_and_stops_the_resend(ledger: OpenLedger, clock: Clock) -> None:
    await ledger.record(await claimed(ledger), UNKNOWN)
    settles = Amendment(1, 1, SENT, "wamid.7", AttemptChange(State.SETTLED), end=end_step(1, "accepted"), body=KEPT)
    assert await ledger.amend(await known(ledger), settles)
    clock.reach(NOW + 15)
    reply = await ledger.claim(claim_request(attempt=2))
    assert isinstance(reply, Recorded)
    assert (reply.step, reply.envelope.body) == (end_step(1, "accepted"), b"")
    assert (await known(ledger)).runs[0].envelope.body == KEPT


async def test_what_a_report_settles_is_recorded_when_it_came_and_waits_for_no_answer(
    ledger: OpenLedger, clock: Clock
) -> None:
    await claimed(ledger)
    clock.reach(NOW + 4)
    settles = Amendment(1, 1, SENT, change=AttemptChange(State.SETTLED), end=end_step(1, "accepted"))
    assert await ledger.amend(await known(ledger), settles)
    run = (await known(ledger)).runs[0]
    assert (run.attempts[0].recorded_at, run.attempts[0].lease_until) == (NOW + 4, None)
    assert (run.ended_at, run.end) == (NOW + 4, end_step(1, "accepted"))
    clock.reach(NOW + 9)
    assert await ledger.amend(await known(ledger), given_up())
    run = (await known(ledger)).runs[0]
    assert (run.attempts[0].recorded_at, run.ended_at) == (NOW + 4, NOW + 4)


async def test_a_failure_in_place_of_an_answer_keeps_the_producers_body_for_its_dead_letter(
    ledger: OpenLedger,
) -> None:
    body = job_body(code="222333")
    await ledger.record(await claimed(ledger, of=envelope(body)), UNKNOWN)
    failed = Amendment(1, 1, {}, change=AttemptChange(State.SETTLED, Kind.RECIPIENT), end=end_step(1, "failed"))
    assert await ledger.amend(await known(ledger), failed)
    assert (await known(ledger)).runs[0].envelope.body == body


async def test_the_answer_that_comes_after_the_report_is_told_the_recorded_end(ledger: OpenLedger) -> None:
    ticket = await claimed(ledger)
    settles = Amendment(1, 1, SENT, "wamid.1", AttemptChange(State.SETTLED), end=end_step(1, "accepted"))
    assert await ledger.amend(await known(ledger), settles)
    noted = await ledger.record(ticket, ACCEPTED)
    assert isinstance(noted, Noted)
    assert noted.recorded is not None
    assert noted.recorded.step == end_step(1, "accepted")


# What is kept


async def test_the_copy_of_an_accepted_job_is_kept_until_the_deadline_and_no_longer(
    ledger: OpenLedger, clock: Clock
) -> None:
    await accepted_and_kept(ledger)
    assert (await known(ledger)).runs[0].envelope.body == KEPT
    clock.reach(DEADLINE + 1)
    await ledger.forget()
    assert (await known(ledger)).runs[0].envelope.body == b""


async def test_without_such_a_copy_nothing_is_kept_of_an_accepted_job(ledger: OpenLedger) -> None:
    await end_run(ledger, "accepted")
    assert (await known(ledger)).runs[0].envelope.body == b""


async def test_a_delivery_lets_the_copy_go(ledger: OpenLedger) -> None:
    await accepted_and_kept(ledger)
    delivered = Amendment(1, 1, {Hearing.DELIVERED: Report(NOW + 5, "t-1")}, body=b"")
    assert await ledger.amend(await known(ledger), delivered)
    assert (await known(ledger)).runs[0].envelope.body == b""


async def test_the_body_of_a_job_that_is_under_way_is_the_producers(ledger: OpenLedger) -> None:
    body = job_body(code="222333")
    await claimed(ledger, of=envelope(body))
    assert (await known(ledger)).runs[0].envelope.body == body


# Taking back


async def test_what_is_taken_back_waits_for_its_retry_and_is_claimed_then(ledger: OpenLedger, clock: Clock) -> None:
    await accepted_and_kept(ledger)
    assert await ledger.amend(await known(ledger), taken_back())
    assert await ledger.claim(claim_request(attempt=2)) == Wait(NOW + 40)
    again = await ledger.claim(claim_request(attempt=1))
    assert isinstance(again, Recorded)
    assert (again.step, again.envelope.body) == (retry_step(1, NOW + 40), KEPT)
    clock.reach(NOW + 40)
    reply = await ledger.claim(claim_request(attempt=2))
    assert isinstance(reply, Claimed)
    assert dict(reply.history.failures) == {Kind.USER_LIMIT: 1}


async def test_the_run_ends_once_more_after_that_and_that_end_stands(ledger: OpenLedger, clock: Clock) -> None:
    await accepted_and_kept(ledger)
    await ledger.amend(await known(ledger), taken_back())
    clock.reach(NOW + 40)
    ticket = await claimed(ledger, attempt=2)
    await ledger.record(ticket, Entry(State.SETTLED, None, end_step(2, "accepted"), "wamid.2"))
    reply = await ledger.claim(claim_request(attempt=3))
    assert isinstance(reply, Recorded)
    assert reply.step == end_step(2, "accepted")
    # Nothing is left of what was kept of the first one.
    assert (await known(ledger)).runs[0].envelope.body == b""


async def test_a_run_that_is_taken_back_has_no_end_any_more(ledger: OpenLedger) -> None:
    await accepted_and_kept(ledger)
    await ledger.amend(await known(ledger), taken_back())
    run = (await known(ledger)).runs[0]
    assert (run.end, run.ended_at, run.attempts[0].state, run.attempts[0].due_at) == (
        None, None, State.TAKEN_BACK, NOW + 40,
    )  # fmt: skip
    assert run.attempts[0].kind is Kind.USER_LIMIT


async def test_a_second_acceptance_without_a_copy_leaves_none_of_the_first(ledger: OpenLedger, clock: Clock) -> None:
    await accepted_and_kept(ledger)
    await ledger.amend(await known(ledger), taken_back())
    clock.reach(NOW + 40)
    await ledger.record(await claimed(ledger, attempt=2), replace(ACCEPTED, step=end_step(2, "accepted")))
    assert (await known(ledger)).runs[0].envelope.body == b""


async def test_what_is_taken_back_keeps_its_copy_beyond_the_deadline_for_its_dead_letter(
    ledger: OpenLedger, clock: Clock
) -> None:
    await accepted_and_kept(ledger)
    await ledger.amend(await known(ledger), taken_back())
    clock.reach(DEADLINE + 1)
    await ledger.forget()
    assert (await known(ledger)).runs[0].envelope.body == KEPT


# Giving up


def given_up() -> Amendment:
    reports = {Hearing.UNDELIVERED: Report(NOW + 9, "t-2", Error(Kind.RECIPIENT, 131026))}
    change = AttemptChange(State.SETTLED, Kind.RECIPIENT)
    end = Step(event("job-1/1/1/accepted"), letter=LETTER)
    return Amendment(1, 1, reports, change=change, end=end, undelivered=True)


async def test_who_asks_for_a_job_that_was_given_up_gets_its_end_with_the_dead_letter_until_that_is_noted(
    ledger: OpenLedger, clock: Clock
) -> None:
    await accepted_and_kept(ledger)
    assert await ledger.amend(await known(ledger), given_up())
    clock.reach(DEADLINE + 1)
    await ledger.forget()
    first = await ledger.claim(claim_request())
    assert isinstance(first, Recorded)
    assert (first.step, first.envelope.body) == (Step(event("job-1/1/1/accepted"), letter=LETTER), KEPT)
    await ledger.note_buried("job-1", 1)
    second = await ledger.claim(claim_request())
    assert isinstance(second, Recorded)
    assert (second.step, second.envelope.body) == (Step(event("job-1/1/1/accepted")), b"")
    assert (await known(ledger)).runs[0].envelope.body == b""


async def test_a_replay_of_what_was_given_up_is_sent(ledger: OpenLedger) -> None:
    await accepted_and_kept(ledger)
    await ledger.amend(await known(ledger), given_up())
    assert (await known(ledger)).runs[0].undelivered
    assert isinstance(await ledger.claim(claim_request(run=2)), Claimed)


async def test_what_arrives_after_it_was_given_up_stands_again_and_no_replay_of_it_is_sent(ledger: OpenLedger) -> None:
    await accepted_and_kept(ledger)
    await ledger.amend(await known(ledger), given_up())
    end = Step(event("job-1/1/1/accepted"))
    arrived = Amendment(1, 1, {Hearing.DELIVERED: Report(NOW + 9, "t-3")}, end=end, delivered=True, body=b"")
    assert await ledger.amend(await known(ledger), arrived)
    run = (await known(ledger)).runs[0]
    assert (run.undelivered, run.delivered, run.end, run.envelope.body) == (False, True, end, b"")
    assert isinstance(await ledger.claim(claim_request(run=2)), Recorded)


async def test_an_amendment_touches_no_other_run_and_no_other_job(ledger: OpenLedger) -> None:
    other = await ledger.claim(claim_request(job_id="job-2"))
    assert isinstance(other, Claimed)
    await ledger.record(other.ticket, replace(ACCEPTED, kept=KEPT))
    await accepted_and_kept(ledger)
    await ledger.amend(await known(ledger), given_up())
    second = await claimed(ledger, run=2)
    entry = Entry(State.SETTLED, None, end_step(1, "accepted", run=2), "wamid.2", kept=KEPT)
    await ledger.record(second, entry)
    before, others = await known(ledger), await known(ledger, "job-2")
    assert [run.run for run in before.runs] == [1, 2]
    assert await ledger.amend(before, replace(taken_back(), run=2))
    after = await known(ledger)
    assert after.runs[0] == before.runs[0]
    assert (after.runs[1].end, after.runs[1].attempts[0].state) == (None, State.TAKEN_BACK)
    assert await known(ledger, "job-2") == others


async def test_a_replay_of_what_stands_accepted_is_not(ledger: OpenLedger) -> None:
    await accepted_and_kept(ledger)
    await ledger.amend(await known(ledger), Amendment(1, 1, SENT))
    assert isinstance(await ledger.claim(claim_request(run=2)), Recorded)


def delivered(run: int = 1) -> Amendment:
    return Amendment(run, 1, {Hearing.DELIVERED: Report(NOW + 5, "t-1")}, delivered=True)


async def test_a_replay_of_what_failed_and_was_delivered_all_the_same_is_not_sent(ledger: OpenLedger) -> None:
    await end_run(ledger, "failed")
    assert await ledger.amend(await known(ledger), delivered())
    assert (await known(ledger)).runs[0].delivered
    reply = await ledger.claim(claim_request(run=2))
    assert isinstance(reply, Recorded)
    assert reply.step.event == event("job-1/1/1/failed")


async def test_a_replay_that_waits_for_its_retry_is_not_sent_once_the_run_before_it_was_delivered(
    ledger: OpenLedger, clock: Clock
) -> None:
    await end_run(ledger, "failed")
    await ledger.record(await claimed(ledger, run=2), Entry(State.REFUSED, Kind.UNAVAILABLE, retry_step(1, NOW + 4)))
    assert await ledger.amend(await known(ledger), delivered())
    assert await ledger.claim(claim_request(run=2, attempt=2)) == Wait(NOW + 4)
    clock.reach(NOW + 4)
    reply = await ledger.claim(claim_request(run=2, attempt=2))
    assert isinstance(reply, Recorded)
    assert reply.step.event == event("job-1/1/1/failed")


async def test_the_body_of_an_invalid_job_ends_no_replay_of_what_was_delivered(ledger: OpenLedger) -> None:
    await end_run(ledger, "failed")
    await ledger.amend(await known(ledger), delivered())
    invalid = claim_request(run=2)
    assert await ledger.refuse(invalid, end_step(1, "failed")) is None


@pytest.mark.parametrize("when", [DEADLINE - 10, DEADLINE + 10])
async def test_a_copy_whose_time_is_over_cannot_be_taken_back_any_more(
    ledger: OpenLedger, clock: Clock, when: float
) -> None:
    await accepted_and_kept(ledger)
    story = await known(ledger)
    clock.reach(when)
    # Whoever looked before that is told so.
    assert await ledger.amend(story, taken_back()) == (when < DEADLINE)
    assert (await known(ledger)).runs[0].envelope.body == (KEPT if when < DEADLINE else b"")


async def test_that_a_copy_goes_makes_no_story_an_old_one(ledger: OpenLedger, clock: Clock) -> None:
    await accepted_and_kept(ledger)
    story = await known(ledger)
    clock.reach(DEADLINE + 1)
    await ledger.forget()
    assert await ledger.amend(story, Amendment(1, 1, SENT))


async def test_nothing_is_kept_of_what_is_accepted_behind_its_deadline(ledger: OpenLedger, clock: Clock) -> None:
    ticket = await claimed(ledger)
    clock.reach(DEADLINE + 1)
    await ledger.record(ticket, replace(ACCEPTED, kept=KEPT))
    clock.now = NOW
    assert (await known(ledger)).runs[0].envelope.body == b""


async def test_the_copy_is_for_reports_alone(ledger: OpenLedger, clock: Clock) -> None:
    first = await claimed(ledger)
    await ledger.record(first, REFUSED)
    clock.reach(NOW + 3)
    await ledger.record(await claimed(ledger, attempt=2), replace(ACCEPTED, step=end_step(2, "accepted"), kept=KEPT))
    again = await ledger.record(first, REFUSED)
    assert again.recorded is not None
    assert (again.recorded.step, again.recorded.envelope.body) == (REFUSED.step, b"")
