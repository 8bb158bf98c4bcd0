"""What every ledger lets start to a recipient after the provider has refused it one more message (131056)."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final

from known_states import DEADLINE, claim_request, end_step, retry_step
from otpost_worker.attempts import State, Wait
from otpost_worker.outcome import Kind
from otpost_worker.pacing import Lane
from otpost_worker.ports import Claimed, ClaimReply, ClaimRequest, Entry, NoRoom
from otpost_worker.standing import Heard, Signal
from ports_in_memory import NOW, Clock

if TYPE_CHECKING:
    from ledger_implementations import OpenLedger

LANE: Final = Lane("default", "app", "+12015553931", "login", "en_US", 1000.0, DEADLINE - 5, DEADLINE)


def on_lane(job_id: str, attempt: int = 1, **changes: Any) -> ClaimRequest:  # noqa: ANN401 - those of Lane
    return replace(claim_request(1, attempt, job_id=job_id), lane=replace(LANE, **changes))


def start(reply: ClaimReply) -> float:
    """When a request that was granted starts, in seconds from the beginning."""
    assert isinstance(reply, Claimed), reply
    return round(reply.start_at - NOW, 4)


def refusal(until: float, attempt: int = 1, *, begun_at: float = NOW, **changes: Any) -> Entry:  # noqa: ANN401 - those of Lane
    """The recipient waits until then, and so does the job."""
    heard = Heard(replace(LANE, **changes), Signal.PAIR_LIMITED, begun_at, pair_until=until)
    return Entry(State.REFUSED, Kind.PAIR_LIMIT, retry_step(attempt, until), heard=heard)


async def refuse(ledger: OpenLedger, until: float, job_id: str = "refused", **changes: Any) -> None:  # noqa: ANN401 - those of Lane
    reply = await ledger.claim(on_lane(job_id, **changes))
    assert isinstance(reply, Claimed)
    await ledger.record(reply.ticket, refusal(until, **changes))


async def test_the_recipient_waits_and_the_refused_job_is_the_first_to_go_on(ledger: OpenLedger, clock: Clock) -> None:
    await refuse(ledger, NOW + 4)
    # Its debt is as large as it can be: one every 6 s, and half a second for what is slow on its way.
    assert await ledger.claim(on_lane("second")) == Wait(NOW + 10.5)
    assert await ledger.claim(on_lane("third")) == Wait(NOW + 16.5)
    clock.reach(NOW + 4)
    assert start(await ledger.claim(on_lane("refused", 2))) == 4.0
    assert await ledger.claim(on_lane("second")) == Wait(NOW + 10.5)
    clock.reach(NOW + 10.5)
    assert start(await ledger.claim(on_lane("second"))) == 10.5


async def test_other_recipients_and_other_senders_go_on_at_once(ledger: OpenLedger) -> None:
    await refuse(ledger, NOW + 4)
    assert start(await ledger.claim(on_lane("other-recipient", recipient="+4915112345678"))) == 0.0
    assert start(await ledger.claim(on_lane("other-sender", sender="another"))) == 0.0


async def test_a_job_that_is_not_tried_again_leaves_the_first_turn_to_the_next_one(ledger: OpenLedger) -> None:
    reply = await ledger.claim(on_lane("refused"))
    assert isinstance(reply, Claimed)
    expired = replace(refusal(NOW + 4), state=State.SETTLED, step=end_step(1, "expired"))
    await ledger.record(reply.ticket, expired)
    assert await ledger.claim(on_lane("second")) == Wait(NOW + 4.5)


async def test_a_job_for_which_the_recipient_waits_too_long_books_nothing(ledger: OpenLedger) -> None:
    await refuse(ledger, NOW + 4)
    # Behind the first one there is a turn in 10.5 s alone.
    assert await ledger.claim(on_lane("hurried", latest_start=NOW + 10)) == NoRoom()
    await refuse(ledger, NOW + 4, "hurried-too", recipient="+4915112345678", latest_start=NOW + 3)
    assert await ledger.claim(on_lane("patient", recipient="+4915112345678")) == Wait(NOW + 4.5)


async def test_two_that_are_refused_at_once_stand_behind_each_other(ledger: OpenLedger, clock: Clock) -> None:
    replies = [await ledger.claim(on_lane(job_id)) for job_id in ("one", "two")]
    for reply in replies:
        assert isinstance(reply, Claimed)
        await ledger.record(reply.ticket, refusal(NOW + 1))
    clock.reach(NOW + 1)
    assert start(await ledger.claim(on_lane("one", 2))) == 1.0
    assert await ledger.claim(on_lane("two", 2)) == Wait(NOW + 7.5)


async def test_a_retry_that_is_refused_again_waits_no_longer_than_its_pause(ledger: OpenLedger, clock: Clock) -> None:
    for attempt, (begun, until) in enumerate(((0, 1), (1, 5), (5, 21)), start=1):
        clock.reach(NOW + begun)
        reply = await ledger.claim(on_lane("refused", attempt))
        assert isinstance(reply, Claimed)
        assert start(reply) == begun
        await ledger.record(reply.ticket, refusal(NOW + until, attempt, begun_at=NOW + begun))
    assert await ledger.claim(on_lane("second")) == Wait(NOW + 27.5)
    clock.reach(NOW + 21)
    assert start(await ledger.claim(on_lane("refused", 4))) == 21.0


async def test_what_is_booked_further_ahead_stands_and_the_refused_job_is_behind_it(ledger: OpenLedger) -> None:
    replies = [await ledger.claim(on_lane(f"job-{number}")) for number in range(55)]
    assert replies[54] == Wait(NOW + 60.5)
    assert isinstance(replies[0], Claimed)
    await ledger.record(replies[0].ticket, refusal(NOW + 1))
    assert await ledger.claim(on_lane("job-54")) == Wait(NOW + 60.5)
    assert await ledger.claim(on_lane("next")) == Wait(NOW + 72.5)
    (run,) = await ledger.story("job-0")
    assert run.turn == NOW + 66.5


async def test_the_same_refusal_recorded_again_changes_nothing_more(ledger: OpenLedger, clock: Clock) -> None:
    reply = await ledger.claim(on_lane("refused"))
    assert isinstance(reply, Claimed)
    first = await ledger.record(reply.ticket, refusal(NOW + 4))
    clock.reach(NOW + 1)
    assert await ledger.record(reply.ticket, refusal(NOW + 4)) == first
    assert await ledger.claim(on_lane("second")) == Wait(NOW + 10.5)


async def test_a_refusal_that_is_recorded_late_lets_its_job_wait_no_longer_than_it_has(
    ledger: OpenLedger, clock: Clock
) -> None:
    reply = await ledger.claim(on_lane("refused"))
    assert isinstance(reply, Claimed)
    clock.reach(NOW + 60)
    await ledger.record(reply.ticket, refusal(NOW + 4))
    assert await ledger.claim(on_lane("second")) == Wait(NOW + 66.5)
    assert start(await ledger.claim(on_lane("refused", 2))) == 60.0
