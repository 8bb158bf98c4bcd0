"""The simulator's webhooks over real HTTP: a receiver that checks signatures by itself sees what the plans say."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, Any

import aiohttp
import pytest

from otpost_worker.simulator import Simulator, SimulatorOptions, WebhookSettings
from send_requests import send_request
from simulator_caller import PATIENCE, QUICK_RETRY, Caller, calling_and_reporting_to, settled
from webhook_receiver import SECRET, WebhookReceiver

if TYPE_CHECKING:
    from collections.abc import AsyncIterator


@pytest.fixture
async def receiver() -> AsyncIterator[WebhookReceiver]:
    async with WebhookReceiver() as running:
        yield running


@pytest.fixture
async def caller(receiver: WebhookReceiver) -> AsyncIterator[Caller]:
    async with calling_and_reporting_to(receiver) as calling:
        yield calling


def told(receiver: WebhookReceiver) -> list[str]:
    return [status["status"] for status in receiver.statuses()]


# What is reported


async def test_a_message_is_reported_as_sent_and_delivered_with_a_right_signature(
    caller: Caller, receiver: WebhookReceiver
) -> None:
    before = time.time()
    _, _, body = await caller.send(send_request("+1 (201) 555-3931"))
    posts = await receiver.wait(2)
    await settled(caller)
    assert [post.genuine for post in posts] == [True, True]
    sent, delivered = receiver.statuses()
    assert (sent["status"], delivered["status"]) == ("sent", "delivered")
    for status in (sent, delivered):
        assert status["id"] == body["messages"][0]["id"]
        assert (status["recipient_id"], status["biz_opaque_callback_data"]) == ("12015553931", "job-1")
        assert int(before) <= int(status["timestamp"]) <= time.time()
    known = caller.simulator.reports.of_callback("job-1")
    assert [(one.status, str(one.timestamp), one.posts, one.answered, one.last_answer) for one in known] == [
        ("sent", sent["timestamp"], 1, 1, 200),
        ("delivered", delivered["timestamp"], 1, 1, 200),
    ]
    metadata = posts[0].body["entry"][0]["changes"][0]["value"]["metadata"]
    assert metadata["phone_number_id"] == "106540352242922"


async def test_without_a_callback_there_is_none_in_the_webhook(caller: Caller, receiver: WebhookReceiver) -> None:
    await caller.send(send_request(callback=None))
    await receiver.wait(2)
    assert all("biz_opaque_callback_data" not in status for status in receiver.statuses())


@pytest.mark.parametrize(
    ("to", "statuses"),
    [
        ("+99031000001", ["sent", "delivered", "read"]),
        ("+99032000001", []),
        ("+99034000001", ["delivered"]),
        ("+99035000001", ["sent", "read"]),
        ("+99036000001", ["sent", "delivered", "failed"]),
        ("+99037000001", ["sent", "failed", "delivered"]),
        ("+99038000001", ["read", "delivered", "sent"]),
        ("+99039000001", ["sent", "sent", "delivered", "delivered", "read", "read"]),
        ("+99040000001", ["sent", "delivered", "delivered", "delivered", "delivered"]),
        ("+99043000001", ["failed"]),
        ("+991131049000001", ["failed"]),
        # The handset has the message, whatever became of the answer.
        ("+99005000001", ["sent", "delivered"]),
    ],
)
async def test_magic_numbers_are_reported_as_the_table_says(
    caller: Caller, receiver: WebhookReceiver, to: str, statuses: list[str]
) -> None:
    await caller.raw_send(to)
    await settled(caller)
    assert told(receiver) == statuses
    # Whatever their order, their times tell the truth.
    first = {status["status"]: int(status["timestamp"]) for status in reversed(receiver.statuses())}
    times = [first[status] for status in ("sent", "delivered", "read") if status in first]
    assert times == sorted(times)


async def test_linked_devices_report_the_same_delivery_with_later_times(
    caller: Caller, receiver: WebhookReceiver
) -> None:
    await caller.send(send_request("+99040000001"))
    await settled(caller)
    delivered = [int(status["timestamp"]) for status in receiver.statuses() if status["status"] == "delivered"]
    assert [one - delivered[0] for one in delivered] == [0, 1, 2, 3]


async def test_a_failure_by_webhook_ends_after_so_many_attempts(caller: Caller, receiver: WebhookReceiver) -> None:
    for attempt in ("job-1", "job-1/1/2"):
        await caller.send(send_request("+991131049100001", callback=attempt))
    await settled(caller)
    by_attempt = {status["biz_opaque_callback_data"]: status for status in receiver.statuses()}
    assert by_attempt["job-1"]["errors"][0]["code"] == 131049
    assert by_attempt["job-1/1/2"]["status"] == "delivered"


async def test_a_refused_message_is_not_reported(caller: Caller, receiver: WebhookReceiver) -> None:
    await caller.send(send_request("+9991310000"))
    await settled(caller)
    assert (receiver.received, caller.simulator.reports.total) == ([], 0)


async def test_reports_before_the_answer_are_answered_before_it(caller: Caller, receiver: WebhookReceiver) -> None:
    receiver.hold.clear()
    sending = asyncio.create_task(caller.send(send_request("+99041000001")))
    await receiver.wait(2)
    assert not sending.done()
    assert sorted(told(receiver)) == ["delivered", "sent"]
    receiver.hold.set()
    _, _, body = await sending
    assert body["messages"][0]["id"] == receiver.statuses()[0]["id"]


async def test_a_rule_has_delays_and_codes_of_its_own(caller: Caller, receiver: WebhookReceiver) -> None:
    steps = [{"status": "failed", "code": 131026, "after_s": 0.2}, {"status": "read", "after_s": 0, "times": 2}]
    answer = await caller.control("POST rules", {"match": {"to_prefix": "+1201"}, "webhooks": {"steps": steps}})
    assert answer[0] == 201
    await caller.send(send_request())
    await settled(caller)
    assert told(receiver) == ["read", "read", "failed"]
    assert receiver.statuses()[2]["errors"][0]["title"] == "Message undeliverable"


# What a test asks for


async def test_every_kind_can_be_asked_for_over_http(caller: Caller, receiver: WebhookReceiver) -> None:
    caller.simulator.webhooks.set(plan="never")
    await caller.send(send_request())
    asked: list[dict[str, Any]] = [
        {"template_status": {"name": "verification_code", "event": "PAUSED"}},
        {"template_category": {"name": "verification_code", "new_category": "MARKETING"}},
        {"template_quality": {"name": "verification_code", "new": "RED"}},
        {"account": {"event": "DISABLED_UPDATE", "ban_state": "DISABLE"}},
        {"number": {"event": "THROUGHPUT_UPGRADE"}},
        {"preference": {"value": "stop"}},
        {"error": {"code": 130429}},
        {"change": {"field": "security", "value": {"event": "PIN_CHANGED"}}},
        {"not_requested": {"callback": "job-1"}},
        {"status": {"callback": "job-1", "status": "read", "timestamp": 1750030073}},
    ]
    for what in asked:
        status, posting = await caller.control("POST webhooks", what)
        assert (status, posting["answer"], posting["tries"], posting["state"]) == (200, 200, 1, "answered"), what
    assert all(post.genuine for post in receiver.received)
    fields = [post.body["entry"][0]["changes"][0]["field"] for post in receiver.received]
    assert fields == [
        "message_template_status_update", "template_category_update", "message_template_quality_update",
        "account_update", "phone_number_quality_update", "user_preferences", "messages", "security", "messages",
        "messages",
    ]  # fmt: skip
    wamid = caller.last().wamid
    button = receiver.received[8].body["entry"][0]["changes"][0]["value"]["messages"][0]
    assert (button["context"]["id"], button["from"]) == (wamid, "12015553931")
    assert receiver.statuses()[0]["id"] == wamid
    (report,) = caller.simulator.reports.of_message(wamid or "")
    assert (report.status, report.timestamp, report.answered) == ("read", 1750030073, 1)


@pytest.mark.parametrize(
    ("signed", "genuine", "header"),
    [
        ({}, True, None),
        ({"signature": "wrong"}, False, "sha256=" + "0" * 64),
        ({"signature": "none"}, False, None),
        ({"signature_header": "sha256=é"}, False, None),
    ],
)
async def test_any_bytes_go_out_as_they_are_signed_as_asked(
    caller: Caller, receiver: WebhookReceiver, signed: dict[str, str], header: str | None, *, genuine: bool
) -> None:
    _, posting = await caller.control("POST webhooks", {"body_base64": "e/8=", **signed})
    assert (posting["kind"], posting["answer"]) == ("raw", 200)
    (post,) = receiver.received
    assert (post.raw, post.genuine) == (b"{\xff", genuine)
    if header is not None:
        assert post.signature == header


async def test_what_is_signed_badly_is_tried_once_alone(caller: Caller) -> None:
    async with WebhookReceiver(answers=(401, 401)) as strict:
        caller.simulator.webhooks.set(url=strict.url, retry=QUICK_RETRY)
        posting = await caller.simulator.webhooks.tell({"body": "{}", "signature": "wrong"})
        assert (posting.answer, posting.tries, posting.state) == (401, 1, "given_up")
        await settled(caller)
        assert len(strict.received) == 1


# Asking over HTTP, and the end


async def test_reports_and_posts_are_read_over_http(caller: Caller, receiver: WebhookReceiver) -> None:
    for number in range(3):
        await caller.send(send_request(callback=f"job-{number}"))
    _, page = await caller.control("GET reports?wait_answered=6&settled=1")
    assert (page["complete"], page["total"], page["waiting"], len(page["reports"])) == (True, 6, 0, 6)
    _, one = await caller.control("GET reports?callback=job-2")
    assert [report["status"] for report in one["reports"]] == ["sent", "delivered"]
    _, same = await caller.control(f"GET reports?message_id={one['reports'][0]['message_id']}")
    assert same["reports"] == one["reports"]
    _, posts = await caller.control("GET posts?since=4")
    assert [(post["seq"], post["kind"], post["state"]) for post in posts["posts"]] == [
        (5, "statuses", "answered"),
        (6, "statuses", "answered"),
    ]
    _, late = await caller.control("GET reports?wait_answered=7&timeout_s=0.01")
    assert late["complete"] is False
    assert (await caller.control("DELETE reports"))[1] == {"cleared": 6, "waited": 0}
    assert (await caller.control("GET reports"))[1]["reports"] == []
    assert len(receiver.received) == 6


async def test_clearing_cuts_what_is_under_way_and_forgets_what_waits(
    caller: Caller, receiver: WebhookReceiver
) -> None:
    receiver.hold.clear()
    caller.simulator.webhooks.set(plan={"steps": [{"status": "sent"}, {"status": "read", "after_s": 60}]})
    await caller.send(send_request())
    await receiver.wait(1)
    assert (await caller.control("DELETE reports"))[1] == {"cleared": 2, "waited": 2}
    assert caller.simulator.webhooks.stats()["waiting"] == 0
    assert caller.simulator.webhooks.stats()["given_up"] == 0


@pytest.mark.parametrize(
    ("request_line", "body", "said"),
    [
        ("PUT webhooks", {"url": "nonsense"}, "url must begin with http"),
        ("PUT webhooks", {"plan": "slow"}, "there is no plan"),
        ("POST webhooks", {}, "exactly one of"),
        ("GET reports?callback=a&message_id=b", None, "not both"),
        ("GET posts?wait=1", None, "no field 'wait'"),
    ],
)
async def test_requests_about_webhooks_that_make_no_sense_are_told_so(
    caller: Caller, request_line: str, body: object, said: str
) -> None:
    status, answer = await caller.control(request_line, body)
    assert status == 400
    assert said in answer["error"]


async def test_without_a_url_nothing_is_reported_and_asking_for_it_says_what_to_do() -> None:
    async with Simulator(SimulatorOptions(rate=0)) as simulator, aiohttp.ClientSession(timeout=PATIENCE) as session:
        caller = Caller(simulator, session)
        assert (await caller.send(send_request()))[0] == 200
        assert simulator.reports.total == 0
        status, answer = await caller.control("POST webhooks", {"body": ""})
        assert (status, "PUT /_simulator/webhooks" in answer["error"]) == (400, True)
        assert (await caller.control("GET webhooks"))[1]["secret"] is None


async def test_it_closes_at_once_with_posts_under_way_and_many_waiting(receiver: WebhookReceiver) -> None:
    receiver.hold.clear()
    others = asyncio.all_tasks()
    webhooks = WebhookSettings(url=receiver.url, secret=SECRET)
    async with (
        aiohttp.ClientSession(timeout=PATIENCE) as session,
        Simulator(SimulatorOptions(rate=0, webhooks=webhooks)) as simulator,
    ):
        simulator.webhooks.set(plan={"steps": [{"status": "sent"}, {"status": "read", "after_s": 600}]})
        for _ in range(5):
            await Caller(simulator, session).send(send_request())
        await receiver.wait(5)
        waiting = asyncio.create_task(simulator.webhooks.wait(settled=True, timeout_s=60))
        await asyncio.sleep(0)
        started = time.monotonic()
    assert time.monotonic() - started < 3
    await waiting
    assert simulator.webhooks.stats()["given_up"] == 10
    receiver.hold.set()
    left = {task for task in asyncio.all_tasks() - others if "Postman" in repr(task.get_coro())}
    assert left == set()
