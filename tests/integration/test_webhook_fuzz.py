"""No header and no body makes a receiver answer with 500: whatever is sent, as it is on the wire."""

from __future__ import annotations

import asyncio
import random
import re
from typing import Final

import pytest
from structlog.testing import capture_logs

from otpost_worker.webhook_connections import Limits
from webhook_requests import BODY, VERIFY_TOKEN, Caller, receiver, signed

METHODS: Final = (b"POST",) * 20 + (b"GET", b"GET", b"PUT", b"OPTIONS", b"CONNECT", b"\xff")
QUERY: Final = b"?hub.mode=subscribe&hub.challenge=1&hub.verify_token=" + VERIFY_TOKEN.encode()
PATHS: Final = (
    *(b"/webhook",) * 40, b"/webhook" + QUERY, b"/webhook?%ff=%00&hub.verify_token=%ed%a0%80",
    b"/webhook?" + b"x" * 9000, b"/", b"*", b"http://h/webhook", b"//webhook", b"/%77ebhook", b"/webhook#x", b"/w\xe9",
    b"", b"http://[::1/webhook",
)  # fmt: skip
BODIES: Final = (
    BODY, b"", b"{}", b"[]", b"null", b"{", b'{"entry":null}', b'{"entry":"7"}', b'{"entry":[{"changes":7}]}',
    b'{"a":' + b"[" * 10_000 + b"]" * 10_000 + b"}", b'{"a":' * 10_000, b"\x1f\x8b\x08\x00", b"\xff" * 50,
    b'{"a":"\\ud800"}', b'{"a":1e999}', b'{"a":' + b"9" * 5_000 + b"}", b"\x00", b"{}" * 100,
)  # fmt: skip
HEADERS: Final = (
    (b"Content-Encoding", (b"gzip", b"identity", b"\xff", b"")),
    (b"Transfer-Encoding", (b"chunked", b"gzip, chunked", b"x")),
    (b"Content-Length", (b"0", b"1", b"-1", b"99999999999999999999999", b"abc", b"3000000", b"3145729")),
    (b"Content-Type", (b"application/json", b"text/\xe9", b"; charset=utf-99", b"multipart/form-data; boundary=x")),
    (b"Expect", (b"100-continue", b"200-continue", b"\xff")),
    (b"Connection", (b"keep-alive", b"upgrade", b"close")),
    (b"Upgrade", (b"websocket", b"h2c")),
    (b"Host", (b"", b"a..b", b"[::1", b"x:99999")),
    (b"Cookie", (b"a=b; \xff=", b";" * 100)),
    (b"Accept-Encoding", (b"gzip", b"\xff")),
    (b"X-Hub-Signature-256", (b"", b"sha256=\xff", b"sha256=" + b"0" * 64, b"x" * 9000, b"sha256=\xed\xa0\x80")),
    (b"Sec-WebSocket-Version", (b"13",)),
    (b"\xe9", (b"x",)),
    (b"", (b"x",)),
    (b" X", (b"x",)),
)
VERSIONS: Final = (b"HTTP/1.1",) * 40 + (b"HTTP/1.0", b"HTTP/2.0", b"HTTP/0.9", b"http/1.1", b"")
STATUS: Final = re.compile(rb"HTTP/1\.[01] (\d{3}) ")
AT_ONCE: Final = 16
EXPECTED: Final = {100, 200, 400, 401, 403, 404, 405, 408, 413, 415, 503}


def request(rng: random.Random) -> bytes:
    """Make one request, mostly one that HTTP allows."""
    body = rng.choice(BODIES)
    if rng.random() < 0.3:
        cut = rng.randrange(len(body) + 1)
        body = body[:cut] + rng.randbytes(rng.randrange(4)) + body[cut:]
    lines = [b" ".join((rng.choice(METHODS), rng.choice(PATHS), rng.choice(VERSIONS)))]
    if rng.random() < 0.9:
        lines.append(b"Host: x")
    if rng.random() < 0.8:
        lines.append(b"Content-Length: " + str(len(body)).encode())
    if rng.random() < 0.7:
        lines.append(b"X-Hub-Signature-256: " + signed(body)["X-Hub-Signature-256"].encode())
    for name, values in rng.sample(HEADERS, k=rng.choice((0, 0, 1, 1, 2, 4))):
        lines.append(name + b": " + rng.choice(values))
    whole = b"\r\n".join([*lines, b"Connection: close", b"", body])
    return whole[: rng.randrange(len(whole))] if rng.random() < 0.05 else whole


async def answers(caller: Caller, rng: random.Random, count: int) -> list[int]:
    """Send so many, and list what was answered; a request that never ends has no answer within the time of a body."""
    found, todo = list[int](), iter(range(count))

    async def send() -> None:
        for _ in todo:
            sent = request(rng)
            try:
                got = await caller.raw(sent)
            except TimeoutError:
                raise AssertionError(f"neither an answer nor an end: {sent[:500]!r}") from None
            statuses = [int(status) for status in STATUS.findall(got)]
            assert set(statuses) <= EXPECTED, (sent[:500], got[:500])
            found.extend(statuses)

    async with asyncio.TaskGroup() as tasks:
        for _ in range(AT_ONCE):
            tasks.create_task(send())
    return found


async def fuzzed(seed: int, count: int) -> None:
    with capture_logs() as lines:
        async with receiver(limits=Limits(read_within_s=0.05, keep_alive_s=0.1)) as caller:
            rng = random.Random(seed)  # noqa: S311 - to be repeated, not to be secret
            found = await answers(caller, rng, count)
            # And it works as before.
            assert (await caller.post(BODY))[0] == 200
    assert "webhook.crashed" not in [line["event"] for line in lines]
    assert {200, 400, 401, 404, 405, 415} <= set(found)


@pytest.mark.parametrize("seed", [1, 2])
async def test_no_request_makes_a_500(seed: int) -> None:
    await fuzzed(seed, 300)


@pytest.mark.long
@pytest.mark.timeout(600)
async def test_none_of_very_many_requests_makes_a_500() -> None:
    await fuzzed(3, 100_000)
