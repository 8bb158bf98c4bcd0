"""What is Redis's own about the Redis ledger: its keys, its scripts, and workers whose clocks disagree with its own."""

from __future__ import annotations

import asyncio
import time
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final

import pytest
import structlog

from known_states import LEASE_S, claim_request, claimed, retry_step
from ledger_entries import ACCEPTED, REFUSED, step_of, wish
from otpost_worker.attempts import State, Wait
from otpost_worker.envelope import Next
from otpost_worker.ledger.reading import open_to_read
from otpost_worker.ledger.redis import RedisLedger
from otpost_worker.outcome import Kind
from otpost_worker.pacing import Hold, Lane
from otpost_worker.ports import Claimed, ClaimRequest, Crowded, Entry, LedgerUnavailable, NoLedger, SenderReport
from otpost_worker.standing import Change, Heard, Signal
from ports_in_memory import CODE, NOW, Clock
from private_redis import PrivateRedis
from redis_client import client_of, everything_in, keys_of

if TYPE_CHECKING:
    from otpost_worker.standing import News

DAY_S: Final = 24 * 3600.0
PATIENCE_S: Final = 20.0
NUMBER: Final = "+12015553931"
LANE: Final = Lane("default", "app", NUMBER, "login", "en_US", 80.0, NOW + 295, NOW + 300)


@pytest.fixture
def server(redis_server: PrivateRedis) -> PrivateRedis:
    """The Redis of the whole run, emptied."""
    client_of(redis_server).flushall()
    return redis_server


def ledger_on(server: PrivateRedis, clock: Clock | None = None) -> RedisLedger:
    clock = clock or Clock()
    return RedisLedger(server.url, clock=clock, redis_clock=clock)


def on_lane(request: ClaimRequest, **changes: Any) -> ClaimRequest:  # noqa: ANN401 - those of Lane
    return replace(request, lane=replace(LANE, **changes))


async def granted(ledger: RedisLedger, request: ClaimRequest) -> Claimed:
    reply = await ledger.claim(request)
    assert isinstance(reply, Claimed), reply
    return reply


# Its keys


async def test_a_job_and_what_it_used_of_the_limits_are_forgotten_in_time(server: PrivateRedis) -> None:
    async with ledger_on(server) as ledger:
        claim = await granted(ledger, on_lane(claim_request()))
        used_up = Heard(LANE, Signal.QUOTA, NOW, pause_s=90.0)
        await ledger.record(claim.ticket, replace(REFUSED, heard=used_up))
    left = {key[: key.rindex(":")] if ":pair:" in key else key: seconds for key, seconds in keys_of(server).items()}
    assert left == {
        "{otpost}:identity": None,
        "{otpost}:schema": None,
        "{otpost}:job:job-1": pytest.approx(300 + DAY_S, abs=2),
        "{otpost}:pair:default": pytest.approx(6, abs=2),
        "{otpost}:sender:default": pytest.approx(30 * DAY_S, abs=2),
        "{otpost}:quota:app": pytest.approx(30 * DAY_S + 90, abs=2),
    }


async def test_a_turn_is_forgotten_a_minute_after_it_has_come(server: PrivateRedis) -> None:
    async with ledger_on(server) as ledger:
        requests = [on_lane(claim_request(job_id=f"job-{number}"), rate=1000.0) for number in range(46)]
        replies = [await ledger.claim(request) for request in requests]
    assert replies[45] == Wait(NOW + 6.5)
    assert keys_of(server)["{otpost}:turns:job-45"] == pytest.approx(66.5, abs=2)


async def test_a_refused_recipients_debt_is_kept_until_it_is_paid_and_its_retrys_turn_a_minute_longer(
    server: PrivateRedis,
) -> None:
    async with ledger_on(server) as ledger:
        claim = await granted(ledger, on_lane(claim_request()))
        refused = Heard(LANE, Signal.PAIR_LIMITED, NOW, pair_until=NOW + 64)
        await ledger.record(claim.ticket, replace(REFUSED, heard=refused))
    left = {key[: key.rindex(":")] if ":pair:" in key else key: seconds for key, seconds in keys_of(server).items()}
    assert left["{otpost}:pair:default"] == pytest.approx(64 + 270, abs=2)
    assert left["{otpost}:turns:job-1"] == pytest.approx(64 + 60, abs=2)


async def test_a_job_lives_as_long_as_its_longest_run_and_one_that_came_too_late_for_a_minute(
    server: PrivateRedis,
) -> None:
    async with ledger_on(server) as ledger:
        await claimed(ledger)
        await ledger.claim(replace(claim_request(2), deadline=NOW + 1000))
        await ledger.claim(replace(claim_request(3), deadline=NOW + 10))
        await ledger.claim(replace(claim_request(job_id="late"), deadline=NOW - 2 * DAY_S))
    left = keys_of(server)
    assert left["{otpost}:job:job-1"] == pytest.approx(1000 + DAY_S, abs=2)
    assert left["{otpost}:job:late"] == pytest.approx(60, abs=2)


async def test_a_held_template_that_nobody_asks_for_goes_when_the_next_one_is_held(server: PrivateRedis) -> None:
    clock = Clock()

    async def hold(template: str) -> None:
        claim = await granted(ledger, claim_request(job_id=template))
        heard = Heard(replace(LANE, template=template), Signal.TEMPLATE_REFUSED, clock.now)
        await ledger.record(claim.ticket, replace(ACCEPTED, heard=heard))

    async with ledger_on(server, clock) as ledger:
        await hold("misspelt")
        clock.reach(NOW + 5 + 3600)  # the probe that nobody made was due 5 s after it was held
        await hold("another")
    assert client_of(server).hkeys("{otpost}:holds:default") == [b"another/en_US"]


async def test_neither_number_nor_code_outlives_the_body(server: PrivateRedis) -> None:
    async with ledger_on(server) as ledger:
        claim = await granted(ledger, on_lane(claim_request()))
        body = client_of(server).hget("{otpost}:job:job-1", "b1")
        assert body == claim_request().envelope.body
        client_of(server).hdel("{otpost}:job:job-1", "b1")
        assert NUMBER.removeprefix("+").encode() not in everything_in(server)
        await ledger.record(claim.ticket, ACCEPTED)
    kept = everything_in(server)
    assert NUMBER.removeprefix("+").encode() not in kept
    assert CODE.encode() not in kept


def give_it_the_slot_of_our_keys(server: PrivateRedis) -> None:
    """Make it the whole of a cluster in which no other slot has a node, so that any other key is refused."""
    client = client_of(server)
    client.config_set("cluster-require-full-coverage", "no")
    client.cluster("addslots", client.cluster("keyslot", "{otpost}:"))
    give_up_at = time.monotonic() + PATIENCE_S
    while client.cluster("info")["cluster_state"] != "ok":
        assert time.monotonic() < give_up_at
        time.sleep(0.05)


@pytest.mark.long
async def test_all_its_keys_lie_together_on_one_node_of_a_cluster() -> None:
    with PrivateRedis(extra_config=["cluster-enabled yes"]) as server:
        give_it_the_slot_of_our_keys(server)
        with structlog.testing.capture_logs() as told:
            async with ledger_on(server) as ledger:
                claim = await granted(ledger, on_lane(claim_request()))
                halted = Heard(LANE, Signal.SENDER_REFUSED, NOW)
                await ledger.record(claim.ticket, replace(REFUSED, heard=halted))
                await ledger.probe_soon(["default", "another"])
                reports = await ledger.report({"default": 80.0}, {"default": "app"})
                assert len(reports["default"].holds) == 1
                assert len(await ledger.story("job-1")) == 1
        assert [one["detail"][:30] for one in told] == ["it is a node of a cluster: whe"]


# Its scripts


async def test_scripts_that_redis_has_forgotten_are_loaded_again_unnoticed(server: PrivateRedis) -> None:
    async with ledger_on(server) as ledger:
        await claimed(ledger)
        client_of(server).script_flush()
        replies = await asyncio.gather(*(ledger.claim(claim_request(job_id=f"job-{n}")) for n in range(2, 200)))
        assert {type(reply) for reply in replies} == {Claimed}
        assert await ledger.claim(claim_request()) == Wait(NOW + LEASE_S)


async def test_hundreds_of_claims_at_once_share_a_few_connections(own_redis: PrivateRedis) -> None:
    async with ledger_on(own_redis) as ledger:
        replies = await asyncio.gather(*(ledger.claim(claim_request(job_id=f"job-{n}")) for n in range(1000)))
        assert {type(reply) for reply in replies} == {Claimed}
        asking = [one for one in client_of(own_redis).client_list() if one["cmd"].startswith("eval")]
    assert 1 <= len(asking) <= 4


async def test_whoever_gives_up_takes_nobodys_answer_with_him(server: PrivateRedis) -> None:
    async with ledger_on(server) as ledger:
        claims = [asyncio.ensure_future(ledger.claim(claim_request(job_id=f"job-{n}"))) for n in range(100)]
        await asyncio.sleep(0)
        for one in claims[::3]:
            one.cancel()
        replies = await asyncio.gather(*claims, return_exceptions=True)
    assert [type(reply) for reply in replies[1::3]] == [Claimed] * 33
    assert [type(reply) for reply in replies[2::3]] == [Claimed] * 33


async def test_what_was_asked_is_answered_although_the_ledger_is_closed_meanwhile(server: PrivateRedis) -> None:
    async with ledger_on(server) as ledger:
        claims = [asyncio.ensure_future(ledger.claim(claim_request(job_id=f"job-{n}"))) for n in range(100)]
        await asyncio.sleep(0)
    assert {type(reply) for reply in await asyncio.gather(*claims)} == {Claimed}


async def test_the_first_worker_gives_it_its_name_and_the_others_use_it(server: PrivateRedis) -> None:
    one, other = ledger_on(server), ledger_on(server)
    await asyncio.gather(one.__aenter__(), other.__aenter__())
    assert one.identity == other.identity
    await asyncio.gather(one.__aexit__(None, None, None), other.__aexit__(None, None, None))
    async with ledger_on(server) as later:
        assert later.identity == one.identity
    client_of(server).flushall()
    async with ledger_on(server) as emptied:
        assert emptied.identity != one.identity


async def test_what_a_newer_otpost_wrote_is_left_alone(server: PrivateRedis) -> None:
    client_of(server).set("{otpost}:schema", "7")
    with pytest.raises(LedgerUnavailable, match=r"written by a newer otpost \(its schema is 7, this one knows 2\)"):
        async with ledger_on(server):
            pass


# Clocks


class Workers:
    """Two workers on one Redis: the first is 100 s ahead of it, the second 50.25 s behind."""

    def __init__(self, server: PrivateRedis) -> None:
        self.redis, self.ahead, self.behind = Clock(NOW), Clock(NOW + 100), Clock(NOW - 50.25)
        self.first = RedisLedger(server.url, clock=self.ahead, redis_clock=self.redis)
        self.second = RedisLedger(server.url, clock=self.behind, redis_clock=self.redis)

    def pass_time(self, seconds: float) -> None:
        """Let time go by for all."""
        for clock in (self.redis, self.ahead, self.behind):
            clock.reach(clock.now + seconds)

    def request(self, number: int, clock: Clock) -> ClaimRequest:
        """A job with five minutes to live by this clock, of a sender that may send two messages a second."""
        lane = replace(LANE, rate=2.0, latest_start=clock.now + 295, deadline=clock.now + 300)
        return replace(claim_request(job_id=f"job-{number}"), deadline=clock.now + 300, lane=lane)


@pytest.fixture
def workers(server: PrivateRedis) -> Workers:
    """Two workers that have not opened their ledgers yet."""
    return Workers(server)


async def test_a_lease_is_as_long_for_every_worker_whatever_their_clocks_say(workers: Workers) -> None:
    async with workers.first as first, workers.second as second:
        await claimed(first)
        assert await second.claim(claim_request()) == Wait(workers.behind.now + LEASE_S)
        workers.pass_time(4)
        assert await second.claim(claim_request()) == Wait(workers.behind.now + 6)
        assert await first.claim(claim_request()) == Wait(workers.ahead.now + 6)


async def test_a_retry_is_due_for_every_worker_at_the_same_moment(workers: Workers) -> None:
    async with workers.first as first, workers.second as second:
        step = retry_step(1, workers.ahead.now + 3)
        await first.record(await claimed(first), Entry(State.REFUSED, Kind.UNAVAILABLE, step))
        assert step_of(await first.claim(claim_request())) == step
        repeated = step_of(await second.claim(claim_request()))
        assert repeated == replace(step, next=Next(2, 1, workers.behind.now + 3))
        assert await second.claim(claim_request(attempt=2)) == Wait(workers.behind.now + 3)
        workers.pass_time(3)
        assert isinstance(await second.claim(claim_request(attempt=2)), Claimed)


async def test_starts_and_crowds_are_told_in_each_workers_own_time(workers: Workers) -> None:
    async with workers.first as first, workers.second as second:
        one = await granted(first, workers.request(1, workers.ahead))
        other = await granted(second, workers.request(2, workers.behind))
        assert (one.start_at, other.start_at) == (workers.ahead.now, workers.behind.now + 0.5)
        crowded = await second.claim(workers.request(3, workers.behind))
        assert isinstance(crowded, Crowded)
        assert crowded.until - workers.behind.now == pytest.approx(0.6, abs=0.001)


async def test_halts_pauses_and_their_news_are_told_in_each_workers_own_time(workers: Workers) -> None:
    async def heard(signal: Signal, number: int) -> tuple[News, ...]:
        request = workers.request(number, workers.ahead)
        assert request.lane is not None
        claim = await granted(first, replace(request, lane=None))
        entry = replace(ACCEPTED, heard=Heard(request.lane, signal, workers.ahead.now, pause_s=90.0))
        return (await first.record(claim.ticket, entry)).news

    async with workers.first as first, workers.second as second:
        (paused,) = await heard(Signal.QUOTA, 1)
        assert (paused.change, paused.at, paused.until) == (Change.PAUSED, workers.ahead.now, workers.ahead.now + 90)
        (halted,) = await heard(Signal.SENDER_REFUSED, 2)
        assert (halted.change, halted.at) == (Change.HALTED, workers.ahead.now)
        report = (await second.report({"default": 2.0}, {"default": "app"}))["default"]
        assert report.quota_until == workers.behind.now + 90
        assert report.holds[0].hold == Hold(workers.behind.now, workers.behind.now + 5)
        # The answer to a request that began before the halt, by the clock of a worker that is behind, is no news.
        began = Heard(LANE, Signal.ANSWERED, workers.behind.now - 1)
        claim = await granted(second, claim_request(job_id="job-3"))
        assert (await second.record(claim.ticket, replace(ACCEPTED, heard=began))).news == ()
        began = replace(began, begun_at=workers.behind.now)
        claim = await granted(second, claim_request(job_id="job-4"))
        (resumed,) = (await second.record(claim.ticket, replace(ACCEPTED, heard=began))).news
        assert (resumed.change, resumed.at) == (Change.RESUMED, workers.behind.now)


async def test_a_story_is_told_in_the_readers_own_time(workers: Workers) -> None:
    async with workers.first as first, workers.second as second:
        step = retry_step(1, workers.ahead.now + 3)
        request = replace(claim_request(), deadline=workers.ahead.now + 300)
        claim = await granted(first, request)
        await first.record(claim.ticket, Entry(State.REFUSED, Kind.UNAVAILABLE, step))
        (run,) = await second.story("job-1")
        (attempt,) = run.attempts
    now = workers.behind.now
    assert (run.forget_at, attempt.claimed_at, attempt.recorded_at, attempt.due_at) == (
        now + 300 + DAY_S,
        now,
        now,
        now + 3,
    )
    assert attempt.step == replace(step, next=Next(2, 1, now + 3))


async def test_a_clock_that_is_set_is_believed_with_the_next_answer(workers: Workers) -> None:
    async with workers.first as first:
        await claimed(first)
        workers.ahead.now += 3600
        assert isinstance(await first.claim(claim_request(job_id="job-2")), Claimed)
        workers.redis.now += 3
        workers.ahead.now -= 7200 - 3
        assert await first.claim(claim_request(job_id="job-2")) == Wait(workers.ahead.now + 7)


# Less than a caller's patience back cannot be told from an answer that took its time, and does as little harm.
@pytest.mark.parametrize("set_by_s", [-7200.0, -5.5, 1.5, 7200.0])
async def test_whatever_is_asked_first_after_a_clock_was_set_is_understood(workers: Workers, set_by_s: float) -> None:
    async with workers.first as first, workers.second as second:
        ticket = await claimed(first)
        workers.ahead.now += set_by_s
        step = retry_step(1, workers.ahead.now + 3)
        await first.record(ticket, Entry(State.REFUSED, Kind.UNAVAILABLE, step))
        assert await second.claim(claim_request(attempt=2)) == Wait(workers.behind.now + 3)
        workers.behind.now += set_by_s
        assert await second.claim(wish(attempt=2, hold_until=workers.behind.now + 9)) == Wait(workers.behind.now + 3)


async def test_redis_tells_the_time_where_no_test_does(server: PrivateRedis) -> None:
    worker = Clock(NOW)  # years away
    async with RedisLedger(server.url, clock=worker) as ledger:
        request = claim_request()
        await granted(ledger, request)
        wait = await ledger.claim(claim_request())
        assert isinstance(wait, Wait)
        assert NOW + LEASE_S - 2 < wait.until <= NOW + LEASE_S


# Reading it


async def test_reading_a_ledger_changes_nothing_and_makes_none(server: PrivateRedis) -> None:
    with pytest.raises(NoLedger, match=r"there is no ledger in redis://127.0.0.1:[0-9]+/0 yet"):
        async with open_to_read(server.url):
            pass
    assert keys_of(server) == {}
    async with RedisLedger(server.url) as ledger:
        await claimed(ledger)
        before = everything_in(server)
        async with open_to_read(server.url) as reader:
            assert reader.identity == ledger.identity
            assert reader.warnings == ()
            assert reader.writable
            assert await reader.story("job-1") == await ledger.story("job-1")
            assert await reader.report({"default": 80.0}, {"default": "app"}) == {
                "default": SenderReport(80.0, None, ())
            }
            assert await reader.turn("job-1") is None
        assert everything_in(server) == before


async def test_the_turn_of_a_job_that_nobody_has_claimed_is_known(server: PrivateRedis) -> None:
    now = time.time()
    async with RedisLedger(server.url) as ledger:
        lane = replace(LANE, rate=1000.0, latest_start=now + 295, deadline=now + 300)
        requests = [replace(claim_request(job_id=f"job-{number}"), lane=lane) for number in range(46)]
        *_, wait = [await ledger.claim(request) for request in requests]
        assert isinstance(wait, Wait)
        async with open_to_read(server.url) as reader:
            assert await reader.story("job-45") == ()
            assert await reader.turn("job-45") == pytest.approx(wait.until, abs=0.1)
