"""What the broker gave up on and the ordinary way of ending stumbles over: it ends once all the same."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Final, cast

import orjson
import pytest

from fateful_ledger import FatefulLedger
from otpost_worker.attempts import Wish
from otpost_worker.dropped import Cause, Drop, DroppedReader
from otpost_worker.envelope import Envelope, Reply
from otpost_worker.keyring import Keyring
from otpost_worker.last_resort import LastResort
from otpost_worker.ports import Claimed, ClaimRequest, LedgerUnavailable
from otpost_worker.wrapping import Wrappers
from ports_in_memory import CODE, KEY, LOST, NOW, UNAVAILABLE, World, envelope, job_body
from sealed_letters import original
from service import declare_topology, running_service
from service import job_body as job_body_now

if TYPE_CHECKING:
    from pathlib import Path

    from broker import Vhost
    from ledger_implementations import OpenLedger
    from otpost_worker.deliver import Deliverer, Ending
    from otpost_worker.ledger.watched import WholeLedger
    from otpost_worker.outcome import Outcome
    from otpost_worker.ports import ClaimReply, Ledger
    from service import Service

RETURNED: Final = Drop("default", Cause.RETURNED)


class Stumbling:
    """A way of a job with a bug."""

    async def deliver(self, envelope: Envelope, *, ending: Ending | None = None) -> None:
        del envelope, ending
        raise TypeError("Recursion limit reached")


def reader_of(world: World, ledger: OpenLedger) -> DroppedReader:
    fateful = FatefulLedger(ledger, world.fate, world.unavailable)
    last_resort = LastResort(world.broker, fateful, Keyring((KEY,)), world.metrics, world.clock)
    return DroppedReader(world.broker, lambda _: cast("Deliverer", Stumbling()), last_resort=last_resort)


async def end(world: World, dropped: Envelope, drop: Drop = RETURNED) -> None:
    async with world.ledger() as ledger:
        await reader_of(world, ledger).end(dropped, drop)


BODIES: Final = {
    "a job": job_body(),
    "a job that came sealed": job_body(code=None, sealed_code=KEY.public.seal(CODE.encode())),
    "no job": job_body(to=None),
    "no JSON": b"\xff{",
    "nothing": b"",
    "as deep as it gets": b"[" * 8000 + b"]" * 8000,
    "far too large": b'{"id":"job-1","x":"' + b"x" * 100_000 + b'"}',
}


@pytest.mark.parametrize("body", BODIES.values(), ids=BODIES)
async def test_a_job_that_even_its_end_stumbles_over_fails_and_is_kept_sealed_as_a_whole(
    tmp_path: Path, body: bytes
) -> None:
    world = World(tmp_path / "ledger.db")
    dropped = Envelope(
        body, "default", run=2, attempt=3, counted=2, drops=2, deadline=NOW + 9, reply=Reply("mine", "c"),
        traceparent="00-1-2-03",
    )  # fmt: skip
    await end(world, dropped)
    [event] = world.broker.events
    [(buried, letter)] = world.broker.letters
    told = orjson.loads(event.body)
    assert (told["status"], told["sender"], told["run"], told["attempt"]) == ("failed", "default", 2, 3)
    assert (told["error"]["kind"], letter.reason) == ("delivery_limit", "delivery_limit")
    assert told["error"]["detail"].endswith("; the worker fails on it (TypeError; its log says where)")
    # Nothing is passed on that it could stumble over once more.
    assert replace(buried, body=b"") == Envelope(b"", "default", run=2, attempt=3)
    assert CODE.encode() not in buried.body
    assert len(body) > 65536 or original(buried.body, KEY) == body


@pytest.mark.parametrize(("cause", "kind"), [(Cause.NO_SENDER, "no_sender"), (Cause.EXPIRED, "invalid_job")])
async def test_the_last_end_says_why_the_broker_gave_the_job_up(tmp_path: Path, cause: Cause, kind: str) -> None:
    world = World(tmp_path / "ledger.db")
    await end(world, envelope(), Drop("default", cause))
    assert (world.ends, world.letters) == (["job-1/1/1/failed"], [kind])


async def test_a_job_that_has_ended_already_has_no_second_end(tmp_path: Path) -> None:
    world = World(tmp_path / "ledger.db")
    world.put(envelope())
    await world.run()
    await end(world, envelope(drops=2))
    assert (world.heard, world.letters) == (["job-1/1/1/accepted"], [])
    # Nor has one that has ended like this, and comes again.
    await end(world, envelope(job_body(id="job-2"), drops=2))
    await end(world, envelope(job_body(id="job-2"), drops=2))
    assert world.ends == ["job-1/1/1/accepted", "job-2/1/1/failed"]
    assert len(world.broker.letters) == 1


def counted(world: World, name: str, **labels: str) -> float | None:
    return world.metrics.registry.get_sample_value(f"otpost_{name}_total", {"sender": "default", **labels})


@pytest.mark.parametrize("body", [job_body(), job_body(to=None), b"no JSON"], ids=["a job", "no job", "no id"])
async def test_an_end_of_the_last_resort_is_counted_as_a_job_and_a_result(tmp_path: Path, body: bytes) -> None:
    world = World(tmp_path / "ledger.db")
    await end(world, envelope(body, drops=2))
    assert counted(world, "jobs_received") == counted(world, "results", status="failed") == 1


async def test_an_end_that_is_told_again_by_the_last_resort_is_counted_as_told_again(tmp_path: Path) -> None:
    world = World(tmp_path / "ledger.db")
    world.put(envelope())
    await world.run()
    await end(world, envelope(drops=2))
    assert counted(world, "jobs_received") == counted(world, "results", status="accepted") == 1
    assert counted(world, "results_repeated", status="accepted") == 1
    await end(world, envelope(job_body(id="job-2"), drops=2))
    await end(world, envelope(job_body(id="job-2"), drops=2))
    assert counted(world, "jobs_received") == 2
    assert counted(world, "results", status="failed") == counted(world, "results_repeated", status="failed") == 1


@pytest.mark.parametrize("outcome", [UNAVAILABLE, None], ids=["refused", "its worker died"])
async def test_a_job_that_was_requested_before_is_counted_once_by_the_last_resort(
    tmp_path: Path, outcome: Outcome | None
) -> None:
    world = World(tmp_path / "ledger.db", answers=[outcome or LOST])
    async with world.ledger() as ledger:
        if outcome is not None:
            await world.deliverer(ledger).deliver(envelope())
        else:
            request = ClaimRequest("job-1", Wish(1, 1), envelope(), NOW + 300, 10.0, token="t")
            assert isinstance(await ledger.claim(request), Claimed)
            # As the worker did before it died: its first request was the job's beginning.
            world.metrics.job_begun("default")
    world.clock.now += 30
    await end(world, envelope(drops=2))
    assert counted(world, "unknown_outcomes") == (0 if outcome else 1)
    assert counted(world, "jobs_received") == counted(world, "results", status="failed") == 1


async def test_what_may_have_arrived_ends_as_unknown_and_not_before_its_lease_is_over(tmp_path: Path) -> None:
    world = World(tmp_path / "ledger.db", answers=[LOST])
    async with world.ledger() as ledger:
        request = ClaimRequest("job-1", Wish(1, 1), envelope(), NOW + 300, 10.0, token="t")
        assert isinstance(await ledger.claim(request), Claimed)
    with pytest.raises(TypeError):
        await end(world, envelope(drops=2))
    assert (world.heard, world.letters) == ([], [])
    world.clock.now += 10
    await end(world, envelope(drops=2))
    assert (world.ends, world.letters) == (["job-1/1/1/failed"], ["unknown"])


async def test_a_retry_that_cannot_be_published_is_not_expected_any_more(tmp_path: Path) -> None:
    world = World(tmp_path / "ledger.db", answers=[UNAVAILABLE])
    async with world.ledger() as ledger:
        await world.deliverer(ledger).deliver(envelope())
    [(following, delay_s)] = world.broker.delays
    with pytest.raises(TypeError):
        await end(world, envelope(drops=2))
    world.clock.now += delay_s
    await end(world, envelope(drops=2))
    assert (world.ends, world.letters) == (["job-1/1/1/failed"], ["delivery_limit"])
    # The copy that was on the ladder all the same is told that.
    async with world.ledger() as ledger:
        await world.deliverer(ledger).deliver(following)
    assert world.ends == ["job-1/1/1/failed"]
    assert len(world.provider.requests) == 1


async def test_without_a_ledger_a_job_is_not_ended_behind_its_back(tmp_path: Path) -> None:
    world = World(tmp_path / "ledger.db")
    world.unavailable["claim"] = 1
    with pytest.raises(LedgerUnavailable):
        await end(world, envelope(drops=2))
    assert (world.heard, world.letters) == ([], [])


class StumblingLedger:
    """Passes everything on, but has a bug with one job."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger

    def __getattr__(self, name: str) -> object:
        return getattr(self._ledger, name)

    async def claim(self, request: ClaimRequest) -> ClaimReply:
        if request.job_id == "job-1":
            raise KeyError("a bug")
        return await self._ledger.claim(request)


async def test_a_job_that_worker_and_ledger_stumble_over_goes_round_for_a_while_and_not_for_ever(
    vhost: Vhost, tmp_path: Path
) -> None:
    async def neighbour(service: Service, job_id: str) -> None:
        await service.publish(job_body_now(id=job_id))
        await service.wait_for_result(job_id, "accepted")

    await declare_topology(vhost, "other")
    stumbling = Wrappers(ledger=lambda ledger: cast("WholeLedger", StumblingLedger(ledger)))
    body = job_body_now()
    async with running_service(vhost, tmp_path, wrappers=stumbling) as service:
        await service.publish(body)  # this copy crashes, and rests until the worker stops
        await neighbour(service, "before")
        await service.publish(body, key="other", headers={"otpost-drops": 2})
        await service.amqp.reject("otpost.jobs.other", 21)
        failed = await service.wait_for_result("job-1", "failed")
        letter = await service.wait_for_dead_letter("job-1")
        await neighbour(service, "after")
    assert (failed.body["error"]["kind"], letter.headers["otpost-reason"]) == ("delivery_limit", "delivery_limit")
    assert CODE not in letter.everything
    assert original(letter.message.body, service.key) == body
    assert vhost.ready_count("otpost.dropped") == 0
