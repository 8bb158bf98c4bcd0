"""The way of a job on bad days: a ledger out of reach, claims that come late, and a crash."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final

import pytest

from known_states import claimed, prepare
from otpost_worker.decision import Policy
from otpost_worker.envelope import Defaults
from otpost_worker.ports import LedgerUnavailable
from ports_in_memory import (
    ACCEPTED,
    LOST,
    NO_SUCH_NUMBER,
    NOW,
    UNAVAILABLE,
    Crash,
    World,
    envelope,
    job_body,
)

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from ledger_implementations import Implementation
    from otpost_worker.outcome import Outcome

# Only a hung test takes as long.
PATIENCE_S: Final = 20.0


def new_world(folder: Path, *answers: Outcome) -> World:
    return World(folder / "ledger.db", answers=answers or (ACCEPTED,))


def lose_answers(count: int, *, then: Callable[[], object] = lambda: None) -> Callable[[], None]:
    """Let the first *count* claims be granted without anybody hearing of it."""
    lost = iter(range(count))

    def lose() -> None:
        if next(lost, None) is not None:
            then()
            raise LedgerUnavailable("the connection was lost after the claim")

    return lose


# The ledger is out of reach


async def test_without_a_ledger_at_the_claim_nothing_is_sent_or_acknowledged_until_it_is_back(tmp_path: Path) -> None:
    world = new_world(tmp_path)
    world.unavailable["claim"] = 1
    delivering = asyncio.create_task(world.deliver(envelope()))
    async with asyncio.timeout(PATIENCE_S):
        await world.refused.wait()
        assert not delivering.done()
        assert world.provider.requests == []
        await delivering
    assert world.fate.passed[:3] == [("before", "claim"), ("before", "claim"), ("after", "claim")]
    assert world.heard == ["job-1/1/1/accepted"]
    assert world.provider.callbacks == ["job-1"]


async def test_without_a_ledger_at_the_claim_a_worker_that_stops_hands_the_job_back(tmp_path: Path) -> None:
    world = new_world(tmp_path)
    world.unavailable["claim"] = 1_000_000
    delivering = asyncio.create_task(world.deliver(envelope(attempt=2, counted=1)))
    async with asyncio.timeout(PATIENCE_S):
        await world.refused.wait()
        world.stopping.set()
        await delivering
    assert world.broker.handed_back == [envelope(attempt=2, counted=1)]
    assert world.provider.requests == []
    assert world.broker.events == []


async def test_a_claim_whose_answer_was_lost_is_taken_for_nobody_elses_and_sent_at_once(tmp_path: Path) -> None:
    world = new_world(tmp_path)
    world.after_claim = lose_answers(1)
    await asyncio.wait_for(world.deliver(envelope()), PATIENCE_S)
    assert world.fate.passed.count(("after", "claim")) == 2
    assert world.broker.delays == []
    assert world.heard == ["job-1/1/1/accepted"]
    assert world.provider.callbacks == ["job-1"]


async def test_a_worker_that_stops_while_claims_get_no_answer_leaves_no_claim_behind(tmp_path: Path) -> None:
    world = new_world(tmp_path)
    world.after_claim = lose_answers(1_000_000, then=world.stopping.set)
    await asyncio.wait_for(world.deliver(envelope()), PATIENCE_S)
    assert world.broker.handed_back == [envelope()]
    world.stopping.clear()
    world.after_claim = None
    await world.deliver(envelope())
    assert world.broker.delays == []
    assert world.heard == ["job-1/1/1/accepted"]


@pytest.mark.parametrize("answer", [ACCEPTED, NO_SUCH_NUMBER, UNAVAILABLE], ids=["accepted", "failed", "retrying"])
async def test_an_outcome_whose_claim_the_ledger_has_lost_is_published_and_recorded_all_the_same(
    place: Implementation, answer: Outcome
) -> None:
    world = World(place, answers=[answer])

    async def lose() -> None:
        place.lose()

    world.provider.on_request = lose
    await asyncio.wait_for(world.deliver(envelope()), PATIENCE_S)
    world.provider.on_request = None
    told = list(world.heard)
    assert (
        told
        == {
            ACCEPTED: ["job-1/1/1/accepted"],
            NO_SUCH_NUMBER: ["job-1/1/1/failed"],
            UNAVAILABLE: ["job-1/1/1/retrying"],
        }[answer]
    )
    # Whoever comes later finds the record.
    await world.deliver(envelope())
    assert world.heard == told
    assert world.provider.callbacks == ["job-1"]


async def test_an_outcome_whose_claim_was_lost_and_is_somebody_elses_now_is_left_to_him(place: Implementation) -> None:
    world = World(place)

    async def lose() -> None:
        place.lose()
        async with world.ledger() as another_workers:
            await claimed(another_workers)

    world.provider.on_request = lose
    await asyncio.wait_for(world.deliver(envelope()), PATIENCE_S)
    assert world.broker.events == []


async def test_an_outcome_whose_claim_the_ledger_has_lost_is_recorded_though_there_is_no_room_for_another_start(
    place: Implementation,
) -> None:
    world = World(place)
    # The next start is a second later, and so beyond what a job waits for in hand.
    world.rate = 1.0

    async def lose() -> None:
        place.lose()

    world.provider.on_request = lose
    await asyncio.wait_for(world.deliver(envelope()), PATIENCE_S)
    assert world.heard == ["job-1/1/1/accepted"]


async def test_an_outcome_whose_claim_the_ledger_has_lost_counts_for_its_sender_once(tmp_path: Path) -> None:
    world = new_world(tmp_path, LOST)

    async def lose() -> None:
        world.place.lose()

    world.provider.on_request = lose
    # Twenty requests in a row that nobody answers halt the sender.
    async with world.ledger() as ledger, asyncio.timeout(PATIENCE_S):
        way = world.deliverer(ledger)
        for number in range(19):
            await way.deliver(envelope(job_body(id=f"job-{number}")))
        assert world.news == []
        await way.deliver(envelope(job_body(id="job-19")))
    assert [news.change for news in world.news] == ["halted"]


@pytest.mark.parametrize(
    ("answer", "end", "letters"),
    [(ACCEPTED, "job-1/1/1/accepted", []), (NO_SUCH_NUMBER, "job-1/1/1/failed", ["recipient"])],
    ids=["accepted", "failed"],
)
async def test_an_end_in_hand_is_published_without_the_ledger_and_recorded_once_it_is_back(
    tmp_path: Path, answer: Outcome, end: str, letters: list[str]
) -> None:
    world = new_world(tmp_path, answer)
    world.unavailable["record"] = world.unavailable["note_buried"] = 2
    async with world.ledger() as ledger, asyncio.timeout(PATIENCE_S):
        # The delivery is acknowledged while the ledger is still away.
        await world.deliverer(ledger).deliver(envelope())
        assert world.broker.event_ids == [end]
        assert world.letters == letters
        assert world.unavailable["record"] > 0
        await asyncio.gather(*world.backgrounds)
    # Somebody's second copy finds the record.
    await world.deliver(envelope())
    assert world.heard == [end]
    assert world.letters == letters
    assert world.provider.callbacks == ["job-1"]


async def test_a_retry_in_hand_is_held_until_the_ledger_has_it(tmp_path: Path) -> None:
    world = new_world(tmp_path, UNAVAILABLE)
    world.unavailable["record"] = 1
    delivering = asyncio.create_task(world.deliver(envelope()))
    async with asyncio.timeout(PATIENCE_S):
        await world.refused.wait()
        assert not delivering.done()
        assert world.broker.events == []
        assert world.broker.delays == []
        await delivering
    assert world.heard == ["job-1/1/1/retrying"]
    assert [copy.attempt for copy, _ in world.broker.delays] == [2]
    assert world.provider.callbacks == ["job-1"]


@pytest.mark.parametrize("operation", ["lapse", "conclude", "refuse"])
async def test_what_ends_or_goes_on_without_a_request_waits_for_the_ledger_too(tmp_path: Path, operation: str) -> None:
    world = new_world(tmp_path)
    body, state, expected = {
        "lapse": (job_body(), "claimed", "job-1/1/2/retrying"),
        "conclude": (job_body(ttl_s=15), "refused", "job-1/1/2/expired"),
        "refuse": (job_body(code=None), "no row", "job-1/1/2/failed"),
    }[operation]
    await prepare(world.place, world.clock, state, of=envelope(body))
    world.clock.reach(NOW + 12)
    world.unavailable[operation] = 1
    attempt = 3 if operation == "conclude" else 2
    await asyncio.wait_for(world.deliver(envelope(body, attempt=attempt, counted=1)), PATIENCE_S)
    assert world.unavailable[operation] == 0
    assert world.heard == [expected.replace("/2/expired", "/3/expired")]
    assert world.provider.requests == []


async def test_a_crash_between_an_unrecorded_end_and_its_record_leaves_a_later_copy_a_proper_end(
    tmp_path: Path,
) -> None:
    world = new_world(tmp_path, NO_SUCH_NUMBER)
    world.unavailable["record"] = 1_000_000
    async with world.ledger() as ledger:
        # The ledger is back for the note of the dead letter; then the worker dies before the record.
        await world.deliverer(ledger).deliver(envelope())
        for task in world.backgrounds:
            task.cancel()
        await asyncio.gather(*world.backgrounds, return_exceptions=True)
    world.backgrounds.clear()
    world.unavailable.clear()
    assert world.ends == ["job-1/1/1/failed"]
    # The producer's second copy of the same job: its claim has lapsed, and it must end all the same.
    world.clock.reach(NOW + 20)
    world.put(envelope())
    await world.run()
    assert world.waiting == []
    assert world.provider.callbacks[0] == "job-1"


async def test_a_dead_letter_is_noted_once_the_ledger_is_back(tmp_path: Path) -> None:
    world = new_world(tmp_path, NO_SUCH_NUMBER)
    world.unavailable["note_buried"] = 1
    async with world.ledger() as ledger, asyncio.timeout(PATIENCE_S):
        await world.deliverer(ledger).deliver(envelope())
        await asyncio.gather(*world.backgrounds)
    await world.deliver(envelope())
    assert [letter.reason for _, letter in world.broker.letters] == ["recipient"]


async def test_a_claim_that_lapsed_goes_on_although_its_sender_has_lost_its_defaults(tmp_path: Path) -> None:
    world = new_world(tmp_path)
    await prepare(world.place, world.clock, "claimed", of=envelope())
    world.clock.reach(NOW + 12)
    world.defaults = Defaults()
    await world.deliver(envelope(job_body(template="other", language="en"), attempt=2))
    assert world.heard == ["job-1/1/2/retrying"]


# A claim that comes late


async def test_a_claim_that_took_too_long_for_its_lease_is_released_and_asked_for_again(tmp_path: Path) -> None:
    world = new_world(tmp_path)
    # It may start so late that only the lease forbids it.
    world.policy = Policy(start_tolerance_s=60)
    asked: list[float] = []

    def slow_at_first() -> None:
        asked.append(world.clock.now)
        if len(asked) == 1:
            # The lease is the time-out of 5 s and 5 s more: what is left no longer covers the time-out.
            world.clock.reach(world.clock.now + 5.1)

    world.after_claim = slow_at_first
    await world.deliver(envelope())
    assert asked == [NOW, NOW + 5.1]
    assert [arrow for when, arrow in world.fate.passed if when == "after"][:4] == [
        "claim",
        "release",
        "claim",
        "request",
    ]
    assert world.provider.callbacks == ["job-1"]
    assert world.heard == ["job-1/1/1/accepted"]


async def test_a_request_that_would_start_half_a_second_late_books_another_start(tmp_path: Path) -> None:
    world = new_world(tmp_path)
    world.after_claim = lambda: world.clock.reach(NOW + 0.51)
    await world.deliver(envelope())
    assert world.fate.passed.count(("after", "release")) == 1
    assert world.provider.callbacks == ["job-1"]


async def test_a_claim_whose_lease_just_covers_the_time_out_is_used(tmp_path: Path) -> None:
    world = new_world(tmp_path)
    world.policy = Policy(start_tolerance_s=60)
    world.after_claim = lambda: world.clock.reach(NOW + 5)
    await world.deliver(envelope())
    assert ("after", "release") not in world.fate.passed
    assert world.provider.callbacks == ["job-1"]


async def test_a_claim_that_took_until_the_deadline_is_too_near_is_released_and_the_job_expires(
    tmp_path: Path,
) -> None:
    world = new_world(tmp_path)
    world.after_claim = lambda: world.clock.reach(NOW + 3.1)
    await world.deliver(envelope(job_body(ttl_s=8)))
    assert world.provider.requests == []
    assert world.heard == ["job-1/1/1/expired"]
    assert world.letters == []


async def test_claims_that_are_always_slow_do_not_hold_the_job_for_ever(tmp_path: Path) -> None:
    world = new_world(tmp_path)
    world.after_claim = lambda: world.clock.reach(world.clock.now + 6)
    await asyncio.wait_for(world.deliver(envelope()), PATIENCE_S)
    assert world.provider.requests == []
    # Unchanged, on the ladder: the released claims leave no trace.
    assert world.broker.delays == [(envelope(), 1.0)]
    world.after_claim = None
    await world.run()
    assert world.provider.callbacks == ["job-1"]


async def test_a_crash_cannot_be_caught_on_the_way_of_a_job(tmp_path: Path) -> None:
    world = new_world(tmp_path)
    world.fate.crash_at = ("before", "event")
    with pytest.raises(Crash):
        await world.deliver(envelope())
