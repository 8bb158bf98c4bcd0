"""The simulator over real HTTP: what a client sees, and what the journal holds against it."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING

import aiohttp
import orjson
import pytest

from otpost_worker.simulator import Simulator, SimulatorOptions, serve
from send_requests import BODY_TEXT, changed, send_request
from simulator_caller import PATIENCE, SEND, Caller

if TYPE_CHECKING:
    from collections.abc import AsyncIterator


@pytest.fixture
async def caller() -> AsyncIterator[Caller]:
    async with (
        Simulator(SimulatorOptions(rate=0)) as simulator,
        aiohttp.ClientSession(timeout=PATIENCE, json_serialize=lambda body: orjson.dumps(body).decode()) as session,
    ):
        yield Caller(simulator, session)


async def over_socket(simulator: Simulator, sent: bytes) -> bytes:
    """What the server says first to a client that speaks no proper HTTP."""
    reader, writer = await asyncio.open_connection("127.0.0.1", simulator.port)
    try:
        writer.write(sent)
        return await asyncio.wait_for(reader.read(65536), 20)
    finally:
        writer.close()


# Sending


async def test_a_message_is_confirmed_as_meta_does_and_written_down(caller: Caller) -> None:
    before = time.time()
    status, headers, body = await caller.send(send_request("+1 (201) 555-3931"))
    entry = caller.last()
    assert status == 200
    assert body["contacts"] == [{"input": "+1 (201) 555-3931", "wa_id": "12015553931"}]
    assert body["messages"] == [{"id": entry.wamid, "message_status": "accepted"}]
    assert headers["facebook-api-version"] == "v25.0"
    assert headers["x-fb-trace-id"] == headers["x-fb-request-id"] != ""
    assert entry.answered_at is not None
    assert before <= entry.at <= entry.answered_at
    assert (entry.phone_number_id, entry.code, entry.callback) == ("106540352242922", "493817", "job-1")
    assert (entry.taken, entry.outcome, entry.http_status, entry.prepended) == (True, "accepted", 200, False)


async def test_a_number_without_plus_is_answered_as_if_all_were_well_but_recorded(caller: Caller) -> None:
    status, _, body = await caller.send(send_request("4915123456789"))
    assert (status, body["contacts"][0]["wa_id"]) == (200, "14915123456789")
    assert (caller.last().prepended, caller.last().recipient) == (True, "14915123456789")


async def test_an_invalid_message_is_refused_and_recorded_with_the_reason(caller: Caller) -> None:
    status, _, body = await caller.send(changed(BODY_TEXT, "1234567890123456"))
    assert (status, body["error"]["code"]) == (400, 132018)
    entry = caller.last()
    assert (entry.taken, entry.outcome, entry.error_code) == (False, "error", 132018)
    assert "maximum of 15" in (entry.invalid or "")


async def test_a_missing_and_a_wrong_token_get_metas_answers(caller: Caller) -> None:
    status, headers, body = await caller.send(send_request(), headers={})
    assert (status, body["error"]["code"], "WWW-Authenticate" in headers) == (401, 104, True)
    assert (await caller.control("PUT token", {"access_token": "new"}))[0] == 200
    status, headers, body = await caller.send(send_request())
    assert (status, body["error"]["code"], body["error"]["error_subcode"]) == (401, 190, 463)
    assert headers["WWW-Authenticate"].startswith('OAuth "Facebook Platform" "invalid_token"')
    assert (await caller.send(send_request(), headers={"Authorization": "Bearer new"}))[0] == 200


@pytest.mark.parametrize(
    ("path", "code"),
    [("/v25.0/abc/messages", 100), ("/25/1/messages", 2500), ("/v25.0/1", 2500), ("/v25.0/1/x", 2500)],
)
async def test_addresses_that_lead_nowhere_get_graphs_answers(caller: Caller, path: str, code: int) -> None:
    status, _, body = await caller.send(send_request(), path)
    assert (status, body["error"]["code"]) == (400, code)


async def test_a_body_over_a_mebibyte_is_refused(caller: Caller) -> None:
    status, body = await caller.post(SEND, b" " * 1_200_000)
    assert (status, body["error"]["code"]) == (413, 100)
    status, body = await caller.post("/_simulator/rules", b" " * 1_200_000)
    assert (status, "send less" in body["error"]) == (400, True)


async def test_the_limits_hold_over_http_and_can_be_changed(caller: Caller) -> None:
    await caller.control("PUT limits", {"rate": 0.001, "throttle_status": 429})
    assert [(await caller.send(send_request()))[0] for _ in range(3)] == [200, 429, 429]
    await caller.control("PUT limits", {"rate": 0, "pair_burst": 2, "pair_interval_s": 600})
    answers = [(await caller.send(send_request()))[2] for _ in range(3)]
    assert [answer.get("error", {}).get("code") for answer in answers] == [None, None, 131056]
    stats = (await caller.control("GET stats"))[1]
    assert (stats["throughput_refusals"], stats["pair_refusals"], stats["taken"]) == (2, 1, 3)


async def test_an_exhausted_quota_says_when_it_ends(caller: Caller) -> None:
    await caller.control("PUT quota", {"seconds": 600, "code": 80007, "minutes": 7})
    status, headers, body = await caller.send(send_request())
    usage = orjson.loads(headers["x-business-use-case-usage"])["106540352242922"][0]
    assert (status, body["error"]["code"], usage["estimated_time_to_regain_access"]) == (400, 80007, 7)
    assert "x-app-usage" in headers
    await caller.control("PUT quota", {"seconds": 0})
    assert (await caller.send(send_request()))[0] == 200


async def test_templates_can_be_paused_at_run_time(caller: Caller) -> None:
    await caller.control("PUT templates", {"paused": [{"name": "verification_code", "language": "en_US"}]})
    assert (await caller.send(send_request()))[2]["error"]["code"] == 132015
    await caller.control("PUT templates", {})
    assert (await caller.send(send_request()))[0] == 200


# Magic recipients


async def test_magic_numbers_fail_as_often_as_they_say(caller: Caller) -> None:
    codes = [(await caller.send(send_request("+999131016200001")))[2].get("error", {}).get("code") for _ in range(3)]
    assert codes == [131016, 131016, None]


@pytest.mark.parametrize(("to", "taken"), [("+99002000001", False), ("+99003000001", True)])
async def test_a_cut_connection_gives_no_answer_whether_or_not_the_message_was_taken(
    caller: Caller, to: str, *, taken: bool
) -> None:
    with pytest.raises(aiohttp.ClientConnectionError):
        await caller.raw_send(to)
    assert (caller.last().taken, caller.last().http_status) == (taken, None)
    assert (await caller.control("GET stats"))[1]["received"] == int(taken)


async def test_half_an_answer_promises_more_than_it_brings(caller: Caller) -> None:
    with pytest.raises(aiohttp.ClientPayloadError):
        await caller.raw_send("+99004000001")
    assert (caller.last().taken, caller.last().outcome) == (True, "half_answer")


@pytest.mark.parametrize(("to", "taken"), [("+99001000001", False), ("+99015000001", True)])
async def test_a_hanging_request_is_in_the_journal_while_it_hangs_and_leaves_with_its_client(
    caller: Caller, to: str, *, taken: bool
) -> None:
    others = asyncio.all_tasks()
    hanging = asyncio.create_task(caller.raw_send(to))
    assert await caller.simulator.journal.wait(received=1)
    assert (caller.last().taken, caller.last().answered_at) == (taken, None)
    serving = asyncio.all_tasks() - others - {hanging}
    hanging.cancel()
    assert serving
    assert not (await asyncio.wait(serving, timeout=5))[1]
    assert (await caller.send(send_request()))[0] == 200


@pytest.mark.parametrize(
    ("to", "status", "body", "header"),
    [
        (
            "+99005000001",
            200,
            b'{"messaging_product":"whatsapp","contacts":[{"input":"0","wa_id":"0"}]}',
            None,
        ),
        ("+99006000001", 500, b"<html><body>Sorry</body></html>", ("Content-Type", "text/html")),
        ("+99007000001", 503, b"", ("Retry-After", "2")),
        ("+99008000001", 307, b"", ("Location", "/_simulator/trap")),
        ("+99012000001", 400, b"", None),
        ("+99013000001", 200, b'{"messages": [{"id": ', None),
        ("+99014000001", 429, b"", ("Retry-After", "1")),
        ("+99027000001", 500, b'{"error":"oops"}', None),
    ],
)
async def test_bad_answers_come_byte_by_byte_as_documented(
    caller: Caller, to: str, status: int, body: bytes, header: tuple[str, str] | None
) -> None:
    got_status, headers, got_body = await caller.raw_send(to, allow_redirects=False)
    assert (got_status, got_body) == (status, body)
    if header:
        assert headers[header[0]] == header[1]


async def test_following_the_redirect_with_a_token_is_caught(caller: Caller) -> None:
    await caller.raw_send("+99008000001")
    stats = (await caller.control("GET stats"))[1]
    assert (stats["trap_hits"], stats["trap_hits_with_token"]) == (1, 1)


async def test_a_huge_answer_is_five_megabytes_of_a_valid_success(caller: Caller) -> None:
    _, _, body = await caller.raw_send("+99009000001")
    assert len(body) == 5_000_000
    assert orjson.loads(body)["messages"][0]["id"] == caller.last().wamid


async def test_slow_held_paused_and_bare_acceptances_are_acceptances(caller: Caller) -> None:
    started = time.monotonic()
    assert (await caller.send(send_request("+99010000001")))[0] == 200
    assert time.monotonic() - started >= 0.99
    wanted = {
        "11": "held_for_quality_assessment",
        "19": "accepted",
        "20": "accepted",
        "22": "paused",
        "23": None,
    }
    for number, message_status in wanted.items():
        # `20` closes the connection behind its answer's back: no other request may come to use it again.
        async with aiohttp.ClientSession(timeout=PATIENCE) as session:
            body = (await Caller(caller.simulator, session).send(send_request(f"+990{number}000001")))[2]
        assert body["messages"][0].get("message_status") == message_status
    changed_number = (await caller.send(send_request("+99024000001")))[2]["contacts"][0]
    assert changed_number["wa_id"] != changed_number["input"].removeprefix("+")


async def test_transient_and_unknown_errors_are_marked_as_such(caller: Caller) -> None:
    status, _, body = await caller.send(send_request("+99016000001"))
    assert (status, body["error"]["code"], body["error"]["is_transient"]) == (500, 131000, True)
    status, _, body = await caller.send(send_request("+99017000001"))
    assert (status, body["error"]["code"]) == (500, 999999)


# Control and journal


async def test_requests_are_read_page_by_page(caller: Caller) -> None:
    for n in range(3):
        await caller.send(send_request(callback=f"job-{n}"))
    _, first = await caller.control("GET requests?limit=2")
    _, rest = await caller.control(f"GET requests?since={first['next']}")
    assert [entry["callback"] for entry in first["requests"]] == ["job-0", "job-1"]
    assert [entry["callback"] for entry in rest["requests"]] == ["job-2"]
    assert rest["total"] == 3
    assert (await caller.control("DELETE requests"))[1] == {"cleared": 3}
    assert (await caller.control("GET requests"))[1]["total"] == 0


async def test_a_long_poll_returns_when_enough_was_received_or_time_is_up(caller: Caller) -> None:
    poll = asyncio.create_task(caller.control("GET requests?wait_taken=2"))
    await caller.send(send_request())
    await caller.send(send_request("+9991310000"))
    assert not poll.done()
    await caller.send(send_request())
    found = (await poll)[1]
    assert (found["complete"], found["total"]) == (True, 3)
    late = (await caller.control("GET requests?wait=9&timeout_s=0.01"))[1]
    assert (late["complete"], late["total"]) == (False, 3)


async def test_stats_tell_duplicates_by_their_callback(caller: Caller) -> None:
    for callback in ("a", "a", "b"):
        await caller.send(send_request(callback=callback))
    stats = (await caller.control("GET stats"))[1]
    assert (stats["distinct_callbacks"], stats["max_per_callback"], stats["max_taken_per_callback"]) == (
        2,
        2,
        2,
    )
    assert stats["by_outcome"] == {"accepted": 3}


async def test_rules_answer_whatever_is_asked_for(caller: Caller) -> None:
    reply = {
        "status": 418,
        "body": '{"error":{"message":"m","type":"t","code":5}}',
        "headers": {"X-Tea": "yes"},
    }
    await caller.control("POST rules", {"match": {"to": "+12015553931"}, "times": 1, "answer": reply})
    error = {"error": 131016, "http_status": 504, "is_transient": True, "subcode": 9, "retry_after": "3"}
    assert (await caller.control("POST rules", {"answer": error}))[0] == 201
    status, headers, _ = await caller.send(send_request())
    assert (status, headers["X-Tea"], caller.last().outcome) == (418, "yes", "custom")
    status, headers, body = await caller.send(send_request())
    assert (status, headers["Retry-After"]) == (504, "3")
    assert (body["error"]["is_transient"], body["error"]["error_subcode"]) == (True, 9)
    assert (await caller.control("DELETE rules"))[1] == {"dropped": 1}
    assert (await caller.send(send_request()))[0] == 200


@pytest.mark.parametrize(
    ("request_line", "body", "status", "said"),
    [
        ("POST rules", {"answer": {"behaviour": "explode"}}, 400, "there is no behaviour"),
        ("PUT limits", {"rate": "fast"}, 400, "rate must be a number"),
        ("PUT token", [], 400, "must be a JSON object"),
        ("GET requests?limit=0", None, 400, "limit must be a whole number from 1"),
        ("PUT quota", {}, 400, "seconds is missing"),
        ("DELETE limits", None, 404, "GET / lists what there is"),
        ("GET nothing", None, 404, "GET / lists what there is"),
    ],
)
async def test_bad_control_requests_are_told_what_to_do_instead(
    caller: Caller, request_line: str, body: object, status: int, said: str
) -> None:
    got_status, answer = await caller.control(request_line, body)
    assert got_status == status
    assert said in answer["error"]


# Staying alive


GZIPPED = b" HTTP/1.1\r\nHost: x\r\nContent-Encoding: gzip\r\nContent-Length: 3\r\n\r\nabc"
NONSENSE = [
    b"\x00\xff\xfe\x01" * 64,
    b"GET / HTTP/9.9\r\n\r\n",
    b"POST " + SEND.encode() + b" HTTP/1.1\r\nHost: x\r\nContent-Length: -1\r\n\r\n",
    b"POST " + SEND.encode() + b" HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
    b"POST " + SEND.encode() + GZIPPED,
    b"PUT /_simulator/quota" + GZIPPED,
    b"POST /v25.0/\xff/messages HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\n{}",
    b"POST /v25.0/1/messages HTTP/1.1\r\nHost: x\r\nAuthorization: \xff\r\nContent-Length: 2\r\n\r\n{}",
    b"POST /v%0d%0aX:y/1%00/messages HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\n{}",
    b"GET /_simulator/\xff%ff HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n",
    b"GET /_simulator/requests?since=\xff HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n",
    b"PUT /_simulator/limits HTTP/1.1\r\nHost: x\r\nContent-Length: 2000\r\n\r\n" + b"[" * 2000,
]


@pytest.mark.parametrize("sent", NONSENSE)
async def test_bytes_that_make_no_sense_never_get_a_server_error(caller: Caller, sent: bytes) -> None:
    answer = await over_socket(caller.simulator, sent)
    assert b"Traceback" not in answer
    assert answer[:10] in (b"HTTP/1.0 4", b"HTTP/1.1 4")
    assert (await caller.control("GET requests"))[0] == 200
    assert (await caller.send(send_request()))[0] == 200


@pytest.mark.parametrize("body", [b"", b"\xff", b"[" * 5000, b"null", b'"x"', b"[1]", b'{"template":[[[{}]]]}'])
async def test_bodies_that_make_no_sense_get_metas_error(caller: Caller, body: bytes) -> None:
    status, answer = await caller.post(SEND, body)
    assert (status, answer["error"]["code"]) == (400, 100)


async def test_it_closes_at_once_though_requests_hang_and_somebody_polls() -> None:
    async with aiohttp.ClientSession(timeout=PATIENCE) as session:
        async with Simulator(SimulatorOptions(rate=0)) as simulator:
            caller = Caller(simulator, session)
            hanging = [asyncio.create_task(caller.raw_send(f"+9900100000{n}")) for n in range(5)]
            slow = asyncio.create_task(caller.raw_send("+99018000001"))
            poll = asyncio.create_task(caller.control("GET requests?wait=99"))
            assert await simulator.journal.wait(received=6)
            started = time.monotonic()
        assert time.monotonic() - started < 2
        hung = await asyncio.gather(*hanging, return_exceptions=True)
        assert all(isinstance(end, aiohttp.ClientError) for end in hung)
        # What can be answered is answered, only earlier.
        assert (await slow)[0] == 200
        assert (await poll)[1]["complete"] is False


async def test_serve_announces_its_address_and_ends_when_told() -> None:
    stop, announced = asyncio.Event(), asyncio.get_running_loop().create_future()
    served = asyncio.create_task(serve(SimulatorOptions(), stop, announced.set_result))
    async with aiohttp.ClientSession(timeout=PATIENCE) as session:
        url = await announced
        async with session.get(url + "/_simulator/health") as health, session.get(url) as page:
            assert (health.status, page.status) == (200, 200)
            assert "/_simulator/requests" in await page.text()
    stop.set()
    await asyncio.wait_for(served, 2)
