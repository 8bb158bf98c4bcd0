"""How the simulator posts its webhooks: again until they are answered, so many at once, in batches and in disorder."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import pytest

from send_requests import send_request
from simulator_caller import AT_ONCE, QUICK_RETRY, Caller, calling_and_reporting_to, settled
from webhook_receiver import WebhookReceiver

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


# Until it is answered with 200


async def test_what_is_not_answered_with_200_is_posted_again_and_counted(caller: Caller) -> None:
    async with WebhookReceiver(answers=(503, 500, 201)) as stubborn:
        change = {"url": stubborn.url, "plan": AT_ONCE, "retry": QUICK_RETRY}
        assert (await caller.control("PUT webhooks", change))[0] == 200
        await caller.send(send_request())
        await settled(caller)
        assert [post.genuine for post in stubborn.received] == [True] * 4
        assert len({post.raw for post in stubborn.received}) == 1
    (report,) = caller.simulator.reports.entries()
    assert (report.posts, report.answered, report.given_up, report.last_answer) == (4, 1, 0, 200)
    (posting,) = caller.simulator.webhooks.postings()
    assert (posting.tries, posting.answer, posting.state, posting.statuses) == (4, 200, "answered", 1)
    webhooks = (await caller.control("GET stats"))[1]["webhooks"]
    assert webhooks["answers"] == {"503": 1, "500": 1, "201": 1, "200": 1}
    assert (webhooks["tries"], webhooks["answered"], webhooks["waiting"]) == (4, 1, 0)


async def test_pauses_grow_to_their_ceiling(caller: Caller) -> None:
    async with WebhookReceiver(answers=(500,) * 6) as stubborn:
        retry = {"first_s": 0.05, "factor": 3, "ceiling_s": 0.2, "for_s": 20}
        caller.simulator.webhooks.set(url=stubborn.url, plan=AT_ONCE, retry=retry)
        started = time.monotonic()
        await caller.send(send_request())
        await settled(caller)
        # 0.05 + 0.15 + 4 times 0.2
        assert 1.0 <= time.monotonic() - started < 3
        assert len(stubborn.received) == 7


async def test_it_gives_up_in_the_end(caller: Caller) -> None:
    async with WebhookReceiver(answers=(500,) * 1000) as stubborn:
        retry = {"first_s": 0.05, "factor": 1, "for_s": 0.3}
        caller.simulator.webhooks.set(url=stubborn.url, plan=AT_ONCE, retry=retry)
        await caller.send(send_request())
        await settled(caller)
        assert 2 <= len(stubborn.received) <= 7
    (report,) = caller.simulator.reports.entries()
    assert (report.answered, report.given_up, report.last_answer) == (0, 1, 500)


async def test_a_receiver_that_is_away_gets_everything_once_it_is_back(
    caller: Caller, receiver: WebhookReceiver, unused_tcp_port: int
) -> None:
    nobody = f"http://127.0.0.1:{unused_tcp_port}/webhook"
    caller.simulator.webhooks.set(url=nobody, plan=AT_ONCE, retry=QUICK_RETRY)
    for number in range(20):
        await caller.send(send_request(callback=f"job-{number}"))
    assert not await caller.simulator.webhooks.wait(answered=1, timeout_s=0.2)
    caller.simulator.webhooks.set(url=receiver.url)
    await settled(caller)
    assert sorted(one["biz_opaque_callback_data"] for one in receiver.statuses()) == sorted(
        f"job-{number}" for number in range(20)
    )
    assert caller.simulator.webhooks.stats()["answers"]["none"] >= 20


async def test_a_receiver_that_does_not_answer_in_time_gets_it_again(caller: Caller, receiver: WebhookReceiver) -> None:
    receiver.hold.clear()
    caller.simulator.webhooks.set(plan=AT_ONCE, retry=QUICK_RETRY, timeout_s=0.1)
    await caller.send(send_request())
    await receiver.wait(2)
    receiver.hold.set()
    await settled(caller)
    assert caller.simulator.reports.entries()[0].answered == 1


async def test_no_more_posts_are_under_way_than_allowed(caller: Caller, receiver: WebhookReceiver) -> None:
    receiver.hold.clear()
    caller.simulator.webhooks.set(plan=AT_ONCE, concurrency=3)
    for _ in range(10):
        await caller.send(send_request())
    await receiver.wait(3)
    assert caller.simulator.webhooks.stats()["waiting"] == 10
    receiver.hold.set()
    await settled(caller)
    assert (len(receiver.received), receiver.most_at_once) == (10, 3)


# Batches and disorder


async def test_statuses_of_several_messages_share_a_post(caller: Caller, receiver: WebhookReceiver) -> None:
    caller.simulator.webhooks.set(plan=AT_ONCE, batch=4, batch_wait_s=0.5)
    for number in range(6):
        await caller.send(send_request(f"+120155539{number:02}", callback=f"job-{number}"))
    await settled(caller)
    assert [len(post.statuses()) for post in receiver.received] == [4, 2]
    assert all(post.genuine for post in receiver.received)
    assert [one["biz_opaque_callback_data"] for one in receiver.statuses()] == [f"job-{n}" for n in range(6)]
    contacts = receiver.received[0].body["entry"][0]["changes"][0]["value"]["contacts"]
    assert len(contacts) == 4


async def test_disorder_loses_nothing_and_changes_no_time(caller: Caller, receiver: WebhookReceiver) -> None:
    plan = {
        "steps": [
            {"status": "sent"},
            {"status": "delivered", "after_s": 0.1, "until_s": 2},
            {"status": "read", "after_s": 2, "until_s": 2.2},
        ]
    }
    caller.simulator.webhooks.set(plan=plan, duplicates=2, shuffle_s=1.0, seed=7)
    callbacks = [f"job-{number}" for number in range(100)]
    for number, callback in enumerate(callbacks):
        await caller.send(send_request(f"+120155{number:05}", callback=callback))
    await settled(caller)
    came: dict[tuple[str, str], list[str]] = {}
    for status in receiver.statuses():
        came.setdefault((status["biz_opaque_callback_data"], status["status"]), []).append(status["timestamp"])
    assert len(came) == 300
    for (callback, kind), times in came.items():
        (known,) = [report for report in caller.simulator.reports.of_callback(callback) if report.status == kind]
        assert times == [str(known.timestamp)] * known.planned
    counts = {len(times) for times in came.values()}
    assert counts == {1, 2, 3}
    # Some webhook overtook an earlier one of its message.
    order = {callback: [one["status"] for one in receiver.statuses() if one["biz_opaque_callback_data"] == callback]
             for callback in callbacks}  # fmt: skip
    assert any(statuses.index("delivered") < statuses.index("sent") for statuses in order.values())
