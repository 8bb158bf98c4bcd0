"""What every ledger keeps, and for how long; what it does for several at once, and when it is out of reach."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from known_states import DEADLINE, LEASE_S, claim_request, claimed, end_run, end_step
from ledger_entries import ACCEPTED, EXPIRED, FAILED, LEASE_END, REFUSED, step_of, wish
from otpost_worker.attempts import Acknowledge, State, Wait
from otpost_worker.envelope import Step
from otpost_worker.pacing import Lane
from otpost_worker.ports import Claimed, Entry, LedgerUnavailable, Recorded
from otpost_worker.standing import Heard, Signal
from ports_in_memory import CODE, NOW, Clock, job_body

if TYPE_CHECKING:
    from ledger_implementations import Implementation, Lasting, OpenLedger

# Dead letters, bodies, forgetting


async def test_an_end_has_its_dead_letter_until_that_is_noted(ledger: OpenLedger) -> None:
    await ledger.record(await claimed(ledger), FAILED)
    repeated = await ledger.claim(claim_request())
    assert isinstance(repeated, Recorded)
    assert repeated.step.letter is not None
    assert repeated.envelope.body == job_body()
    await ledger.note_buried("job-1", 1)
    noted = await ledger.claim(claim_request())
    assert step_of(noted) == Step(FAILED.step.event)


async def test_a_dead_letter_that_is_noted_before_its_end_is_recorded_is_not_noted(ledger: OpenLedger) -> None:
    ticket = await claimed(ledger)
    await ledger.note_buried("job-1", 1)
    await ledger.note_buried("job-2", 1)
    await ledger.record(ticket, FAILED)
    repeated = await ledger.claim(claim_request())
    assert isinstance(repeated, Recorded)
    assert (repeated.step, repeated.envelope.body) == (FAILED.step, job_body())


async def test_a_note_counts_for_its_own_run_only(ledger: OpenLedger) -> None:
    await end_run(ledger, "failed")
    await ledger.note_buried("job-1", 1)
    await end_run(ledger, "failed", run=2)
    assert step_of(await ledger.claim(claim_request(run=2))).letter is not None


@pytest.mark.parametrize("how", ["accepted", "expired", "concluded", "buried", "released", "forgotten"])
async def test_no_code_is_left_behind_when_nothing_can_need_it_any_more(
    implementation: Implementation, clock: Clock, how: str
) -> None:
    async with implementation.open(clock) as ledger:
        if how == "concluded":
            await ledger.conclude(wish(late=True), EXPIRED)
        else:
            ticket = await claimed(ledger)
            if how in ("accepted", "expired"):
                await ledger.record(ticket, Entry(State.SETTLED, None, end_step(1, how)))
            elif how == "buried":
                await ledger.record(ticket, FAILED)
                await ledger.note_buried("job-1", 1)
            elif how == "released":
                await ledger.release(ticket)
            else:
                clock.reach(DEADLINE + 24 * 3600 + 1)
                assert await ledger.forget() == 1
    assert CODE.encode() not in implementation.remains()


async def test_no_number_is_left_in_what_is_kept_of_the_limits(lasting: Lasting, clock: Clock) -> None:
    number = "+12015553931"
    lane = Lane("default", "app", number, "login", "en_US", 1000.0, DEADLINE - 5, DEADLINE)
    async with lasting.open(clock) as ledger:
        for count in range(46):  # the last one gets a turn
            reply = await ledger.claim(replace(claim_request(job_id=f"job-{count}"), lane=lane))
            if isinstance(reply, Claimed):
                await ledger.record(reply.ticket, replace(ACCEPTED, heard=Heard(lane, Signal.ACCEPTED, NOW)))
    assert number.removeprefix("+").encode() not in lasting.remains()


async def test_a_job_that_is_under_way_is_kept_whole(implementation: Implementation, clock: Clock) -> None:
    async with implementation.open(clock) as ledger:
        await ledger.record(await claimed(ledger), REFUSED)
    assert CODE.encode() in implementation.remains()


async def test_a_job_is_forgotten_24_h_after_its_deadline_and_not_before(ledger: OpenLedger, clock: Clock) -> None:
    await ledger.record(await claimed(ledger), ACCEPTED)
    clock.reach(DEADLINE + 24 * 3600 - 1)
    assert await ledger.forget() == 0
    assert step_of(await ledger.claim(claim_request())) == ACCEPTED.step
    clock.reach(DEADLINE + 24 * 3600 + 1)
    assert await ledger.forget() == 1
    assert isinstance(await ledger.claim(claim_request()), Claimed)


async def test_a_run_is_remembered_for_its_own_time_although_the_replay_behind_it_had_less(
    ledger: OpenLedger, clock: Clock
) -> None:
    long = replace(claim_request(), deadline=DEADLINE + 1000)
    reply = await ledger.claim(long)
    assert isinstance(reply, Claimed)
    await ledger.record(reply.ticket, FAILED)
    await ledger.record(await claimed(ledger, 2), Entry(State.SETTLED, None, end_step(1, "failed", run=2)))
    # Between the moments at which each of the two may be forgotten.
    clock.reach(DEADLINE + 24 * 3600 + 500)
    await ledger.forget()
    assert isinstance(await ledger.claim(claim_request()), Recorded)


async def test_many_jobs_are_forgotten_at_once(ledger: OpenLedger, clock: Clock) -> None:
    await asyncio.gather(*(ledger.claim(claim_request(job_id=f"job-{number}")) for number in range(2500)))
    clock.reach(DEADLINE + 24 * 3600 + 1)
    assert await ledger.forget() == 2500
    assert await ledger.forget() == 0


# Two objects, trouble, and what survives


async def test_what_was_recorded_survives_closing_and_opening(implementation: Implementation, clock: Clock) -> None:
    async with implementation.open(clock) as ledger:
        await ledger.record(await claimed(ledger), REFUSED)
        clock.reach(NOW + 3)
        ticket = await claimed(ledger, 1, 2)
    async with implementation.open(clock) as ledger:
        assert await ledger.claim(claim_request()) == Acknowledge()
        assert await ledger.claim(claim_request(attempt=2)) == Wait(NOW + 3 + LEASE_S)
        accepted = replace(ACCEPTED, step=end_step(2, "accepted"))
        assert step_of(await ledger.record(ticket, accepted)) == end_step(2, "accepted")


async def test_of_many_that_race_for_one_claim_exactly_one_wins(implementation: Implementation, clock: Clock) -> None:
    async with implementation.open(clock) as one, implementation.open(clock) as other:
        ids = [f"job-{number}" for number in range(50)] * 4
        claims = [ledger.claim(claim_request(job_id=job_id)) for job_id in ids for ledger in (one, other)]
        replies = await asyncio.gather(*claims)
    granted = [reply.ticket.job_id for reply in replies if isinstance(reply, Claimed)]
    assert sorted(granted) == sorted(set(ids))
    assert all(reply == Wait(LEASE_END) for reply in replies if not isinstance(reply, Claimed))


async def test_what_one_object_records_the_other_knows_at_once(implementation: Implementation, clock: Clock) -> None:
    async with implementation.open(clock) as one, implementation.open(clock) as other:
        ticket = await claimed(one)
        assert await other.claim(claim_request()) == Wait(LEASE_END)
        assert step_of(await other.record(ticket, REFUSED)) == REFUSED.step
        assert step_of(await one.claim(claim_request())) == REFUSED.step


async def test_a_ledger_out_of_reach_says_so_to_every_operation_and_is_back_afterwards(
    lasting: Lasting, clock: Clock
) -> None:
    async with lasting.open(clock) as ledger:
        ticket = await claimed(ledger)
        with lasting.out_of_reach():
            attempts = [
                ledger.claim(claim_request(job_id="job-2")),
                ledger.record(ticket, REFUSED),
                ledger.conclude(replace(wish(late=True), job_id="job-3"), EXPIRED),
                ledger.refuse(replace(wish(end=True), job_id="job-4"), end_step(1, "failed")),
                ledger.release(ticket),
            ]
            replies = [await asyncio.gather(attempt, return_exceptions=True) for attempt in attempts]
        assert [type(reply) for (reply,) in replies] == [LedgerUnavailable] * 5
        # Nothing of it came through, and all of it may be called again.
        assert await ledger.claim(claim_request()) == Wait(LEASE_END)
        assert isinstance(await ledger.claim(claim_request(job_id="job-2")), Claimed)
        assert step_of(await ledger.record(ticket, REFUSED)) == REFUSED.step


async def test_one_operation_that_cannot_be_done_does_not_harm_those_beside_it(ledger: OpenLedger) -> None:
    broken = replace(claim_request(job_id="job-2"), lease_s="no number")  # type: ignore[arg-type] # on purpose
    replies = await asyncio.gather(
        ledger.claim(claim_request()),
        ledger.claim(broken),
        ledger.claim(claim_request(job_id="job-3")),
        return_exceptions=True,
    )
    assert [type(reply) for reply in replies] == [Claimed, TypeError, Claimed]
