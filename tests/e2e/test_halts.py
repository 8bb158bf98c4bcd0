"""Senders and templates that are halted, with real worker processes: alone, soon, and no longer than need be."""

from __future__ import annotations

import socket
import time
from typing import TYPE_CHECKING, Any, Final

import aiohttp
import pytest

from otpost import OtpJob
from otpost_worker.simulator import Simulator, SimulatorOptions
from service import DEAD, STREAM, Amqp
from worker_process import CODE, PATIENCE_S, load_on, worker_environment, worker_process

if TYPE_CHECKING:
    from pathlib import Path

    from broker import Vhost
    from worker_process import WorkerProcess

GOOD_TOKEN: Final = "EAAG-the-new-one"


def senders_file(folder: Path, api_base: str) -> tuple[Path, Path]:
    token = folder / "token"
    token.write_text("EAAG-expired", encoding="utf-8")
    file = folder / "senders.toml"
    file.write_text(
        f"""
        [senders.bad]
        phone_number_id = "111111111111111"
        access_token_file = "{token}"
        api_base = "{api_base}"
        [senders.good]
        phone_number_id = "222222222222222"
        access_token = "{GOOD_TOKEN}"
        api_base = "{api_base}"
        """,
        encoding="utf-8",
    )
    return file, token


async def readiness(worker: WorkerProcess) -> dict[str, Any]:
    await worker.logged("health.listening")
    [line] = [line for line in worker.log if line["event"] == "health.listening"]
    async with (
        aiohttp.ClientSession() as session,
        session.get(f"http://127.0.0.1:{line['port']}/readyz", timeout=aiohttp.ClientTimeout(PATIENCE_S)) as answer,
    ):
        body: dict[str, Any] = await answer.json()
        return body


@pytest.mark.timeout(180)
async def test_a_bad_token_halts_its_sender_alone_until_the_file_has_a_good_one(vhost: Vhost, tmp_path: Path) -> None:
    async with (
        Simulator(SimulatorOptions(rate=0, pair=False, access_token=GOOD_TOKEN)) as simulator,
        Amqp.connect(vhost.url) as amqp,
    ):
        file, token = senders_file(tmp_path, simulator.url)
        environment = worker_environment(vhost, tmp_path, simulator.url, senders_file=file, http_port=0)
        for name in ("OTPOST_PHONE_NUMBER_ID", "OTPOST_ACCESS_TOKEN"):
            del environment[name]
        async with worker_process(environment) as one, worker_process(environment) as other, load_on(vhost) as load:
            results = await amqp.tap(STREAM)
            bad = [load.job(ttl_s=300) for _ in range(200)]
            good = [load.job(ttl_s=60) for _ in range(200)]
            late = OtpJob(id="late", to="+12025550177", code=CODE, ttl_s=8)
            await load.producer.send_many([*bad, late], sender="bad")
            began = time.monotonic()
            await load.producer.send_many(good, sender="good")
            await load.ended([job.id for job in good])
            # 200 at 80 a second: nothing that happens beside it makes it slower.
            assert time.monotonic() - began < 10
            await one.logged("sender.halted")
            await other.logged("sender.halted")
            halted = await results.wait_for(name="halted", sender="bad")
            assert halted.routing_key == "bad.event.halted"
            assert halted.body["error"]["code"] == 190
            body = await readiness(one)
            assert body["ready"] is True
            assert body["notices"]["senders"]["bad"].startswith("halted since 2")
            expired = await results.wait_for(job_id="late", status="expired")
            assert expired.came_at - (late.created_at.timestamp() + 8 if late.created_at else 0) < 5
            refused = [entry.at for entry in simulator.journal.entries() if not entry.token_ok]
            # Whoever had a claim already; then nothing but the probes, the first of them 5 s later.
            assert len([at for at in refused if 1 < at - refused[0] < 4.9]) == 0
            assert len([at for at in refused if at - refused[0] >= 4.9]) <= 3
            token.write_text(GOOD_TOKEN, encoding="utf-8")
            await results.wait_for(name="resumed", sender="bad")
            await load.all_ended()
            assert {job.id: load.statuses()[job.id] for job in bad} == {job.id: ["accepted"] for job in bad}
            assert [line["level"] for line in one.log if line["event"] == "sender.halted"] == ["error"]
            assert await amqp.counts(DEAD) == (0, 0)


@pytest.mark.long
async def test_a_template_that_is_refused_holds_back_its_own_jobs_alone(vhost: Vhost, tmp_path: Path) -> None:
    async with Simulator(SimulatorOptions(rate=0, pair=False)) as simulator, aiohttp.ClientSession() as session:
        environment = worker_environment(vhost, tmp_path, simulator.url)
        async with worker_process(environment) as worker, load_on(vhost) as load:
            await put_templates(session, simulator, paused=[{"name": "paused_one"}])
            first = OtpJob(id="first", to="+12025550178", code=CODE, template="paused_one", ttl_s=120)
            load.sent.append(first.id)
            await load.producer.send(first)
            await load.ended(["first"])
            held = [
                OtpJob(id=f"held-{number}", to=f"+1202555{number:04}", code=CODE, template="paused_one", ttl_s=120)
                for number in range(20)
            ]
            load.sent += [job.id for job in held]
            await load.producer.send_many(held)
            others = [load.job() for _ in range(40)]
            await load.producer.send_many(others)
            await load.ended([job.id for job in others])
            assert load.statuses()["first"] == ["failed"]
            await put_templates(session, simulator)
            await load.all_ended()
            assert [load.statuses()[job.id] for job in held] == [["accepted"]] * 20
            [line] = [line for line in worker.log if line["event"] == "sender.halted"]
            assert (line["template"], line["language"], line["code"]) == ("paused_one", "en_US", 132015)


async def put_templates(session: aiohttp.ClientSession, simulator: Simulator, **lists: object) -> None:
    async with session.put(f"{simulator.url}/_simulator/templates", json=lists) as answer:
        assert answer.status == 200, await answer.text()


@pytest.mark.timeout(180)
async def test_a_provider_that_nobody_reaches_rests_its_sender_until_it_is_back(vhost: Vhost, tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    environment = worker_environment(vhost, tmp_path, f"http://127.0.0.1:{port}")
    async with worker_process(environment) as worker, load_on(vhost) as load, Amqp.connect(vhost.url) as amqp:
        jobs = [load.job(ttl_s=300) for _ in range(30)]
        await load.producer.send_many(jobs)
        await worker.logged("sender.halted")
        [halt] = [line for line in worker.log if line["event"] == "sender.halted"]
        assert halt["title"] == "Provider not reachable"
        attempts = [line for line in worker.log if line["event"] == "attempt.finished"]
        # All at once: those that were under way when the twentieth came back.
        assert 20 <= len(attempts) <= 45
        async with Simulator(SimulatorOptions(port=port, rate=0, pair=False)):
            await load.all_ended(timeout_s=90)
            assert [load.statuses()[job.id] for job in jobs] == [["accepted"]] * 30
            await worker.logged("sender.resumed")
            await worker.stop()
        assert await amqp.counts(DEAD) == (0, 0)
