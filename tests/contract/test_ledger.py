"""What every ledger says to the way of a job: claims, leases, records, late outcomes, ends, releases."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from known_states import DEADLINE, LEASE_S, claim_request, claimed, end_run, end_step, retry_step
from ledger_entries import ACCEPTED, EXPIRED, FAILED, LEASE_END, REFUSED, UNKNOWN, step_of, wish
from otpost_worker.attempts import Acknowledge, State, Wait
from otpost_worker.envelope import Reply
from otpost_worker.outcome import Kind
from otpost_worker.pacing import Lane
from otpost_worker.ports import Claimed, Entry, Lapsed, MustEnd, Noted, Recorded, Ticket
from otpost_worker.standing import Heard, Signal
from ports_in_memory import NOW, Clock, envelope, job_body

if TYPE_CHECKING:
    from ledger_implementations import OpenLedger


# Claims and leases


async def test_a_claim_of_a_new_job_is_granted_with_no_history(ledger: OpenLedger) -> None:
    reply = await ledger.claim(claim_request())
    assert isinstance(reply, Claimed)
    assert (reply.ticket.job_id, reply.ticket.run, reply.ticket.attempt) == ("job-1", 1, 1)
    assert (reply.history.counted, dict(reply.history.failures)) == (0, {})


async def test_the_ticket_has_the_askers_token(ledger: OpenLedger) -> None:
    request = claim_request()
    reply = await ledger.claim(request)
    assert isinstance(reply, Claimed)
    assert reply.ticket.token == request.token


@pytest.mark.parametrize("later", [0.0, 5.0, 9.999])
async def test_a_claimed_attempt_has_to_wait_for_the_end_of_the_lease(
    ledger: OpenLedger, clock: Clock, later: float
) -> None:
    await claimed(ledger)
    clock.reach(NOW + later)
    assert await ledger.claim(claim_request()) == Wait(LEASE_END)
    assert await ledger.claim(claim_request(attempt=2)) == Wait(LEASE_END)


async def test_a_lease_ends_by_the_ledgers_clock_and_leaves_the_ticket_and_the_first_envelope(
    ledger: OpenLedger, clock: Clock
) -> None:
    first = envelope(reply=Reply("mine", "c-1"), traceparent="00-1-2-03", deadline=DEADLINE)
    ticket = await claimed(ledger, of=first)
    clock.reach(LEASE_END)
    reply = await ledger.claim(claim_request(of=envelope(job_body(code="111111"))))
    assert isinstance(reply, Lapsed)
    assert (reply.ticket, reply.envelope) == (ticket, first)


async def test_an_earlier_attempt_of_a_claimed_one_is_stale(ledger: OpenLedger, clock: Clock) -> None:
    await ledger.record(await claimed(ledger), REFUSED)
    clock.reach(NOW + 3)
    await claimed(ledger, 1, 2)
    assert await ledger.claim(claim_request()) == Acknowledge()


async def test_a_job_waits_until_it_may_be_sent(ledger: OpenLedger, clock: Clock) -> None:
    held = wish(hold_until=NOW + 30)
    assert await ledger.claim(held) == Wait(NOW + 30)
    clock.reach(NOW + 30)
    assert isinstance(await ledger.claim(held), Claimed)


async def test_the_history_counts_earlier_failures_by_kind_and_what_the_delivery_has_used_up(
    ledger: OpenLedger, clock: Clock
) -> None:
    kinds = (Kind.UNAVAILABLE, Kind.THROUGHPUT, Kind.UNAVAILABLE)
    for attempt, kind in enumerate(kinds, start=1):
        due = NOW + attempt
        await ledger.record(await claimed(ledger, 1, attempt), Entry(State.REFUSED, kind, retry_step(attempt, due)))
        clock.reach(due)
    reply = await ledger.claim(claim_request(attempt=4, of=envelope(attempt=4, counted=2)))
    assert isinstance(reply, Claimed)
    assert reply.history.counted == 2
    assert dict(reply.history.failures) == {Kind.UNAVAILABLE: 2, Kind.THROUGHPUT: 1}


async def test_the_history_of_a_run_knows_nothing_of_the_run_before_it(ledger: OpenLedger) -> None:
    await end_run(ledger, "failed")
    reply = await ledger.claim(claim_request(run=2))
    assert isinstance(reply, Claimed)
    assert dict(reply.history.failures) == {}


async def test_a_copy_of_an_earlier_run_is_stale_while_the_latest_is_under_way_and_gets_its_end_afterwards(
    ledger: OpenLedger,
) -> None:
    await end_run(ledger, "failed")
    ticket = await claimed(ledger, 2)
    assert await ledger.claim(claim_request(1, 5)) == Acknowledge()
    await ledger.record(ticket, ACCEPTED)
    assert step_of(await ledger.claim(claim_request(1, 5))) == ACCEPTED.step


# Records


async def test_a_recorded_retry_is_repeated_to_its_own_attempt_with_the_first_envelope(ledger: OpenLedger) -> None:
    first = envelope(reply=Reply("mine", None))
    recorded = (await ledger.record(await claimed(ledger, of=first), REFUSED)).recorded
    assert recorded == Recorded(first, REFUSED.step)
    assert await ledger.claim(claim_request(of=envelope(job_body(to="+4915112345678")))) == recorded


async def test_a_retry_is_claimed_when_it_is_due_and_not_before(ledger: OpenLedger, clock: Clock) -> None:
    await ledger.record(await claimed(ledger), REFUSED)
    clock.reach(NOW + 2.999)
    assert await ledger.claim(claim_request(attempt=2)) == Wait(NOW + 3)
    clock.reach(NOW + 3)
    assert isinstance(await ledger.claim(claim_request(attempt=2)), Claimed)


@pytest.mark.parametrize("entry", [ACCEPTED, FAILED, REFUSED, UNKNOWN], ids=lambda entry: entry.state.value)
async def test_recording_the_same_outcome_again_gives_the_same_step(ledger: OpenLedger, entry: Entry) -> None:
    ticket = await claimed(ledger)
    first = await ledger.record(ticket, entry)
    again = await ledger.record(ticket, entry)
    assert step_of(again) == step_of(first) == entry.step


async def test_an_end_is_repeated_to_every_attempt_of_its_run(ledger: OpenLedger) -> None:
    await ledger.record(await claimed(ledger), ACCEPTED)
    for attempt in (1, 2, 9):
        assert step_of(await ledger.claim(claim_request(attempt=attempt))) == ACCEPTED.step


async def test_a_ticket_with_a_foreign_token_records_nothing(ledger: OpenLedger, clock: Clock) -> None:
    ticket = await claimed(ledger)
    assert (await ledger.record(replace(ticket, token="another"), ACCEPTED)).recorded is None
    assert (await ledger.record(Ticket("job-2", 1, 1, ticket.token), ACCEPTED)).recorded is None
    clock.reach(LEASE_END)
    assert isinstance(await ledger.claim(claim_request()), Lapsed)


async def test_the_owner_of_a_lapsed_claim_that_nobody_recorded_may_still_record(
    ledger: OpenLedger, clock: Clock
) -> None:
    ticket = await claimed(ledger)
    clock.reach(LEASE_END + 60)
    assert step_of(await ledger.record(ticket, ACCEPTED)) == ACCEPTED.step


# Lapsed claims and late outcomes


async def test_a_lapsed_claim_is_recorded_as_unknown_once(ledger: OpenLedger, clock: Clock) -> None:
    ticket = await claimed(ledger)
    clock.reach(LEASE_END)
    assert step_of(await ledger.lapse(ticket, UNKNOWN)) == UNKNOWN.step
    assert await ledger.lapse(ticket, UNKNOWN) is None
    assert step_of(await ledger.claim(claim_request())) == UNKNOWN.step


async def test_a_claim_whose_lease_is_open_does_not_lapse(ledger: OpenLedger, clock: Clock) -> None:
    ticket = await claimed(ledger)
    clock.reach(LEASE_END - 0.001)
    assert await ledger.lapse(ticket, UNKNOWN) is None
    assert await ledger.claim(claim_request()) == Wait(LEASE_END)


async def test_a_claim_with_an_outcome_does_not_lapse(ledger: OpenLedger, clock: Clock) -> None:
    ticket = await claimed(ledger)
    await ledger.record(ticket, REFUSED)
    clock.reach(LEASE_END)
    assert await ledger.lapse(ticket, UNKNOWN) is None
    assert step_of(await ledger.claim(claim_request())) == REFUSED.step


async def test_a_late_acceptance_settles_an_unknown_attempt(ledger: OpenLedger, clock: Clock) -> None:
    ticket = await claimed(ledger)
    clock.reach(LEASE_END)
    await ledger.lapse(ticket, UNKNOWN)
    assert step_of(await ledger.record(ticket, ACCEPTED)) == ACCEPTED.step
    assert step_of(await ledger.claim(claim_request(attempt=2))) == ACCEPTED.step


async def test_a_late_acceptance_ends_a_run_whose_next_attempt_is_under_way(ledger: OpenLedger, clock: Clock) -> None:
    first = await claimed(ledger)
    clock.reach(LEASE_END)
    await ledger.lapse(first, UNKNOWN)
    clock.reach(NOW + 15)
    second = await claimed(ledger, 1, 2)
    assert step_of(await ledger.record(first, ACCEPTED)) == ACCEPTED.step
    refused = Entry(State.REFUSED, Kind.UNAVAILABLE, retry_step(2, NOW + 20))
    assert (await ledger.record(second, refused)).recorded is None
    assert step_of(await ledger.claim(claim_request(attempt=3))) == ACCEPTED.step


async def test_a_claim_does_not_lapse_where_its_run_has_ended_by_a_late_acceptance_meanwhile(
    ledger: OpenLedger, clock: Clock
) -> None:
    first = await claimed(ledger)
    await ledger.record(first, UNKNOWN)
    clock.reach(NOW + 15)
    second = await claimed(ledger, 1, 2)
    await ledger.record(first, ACCEPTED)
    clock.reach(NOW + 15 + LEASE_S)
    assert await ledger.lapse(second, Entry(State.SETTLED, Kind.UNKNOWN, end_step(2, "failed"))) is None
    assert step_of(await ledger.claim(claim_request(attempt=2))) == ACCEPTED.step


@pytest.mark.parametrize("end", ["failed", "accepted"])
async def test_a_late_acceptance_that_ends_nothing_keeps_the_providers_id(
    ledger: OpenLedger, clock: Clock, end: str
) -> None:
    first = await claimed(ledger)
    await ledger.record(first, UNKNOWN)
    clock.reach(NOW + 15)
    await ledger.record(await claimed(ledger, 1, 2), Entry(State.SETTLED, None, end_step(2, end), "wamid.2"))
    assert (await ledger.record(first, ACCEPTED)).recorded is None
    # The first id that an attempt has is its own.
    await ledger.record(first, replace(ACCEPTED, provider_message_id="wamid.3"))
    (run,) = await ledger.story("job-1")
    assert [attempt.provider_message_id for attempt in run.attempts] == ["wamid.1", "wamid.2"]
    assert run.end == end_step(2, end)


@pytest.mark.parametrize("late", [REFUSED, FAILED, replace(UNKNOWN, step=retry_step(1, NOW + 99))])
async def test_another_late_outcome_leaves_the_unknown_attempt_and_its_step_alone(
    ledger: OpenLedger, clock: Clock, late: Entry
) -> None:
    ticket = await claimed(ledger)
    clock.reach(LEASE_END)
    await ledger.lapse(ticket, UNKNOWN)
    recorded = (await ledger.record(ticket, late)).recorded
    assert recorded is None or recorded.step == UNKNOWN.step
    assert step_of(await ledger.claim(claim_request())) == UNKNOWN.step


@pytest.mark.parametrize("late", [ACCEPTED, REFUSED, UNKNOWN], ids=lambda entry: entry.state.value)
async def test_an_outcome_after_the_end_gives_no_step(ledger: OpenLedger, clock: Clock, late: Entry) -> None:
    ticket = await claimed(ledger)
    clock.reach(LEASE_END)
    await ledger.lapse(ticket, Entry(State.SETTLED, Kind.UNKNOWN, end_step(1, "failed")))
    assert (await ledger.record(ticket, late)).recorded is None
    assert step_of(await ledger.claim(claim_request())) == end_step(1, "failed")


# Ends without a request


async def test_a_run_that_must_end_is_concluded_once_and_the_first_end_stands(ledger: OpenLedger) -> None:
    late = wish(late=True)
    reply = await ledger.claim(late)
    assert isinstance(reply, MustEnd)
    assert reply.unknown is None
    assert step_of(await ledger.conclude(late, EXPIRED)) == EXPIRED
    assert await ledger.conclude(late, end_step(1, "failed")) is None
    assert step_of(await ledger.claim(claim_request())) == EXPIRED


async def test_a_run_that_must_end_after_an_unknown_attempt_names_it(ledger: OpenLedger, clock: Clock) -> None:
    await ledger.record(await claimed(ledger), UNKNOWN)
    clock.reach(NOW + 15)
    reply = await ledger.claim(wish(attempt=2, resend=False))
    assert isinstance(reply, MustEnd)
    assert reply.unknown == 1
    assert dict(reply.history.failures) == {Kind.UNKNOWN: 1}


@pytest.mark.parametrize("state", ["claimed", "lapsed", "ended"])
async def test_a_run_is_not_concluded_where_the_table_says_otherwise(
    ledger: OpenLedger, clock: Clock, state: str
) -> None:
    ticket = await claimed(ledger)
    if state == "lapsed":
        clock.reach(LEASE_END)
    if state == "ended":
        await ledger.record(ticket, ACCEPTED)
    assert await ledger.conclude(wish(late=True), EXPIRED) is None


# Released claims


async def test_a_released_claim_is_as_if_it_had_not_been(ledger: OpenLedger) -> None:
    ticket = await claimed(ledger)
    await ledger.release(ticket)
    await ledger.release(ticket)
    again = await claimed(ledger)
    assert again.token != ticket.token
    assert (await ledger.record(ticket, ACCEPTED)).recorded is None


async def test_releasing_a_later_attempt_leaves_the_earlier_ones(ledger: OpenLedger, clock: Clock) -> None:
    await ledger.record(await claimed(ledger), REFUSED)
    clock.reach(NOW + 3)
    await ledger.release(await claimed(ledger, 1, 2))
    assert step_of(await ledger.claim(claim_request())) == REFUSED.step
    assert isinstance(await ledger.claim(claim_request(attempt=2)), Claimed)


async def test_only_an_open_claim_of_ones_own_is_released(ledger: OpenLedger) -> None:
    ticket = await claimed(ledger)
    await ledger.release(replace(ticket, token="another"))
    assert await ledger.claim(claim_request()) == Wait(LEASE_END)
    await ledger.record(ticket, REFUSED)
    await ledger.release(ticket)
    assert step_of(await ledger.claim(claim_request())) == REFUSED.step


# Holds and the clock


async def test_a_hold_is_probed_and_ended_though_the_clock_was_set_back_meanwhile(
    ledger: OpenLedger, clock: Clock
) -> None:
    lane = Lane("default", "default", "+12015553931", "verification_code", "en_US", 80.0, DEADLINE, DEADLINE)

    async def attempt(job_id: str, signal: Signal) -> bool:
        reply = await ledger.claim(replace(claim_request(job_id=job_id), lane=lane))
        assert isinstance(reply, Claimed), reply
        heard = Heard(lane, signal, clock.now)
        await ledger.record(reply.ticket, Entry(State.REFUSED, Kind.SENDER_HALTED, retry_step(1, NOW), heard=heard))
        return reply.probe

    assert not await attempt("job-1", Signal.SENDER_REFUSED)
    clock.now -= 100
    assert await attempt("job-2", Signal.ANSWERED)
    assert not await attempt("job-3", Signal.ACCEPTED)


# Answers that were lost on the way


async def test_a_claim_asked_for_again_is_the_askers_own_with_a_lease_that_begins_anew(
    ledger: OpenLedger, clock: Clock
) -> None:
    request = claim_request()
    first = await ledger.claim(request)
    clock.reach(NOW + 4)
    assert await ledger.claim(request) == first
    clock.reach(NOW + 4 + LEASE_S - 0.001)
    assert await ledger.claim(claim_request()) == Wait(NOW + 4 + LEASE_S)


async def test_a_claim_asked_for_again_after_its_lease_is_still_the_askers_own(
    ledger: OpenLedger, clock: Clock
) -> None:
    request = claim_request()
    first = await ledger.claim(request)
    clock.reach(LEASE_END + 1)
    assert await ledger.claim(request) == first
    assert await ledger.claim(claim_request()) == Wait(LEASE_END + 1 + LEASE_S)


async def test_an_outcome_of_a_claim_that_the_ledger_has_lost_is_not_kept_and_said_to_be_unknown(
    ledger: OpenLedger,
) -> None:
    lost = Ticket("job-1", 1, 1, "the ledger died before it wrote this down")
    assert await ledger.record(lost, ACCEPTED) == Noted(None, known=False)
    assert isinstance(await ledger.claim(claim_request()), Claimed)
    assert await ledger.record(lost, ACCEPTED) == Noted(None)


async def test_a_claim_that_has_its_outcome_is_not_granted_again(ledger: OpenLedger) -> None:
    request = claim_request()
    reply = await ledger.claim(request)
    assert isinstance(reply, Claimed)
    await ledger.record(reply.ticket, REFUSED)
    assert step_of(await ledger.claim(request)) == REFUSED.step


async def test_a_released_claim_asked_for_again_is_a_new_one(ledger: OpenLedger) -> None:
    request = claim_request()
    reply = await ledger.claim(request)
    assert isinstance(reply, Claimed)
    await ledger.release(reply.ticket)
    assert isinstance(await ledger.claim(request), Claimed)
