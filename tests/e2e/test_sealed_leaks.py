"""Sealed codes are readable nowhere: not in a queue, nor in the broker's files, the ledger's, results, logs at DEBUG.

Each job has a code of its own that occurs nowhere else. They meet every fate that a job can have: sent, tried again and
waiting on the ladder, its answer lost, refused and buried, replayed, sealed for somebody else, and sealed nonsense; and
the worker is killed in the midst of it.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import secrets
import signal
import string
from pathlib import Path
from typing import TYPE_CHECKING, Final

import orjson

from command import otpost
from otpost import OtpJob, PrivateKey, Producer
from otpost_worker.simulator import Simulator, SimulatorOptions
from service import DEAD, STREAM, Amqp, declare_topology
from worker_process import worker_environment, worker_process

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from broker import Vhost

OURS, STRANGER = (PrivateKey(secrets.token_bytes(32)) for _ in range(2))
# Which number makes the simulator do what: docs/simulator.md.
FATES: Final = {
    "accepted": "+12015550001",
    "tried-again": "+9991310160002",
    "refused": "+9991310260003",
    "refused-once": "+9991310261004",
    "answer-lost": "+99003100005",
}
END_OF: Final = {
    "accepted": "accepted", "refused": "failed", "refused-once": "failed", "stranger": "failed", "nonsense": "failed",
}  # fmt: skip


def code() -> str:
    return "".join(secrets.choice(string.ascii_letters + string.digits) for _ in range(12))


class Places:
    """Everything that somebody may read, by where it is."""

    def __init__(self) -> None:
        self.found: dict[str, bytes] = {}

    def add(self, name: str, content: bytes) -> None:
        self.found[name] = self.found.get(name, b"") + content

    def with_any_of(self, codes: Mapping[str, str]) -> list[str]:
        return [
            f"{what}: in {name}"
            for name, content in self.found.items()
            for what, secret in codes.items()
            if secret.encode() in content
        ]

    async def add_queues(self, vhost: Vhost) -> None:
        """Everything that is ready in any queue, and the whole stream."""
        for queue in vhost.queues():
            if queue == STREAM:
                continue
            for message in await asyncio.to_thread(vhost.get, queue, 1000, requeue=True):
                self.add(f"the queue {queue}", message.body + repr(message.properties).encode())
        async with Amqp.connect(vhost.url) as amqp:
            tap = await amqp.tap(STREAM)
            for seen in await tap.wait_for_count(1):
                self.add("the stream of results", seen.everything.encode())

    def add_files(self, name: str, folder: Path) -> None:
        for inside, _, files in os.walk(folder):
            for file in files:
                # What others have in the same broker may go meanwhile.
                with contextlib.suppress(FileNotFoundError):
                    self.add(f"{name}, {file}", (Path(inside) / file).read_bytes())


def sealed_jobs(codes: Mapping[str, str]) -> Iterator[OtpJob]:
    """Jobs that are sealed for somebody else, or hold no code; their fields are as the client would write them."""
    yield OtpJob(id="stranger", to="+12015550006", code=codes["stranger"], ttl_s=300).sealed(STRANGER.public)
    nonsense = OURS.public.seal(f"{codes['nonsense'][:-1]} ".encode())
    yield OtpJob(id="nonsense", to="+12015550007", sealed_code=nonsense, ttl_s=300)


async def test_no_code_that_a_producer_sealed_can_be_read_anywhere(vhost: Vhost, tmp_path: Path) -> None:
    codes = {name: code() for name in (*FATES, "stranger", "nonsense", "by-command")}
    in_the_clear, places, logs = {"buried": code()}, Places(), []
    ledger = tmp_path / "ledger"
    ledger.mkdir()
    async with Simulator(SimulatorOptions(rate=0, pair=False)) as simulator:
        await declare_topology(vhost, "default")
        async with Producer(vhost.url, public_key=OURS.public) as producer:
            await producer.send_many(OtpJob(id=name, to=to, code=codes[name], ttl_s=300) for name, to in FATES.items())
            await producer.send_many(sealed_jobs(codes))
        sent = await otpost(
            *("send", "--to", "+12015550008", "--id", "by-command", "--code-stdin"),
            stdin=codes["by-command"].encode(),
            environment={"OTPOST_BROKER_URL": vhost.url, "OTPOST_PUBLIC_KEY": str(OURS.public)},
        )
        assert sent.status == 0
        async with Producer(vhost.url) as producer:
            await producer.send(OtpJob(id="buried", to="+9991310260009", code=in_the_clear["buried"]))
        for message in await asyncio.to_thread(vhost.get, "otpost.jobs.default", 100, requeue=True):
            if b'"buried"' not in message.body:
                places.add("the queue of jobs, before anybody took one", message.body)

        environment = worker_environment(
            vhost, ledger, simulator.url, log_level="debug", private_keys=OURS.reveal(), http_timeout_s=2
        )
        async with worker_process(environment) as worker, Amqp.connect(vhost.url) as amqp:
            tap = await amqp.tap(STREAM)
            for name, end in END_OF.items():
                await tap.wait_for(job_id=name, status=end)
            await tap.wait_for(job_id="buried", status="failed")
            await tap.wait_for(job_id="tried-again", status="retrying", nth=2)
            await vhost.wait_for_ready(DEAD, 5)
            await places.add_queues(vhost)
            replayed = await otpost("dead", "replay", "refused-once", environment={"OTPOST_BROKER_URL": vhost.url})
            assert replayed.status == 0, replayed.err
            await tap.wait_for(job_id="refused-once", status="accepted")
            worker.signal(signal.SIGKILL)
            await worker.ended()
            logs += worker.log
        places.add_files("the ledger's folder", ledger)
        await places.add_queues(vhost)
        reached = {str(entry.to): entry.code for entry in simulator.journal.entries()}
    places.add("the worker's log", orjson.dumps(logs))
    places.add_files("the broker's folder", vhost.node.folder)

    assert places.with_any_of(codes) == []
    # They were sent, all the same; and what was not sealed is found where it was, but not among the dead letters.
    assert [reached[to] for to in FATES.values()] == [codes[name] for name in FATES]
    clear = places.with_any_of(in_the_clear)
    assert any(place.startswith("buried: in the broker's folder") for place in clear), clear
    assert f"buried: in the queue {DEAD}" not in clear
    for name in ("the queue of jobs, before anybody took one", f"the queue {DEAD}", "the worker's log"):
        assert places.found[name], name
    assert b"tried-again" in b"".join(places.found[name] for name in places.found if "otpost.delay" in name)
    unsendable = {entry["job_id"]: entry["kind"] for entry in logs if entry.get("event") == "job.unsendable"}
    assert unsendable == {"stranger": "no_key", "nonsense": "invalid_job"}
    assert places.found["the worker's log"].count(b"attempt.finished") >= len(FATES)
