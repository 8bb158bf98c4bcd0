"""What a receiver answers, over real HTTP: every code of docs/webhooks.md, and never a 500."""

from __future__ import annotations

import asyncio
import gzip
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final

import pytest
from structlog.testing import capture_logs

from otpost_worker.webhook import MAX_BODY_BYTES
from otpost_worker.webhook_connections import Limits
from otpost_worker.webhook_room import Room
from webhook_requests import BODY, PATIENCE_S, VERIFY_TOKEN, receiver, signed

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from webhook_requests import Caller

CHALLENGE: Final = "1158201444"


@pytest.fixture
async def caller() -> AsyncIterator[Caller]:
    async with receiver() as running:
        yield running


# The handshake


async def test_the_handshake_gives_back_the_bare_challenge_for_any_of_the_tokens(caller: Caller) -> None:
    for token in (VERIFY_TOKEN, "the-next-token"):
        answer = await caller.get(hub_mode="subscribe", hub_challenge=CHALLENGE, hub_verify_token=token)
        assert answer == (200, CHALLENGE)
    assert caller.counted("verified") == 2


@pytest.mark.parametrize(
    "query",
    [
        {},
        {"hub_mode": "subscribe", "hub_challenge": CHALLENGE},
        {"hub_mode": "subscribe", "hub_challenge": CHALLENGE, "hub_verify_token": "verify-tokem"},
        {"hub_mode": "subscribe", "hub_challenge": CHALLENGE, "hub_verify_token": "verify-tokén"},
        {"hub_mode": "unsubscribe", "hub_challenge": CHALLENGE, "hub_verify_token": VERIFY_TOKEN},
        {"hub_challenge": CHALLENGE, "hub_verify_token": VERIFY_TOKEN},
        {"hub_mode": "subscribe", "hub_verify_token": VERIFY_TOKEN},
        {"hub_mode": "subscribe", "hub_challenge": "ä\n", "hub_verify_token": VERIFY_TOKEN},
    ],
)
async def test_every_other_handshake_is_refused(caller: Caller, query: dict[str, str]) -> None:
    status, text = await caller.get(**query)
    assert status == 403
    assert VERIFY_TOKEN not in text
    assert caller.counted("wrong_token") == 1


# Events


async def test_a_signed_body_is_stored_as_it_came_and_answered_with_200(caller: Caller) -> None:
    body = '{ "name" : "\\u00e4 ä", "entry" : [] }\n'.encode()
    before = datetime.now(UTC)
    assert (await caller.post(body))[0] == 200
    assert caller.store.bodies == [body]
    assert before <= caller.store.times[0] <= datetime.now(UTC)
    assert caller.counted("stored") == 1


async def test_there_is_no_answer_before_it_is_stored(caller: Caller) -> None:
    caller.store.open.clear()
    posting = asyncio.create_task(caller.post(BODY))
    await caller.store.wait_for_waiting(1)
    done, _ = await asyncio.wait({posting}, timeout=0.2)
    assert not done
    caller.store.open.set()
    assert (await posting)[0] == 200


async def test_many_are_in_hand_at_once(caller: Caller) -> None:
    caller.store.open.clear()
    posting = [asyncio.create_task(caller.post(BODY)) for _ in range(50)]
    await caller.store.wait_for_waiting(50)
    caller.store.open.set()
    assert [answer[0] for answer in await asyncio.gather(*posting)] == [200] * 50


async def test_what_is_signed_with_the_next_secret_is_taken_too() -> None:
    async with receiver(secrets=("old-secret", "new-secret")) as caller:
        for secret in ("old-secret", "new-secret"):
            assert (await caller.post(BODY, signed(BODY, secret)))[0] == 200
        assert (await caller.post(BODY, signed(BODY, "another-secret")))[0] == 401


@pytest.mark.parametrize(
    ("headers", "result"),
    [
        ({}, "unsigned"),
        ({"X-Hub-Signature-256": ""}, "forged"),
        ({"X-Hub-Signature-256": "sha256=" + "0" * 64}, "forged"),
        (signed(BODY, "another-secret"), "forged"),
        (signed(BODY + b" "), "forged"),
        ({"X-Hub-Signature": signed(BODY)["X-Hub-Signature-256"]}, "unsigned"),
    ],
)
async def test_a_forged_altered_or_unsigned_body_is_refused_and_not_stored(
    caller: Caller, headers: dict[str, str], result: str
) -> None:
    status, text, _ = await caller.post(BODY, headers)
    assert status == 401
    assert signed(BODY)["X-Hub-Signature-256"].removeprefix("sha256=") not in text
    assert caller.store.bodies == []
    assert caller.counted(result) == 1


async def test_a_signature_outside_ascii_is_wrong_and_nothing_worse(caller: Caller) -> None:
    for value in ("sha256=é", "sha256=\udcff", "ÿha256="):
        request = (
            b"POST /webhook HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: 2\r\nX-Hub-Signature-256: "
            + value.encode("utf-8", "surrogateescape")
            + b"\r\n\r\n{}"
        )
        assert (await caller.raw(request)).startswith(b"HTTP/1.1 401 ")


@pytest.mark.parametrize(
    "body",
    [b"", b"[]", b"{", b"object=1", b'{"a":' + b"[" * 10_000 + b"]" * 10_000 + b"}", b"\xff\xfe", b'{"a":NaN}'],
    ids=["empty", "array", "open", "form", "10,000 levels", "bytes", "NaN"],
)
async def test_what_is_signed_but_no_json_object_is_refused(caller: Caller, body: bytes) -> None:
    assert (await caller.post(body))[0] == 400
    assert caller.store.bodies == []
    assert caller.counted("no_json") == 1


async def test_a_forged_body_is_not_even_looked_into(caller: Caller) -> None:
    assert (await caller.post(b"no json", {}))[0] == 401


async def test_3_mb_are_taken_and_more_is_not(caller: Caller) -> None:
    filling = MAX_BODY_BYTES - len(b'{"a":""}')
    largest = b'{"a":"' + b"x" * filling + b'"}'
    assert len(largest) == 3 * 1024 * 1024
    assert (await caller.post(largest))[0] == 200
    assert (await caller.post(largest + b" "))[0] == 413
    assert [len(body) for body in caller.store.bodies] == [3_145_728]


async def test_a_body_without_a_length_is_stopped_where_it_becomes_too_large(caller: Caller) -> None:
    async def endless() -> AsyncIterator[bytes]:
        for _ in range(64):
            yield b"x" * 65_536

    async with caller.session.post(caller.url, data=endless()) as answer:
        assert answer.status == 413
    assert caller.counted("too_large") == 1


async def test_a_compressed_bomb_is_refused_unopened(caller: Caller) -> None:
    bomb = gzip.compress(b" " * 50_000_000)
    for coding in ("gzip", "deflate", "br", "zstd", "gzip, identity", "nonsense"):
        headers = {**signed(bomb), "Content-Encoding": coding}
        assert (await caller.post(bomb, headers))[0] == 415
    assert caller.counted("encoded") == 6
    # As a body it is no JSON.
    assert (await caller.post(bomb))[0] == 400


async def test_what_says_that_it_is_not_compressed_is_taken(caller: Caller) -> None:
    assert (await caller.post(BODY, {**signed(BODY), "Content-Encoding": "identity"}))[0] == 200


async def test_other_methods_and_paths_are_told_so(caller: Caller) -> None:
    for method in ("PUT", "DELETE", "HEAD", "PATCH", "OPTIONS", "PROPFIND"):
        async with caller.session.request(method, caller.url) as answer:
            assert (answer.status, answer.headers["Allow"]) == (405, "GET, POST")
    for path in ("/", "/webhook/", "/webhooks", "/webhook/x", "/WEBHOOK"):
        async with caller.session.post(f"http://127.0.0.1:{caller.port}{path}", data=BODY) as answer:
            assert answer.status == 404
    assert (caller.counted("wrong_method"), caller.counted("wrong_path")) == (6, 5)


async def test_a_connect_without_a_target_is_answered_and_does_not_keep_its_connection(caller: Caller) -> None:
    assert b" 404 " in await caller.raw(b"CONNECT  \r\nHost: x\r\nContent-Length: 2\r\n\r\n{}")
    assert (await caller.post(BODY))[0] == 200


async def test_a_client_that_asks_first_whether_it_may_send_is_let(caller: Caller) -> None:
    async with caller.session.post(caller.url, data=BODY, headers=signed(BODY), expect100=True) as answer:
        assert answer.status == 200


async def test_where_nothing_can_be_stored_the_provider_is_asked_to_come_again(caller: Caller) -> None:
    caller.store.refusing = True
    status, _, headers = await caller.post(BODY)
    assert (status, headers["Retry-After"]) == (503, "5")
    assert caller.counted("not_stored") == 1
    # The handshake needs no broker.
    answer = await caller.get(hub_mode="subscribe", hub_challenge=CHALLENGE, hub_verify_token=VERIFY_TOKEN)
    assert answer == (200, CHALLENGE)


# Floods


async def test_more_bodies_at_once_than_there_is_room_for_are_refused_until_one_has_its_answer() -> None:
    async with receiver(room=Room(most_bodies=2, most_bytes=1000)) as caller:
        caller.store.open.clear()
        posting = [asyncio.create_task(caller.post(BODY)) for _ in range(2)]
        await caller.store.wait_for_waiting(2)
        status, _, headers = await caller.post(BODY)
        assert (status, headers["Retry-After"]) == (503, "5")
        caller.store.open.set()
        assert [answer[0] for answer in await asyncio.gather(*posting)] == [200, 200]
        assert (await caller.post(BODY))[0] == 200
        assert caller.counted("overloaded") == 1


async def test_more_bytes_than_there_is_room_for_are_refused_and_all_are_given_back() -> None:
    room = Room(most_bodies=10, most_bytes=100_000)
    async with receiver(room=room) as caller:
        large = b'{"a":"' + b"x" * 60_000 + b'"}'
        caller.store.open.clear()
        posting = asyncio.create_task(caller.post(large))
        await caller.store.wait_for_waiting(1)
        assert (await caller.post(large))[0] == 503
        caller.store.open.set()
        assert (await posting)[0] == 200
        assert (await caller.post(large))[0] == 200
        assert (room.bodies, room.bytes) == (0, 0)


async def test_who_announces_much_and_sends_nothing_shuts_out_nobody_and_is_sent_away() -> None:
    head = b"POST /webhook HTTP/1.1\r\nHost: x\r\nX-Hub-Signature-256: sha256=0\r\nContent-Length: 3000000\r\n\r\n{"
    room = Room(most_bodies=50, most_bytes=4_000_000)
    async with receiver(room=room, limits=Limits(read_within_s=0.5)) as caller:
        slow = [asyncio.create_task(caller.raw(head)) for _ in range(20)]
        async with asyncio.timeout(PATIENCE_S):
            while room.bodies < 20:  # noqa: ASYNC110 - the room tells nobody
                await asyncio.sleep(0.01)
        assert (await caller.post(BODY))[0] == 200
        answers = await asyncio.gather(*slow)
        assert {answer.split(b"\r\n")[0] for answer in answers} == {b"HTTP/1.1 408 Request Timeout"}
        assert (room.bodies, room.bytes) == (0, 0)


async def test_a_client_that_goes_away_amid_its_body_leaves_nothing_behind() -> None:
    room = Room(most_bodies=50, most_bytes=4_000_000)
    async with receiver(room=room) as caller:
        _, writer = await asyncio.open_connection("127.0.0.1", caller.port)
        writer.write(b"POST /webhook HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\nhalf")
        async with asyncio.timeout(PATIENCE_S):
            while not room.bytes:  # noqa: ASYNC110 - the room tells nobody
                await asyncio.sleep(0.01)
            writer.close()
            while room.bodies:  # noqa: ASYNC110 - the same
                await asyncio.sleep(0.01)
        assert room.bytes == 0
        assert caller.counted("broken_off") == 1


# The log


async def test_each_kind_of_refusal_is_said_once_and_nothing_of_the_request_with_it(caller: Caller) -> None:
    with capture_logs() as lines:
        for _ in range(20):
            await caller.post(b'{"code":"493817"}', {"X-Hub-Signature-256": "sha256=QWERT"})
            await caller.get(hub_mode="subscribe", hub_challenge="QWERT", hub_verify_token="QWERT")
    assert [(line["event"], line["result"], line["status"]) for line in lines] == [
        ("webhook.refused", "forged", 401),
        ("webhook.refused", "wrong_token", 403),
    ]
    assert {line["log_level"] for line in lines} == {"warning"}
    assert "QWERT" not in str(lines)
    assert "493817" not in str(lines)


async def test_who_speaks_no_http_is_told_so_and_fills_no_log(caller: Caller) -> None:
    with capture_logs() as lines:
        for nonsense in (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc", b"GET\r\n\r\n", b"POST /webhook HTTP/9.9.9\r\n\r\n"):
            assert (await caller.raw(nonsense + b"\r\n\r\n")).startswith((b"HTTP/1.0 400 ", b"HTTP/1.1 400 "))
        twice = b"POST /webhook HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\n{}"
        assert (await caller.raw(twice)).startswith((b"HTTP/1.0 400 ", b"HTTP/1.1 400 "))
    assert [(line["event"], line["result"]) for line in lines] == [("webhook.refused", "bad_http")]
    assert caller.counted("bad_http") == 4
