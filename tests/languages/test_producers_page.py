"""docs/producers.md: its programs publish, are told what the broker refuses, and read results, as they stand there."""

from __future__ import annotations

import asyncio
import json
import os
import re
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final
from urllib.parse import quote

import pytest
from pydantic import SecretStr

from message_schemas import problems
from otpost import PrivateKey
from producers_page import (
    GO,
    JAVA,
    NODE,
    PHP,
    ROOT,
    SEALERS,
    SHELL,
    TEXT,
    Language,
    Programs,
    Sealer,
    programs_of_the_page,
)
from published_results import publish_event, publish_results
from service import PATIENCE_S, Amqp, declare_topology, job_body, running_service

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence
    from pathlib import Path

    from broker import Vhost

# One language is enough to tell in every run whether the page is right; the others run in the long suite.
LONG: Final = (PHP, SHELL, JAVA, GO)
LANGUAGES: Final = (NODE, *LONG)
CODE: Final = "493817"
KEY: Final = PrivateKey(b"k" * 32)
pytestmark = pytest.mark.timeout(900)


def marked(languages: Sequence[Language]) -> list[object]:
    return [pytest.param(one, id=one.name, marks=pytest.mark.long if one in LONG else ()) for one in languages]


@pytest.fixture(scope="module", params=marked(LANGUAGES))
def programs(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Programs:
    return Programs(tmp_path_factory.mktemp("programs"), request.param)


# Over HTTP no stream can be read, and the shell shows copies too.
AMQP_ONLY: Final = pytest.mark.parametrize(
    "programs", marked([one for one in LANGUAGES if one is not SHELL]), indirect=True
)


@dataclass(frozen=True)
class Ended:
    """What a program left behind."""

    status: int | None
    out: str
    err: str


def environment(programs: Programs, vhost: Vhost, *, url: str | None = None, api: str | None = None) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith("OTPOST_")}
    return kept | {
        "OTPOST_BROKER_URL": url or vhost.url,
        "RABBITMQ_API": api or f"{vhost.node.management_url}/api",
        "RABBITMQ_VHOST": quote(vhost.name, safe=""),
        "HOME": str(programs.folder) if programs.language is SHELL else os.environ["HOME"],
    }


async def run(programs: Programs, command: Sequence[str], where: dict[str, str]) -> Ended:
    """Run a program to its end; it never says the code."""
    process = await asyncio.create_subprocess_exec(
        *command, cwd=programs.folder, env=where, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE
    )
    try:
        async with asyncio.timeout(PATIENCE_S):
            out, err = (text.decode() for text in await process.communicate())
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    assert CODE not in out + err
    return Ended(process.returncode, out, err)


@asynccontextmanager
async def reading(
    programs: Programs, where: dict[str, str], offset: str | None = None
) -> AsyncIterator[asyncio.StreamReader]:
    """Run the reader of results; its lines come as it prints them."""
    process = await asyncio.create_subprocess_exec(
        *programs.results(offset), cwd=programs.folder, env=where, stdout=asyncio.subprocess.PIPE
    )
    assert process.stdout is not None
    try:
        yield process.stdout
    finally:
        process.kill()
        await process.communicate()


async def lines(output: asyncio.StreamReader, count: int) -> list[str]:
    async with asyncio.timeout(PATIENCE_S):
        return [(await output.readline()).decode().strip() for _ in range(count)]


async def bound(vhost: Vhost) -> None:
    """Wait until the reader has bound its own queue."""
    await vhost.wait_for_binding("otpost.results", "default.*", "my-service.results", timeout_s=PATIENCE_S)


async def test_a_job_is_sent_and_its_result_is_read(programs: Programs, vhost: Vhost, tmp_path: Path) -> None:
    where = environment(programs, vhost)
    async with running_service(vhost, tmp_path) as service, reading(programs, where) as output:
        await bound(vhost)
        published = await run(programs, programs.publish("job-1"), where)
        assert (published.status, published.out) == (0, f"job-1 {programs.language.published}\n")
        await service.wait_for_result("job-1", "accepted")
        assert await lines(output, 1) == ["job-1 accepted"]
        [entry] = service.simulator.journal.entries()
        assert (entry.to, entry.code) == ("+12015553931", CODE)


async def test_a_job_published_twice_under_one_id_is_sent_once(
    programs: Programs, vhost: Vhost, tmp_path: Path
) -> None:
    where = environment(programs, vhost)
    async with running_service(vhost, tmp_path) as service:
        for _ in range(2):
            assert (await run(programs, programs.publish("job-1"), where)).status == 0
        # The copy gets the recorded end of the first again.
        await service.wait_for_result("job-1", "accepted", nth=2)
        assert service.requests() == 1


async def test_the_message_is_as_the_contract_asks(programs: Programs, vhost: Vhost) -> None:
    await declare_topology(vhost, "default")
    assert (await run(programs, programs.publish("job-1"), environment(programs, vhost))).status == 0
    [message] = await asyncio.to_thread(vhost.get, "otpost.jobs.default")
    assert problems("job", json.loads(message.body)) == []
    named = {name: message.properties[name] for name in ("content_type", "type", "message_id", "delivery_mode")}
    assert named == {
        "content_type": "application/json",
        "type": "otpost.job.v1",
        "message_id": "job-1",
        "delivery_mode": 2,
    }
    assert ("timestamp" in message.properties) == (programs.language is not SHELL)


async def refusal(programs: Programs, vhost: Vhost, *, url: str | None = None, api: str | None = None) -> str:
    """Publish in vain; what the program says of it."""
    ended = await run(programs, programs.publish("job-1"), environment(programs, vhost, url=url, api=api))
    assert (ended.status, ended.out) == (1, "")
    assert "job-1 not " in ended.err
    return ended.err


async def test_without_an_exchange_the_publisher_is_told_so(programs: Programs, vhost: Vhost) -> None:
    told = await refusal(programs, vhost)
    assert re.search("not.?found", told, re.IGNORECASE), told


async def test_a_job_that_no_queue_takes_is_told_to_the_publisher(programs: Programs, vhost: Vhost) -> None:
    vhost.api.request("PUT", f"/exchanges/{quote(vhost.name)}/otpost.jobs", {"type": "direct", "durable": True})
    assert "no queue took it" in await refusal(programs, vhost)


async def test_a_job_that_a_full_queue_refuses_is_told_to_the_publisher(programs: Programs, vhost: Vhost) -> None:
    await declare_topology(vhost, "default")
    vhost.set_policy("full", "^otpost.jobs.default$", {"max-length": 0})
    async with Amqp.connect(vhost.url) as amqp:
        await amqp.fill("otpost.jobs.default")
    told = await refusal(programs, vhost)
    assert re.search("refuses it|nacke|nacks|Check queue limits", told), told


async def test_a_broker_out_of_reach_is_told_to_the_publisher(
    programs: Programs, vhost: Vhost, unused_tcp_port: int
) -> None:
    nowhere = f"127.0.0.1:{unused_tcp_port}"
    await refusal(programs, vhost, url=f"amqp://guest:guest@{nowhere}/", api=f"http://{nowhere}/api")


async def _publish_what_comes(amqp: Amqp) -> None:
    await publish_results(amqp, 1)
    await publish_event(amqp)
    await publish_results(amqp, 1, 2)


@AMQP_ONLY
async def test_copies_and_events_are_read_over_in_a_queue_of_ones_own(programs: Programs, vhost: Vhost) -> None:
    await declare_topology(vhost, "default")
    async with Amqp.connect(vhost.url) as amqp, reading(programs, environment(programs, vhost)) as output:
        await bound(vhost)
        await _publish_what_comes(amqp)
        assert await lines(output, 2) == ["job-1 accepted", "job-2 accepted"]
        # Two results and a copy.
        await vhost.wait_for_acknowledged("my-service.results", 3, timeout_s=PATIENCE_S)


@AMQP_ONLY
@pytest.mark.parametrize("offset", ["first", "1h"])
async def test_the_stream_is_read_from_an_offset_on(programs: Programs, vhost: Vhost, offset: str) -> None:
    await declare_topology(vhost, "default")
    async with Amqp.connect(vhost.url) as amqp:
        await _publish_what_comes(amqp)
    async with reading(programs, environment(programs, vhost), offset) as output:
        assert await lines(output, 2) == ["job-1 accepted", "job-2 accepted"]


@pytest.mark.parametrize("sealer", SEALERS, ids=lambda one: one.name)
async def test_a_code_that_was_sealed_there_reaches_the_provider(sealer: Sealer, vhost: Vhost, tmp_path: Path) -> None:
    process = await asyncio.create_subprocess_exec(
        *sealer.ready_in(tmp_path),
        env=os.environ | {"OTPOST_PUBLIC_KEY": str(KEY.public)},
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
    )
    async with asyncio.timeout(PATIENCE_S):
        out, _ = await process.communicate(f"{CODE}\n".encode())
    async with running_service(vhost, tmp_path, private_keys=SecretStr(KEY.reveal())) as service:
        await service.publish(job_body(id="job-1", code=None, sealed_code=out.decode().strip()))
        await service.wait_for_result("job-1", "accepted")
        [entry] = service.simulator.journal.entries()
        assert entry.code == CODE


def test_every_program_of_the_page_is_run_here() -> None:
    run_here = {file for one in LANGUAGES for file in (one.publisher, one.reader)} | {one.program for one in SEALERS}
    assert programs_of_the_page().keys() == run_here


def test_the_page_says_which_ones_run_when() -> None:
    assert "Node in every run, PHP, the shell, Java and Go in the long one" in re.sub(r"\s+", " ", TEXT)
    assert [one.name for one in LONG] == ["PHP", "the shell", "Java", "Go"]


def test_every_page_that_it_links_to_exists() -> None:
    links = re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", TEXT)
    assert links
    assert [link for link in links if not (ROOT / "docs" / link).exists()] == []
