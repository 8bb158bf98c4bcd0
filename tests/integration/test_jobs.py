"""What becomes of a job, with a real broker, worker and provider: every end that needs no crash."""

from __future__ import annotations

import re
import time
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final

import orjson
import pytest

from sealed_letters import original
from service import CODE, NUMBER, in_seconds, job_body, running_service

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from broker import Vhost
    from service import Seen, Service

RESULT_FIELDS: Final = {
    "event_id", "job_id", "sender", "status", "run", "attempt", "at", "provider", "provider_message_id", "to", "ref",
    "error", "retry_in_s", "latency_ms",
}  # fmt: skip
ERROR_FIELDS: Final = {"kind", "code", "title", "detail", "http_status", "provider_trace_id"}
RFC3339_UTC: Final = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z")


@pytest.fixture
async def service(vhost: Vhost, tmp_path: Path) -> AsyncIterator[Service]:
    async with running_service(vhost, tmp_path) as running:
        yield running


def assert_secret(*seen: Seen) -> None:
    """Neither the code nor the number is anywhere in these messages."""
    for one in seen:
        assert CODE not in one.everything
        assert NUMBER.removeprefix("+") not in one.everything


# -- results -------------------------------------------------------------------------------------------


async def test_an_accepted_job_has_a_complete_result(service: Service) -> None:
    await service.publish(job_body(id="job-1", ref={"user": 7, "tags": ["a"]}, created_at=in_seconds(-20)))
    result = await service.wait_for_result("job-1", "accepted")
    body = dict(result.body)
    assert set(body) == RESULT_FIELDS
    assert RFC3339_UTC.fullmatch(body["at"])
    assert abs(datetime.fromisoformat(body.pop("at")).timestamp() - time.time()) < 60
    [entry] = service.simulator.journal.entries()
    assert body.pop("provider_message_id") == entry.wamid
    latency = body.pop("latency_ms")
    assert type(latency) is int
    assert 20_000 <= latency < 80_000
    assert body == {
        "event_id": "job-1/1/1/accepted", "job_id": "job-1", "sender": "default", "status": "accepted",
        "run": 1, "attempt": 1, "provider": "cloud_api", "to": "12*******87", "ref": {"user": 7, "tags": ["a"]},
        "error": None, "retry_in_s": None,
    }  # fmt: skip
    message = result.message
    assert (message.exchange, message.routing_key) == ("otpost.results", "default.accepted")
    assert (message.type, message.content_type, message.delivery_mode) == ("otpost.result.v1", "application/json", 2)
    assert message.message_id == "job-1/1/1/accepted"
    assert CODE not in result.everything
    assert "2025550187" not in result.everything


async def test_the_provider_gets_the_number_with_its_plus_the_code_twice_and_the_jobs_id(service: Service) -> None:
    await service.publish(job_body(id="job-1", to="1 202 555 0187", template="login", language="de"))
    await service.wait_for_result("job-1", "accepted")
    [entry] = service.simulator.journal.entries()
    assert (entry.to, entry.code, entry.callback) == ("+12025550187", "806274", "job-1")
    assert (entry.template, entry.language, entry.prepended, entry.invalid) == ("login", "de", False, None)


async def test_a_retry_is_told_and_comes_no_earlier_than_told(service: Service) -> None:
    # 131016, service unavailable, once; then accepted.
    await service.publish(job_body(id="job-1", to="+9991310161001"))
    retrying = (await service.wait_for_result("job-1", "retrying")).body
    accepted = (await service.wait_for_result("job-1", "accepted")).body
    assert set(retrying) == RESULT_FIELDS
    assert (retrying["event_id"], accepted["event_id"]) == ("job-1/1/1/retrying", "job-1/1/2/accepted")
    assert (retrying["attempt"], accepted["attempt"]) == (1, 2)
    assert set(retrying["error"]) == ERROR_FIELDS
    assert (retrying["error"]["kind"], retrying["error"]["code"]) == ("unavailable", 131016)
    assert (retrying["provider_message_id"], accepted["error"]) == (None, None)
    first, second = service.simulator.journal.entries()
    assert first.answered_at is not None
    assert second.at - first.answered_at >= retrying["retry_in_s"] > 0
    assert (first.callback, second.callback) == ("job-1", "job-1/1/2")
    assert service.statuses("job-1") == ["retrying", "accepted"]


async def test_a_permanent_refusal_fails_with_the_providers_own_words_for_it(service: Service) -> None:
    await service.publish(job_body(id="job-1", to="+9991310260001", ref={"user": 7}))
    result = await service.wait_for_result("job-1", "failed")
    letter = await service.wait_for_dead_letter("job-1")
    error = result.body["error"]
    assert set(result.body) == RESULT_FIELDS
    assert (error["kind"], error["code"], error["http_status"]) == ("recipient", 131026, 400)
    assert error["title"]
    assert error["provider_trace_id"]
    assert (result.body["ref"], result.body["provider_message_id"]) == ({"user": 7}, None)
    assert (result.routing_key, result.message.message_id) == ("default.failed", "job-1/1/1/failed")
    assert orjson.loads(str(letter.headers["otpost-error"])) == error
    assert CODE not in result.everything
    assert service.requests() == 1


# -- bodies that are no jobs ---------------------------------------------------------------------------

UNREADABLE: Final = {
    "no JSON": (b'{"id": "bad", "code": "806274", "to": "+12025550187"', "the body is not JSON"),
    "no UTF-8": (b'{"id": "bad", "code": "806274\xff", "to": "+12025550187"}', "the body is not JSON in UTF-8"),
    "no object": (b'["806274", "+12025550187"]', "the body must be a JSON object"),
    "nothing": (b"", "the body is not JSON"),
    "too large": (job_body(id="bad", ref={"x": "x" * 17_000}), "at most 16384 are allowed"),
}


async def test_bodies_without_a_readable_id_are_dead_letters_and_fail_each_for_its_own_reason(service: Service) -> None:
    for body, _ in UNREADABLE.values():
        await service.publish(body)
    await service.publish(job_body(id="neighbour"))
    letters = await service.wait_for_dead_letters(len(UNREADABLE))
    await service.wait_for_result("neighbour", "accepted")
    failed = [one for one in service.results.seen if one.body["job_id"] is None]
    buried = [original(letter.message.body, service.key) for letter in letters]
    assert sorted(buried, key=repr) == sorted((body for body, _ in UNREADABLE.values()), key=repr)
    assert len({one.body["event_id"] for one in failed}) == len(failed) == len(UNREADABLE)
    for name, (_, problem) in UNREADABLE.items():
        assert any(problem in one.body["error"]["detail"] for one in failed), name
    for one in failed:
        assert set(one.body) == RESULT_FIELDS
        assert (one.body["status"], one.body["error"]["kind"], one.body["sender"]) == (
            "failed",
            "invalid_job",
            "default",
        )
        assert (one.body["to"], one.body["latency_ms"], one.message.message_id) == (None, None, one.body["event_id"])
    for letter in letters:
        assert letter.headers["otpost-reason"] == "invalid_job"
        assert CODE not in str(letter.headers)
    assert_secret(*failed)
    assert service.requests() == 1


INVALID: Final[dict[str, tuple[dict[str, Any], list[str]]]] = {
    "unknown-version": ({"version": 2}, ["version: must be 1"]),
    "unknown-field": ({"expire_at": in_seconds(60)}, ["expire_at: unknown field"]),
    "two-expiries": ({"expires_at": in_seconds(60)}, ["expires_at and ttl_s exclude each other"]),
    "no-recipient": ({"to": None}, ["to: is required"]),
    "two-recipients": ({"to": f"{NUMBER},+12015553932"}, ["to: must be one phone number"]),
    "no-code": ({"code": None}, ["exactly one of code and sealed_code"]),
    "unknown-age": ({"created_at": None}, ["the job's age is unknown"]),
    "too-long-a-life": ({"ttl_s": 5401}, ["ttl_s: must be a number of seconds"]),
    "several-at-once": (
        {"to": "hello", "template": "Verification!", "langauge": "en_US", "version": 7},
        ["to: must be one phone number", "template: must be a template's name", "langauge: unknown field", "version: "],
    ),
}


async def test_invalid_jobs_fail_with_every_problem_named_and_hold_up_no_good_one(service: Service) -> None:
    for name, (fields, _) in INVALID.items():
        await service.publish(job_body(id=f"bad:{name}", **fields))
        await service.publish(job_body(id=f"good:{name}"))
    for name, (_, problems) in INVALID.items():
        result = await service.wait_for_result(f"bad:{name}", "failed")
        letter = await service.wait_for_dead_letter(f"bad:{name}")
        await service.wait_for_result(f"good:{name}", "accepted")
        error = result.body["error"]
        for problem in problems:
            assert problem in error["detail"], name
        assert (error["kind"], letter.headers["otpost-reason"]) == ("invalid_job", "invalid_job")
        assert (result.body["event_id"], result.body["latency_ms"]) == (f"bad:{name}/1/1/failed", None)
        assert orjson.loads(str(letter.headers["otpost-error"])) == error
        assert_secret(result)
        assert CODE not in str(letter.headers)
        assert service.statuses(f"bad:{name}") == ["failed"]
    assert service.requests() == len(INVALID)


async def test_a_job_without_template_fails_where_its_sender_has_no_default(vhost: Vhost, tmp_path: Path) -> None:
    senders = {"default": {"template": None, "language": None}}
    async with running_service(vhost, tmp_path, senders=senders) as service:
        await service.publish(job_body(id="bad"))
        await service.publish(job_body(id="good", template="verification_code", language="en_US"))
        failed = await service.wait_for_result("bad", "failed")
        await service.wait_for_result("good", "accepted")
        letter = await service.wait_for_dead_letter("bad")
    detail = failed.body["error"]["detail"]
    assert "template: is required: this sender has no default (OTPOST_TEMPLATE); name one in the job" in detail
    assert "language: is required: this sender has no default (OTPOST_LANGUAGE); name one in the job" in detail
    assert letter.headers["otpost-reason"] == "invalid_job"
    assert_secret(failed)


async def test_headers_of_ours_that_hold_rubbish_do_no_harm(service: Service) -> None:
    rubbish = {
        "otpost-run": "two", "otpost-attempt": -5, "otpost-counted": 10**12, "otpost-drops": {"a": 1},
        "otpost-deadline": "soon", "otpost-sender": "other", "otpost-future": [1, 2], "traceparent": 7,
        "x-death": "never", "x-first-death-queue": "q",
    }  # fmt: skip
    await service.publish(job_body(id="job-1"), headers=rubbish)
    result = await service.wait_for_result("job-1", "accepted")
    assert (result.body["run"], result.body["attempt"], result.body["sender"]) == (1, 1, "default")
    assert service.requests() == 1


async def test_the_amqp_timestamp_stands_in_for_created_at(service: Service) -> None:
    body = job_body(id="job-1", created_at=None, ttl_s=300)
    await service.publish(body, timestamp=datetime.fromtimestamp(time.time() - 30, UTC))
    await service.publish(job_body(id="old", created_at=None, ttl_s=20), timestamp=datetime.fromtimestamp(0, UTC))
    result = await service.wait_for_result("job-1", "accepted")
    assert 29_000 <= result.body["latency_ms"] < 90_000
    await service.wait_for_result("old", "expired")


# -- time ----------------------------------------------------------------------------------------------


async def test_a_job_that_is_expired_on_arrival_is_never_sent_and_no_dead_letter(service: Service) -> None:
    await service.publish(job_body(id="late", created_at=in_seconds(-400), ttl_s=300))
    await service.publish(job_body(id="too-late", ttl_s=None, expires_at=in_seconds(3)))  # less than a request may take
    for job_id in ("late", "too-late"):
        result = await service.wait_for_result(job_id, "expired")
        assert set(result.body) == RESULT_FIELDS
        assert (result.body["event_id"], result.body["error"]) == (f"{job_id}/1/1/expired", None)
    await service.publish(job_body(id="bad", to="x"))
    [letter] = await service.wait_for_dead_letters(1)
    assert letter.body["id"] == "bad"
    assert service.requests() == 0


async def test_a_job_is_not_sent_before_not_before(service: Service) -> None:
    begin = time.time() + 1.5
    held = datetime.fromtimestamp(begin, UTC).isoformat()
    await service.publish(job_body(id="held", not_before=held))
    await service.publish(job_body(id="neighbour"))
    await service.wait_for_result("held", "accepted")
    sent = {entry.callback: entry.at for entry in service.simulator.journal.entries()}
    assert sent["neighbour"] < sent["held"]
    assert sent["held"] >= begin
    assert service.statuses("held") == ["accepted"]


# -- once an id ----------------------------------------------------------------------------------------


async def test_a_job_sent_again_under_its_id_is_not_sent_but_told_its_end_again(service: Service) -> None:
    await service.publish(job_body(id="job-1"))
    first = await service.wait_for_result("job-1", "accepted")
    await service.amqp.declare_queue("mine")
    mine = await service.amqp.tap("mine")
    await service.publish(job_body(id="job-1", code="000000", to="+12015550000"), reply_to="mine", correlation_id="c")
    again = await service.wait_for_result("job-1", "accepted", nth=2)
    [reply] = await mine.wait_for_count(1)
    assert again.message.body == first.message.body
    assert again.message.message_id == first.message.message_id == "job-1/1/1/accepted"
    assert reply.message.body == first.message.body
    assert (reply.message.correlation_id, reply.message.message_id) == ("c", "job-1/1/1/accepted")
    assert service.requests() == 1


async def test_a_failed_job_sent_again_is_told_its_failure_again_without_a_second_dead_letter(service: Service) -> None:
    await service.publish(job_body(id="job-1", to="+9991310260001"))
    assert (await service.wait_for_dead_letter("job-1")).headers["otpost-reason"] == "recipient"
    await service.publish(job_body(id="job-1", to="+9991310260001"))
    again = await service.wait_for_result("job-1", "failed", nth=2)
    assert again.message.message_id == "job-1/1/1/failed"
    await service.publish(job_body(id="other", to="+9991310260002"))
    letters = await service.wait_for_dead_letters(2)
    assert [letter.body["id"] for letter in letters] == ["job-1", "other"]
    assert service.requests("job-1") == 1


async def test_many_copies_of_a_job_at_once_are_one_request(service: Service) -> None:
    body = job_body(id="job-1")
    for _ in range(30):
        await service.publish(body)
    await service.publish(job_body(id="last"))
    await service.wait_for_result("last", "accepted")
    await service.wait_for_result("job-1", "accepted")
    await service.vhost.wait_for_ready("otpost.jobs.default", 0)
    assert service.requests("job-1") == 1
    assert set(service.statuses("job-1")) == {"accepted"}


# -- senders -------------------------------------------------------------------------------------------


async def test_two_senders_each_send_from_their_own_number(vhost: Vhost, tmp_path: Path) -> None:
    senders = {"us": {"phone_number_id": "111"}, "de": {"phone_number_id": "222", "language": "de"}}
    async with running_service(vhost, tmp_path, senders=senders) as service:
        await service.publish(job_body(id="a"), key="us")
        await service.publish(job_body(id="b"), key="de")
        from_us = await service.wait_for_result("a", "accepted")
        from_de = await service.wait_for_result("b", "accepted")
        sent = {
            entry.callback: (entry.phone_number_id, entry.language) for entry in service.simulator.journal.entries()
        }
    assert sent == {"a": ("111", "en_US"), "b": ("222", "de")}
    assert (from_us.routing_key, from_us.body["sender"]) == ("us.accepted", "us")
    assert (from_de.routing_key, from_de.body["sender"]) == ("de.accepted", "de")
