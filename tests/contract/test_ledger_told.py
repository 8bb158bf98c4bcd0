"""What every ledger tells: news of a sender to whoever brought it about, reports, the story of a job, its own name."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Final

import pytest

from known_states import DEADLINE, LEASE_S, claim_request, claimed, end_step, retry_step
from ledger_entries import ACCEPTED, FAILED, REFUSED, UNKNOWN, wish
from otpost_worker.attempts import State
from otpost_worker.envelope import Reply
from otpost_worker.outcome import Error, Kind
from otpost_worker.pacing import Hold, Lane
from otpost_worker.ports import Claimed, Entry, HoldReport, SenderReport
from otpost_worker.standing import Change, Heard, News, Signal
from otpost_worker.stories import AttemptStory, RunStory
from ports_in_memory import NOW, Clock, envelope

if TYPE_CHECKING:
    from ledger_implementations import Implementation, OpenLedger

DAY_S: Final = 24 * 3600.0
LANE: Final = Lane("default", "app", "+12015553931", "login", "en_US", 80.0, DEADLINE - 5, DEADLINE)
EXPIRED_TOKEN: Final = Error(Kind.SENDER_HALTED, 190, "Session expired", 'a "token" of Müller', 401, "trace-1")
RATES: Final = {"default": 80.0, "another": 10.0}
QUOTAS: Final = {"default": "app", "another": "app"}
WELL: Final = SenderReport(80.0, None, ())


def heard(signal: Signal, **changes: object) -> Heard:
    return replace(Heard(LANE, signal, NOW, error=EXPIRED_TOKEN), **changes)  # type: ignore[arg-type] # those of Heard


async def news_of(ledger: OpenLedger, said: Heard, job_id: str = "job-1") -> tuple[News, ...]:
    """Record an outcome that says this of the sender."""
    reply = await ledger.claim(claim_request(job_id=job_id))
    assert isinstance(reply, Claimed)
    return (await ledger.record(reply.ticket, replace(ACCEPTED, heard=said))).news


# News


@pytest.mark.parametrize(
    ("said", "news"),
    [
        (heard(Signal.SENDER_REFUSED), News(Change.HALTED, "default", NOW, error=EXPIRED_TOKEN)),
        (
            heard(Signal.TEMPLATE_REFUSED),
            News(Change.HALTED, "default", NOW, "login", "en_US", error=EXPIRED_TOKEN),
        ),
        (heard(Signal.THROTTLED), News(Change.SLOWED, "default", NOW, error=EXPIRED_TOKEN, rate=40.0)),
        (
            heard(Signal.QUOTA, pause_s=90.5),
            News(Change.PAUSED, "default", NOW, error=EXPIRED_TOKEN, until=NOW + 90.5),
        ),
        (heard(Signal.QUOTA, pause_s=0.0), News(Change.PAUSED, "default", NOW, error=EXPIRED_TOKEN, until=NOW + 60)),
    ],
    ids=["halted", "template held", "slowed", "paused as asked", "paused as usual"],
)
async def test_what_is_new_is_told_to_whoever_brought_it_about_and_to_nobody_else(
    ledger: OpenLedger, said: Heard, news: News
) -> None:
    assert await news_of(ledger, said) == (news,)
    assert await news_of(ledger, said, "job-2") == ()


@pytest.mark.parametrize("signal", [Signal.ACCEPTED, Signal.ANSWERED, Signal.UNANSWERED, Signal.NOTHING])
async def test_a_sender_that_is_well_makes_no_news(ledger: OpenLedger, signal: Signal) -> None:
    assert await news_of(ledger, heard(signal)) == ()
    assert await ledger.report(RATES, QUOTAS) == {"default": WELL, "another": replace(WELL, rate=10.0)}


async def test_the_end_of_each_halt_is_told_once(ledger: OpenLedger) -> None:
    await news_of(ledger, heard(Signal.TEMPLATE_REFUSED))
    await news_of(ledger, heard(Signal.SENDER_REFUSED), "job-2")
    assert await news_of(ledger, heard(Signal.ACCEPTED), "job-3") == (
        News(Change.RESUMED, "default", NOW),
        News(Change.RESUMED, "default", NOW, "login", "en_US"),
    )
    assert await news_of(ledger, heard(Signal.ACCEPTED), "job-4") == ()


async def test_one_answer_may_be_two_pieces_of_news(ledger: OpenLedger) -> None:
    await news_of(ledger, heard(Signal.SENDER_REFUSED))
    resumed, slowed = await news_of(ledger, heard(Signal.THROTTLED), "job-2")
    assert (resumed.change, slowed.change) == (Change.RESUMED, Change.SLOWED)


async def test_whoever_records_once_more_is_told_the_same_news_and_heard_only_once(
    ledger: OpenLedger, clock: Clock
) -> None:
    entry = replace(REFUSED, heard=heard(Signal.THROTTLED))
    ticket = await claimed(ledger)
    first = await ledger.record(ticket, entry)
    clock.reach(NOW + 1)
    assert await ledger.record(ticket, entry) == first
    assert len(first.news) == 1
    assert (await ledger.report(RATES, QUOTAS))["default"].rate == 40.0


async def test_what_somebody_else_brought_about_is_not_told_to_whoever_records_once_more(ledger: OpenLedger) -> None:
    entry = replace(REFUSED, heard=heard(Signal.THROTTLED))
    ticket = await claimed(ledger)
    first = await ledger.record(ticket, entry)
    other = replace(entry, heard=heard(Signal.SENDER_REFUSED))
    assert len((await ledger.record(replace(ticket, token="another's"), other)).news) == 1
    assert (await ledger.record(ticket, entry)).news == first.news


async def test_an_outcome_counts_for_the_sender_although_it_comes_too_late_for_the_job(
    ledger: OpenLedger, clock: Clock
) -> None:
    ticket = await claimed(ledger)
    clock.reach(NOW + LEASE_S)
    await ledger.lapse(ticket, Entry(State.SETTLED, Kind.UNKNOWN, end_step(1, "failed")))
    noted = await ledger.record(ticket, replace(REFUSED, heard=heard(Signal.SENDER_REFUSED)))
    assert noted.recorded is None
    assert [one.change for one in noted.news] == [Change.HALTED]


# Reports


async def test_a_report_tells_the_rate_the_pause_and_each_hold_with_its_reason_and_its_remedy(
    ledger: OpenLedger, clock: Clock
) -> None:
    await news_of(ledger, heard(Signal.THROTTLED), "job-1")
    await news_of(ledger, heard(Signal.QUOTA, pause_s=90.0), "job-2")
    for number, template in enumerate(("welcome", "login")):
        refused = heard(Signal.TEMPLATE_REFUSED, lane=replace(LANE, template=template), error=None)
        await news_of(ledger, refused, f"template-{number}")
    clock.reach(NOW + 1)
    await news_of(ledger, heard(Signal.SENDER_REFUSED, remedy="replace the token"), "job-3")
    assert await ledger.report(RATES, QUOTAS) == {
        "default": SenderReport(
            40.0,
            NOW + 90,
            (
                HoldReport(Hold(NOW + 1, NOW + 6), None, None, EXPIRED_TOKEN, "replace the token"),
                HoldReport(Hold(NOW, NOW + 5), "login", "en_US", None, None),
                HoldReport(Hold(NOW, NOW + 5), "welcome", "en_US", None, None),
            ),
        ),
        "another": SenderReport(10.0, NOW + 90, ()),
    }
    clock.reach(NOW + 90)
    assert (await ledger.report(RATES, QUOTAS))["another"] == SenderReport(10.0, None, ())


async def test_a_report_tells_how_often_a_probe_went_out_and_when_the_next_one_does(
    ledger: OpenLedger, clock: Clock
) -> None:
    await news_of(ledger, heard(Signal.SENDER_REFUSED))
    clock.reach(NOW + 5)
    await ledger.claim(replace(claim_request(job_id="probe"), lane=LANE))
    (held,) = (await ledger.report(RATES, QUOTAS))["default"].holds
    assert held.hold == Hold(NOW, NOW + 5 + 10, 1)


async def test_a_report_of_nobody_is_empty(ledger: OpenLedger) -> None:
    assert await ledger.report({}, {}) == {}


# Stories


async def test_of_a_job_that_nobody_has_claimed_there_is_no_story(ledger: OpenLedger) -> None:
    assert await ledger.story("job-1") == ()


async def test_the_story_of_a_job_that_was_tried_twice_and_accepted(ledger: OpenLedger, clock: Clock) -> None:
    first = envelope(reply=Reply("mine", "c-1"), traceparent="00-1-2-03")
    await ledger.record(await claimed(ledger, of=first), REFUSED)
    clock.reach(NOW + 3)
    ticket = await claimed(ledger, 1, 2)
    clock.reach(NOW + 4)
    accepted = end_step(2, "accepted")
    await ledger.record(ticket, Entry(State.SETTLED, None, accepted, "wamid.2"))
    assert await ledger.story("job-1") == (
        RunStory(
            1,
            replace(first, body=b""),
            ended_at=NOW + 4,
            end=accepted,
            buried=False,
            forget_at=DEADLINE + DAY_S,
            turn=None,
            attempts=(
                AttemptStory(1, State.REFUSED, Kind.UNAVAILABLE, NOW, NOW, None, NOW + 3, None, retry_step(1, NOW + 3)),
                AttemptStory(2, State.SETTLED, None, NOW + 3, NOW + 4, None, None, "wamid.2", None),
            ),
        ),
    )


async def test_the_story_of_a_claim_that_is_open_and_of_one_that_lapsed(ledger: OpenLedger, clock: Clock) -> None:
    ticket = await claimed(ledger)
    (run,) = await ledger.story("job-1")
    assert (run.end, run.ended_at) == (None, None)
    assert run.attempts == (AttemptStory(1, State.CLAIMED, None, NOW, None, NOW + LEASE_S, None, None, None),)
    clock.reach(NOW + LEASE_S)
    await ledger.lapse(ticket, UNKNOWN)
    (run,) = await ledger.story("job-1")
    assert run.attempts == (
        AttemptStory(1, State.UNKNOWN, Kind.UNKNOWN, NOW, NOW + LEASE_S, None, NOW + 15, None, retry_step(1, NOW + 15)),
    )


async def test_the_story_of_runs_that_were_buried_and_replayed(ledger: OpenLedger, clock: Clock) -> None:
    await ledger.record(await claimed(ledger), FAILED)
    await ledger.note_buried("job-1", 1)
    clock.reach(NOW + 60)
    await ledger.conclude(wish(2, late=True), end_step(1, "expired", run=2))
    first, second = await ledger.story("job-1")
    assert (first.run, first.buried, first.end) == (1, True, FAILED.step)
    assert (second.run, second.buried, second.end) == (2, False, end_step(1, "expired", run=2))
    assert (second.ended_at, second.attempts) == (NOW + 60, ())


async def test_the_story_tells_the_turn_that_a_job_waits_for(ledger: OpenLedger, clock: Clock) -> None:
    lane = replace(LANE, rate=1000.0)
    for number in range(45):
        await ledger.claim(replace(claim_request(job_id=f"job-{number}"), lane=lane))
    last = replace(claim_request(job_id="job-45"), lane=lane)
    await ledger.claim(last)
    clock.reach(NOW + 6.5)
    await ledger.claim(last)
    (run,) = await ledger.story("job-45")
    assert run.turn == NOW + 6.5


# Its name


async def test_a_ledger_has_one_name_whoever_opens_it(implementation: Implementation, clock: Clock) -> None:
    async with implementation.open(clock) as one, implementation.open(clock) as other:
        assert one.identity == other.identity
        assert len(one.identity) == 36
    async with implementation.open(clock) as later:
        assert later.identity == one.identity
