"""Each cell of the table of the contract's section 5, through the real way of a job and a real ledger."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final

import orjson
import pytest

from known_states import STATES, claimed, end_run, prepare, retry_step
from otpost_worker.attempts import State
from otpost_worker.decision import Policy
from otpost_worker.envelope import Reply
from otpost_worker.outcome import Kind
from otpost_worker.ports import Entry
from ports_in_memory import KEY, NOW, World, envelope, job_body
from sealed_letters import original

if TYPE_CHECKING:
    from ledger_implementations import Implementation


@dataclass(frozen=True)
class Seen:
    """What one delivery led to.

    `homes`: the copies of the job on the ladder, as (attempt, counted, seconds). `letters`: attempts of dead letters.
    Whatever it is, the delivery is acknowledged afterwards.
    """

    requests: tuple[str, ...] = ()
    events: tuple[str, ...] = ()
    homes: tuple[tuple[int, int, float], ...] = ()
    letters: tuple[str, ...] = ()


NOTHING: Final = Seen()
STEP_AGAIN: Final = Seen(events=("job-1/1/2/retrying",), homes=((3, 2, 5.0),))
# At NOW + 20 the retry of attempt 2, due at NOW + 6, is overdue: the ladder's shortest wait.
STEP_AGAIN_LATE: Final = Seen(events=("job-1/1/2/retrying",), homes=((3, 2, -14.0),))
LAPSED: Final = Seen(events=("job-1/1/2/retrying",), homes=((3, 2, 5.0),))
SENT_3: Final = Seen(requests=("job-1/1/3",), events=("job-1/1/3/accepted",))
ACCEPTED_2: Final = Seen(events=("job-1/1/2/accepted",))
EXPIRED_2: Final = Seen(events=("job-1/1/2/expired",))
FAILED_2: Final = Seen(events=("job-1/1/2/failed",), letters=("recipient",))
FAILED_2_BURIED: Final = Seen(events=("job-1/1/2/failed",))
EARLY: Final = NOW + 1
LATE: Final = NOW + 20

# (what the ledger knows, when the delivery comes) -> what follows for n < h, n = h, n > h; h is 2.
TABLE: Final[dict[tuple[str, float], tuple[Seen, Seen, Seen]]] = {
    ("ended accepted", LATE): (ACCEPTED_2, ACCEPTED_2, ACCEPTED_2),
    ("ended expired", LATE): (EXPIRED_2, EXPIRED_2, EXPIRED_2),
    ("ended failed", LATE): (FAILED_2, FAILED_2, FAILED_2),
    ("ended failed, buried", LATE): (FAILED_2_BURIED, FAILED_2_BURIED, FAILED_2_BURIED),
    ("no row", EARLY): (
        Seen(requests=("job-1",), events=("job-1/1/1/accepted",)),
        Seen(requests=("job-1/1/2",), events=("job-1/1/2/accepted",)),
        SENT_3,
    ),
    # The lease of 10 s began at NOW + 1.
    ("claimed", EARLY): (NOTHING, Seen(homes=((2, 1, 10.0),)), Seen(homes=((3, 1, 10.0),))),
    ("claimed", LATE): (NOTHING, LAPSED, LAPSED),
    ("unknown", EARLY): (NOTHING, STEP_AGAIN, Seen(homes=((3, 1, 5.0),))),
    ("unknown", LATE): (NOTHING, STEP_AGAIN_LATE, SENT_3),
    ("refused", EARLY): (NOTHING, STEP_AGAIN, Seen(homes=((3, 1, 5.0),))),
    ("refused", LATE): (NOTHING, STEP_AGAIN_LATE, SENT_3),
    ("taken back", EARLY): (NOTHING, STEP_AGAIN, Seen(homes=((3, 1, 5.0),))),
    ("taken back", LATE): (NOTHING, STEP_AGAIN_LATE, SENT_3),
}
CELLS: Final = [
    pytest.param(state, at, attempt, row[attempt - 1], id=f"{state}, {at - NOW:g} s later, {name}")
    for (state, at), row in TABLE.items()
    for attempt, name in ((1, "n<h"), (2, "n=h"), (3, "n>h"))
]


@pytest.fixture
def world(place: Implementation) -> World:
    return World(place)


def seen(world: World) -> Seen:
    return Seen(
        requests=tuple(world.provider.callbacks),
        events=tuple(world.broker.event_ids),
        homes=tuple((copy.attempt, copy.counted, round(wait, 6)) for copy, wait in world.broker.delays),
        letters=tuple(letter.reason for _, letter in world.broker.letters),
    )


@pytest.mark.parametrize(("state", "at", "attempt", "expected"), CELLS)
async def test_each_cell_of_the_table(world: World, state: str, at: float, attempt: int, expected: Seen) -> None:
    await prepare(world.place, world.clock, state)
    world.clock.reach(at)
    await world.deliver(envelope(attempt=attempt, counted=1))
    assert seen(world) == expected


def test_the_table_has_a_row_for_every_state() -> None:
    assert {state for state, _ in TABLE} == {*STATES, "no row"}


async def test_an_unknown_attempt_that_is_due_ends_the_job_where_the_policy_is_fail(place: Implementation) -> None:
    world = World(place, policy=Policy(resend_unknown=False))
    await prepare(world.place, world.clock, "unknown")
    world.clock.reach(LATE)
    await world.deliver(envelope(attempt=3, counted=2))
    assert seen(world) == Seen(events=("job-1/1/2/failed",), letters=("unknown",))


@pytest.mark.parametrize("state", ["no row", "refused", "taken back"])
async def test_a_job_that_has_become_too_late_expires_without_a_request(world: World, state: str) -> None:
    await prepare(world.place, world.clock, state)
    # The deadline is 300 s after the beginning, the time-out of a request 5 s.
    world.clock.reach(NOW + 295.1)
    await world.deliver(envelope(attempt=3, counted=2))
    assert seen(world) == Seen(events=("job-1/1/3/expired",))


async def test_a_job_is_still_sent_at_the_last_instant_that_leaves_its_time_out(world: World) -> None:
    world.clock.reach(NOW + 295)
    await world.deliver(envelope())
    assert world.provider.callbacks == ["job-1"]


async def test_an_unknown_attempt_that_has_become_too_late_to_repeat_fails_and_does_not_expire(world: World) -> None:
    await prepare(world.place, world.clock, "unknown")
    world.clock.reach(NOW + 301)
    await world.deliver(envelope(attempt=3, counted=2))
    assert seen(world) == Seen(events=("job-1/1/2/failed",), letters=("unknown",))


async def test_a_claim_that_lapses_too_late_to_repeat_fails_and_does_not_expire(world: World) -> None:
    await prepare(world.place, world.clock, "claimed")
    world.clock.reach(NOW + 301)
    await world.deliver(envelope(attempt=2, counted=1))
    assert seen(world) == Seen(events=("job-1/1/2/failed",), letters=("unknown",))


async def test_an_open_lease_comes_before_the_deadline(world: World) -> None:
    body = job_body(ttl_s=7)
    await prepare(world.place, world.clock, "claimed", of=envelope(body))
    world.clock.reach(NOW + 8)
    await world.deliver(envelope(body, attempt=2, counted=1))
    assert seen(world) == Seen(homes=((2, 1, 3.0),))


# Runs


@pytest.mark.parametrize("state", ["ended failed", "ended failed, buried", "ended expired"])
@pytest.mark.parametrize("attempt", [1, 2])
async def test_a_replay_of_a_run_that_did_not_reach_anybody_is_sent(world: World, state: str, attempt: int) -> None:
    await prepare(world.place, world.clock, state)
    await world.deliver(envelope(run=2, attempt=attempt))
    callback = f"job-1/2/{attempt}"
    assert seen(world) == Seen(requests=(callback,), events=(f"{callback}/accepted",))


async def test_a_replay_of_a_run_that_stands_accepted_gets_that_end_again_and_is_not_sent(world: World) -> None:
    await prepare(world.place, world.clock, "ended accepted")
    await world.deliver(envelope(run=2))
    assert seen(world) == ACCEPTED_2


async def test_a_replay_finds_an_acceptance_behind_a_later_run_that_failed(world: World) -> None:
    async with world.ledger() as ledger:
        second = await claimed(ledger, 2)
        await ledger.record(second, Entry(State.REFUSED, Kind.UNAVAILABLE, retry_step(1, NOW + 1, run=2)))
    await world.deliver(envelope(run=3))
    assert world.ends == ["job-1/3/1/accepted"]
    await world.deliver(envelope(run=4))
    assert world.ends == ["job-1/3/1/accepted"]
    assert world.provider.callbacks == ["job-1/3/1"]


async def test_a_copy_of_an_earlier_run_gets_the_end_of_the_latest_one(world: World) -> None:
    async with world.ledger() as ledger:
        await end_run(ledger, "failed")
        await end_run(ledger, "accepted", run=2)
    await world.deliver(envelope(run=1, attempt=5))
    assert seen(world) == Seen(events=("job-1/2/1/accepted",))


async def test_a_copy_of_an_earlier_run_is_dropped_while_the_latest_one_is_under_way(world: World) -> None:
    async with world.ledger() as ledger:
        await end_run(ledger, "failed")
        await claimed(ledger, 2)
    await world.deliver(envelope(run=1, attempt=5))
    assert seen(world) == NOTHING


# What a repeated step carries


async def test_a_repeated_step_carries_what_the_ledger_holds_and_not_what_the_delivery_says(world: World) -> None:
    first = replace(envelope(), reply=Reply("mine", "c-1"), traceparent="00-1-2-03", deadline=NOW + 200)
    await prepare(world.place, world.clock, "refused", of=first)
    other = envelope(job_body(to="+4915112345678", ttl_s=900), attempt=2, reply=Reply("other", None))
    await world.deliver(other)
    assert [copy for copy, _ in world.broker.delays] == [replace(first, attempt=3, counted=2)]


async def test_a_second_job_under_an_id_that_ended_is_not_sent_and_gets_the_first_end(world: World) -> None:
    await world.deliver(envelope())
    await world.deliver(envelope(job_body(to="+4915112345678", code="111111")))
    assert world.broker.event_ids == ["job-1/1/1/accepted", "job-1/1/1/accepted"]
    assert world.broker.events[0] == world.broker.events[1]
    assert world.provider.callbacks == ["job-1"]


async def test_a_dead_letter_holds_the_whole_job(world: World) -> None:
    await prepare(world.place, world.clock, "ended failed")
    await world.deliver(envelope(attempt=2))
    ((buried, letter),) = world.broker.letters
    assert original(buried.body, KEY) == orjson.loads(job_body())
    assert (letter.reason, letter.attempt) == ("recipient", 2)
