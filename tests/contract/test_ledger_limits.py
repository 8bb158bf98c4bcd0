"""What every ledger lets start, and when: throughput, recipients' turns, quotas, holds and their probes."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final

import pytest

from known_states import DEADLINE, claim_request
from ledger_entries import ACCEPTED
from otpost_worker.attempts import Wait
from otpost_worker.pacing import Lane
from otpost_worker.ports import Claimed, ClaimReply, ClaimRequest, Crowded, NoRoom
from otpost_worker.standing import Heard, Signal
from ports_in_memory import NOW, Clock

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ledger_implementations import Implementation, OpenLedger

LANE: Final = Lane("default", "app", "+12015553931", "login", "en_US", 80.0, DEADLINE - 5, DEADLINE)


def on_lane(job_id: str = "job-1", attempt: int = 1, **changes: Any) -> ClaimRequest:  # noqa: ANN401 - those of Lane
    return replace(claim_request(1, attempt, job_id=job_id), lane=replace(LANE, **changes))


def to_many(count: int, **changes: Any) -> list[ClaimRequest]:  # noqa: ANN401 - those of Lane
    """Jobs to recipients of their own."""
    return [on_lane(f"many-{number}", recipient=f"+1201555{number:04}", **changes) for number in range(count)]


def to_one(count: int, **changes: Any) -> list[ClaimRequest]:  # noqa: ANN401 - those of Lane
    """Jobs to one recipient, of a sender that may send them all at once."""
    return [on_lane(f"one-{number}", rate=1000.0, **changes) for number in range(count)]


async def all_of(ledger: OpenLedger, requests: Sequence[ClaimRequest]) -> list[ClaimReply]:
    return [await ledger.claim(request) for request in requests]


def starts(replies: Sequence[ClaimReply]) -> list[float]:
    """When the requests start, in seconds from now; all of them were granted."""
    assert {type(reply) for reply in replies} <= {Claimed}, replies
    return [round(reply.start_at - NOW, 4) for reply in replies if isinstance(reply, Claimed)]


async def hear(ledger: OpenLedger, signal: Signal, clock: Clock, *, ago_s: float = 0.0, **changes: Any) -> None:  # noqa: ANN401 - those of Heard and Lane
    """Record an outcome that says this of the sender, of a request that began so long ago."""
    of_heard = {name: changes.pop(name) for name in ("pause_s",) if name in changes}
    request = claim_request(job_id=f"heard-{signal}-{clock.now}-{len(changes)}")
    reply = await ledger.claim(request)
    assert isinstance(reply, Claimed)
    heard = Heard(replace(LANE, **changes), signal, clock.now - ago_s, **of_heard)
    await ledger.record(reply.ticket, replace(ACCEPTED, heard=heard))


# Throughput


async def test_a_tenth_of_a_seconds_worth_starts_at_once_and_the_rest_in_step(ledger: OpenLedger) -> None:
    replies = await all_of(ledger, to_many(11))
    assert starts(replies) == [0.0] * 8 + [0.0125, 0.025, 0.0375]


async def test_whoever_would_wait_too_long_for_a_start_is_told_when_to_ask_again_and_books_nothing(
    ledger: OpenLedger, clock: Clock
) -> None:
    one, two, three, four = to_many(4, rate=2.0)
    assert starts(await all_of(ledger, [one, two])) == [0.0, 0.5]
    # Its start would be in 1 s; the line is asked again when that is 0.4 s away.
    for _ in range(3):
        crowded = await ledger.claim(three)
        assert isinstance(crowded, Crowded)
        assert crowded.until - NOW == pytest.approx(0.6, abs=0.001)
    clock.reach(NOW + 0.6)
    assert starts([await ledger.claim(three)]) == [1.0]
    assert isinstance(await ledger.claim(four), Crowded)


async def test_a_rest_is_not_saved_up_beyond_the_burst(ledger: OpenLedger, clock: Clock) -> None:
    await all_of(ledger, to_many(3))
    clock.reach(NOW + 60)
    replies = await all_of(ledger, [replace(one, job_id=f"later-{one.job_id}") for one in to_many(10)])
    assert starts(replies) == [60.0] * 8 + [60.0125, 60.025]


async def test_senders_do_not_share_their_rate(ledger: OpenLedger) -> None:
    await all_of(ledger, to_many(10))
    assert starts([await ledger.claim(on_lane(sender="another", recipient="+4915112345678"))]) == [0.0]


async def test_all_workers_share_one_rate(implementation: Implementation, clock: Clock) -> None:
    async with implementation.open(clock) as one, implementation.open(clock) as other:
        requests = to_many(20)
        replies = await asyncio.gather(
            *(ledger.claim(request) for ledger, request in zip([one, other] * 10, requests, strict=True))
        )
    assert sorted(starts(replies)) == [0.0] * 8 + [round(0.0125 * step, 4) for step in range(1, 13)]


async def test_what_is_not_to_be_paced_starts_at_once(ledger: OpenLedger) -> None:
    await all_of(ledger, to_many(30))
    replies = await all_of(ledger, [claim_request(job_id=f"job-{number}") for number in range(50)])
    assert starts(replies) == [0.0] * 50


# Recipients


async def test_one_recipient_gets_forty_five_at_once_and_then_a_turn_every_six_seconds(
    ledger: OpenLedger, clock: Clock
) -> None:
    requests = to_one(48)
    replies = await all_of(ledger, requests)
    assert starts(replies[:45]) == [0.0] * 45
    # Half a second later than Meta's rule says, for what is slow on its way.
    assert replies[45:] == [Wait(NOW + 6.5), Wait(NOW + 12.5), Wait(NOW + 18.5)]
    # Whoever has a turn has it whenever it asks, and nobody waits for the others.
    assert await ledger.claim(requests[46]) == Wait(NOW + 12.5)
    assert starts([await ledger.claim(on_lane(recipient="+4915112345678"))]) == [0.0]
    clock.reach(NOW + 6.5)
    assert starts([await ledger.claim(requests[45])]) == [6.5]
    assert await ledger.claim(requests[46]) == Wait(NOW + 12.5)


async def test_a_turn_keeps_for_five_seconds(ledger: OpenLedger, clock: Clock) -> None:
    requests = to_one(47)
    await all_of(ledger, requests)
    clock.reach(NOW + 6.5 + 5)
    assert starts([await ledger.claim(requests[45])]) == [11.5]
    # That of the other one came at 12.5 s; asked for at 17.501 s, it takes the next that there is.
    clock.reach(NOW + 12.5 + 5.001)
    assert await ledger.claim(requests[46]) == Wait(NOW + 18.5)


async def test_a_job_whose_turn_would_come_too_late_is_told_so_and_books_nothing(ledger: OpenLedger) -> None:
    requests = to_one(46)
    await all_of(ledger, requests[:45])
    hurried = on_lane("hurried", rate=1000.0, latest_start=NOW + 6.4)
    assert await ledger.claim(hurried) == NoRoom()
    assert await ledger.claim(hurried) == NoRoom()
    assert await ledger.claim(requests[45]) == Wait(NOW + 6.5)


async def test_another_attempt_of_a_job_books_a_turn_of_its_own(ledger: OpenLedger) -> None:
    requests = to_one(46)
    await all_of(ledger, requests)
    later = replace(requests[45], wish=replace(requests[45].wish, attempt=2))
    assert await ledger.claim(later) == Wait(NOW + 12.5)


async def test_what_a_recipient_has_paid_back_is_free_again(ledger: OpenLedger, clock: Clock) -> None:
    await all_of(ledger, to_one(45))
    clock.reach(NOW + 45 * 6)
    await ledger.forget()
    later = [replace(one, job_id=f"later-{one.job_id}") for one in to_one(46, latest_start=NOW + 1000)]
    replies = await all_of(ledger, later)
    assert starts(replies[:45]) == [270.0] * 45
    assert replies[45] == Wait(NOW + 276.5)


async def test_a_recipient_is_another_one_to_another_sender(ledger: OpenLedger) -> None:
    await all_of(ledger, to_one(45))
    assert starts([await ledger.claim(on_lane(sender="another"))]) == [0.0]


# Refusals that slow a sender down


async def test_too_many_at_once_halve_the_rate_which_grows_back_by_a_tenth_every_five_seconds(
    ledger: OpenLedger, clock: Clock
) -> None:
    async def rate() -> float:
        return (await ledger.report({"default": 80.0}, {"default": "app"}))["default"].rate

    await hear(ledger, Signal.THROTTLED, clock)
    rates = []
    for later in (0.0, 4.9, 5.0, 10.0, 24.9, 25.0, 1000.0):
        clock.reach(NOW + later)
        rates.append(await rate())
    assert rates == [40.0, 40.0, 48.0, 56.0, 72.0, 80.0, 80.0]


async def test_a_refusal_of_what_was_sent_at_the_old_rate_does_not_halve_it_again(
    ledger: OpenLedger, clock: Clock
) -> None:
    await hear(ledger, Signal.THROTTLED, clock)
    await hear(ledger, Signal.THROTTLED, clock, ago_s=0.5, template="two")
    assert (await ledger.report({"default": 80.0}, {"default": "app"}))["default"].rate == 40.0
    clock.reach(NOW + 1)
    await hear(ledger, Signal.THROTTLED, clock, template="three")
    assert (await ledger.report({"default": 80.0}, {"default": "app"}))["default"].rate == 20.0


async def test_a_halved_rate_is_the_rate_of_what_starts(ledger: OpenLedger, clock: Clock) -> None:
    await hear(ledger, Signal.THROTTLED, clock)
    replies = await all_of(ledger, to_many(6))
    assert starts(replies) == [0.0] * 4 + [0.025, 0.05]


async def test_a_quotas_pause_holds_back_everybody_who_shares_it(ledger: OpenLedger, clock: Clock) -> None:
    await hear(ledger, Signal.QUOTA, clock, pause_s=40.0)
    shared, apart = on_lane(sender="another"), on_lane("job-2", quota="other", sender="third")
    assert await ledger.claim(on_lane()) == Wait(NOW + 30)
    clock.reach(NOW + 20)
    assert await ledger.claim(shared) == Wait(NOW + 40)
    assert isinstance(await ledger.claim(apart), Claimed)
    clock.reach(NOW + 40)
    assert isinstance(await ledger.claim(shared), Claimed)


async def test_a_quota_that_stays_used_up_pauses_twice_as_long_each_time_up_to_a_quarter_of_an_hour(
    ledger: OpenLedger, clock: Clock
) -> None:
    async def pause_s() -> float:
        await hear(ledger, Signal.QUOTA, clock)
        until = (await ledger.report({"default": 80.0}, {"default": "app"}))["default"].quota_until
        assert until is not None
        begun = clock.now
        clock.reach(until)
        return until - begun

    assert [await pause_s() for _ in range(6)] == [60.0, 120.0, 240.0, 480.0, 900.0, 900.0]
    await hear(ledger, Signal.ACCEPTED, clock)
    assert await pause_s() == 60.0


async def test_one_more_answer_to_what_was_under_way_makes_a_pause_longer_and_never_shorter(
    ledger: OpenLedger, clock: Clock
) -> None:
    async def until() -> float | None:
        return (await ledger.report({"default": 80.0}, {"default": "app"}))["default"].quota_until

    await hear(ledger, Signal.QUOTA, clock, pause_s=90.0)
    clock.reach(NOW + 1)
    await hear(ledger, Signal.QUOTA, clock, pause_s=60.0)
    assert await until() == NOW + 90
    clock.reach(NOW + 2)
    await hear(ledger, Signal.QUOTA, clock)
    assert await until() == NOW + 90
    clock.reach(NOW + 3)
    await hear(ledger, Signal.QUOTA, clock, pause_s=120.0)
    assert await until() == NOW + 123


# Holds


async def test_a_refused_sender_sends_nothing_but_a_probe_at_growing_intervals(
    ledger: OpenLedger, clock: Clock
) -> None:
    await hear(ledger, Signal.SENDER_REFUSED, clock)
    assert await ledger.claim(on_lane()) == Wait(NOW + 30)
    assert await ledger.claim(on_lane("other-template", template="another")) == Wait(NOW + 30)
    probes = []
    for later in (4.999, 5.0, 14.999, 15.0, 34.999, 35.0):
        clock.reach(NOW + later)
        reply = await ledger.claim(on_lane(f"at-{later}"))
        probes.append(reply.probe if isinstance(reply, Claimed) else None)
    assert probes == [None, True, None, True, None, True]


async def test_while_a_probe_is_under_way_the_others_come_back_soon(ledger: OpenLedger, clock: Clock) -> None:
    await hear(ledger, Signal.SENDER_REFUSED, clock)
    clock.reach(NOW + 5)
    assert isinstance(await ledger.claim(on_lane("probe")), Claimed)
    assert await ledger.claim(on_lane("other")) == Wait(NOW + 7)
    clock.reach(NOW + 8)
    assert await ledger.claim(on_lane("other")) == Wait(NOW + 38)


async def test_an_answer_to_a_request_that_began_after_the_halt_ends_it_and_an_older_one_does_not(
    ledger: OpenLedger, clock: Clock
) -> None:
    await hear(ledger, Signal.SENDER_REFUSED, clock)
    clock.reach(NOW + 4)
    await hear(ledger, Signal.ACCEPTED, clock, ago_s=4.1)
    assert await ledger.claim(on_lane("held")) == Wait(NOW + 34)
    await hear(ledger, Signal.ANSWERED, clock, template="any")
    reply = await ledger.claim(on_lane("free"))
    assert isinstance(reply, Claimed)
    assert not reply.probe


async def test_nobody_waits_for_a_hold_beyond_the_deadline(ledger: OpenLedger, clock: Clock) -> None:
    await hear(ledger, Signal.SENDER_REFUSED, clock)
    assert await ledger.claim(on_lane(deadline=NOW + 20)) == Wait(NOW + 20)


async def test_a_refused_template_holds_back_its_own_jobs_alone(ledger: OpenLedger, clock: Clock) -> None:
    await hear(ledger, Signal.TEMPLATE_REFUSED, clock)
    assert await ledger.claim(on_lane()) == Wait(NOW + 30)
    assert isinstance(await ledger.claim(on_lane("language", language="de")), Claimed)
    assert isinstance(await ledger.claim(on_lane("template", template="other")), Claimed)
    assert isinstance(await ledger.claim(on_lane("sender", sender="another")), Claimed)
    clock.reach(NOW + 5)
    probe = await ledger.claim(on_lane("probe"))
    assert isinstance(probe, Claimed)
    assert probe.probe
    # An answer that says nothing of the template does not end it; one that took the message does.
    await hear(ledger, Signal.ANSWERED, clock)
    assert isinstance(await ledger.claim(on_lane("held")), Wait)
    await hear(ledger, Signal.ACCEPTED, clock)
    free = await ledger.claim(on_lane("free"))
    assert isinstance(free, Claimed)
    assert not free.probe


async def test_twenty_requests_in_a_row_without_an_answer_halt_the_sender_and_one_answer_begins_anew(
    ledger: OpenLedger, clock: Clock
) -> None:
    async def unanswered(times: int) -> None:
        for number in range(times):
            await hear(ledger, Signal.UNANSWERED, clock, recipient=f"+120155500{number:02}")
            clock.now += 0.001

    await unanswered(19)
    await hear(ledger, Signal.ANSWERED, clock)
    await unanswered(19)
    assert isinstance(await ledger.claim(on_lane()), Claimed)
    await unanswered(1)
    assert isinstance(await ledger.claim(on_lane("job-2")), Wait)


async def test_a_new_token_lets_the_next_job_be_a_probe_at_once(ledger: OpenLedger, clock: Clock) -> None:
    await hear(ledger, Signal.SENDER_REFUSED, clock)
    await hear(ledger, Signal.SENDER_REFUSED, clock, sender="another")
    await ledger.probe_soon(["default", "nobody"])
    probe = await ledger.claim(on_lane())
    assert isinstance(probe, Claimed)
    assert probe.probe
    assert await ledger.claim(on_lane("job-2")) == Wait(NOW + 2)
    assert await ledger.claim(on_lane("job-3", sender="another")) == Wait(NOW + 30)
    await ledger.probe_soon([])


async def test_a_probe_that_is_due_is_not_put_off_by_a_new_token(ledger: OpenLedger, clock: Clock) -> None:
    await hear(ledger, Signal.SENDER_REFUSED, clock)
    clock.reach(NOW + 60)
    await ledger.probe_soon(["default"])
    (held,) = (await ledger.report({"default": 80.0}, {"default": "app"}))["default"].holds
    assert held.hold.probe_at == NOW + 5


async def test_a_template_that_nobody_has_asked_for_in_an_hour_is_no_longer_held(
    ledger: OpenLedger, clock: Clock
) -> None:
    await hear(ledger, Signal.TEMPLATE_REFUSED, clock)
    await hear(ledger, Signal.SENDER_REFUSED, clock, sender="another")
    clock.reach(NOW + 5 + 3600)
    await ledger.forget()
    reports = await ledger.report({"default": 80.0, "another": 80.0}, {"default": "app", "another": "app"})
    assert [len(reports[sender].holds) for sender in ("default", "another")] == [0, 1]
    later: dict[str, Any] = {"latest_start": clock.now + 100, "deadline": clock.now + 105}
    replies = await all_of(ledger, [on_lane(**later), on_lane("job-2", sender="another", **later)])
    assert [isinstance(reply, Claimed) and reply.probe for reply in replies] == [False, True]
