"""Nothing leaked: jobs of every kind go through real processes that log at DEBUG, and every sink is searched.

Each job has a code and a number of its own, neither of which occurs anywhere else. A number may stand in a job's
body, in the request, and as base64 in the one field of a result that holds the provider's message id; nowhere else.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import sys
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, Final

import orjson
import pytest

from otpost import InvalidJob, NotConfirmed, OtpJob, OtpostError, Producer, UnknownSender
from otpost_worker.simulator import Simulator, SimulatorOptions
from service import DEAD, STREAM, Amqp
from sinks import PATIENCE_S, Sinks, Subject, command_line, scrape, subject
from worker_process import worker_environment

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping
    from pathlib import Path

    from broker import Vhost

# Which number makes the simulator do what: docs/simulator.md.
TO_SEND: Final = {
    "accepted": "+1201555{:04}",
    "tried again": "+9991310001{:04}",
    "throttled": "+9991304291{:04}",
    "pair limit": "+9991310561{:04}",
    "not on WhatsApp": "+9991310260{:04}",
    "bad request": "+9991310090{:04}",
    "no template": "+9991320010{:04}",
    "answer cut": "+990031{:05}",
    "half an answer": "+990041{:05}",
    "no id in the answer": "+990051{:05}",
    "HTML": "+990061{:05}",
    "huge answer": "+990091{:05}",
    "broken JSON": "+990131{:05}",
    "other wa_id": "+990241{:05}",
    "no UTF-8": "+990251{:05}",
    "text for error data": "+990261{:05}",
    "unknown code": "+990171{:05}",
}


@dataclass
class Stage:
    """Where jobs are sent, and what is heard of them."""

    vhost: Vhost
    environment: dict[str, str]
    sinks: Sinks
    subjects: list[Subject] = field(default_factory=list)

    def subject(self, what: str, to: str = "+1203555{:04}") -> Subject:
        one = subject(what, to)
        self.subjects.append(one)
        return one

    async def otpost(self, *arguments: str, stdin: bytes = b"") -> None:
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "otpost", *arguments),
            env=self.environment,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
        async with asyncio.timeout(PATIENCE_S):
            out, err = await process.communicate(stdin)
        name = " ".join(arguments[:2])
        self.sinks.add(f"standard output of otpost {name}", out)
        self.sinks.add(f"standard error of otpost {name}", err)


@contextlib.asynccontextmanager
async def worker(stage: Stage, log: Path) -> AsyncIterator[asyncio.subprocess.Process]:
    with log.open("wb") as written:
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-X", "dev", "-m", "otpost", "worker"),
            env=stage.environment,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=written,
            stderr=written,
        )
    try:
        yield process
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()


async def _send_all(stage: Stage) -> list[Subject]:
    """Send jobs of every kind, by the client and by hand, and note what the client says to bad ones."""
    async with Producer(stage.vhost.url) as producer, Amqp.connect(stage.vhost.url) as amqp:
        sent = [stage.subject(what, to) for what, to in TO_SEND.items()]
        for one in sent:
            await producer.send(OtpJob(id=one.id, to=one.to, code=one.code, ttl_s=60))
        for one in sent[:3]:
            await producer.send(OtpJob(id=one.id, to=one.to, code=one.code, ttl_s=60))
        stale = stage.subject("stale")
        await amqp.publish(stale.body(created_at=datetime.now(UTC) - timedelta(minutes=5)))
        ended = [*sent, stale, *await _publish_what_is_no_job(stage, amqp)]
        await _complain(stage, producer)
    return ended


async def _publish_what_is_no_job(stage: Stage, amqp: Amqp) -> list[Subject]:
    changes: dict[str, dict[str, object]] = {
        "unknown field": {"otp": "again"},
        "code too long": {"code": None},
        "number in the code": {"code": None},
        "number without country": {"to": None},
        "no template": {"template": "NO SUCH TEMPLATE!"},
        "no version": {"version": 7},
        "sealed": {"sealed_code": base64.b64encode(b"x" * 56).decode()},
    }
    bad = []
    for what, change in changes.items():
        one = stage.subject(what)
        spoilt = {
            "code too long": {"code": one.code * 2},
            "number in the code": {"code": one.code, "to": one.code},
            "number without country": {"to": f"00{one.digits}"},
            "unknown field": {one.code: one.to},
        }.get(what, {})
        await amqp.publish(one.body(**(change | spoilt)))
        bad.append(one)
    nobody = stage.subject("no sender")
    await amqp.publish(nobody.body(), key="nobody")
    cut = stage.subject("cut off")
    await amqp.publish(cut.body()[:-1])
    array = stage.subject("an array")
    await amqp.publish(b"[" + array.body() + b"]")
    return [*bad, nobody]


async def _complain(stage: Stage, producer: Producer) -> None:
    """Note what the client says of jobs that it does not send."""
    one = stage.subject("refused by the client")
    bad: dict[str, Any] = {"id": one.id, "to": f"0{one.digits}", "code": f"{one.code} {one.code}", "ttl_s": -1}
    with pytest.raises(InvalidJob) as invalid:
        OtpJob(**bad)
    job = OtpJob(id=one.id, to=one.to, code=one.code)
    with pytest.raises(UnknownSender) as unknown:
        await producer.send(job, sender="nobody-either")
    with pytest.raises(OtpostError) as late:
        await Producer(stage.vhost.url, timeout_s=0.000001).send(job)
    for told in (invalid.value, unknown.value, late.value, NotConfirmed([one.id], "no"), job):
        stage.sinks.add("the client's errors and values", f"{told} {told!r}")


async def _ends(stage: Stage, wanted: list[Subject]) -> None:
    """Read the results stream until each of these jobs has ended; note all of it but the message ids."""
    async with Amqp.connect(stage.vhost.url) as amqp:
        tap = await amqp.tap(STREAM)
        await tap.wait_for_ends({one.id for one in wanted}, PATIENCE_S)
        for seen in tap.seen:
            stage.sinks.add("results", orjson.dumps(seen.body | {"provider_message_id": None}))
            stage.sinks.add("headers of results", seen.message.info())


async def _halt_the_sender(stage: Stage) -> None:
    """Last of all, as it stops everybody else: a redirect, and a token that is refused."""
    halting = [stage.subject("redirect", "+990081{:05}"), stage.subject("token refused", "+9990001900{:04}")]
    async with Amqp.connect(stage.vhost.url) as amqp:
        for one in halting:
            await amqp.publish(one.body(ttl_s=20))
    await _ends(stage, halting)


def _headers_of_dead_letters(vhost: Vhost) -> list[Mapping[str, Any]]:
    return [letter.headers for letter in vhost.get(DEAD, 1000, requeue=True)]


@pytest.mark.parametrize("log_format", ["json", pytest.param("console", marks=pytest.mark.long)])
async def test_no_code_and_no_number_is_in_any_log_metric_result_error_or_output_even_at_debug(
    vhost: Vhost, tmp_path: Path, log_format: str
) -> None:
    log, sinks = tmp_path / "worker.log", Sinks()
    async with Simulator(SimulatorOptions(rate=0, pair=False)) as simulator:
        environment = worker_environment(
            vhost, tmp_path, simulator.url,
            http_port=0, log_level="debug", log_format=log_format, http_timeout_s=2, http_connect_timeout_s=1,
        )  # fmt: skip
        stage = Stage(vhost, environment, sinks)
        async with worker(stage, log) as process:
            await scrape(log, sinks)
            await vhost.wait_for_queue("otpost.dropped", consumers=1, timeout_s=PATIENCE_S)
            ended = await _send_all(stage)
            await asyncio.to_thread(vhost.close_connections, " results")
            by_command = stage.subject("by command")
            arguments = ("--to", by_command.to, "--id", by_command.id, "--wait", "20")
            spoilt = stage.subject("spoilt on the command line")
            await asyncio.gather(
                stage.otpost("send", "--code-stdin", *arguments, stdin=by_command.code.encode()),
                stage.otpost("send", "--from", "-", stdin=spoilt.body(to=f"0{spoilt.digits}x", otp=spoilt.code)),
                _ends(stage, [*ended, by_command]),
            )
            await _halt_the_sender(stage)
            for command in ("list", "list --json", f"show {ended[4].id}", f"replay --yes {ended[4].id}"):
                await stage.otpost("dead", *command.split())
            await stage.otpost("results")
            await scrape(log, sinks)
            sinks.add("the worker's command line", await asyncio.to_thread(command_line, process.pid))
            process.terminate()
            async with asyncio.timeout(PATIENCE_S):
                assert await process.wait() == 0
        for headers in await asyncio.to_thread(_headers_of_dead_letters, vhost):
            sinks.add("headers of dead letters", headers)
        for entry in simulator.journal.entries():
            sinks.add("what travels as our own word for a message", entry.callback)
    sinks.add("the worker's log", log.read_bytes())
    sinks.add("the broker's log", "\n".join(path.read_text() for path in vhost.node.folder.rglob("*.log")))
    assert sinks.leaks(stage.subjects) == []
    # The search would find something: each sink has what it should have.
    assert {name: text.strip() != "" for name, text in sinks.texts.items()} == dict.fromkeys(sinks.texts, True) | {
        name: False for name, text in sinks.texts.items() if name.startswith("standard error") and not text.strip()
    }
    assert len(sinks.texts) >= 17
    assert sinks.texts["the worker's log"].count("attempt.finished") >= len(TO_SEND)
    assert sinks.texts["headers of dead letters"].count("otpost-reason") >= 12


def test_the_search_finds_a_code_a_number_and_a_number_within_a_message_id() -> None:
    one = Subject("job-1", "+12015553931", "s3cretCode12")
    sinks = Sinks()
    sinks.add("a log", "the code is s3cretCode12")
    sinks.add("a result", '{"to":"12015553931"}')
    sinks.add("another log", "wamid.HBgLMTIwMTU1NTM5MzEVAgARGBI4Qzc5QUJDREVGMTIzNDU2AA==")
    assert sinks.leaks([one]) == [
        "job-1: code in a log",
        "job-1: number in a result",
        "job-1: number as base64 in another log",
    ]
