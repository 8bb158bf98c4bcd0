"""What can go wrong on the way to the Cloud API, over real HTTP and raw sockets: refused, or unknown, never raised."""

from __future__ import annotations

import asyncio
import gzip
import time
from typing import TYPE_CHECKING, Final

import pytest
import pytest_asyncio

from otpost_worker.decision import History, Policy, RetryIn, decide
from otpost_worker.outcome import Accepted, Outcome, Refused, Unknown
from otpost_worker.ports import Message
from otpost_worker.providers.cloud_api import CloudApi, CloudApiAccount
from otpost_worker.providers.http import open_session
from otpost_worker.simulator import Simulator, SimulatorOptions
from raw_answers import raw_server, refusing_port, silent_port

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    import aiohttp

pytestmark = pytest.mark.asyncio(loop_scope="module")

TOKEN: Final = "EAAtokenQWERT12345"
NOW: Final = 1_000_000.0
# More than anything on loopback takes: whoever meets it has hung.
PATIENCE_S: Final = 60.0


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def simulator() -> AsyncIterator[Simulator]:
    async with Simulator(SimulatorOptions(rate=0, pair=False, access_token=TOKEN)) as running:
        yield running


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def session() -> AsyncIterator[aiohttp.ClientSession]:
    async with open_session(connections=10, connect_timeout_s=20, timeout_s=PATIENCE_S) as pool:
        yield pool


async def send(url: str, session: aiohttp.ClientSession, to: str = "+12015553931") -> Outcome:
    provider = CloudApi(CloudApiAccount("106540352242922", TOKEN, url), session, clock=lambda: NOW)
    return await provider.send(Message(to, "493817", "verification_code", "en_US", "job-1"))


def retry(outcome: Outcome) -> RetryIn:
    decision = decide(outcome, deadline=NOW + 5000, now=NOW, history=History(), policy=Policy(), random=1.0)
    assert isinstance(decision, RetryIn)
    return decision


# The request never left: a refusal


async def test_a_refused_connection_is_a_refusal_that_may_pass(session: aiohttp.ClientSession) -> None:
    with refusing_port() as url:
        outcome = await send(url, session)
    assert isinstance(outcome, Refused)
    assert (outcome.error.kind, outcome.error.http_status) == ("unavailable", None)
    assert retry(outcome).delay_s == 1


async def test_a_connection_that_takes_too_long_is_a_refusal_that_may_pass() -> None:
    async with open_session(connections=1, connect_timeout_s=0.5, timeout_s=PATIENCE_S) as session:
        with silent_port() as url:
            began = time.monotonic()
            outcome = await send(url, session)
            took_s = time.monotonic() - began
    assert isinstance(outcome, Refused)
    assert outcome.error.kind == "unavailable"
    assert 0.45 <= took_s < 30


# The request left, and nobody can tell what became of it


async def test_a_provider_that_does_not_answer_leaves_it_unknown(simulator: Simulator) -> None:
    before = simulator.journal.total
    async with open_session(connections=2, connect_timeout_s=20, timeout_s=1.0) as session:
        began = time.monotonic()
        outcomes = await asyncio.gather(
            send(simulator.url, session, "+9900100000"), send(simulator.url, session, "+9901500000")
        )
        took_s = time.monotonic() - began
    for outcome in outcomes:
        assert isinstance(outcome, Unknown)
        assert outcome.error.kind == "unknown"
        assert (retry(outcome).delay_s, retry(outcome).announced) == (5, True)
    assert 0.95 <= took_s < 30
    await simulator.journal.wait(before + 2, 0, 20)
    assert simulator.journal.total == before + 2


@pytest.mark.parametrize("answer", [b"", b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n{"], ids=["nothing", "a half"])
async def test_a_raw_answer_that_never_ends_leaves_it_unknown(answer: bytes) -> None:
    async with (
        raw_server(answer, then="hang") as server,
        open_session(connections=1, connect_timeout_s=20, timeout_s=0.7) as session,
    ):
        assert isinstance(await send(server.url, session), Unknown)


@pytest.mark.parametrize(
    "number",
    [
        pytest.param("+9900200000", id="cut before"),
        pytest.param("+9900300000", id="cut after"),
        pytest.param("+9900400000", id="half an answer"),
        pytest.param("+9900500000", id="success without an id"),
        pytest.param("+9900900000", id="an answer of 5 MB"),
        pytest.param("+9901300000", id="JSON that breaks off"),
        pytest.param("+9902100000", id="an empty list of messages"),
        pytest.param("+9902500000", id="no UTF-8"),
    ],
)
async def test_an_answer_that_cannot_be_understood_leaves_it_unknown(
    number: str, simulator: Simulator, session: aiohttp.ClientSession
) -> None:
    before = simulator.journal.total
    outcome = await send(simulator.url, session, number)
    assert isinstance(outcome, Unknown)
    assert outcome.error.kind == "unknown"
    assert (retry(outcome).delay_s, retry(outcome).counted) == (5, 1)
    # It is not for the provider to try again.
    assert simulator.journal.total == before + 1


GZIP: Final = b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: %d\r\n\r\n%s"
BOMB: Final = gzip.compress(b" " * 50_000_000)


@pytest.mark.parametrize(
    "answer",
    [
        pytest.param(b"", id="closed at once"),
        pytest.param(b"SSH-2.0-OpenSSH_9.2\r\n", id="no HTTP"),
        pytest.param(b"HTTP/1.1 abc OK\r\n\r\n", id="no status"),
        pytest.param(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n{}", id="shorter than announced"),
        pytest.param(b"HTTP/1.1 200 OK\r\nContent-Length: x\r\n\r\n{}", id="a length that is none"),
        pytest.param(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n{}", id="chunks that are none"),
        pytest.param(b"HTTP/1.1 200 OK\r\nX: " + b"x" * 100_000 + b"\r\n\r\n{}", id="a very long header"),
        pytest.param(GZIP % (7, b"garbage"), id="no gzip"),
        pytest.param(GZIP % (len(BOMB), BOMB), id="a gzip bomb"),
        pytest.param(b"HTTP/1.1 204 No Content\r\n\r\n", id="HTTP 204"),
    ],
)
async def test_raw_bytes_that_are_no_answer_leave_it_unknown(answer: bytes, session: aiohttp.ClientSession) -> None:
    async with raw_server(answer) as server:
        outcome = await send(server.url, session)
    assert isinstance(outcome, Unknown)
    assert len(server.requests) == 1


async def test_of_an_endless_answer_little_is_read(session: aiohttp.ClientSession) -> None:
    head = b"HTTP/1.1 200 OK\r\nContent-Length: 999999999999\r\n\r\n"
    async with raw_server(head, then="stream") as server:
        outcome = await send(server.url, session)
        async with asyncio.timeout(PATIENCE_S):
            await server.ended.wait()
    assert isinstance(outcome, Unknown)
    # It was given up for its size and not for the time it took; the rest is what fits into the sockets' buffers.
    assert outcome.error.http_status == 200
    assert server.streamed < 50_000_000


# Answers that are odd but clear


@pytest.mark.parametrize(
    ("number", "kind", "status", "delay_s"),
    [
        pytest.param("+9900600000", "unavailable", 500, 1, id="HTML, HTTP 500"),
        pytest.param("+9900700000", "unavailable", 503, 2, id="HTTP 503 with Retry-After 2"),
        pytest.param("+9901400000", "throughput", 429, 1, id="HTTP 429 without a body, Retry-After 1"),
        pytest.param("+9901600000", "unavailable", 500, 1, id="131000, transient"),
        pytest.param("+9901700000", "unavailable", 500, 1, id="unknown code, HTTP 500"),
        pytest.param("+9902700000", "unavailable", 500, 1, id="error as text, HTTP 500"),
        pytest.param("+9902800000", "unavailable", 502, 1, id="HTML, HTTP 502"),
    ],
)
async def test_trouble_at_the_provider_is_tried_again(
    number: str, kind: str, status: int, delay_s: float, simulator: Simulator, session: aiohttp.ClientSession
) -> None:
    outcome = await send(simulator.url, session, number)
    assert isinstance(outcome, Refused)
    assert (outcome.error.kind, outcome.error.http_status) == (kind, status)
    assert retry(outcome).delay_s == delay_s


@pytest.mark.parametrize("number", ["+9901200000", "+9902600000"], ids=["empty, HTTP 400", "error_data as text"])
async def test_a_client_error_is_a_bad_request(
    number: str, simulator: Simulator, session: aiohttp.ClientSession
) -> None:
    outcome = await send(simulator.url, session, number)
    assert isinstance(outcome, Refused)
    assert (outcome.error.kind, outcome.error.http_status) == ("bad_request", 400)


@pytest.mark.parametrize(
    ("number", "message_status"),
    [
        pytest.param("+9901100000", "held_for_quality_assessment", id="held for quality assessment"),
        pytest.param("+9901900000", None, id="in ten pieces over a second"),
        pytest.param("+9902000000", None, id="then closed"),
        pytest.param("+9902200000", "paused", id="paused"),
        pytest.param("+9902300000", None, id="without a status"),
        pytest.param("+9902400000", None, id="with another number"),
    ],
)
async def test_an_odd_success_is_a_success(
    number: str, simulator: Simulator, session: aiohttp.ClientSession, message_status: str | None
) -> None:
    outcome = await send(simulator.url, session, number)
    assert outcome == Accepted(simulator.journal.entries()[-1].wamid or "", message_status)


# Whom the token is shown to


async def test_a_redirect_is_not_followed(simulator: Simulator, session: aiohttp.ClientSession) -> None:
    outcome = await send(simulator.url, session, "+9900800000")
    assert isinstance(outcome, Refused)
    assert (outcome.error.kind, outcome.error.http_status) == ("sender_halted", 307)
    stats = simulator.journal.stats()
    assert (stats["trap_hits"], stats["trap_hits_with_token"]) == (0, 0)


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
async def test_a_redirect_to_somebody_else_shows_him_nothing(status: int, session: aiohttp.ClientSession) -> None:
    async with raw_server(b"") as stranger:
        location = f"{stranger.url}/v25.0/1/messages".encode()
        answer = b"HTTP/1.1 %d Moved\r\nLocation: %s\r\nContent-Length: 0\r\n\r\n" % (status, location)
        async with raw_server(answer) as server:
            outcome = await send(server.url, session)
        assert stranger.requests == []
    assert isinstance(outcome, Refused)
    assert outcome.error.kind == "sender_halted"
    assert len(server.requests) == 1
    assert f"Authorization: Bearer {TOKEN}".encode() in server.requests[0]


async def test_a_proxy_of_the_environment_sees_nothing(
    simulator: Simulator, session: aiohttp.ClientSession, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with raw_server(b"") as proxy:
        for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
            monkeypatch.setenv(name, proxy.url)
        for name in ("NO_PROXY", "no_proxy"):
            monkeypatch.delenv(name, raising=False)
        assert isinstance(await send(simulator.url, session), Accepted)
        assert proxy.requests == []
