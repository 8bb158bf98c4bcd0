"""`otpost doctor` beside a real RabbitMQ, a ledger and the simulator: all well, every ill, and half of it down."""

from __future__ import annotations

import asyncio
import os
import secrets
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, Final

import aiohttp
import orjson
import pytest
from pydantic import SecretStr

from command import otpost
from known_states import claimed, retry_step
from message_schemas import assert_result
from otpost import rabbitmq
from otpost.declaring import declare
from otpost.sealing import PrivateKey
from otpost.topology import Topology, topology
from otpost_worker.attempts import State
from otpost_worker.brokers.rabbitmq.ledger_mark import mark_ledger
from otpost_worker.doctor import Finding, examination
from otpost_worker.ledger.sqlite import SqliteLedger
from otpost_worker.outcome import Error, Kind
from otpost_worker.pacing import Lane
from otpost_worker.ports import Entry
from otpost_worker.simulator import Simulator, SimulatorOptions
from otpost_worker.standing import Heard, Signal
from ports_in_memory import NOW
from service import PATIENCE_S, declare_topology, job_body, running_service
from worker_process import worker_environment

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from aio_pika.abc import AbstractConnection

    from broker import Vhost
    from private_redis import PrivateRedis

DEAD: Final = "otpost.dead"


@pytest.fixture
async def simulator() -> AsyncIterator[Simulator]:
    async with Simulator(SimulatorOptions(rate=0, pair=False)) as running:
        yield running


@asynccontextmanager
async def connected(vhost: Vhost) -> AsyncIterator[AbstractConnection]:
    connection = await rabbitmq.connect(vhost.url, name="test", timeout_s=PATIENCE_S)
    try:
        yield connection
    finally:
        await rabbitmq.close_quietly(connection)


async def examined(vhost: Vhost, environment: dict[str, str]) -> tuple[int, dict[str, list[dict[str, Any]]]]:
    """Run it, and return its status and its findings by check."""
    done = await otpost("doctor", "--json", "--management-url", management_of(vhost), environment=environment)
    assert done.err == ""
    findings: dict[str, list[dict[str, Any]]] = {}
    for finding in done.objects:
        assert finding.keys() == {"check", "level", "where", "what", "remedy"}
        # Whatever is not well has a remedy.
        assert (finding["remedy"] is None) == (finding["level"] == "ok")
        findings.setdefault(finding["check"], []).append(finding)
    return done.status, findings


def management_of(vhost: Vhost) -> str:
    return f"http://127.0.0.1:{vhost.node.management_port}"


def settings(vhost: Vhost, folder: Path, api_base: str, **more: str) -> dict[str, str]:
    """A worker's settings, and nothing else."""
    given = worker_environment(vhost, folder, api_base, **more)
    return {name: value for name, value in given.items() if name.startswith("OTPOST_")}


async def test_where_all_is_well_it_says_so_and_leaves_nothing_behind(vhost: Vhost, tmp_path: Path) -> None:
    async with running_service(vhost, tmp_path) as service:
        environment = settings(vhost, tmp_path, service.simulator.url)
        await vhost.wait_for_queue("otpost.jobs.default", consumers=1, timeout_s=PATIENCE_S)
        exchanges, queues = vhost.exchanges(), vhost.queues().keys()
        (status, findings), for_people = await asyncio.gather(
            examined(vhost, environment),
            otpost("doctor", "--management-url", management_of(vhost), environment=environment),
        )
        assert (status, for_people.status) == (0, 0)
        assert {check: [one["what"] for one in found] for check, found in findings.items()} == {
            "broker": [f"RabbitMQ {rabbitmq_version(vhost)} answers"],
            "topology": ["every exchange and queue is there, with the arguments that it needs"],
            "consumers": ["consumed by 1; 0 jobs wait"],
            "policies": ["no policy changes what the queues were declared with"],
            "bindings": ["every binding is there"],
            "ledger": [findings["ledger"][0]["what"]],
            "ledger shared": ["it is the one that the workers of this broker share"],
            "sender": ["it is not held; 80 messages a second"],
            "deliveries": [
                "no app secret: no deliveries are watched, and 'accepted' is the last that is heard (docs/webhooks.md)"
            ],
            "provider": ["the token is good, and the number can send"],
            "clock": ["ours agrees with the provider's"],
        }
        assert for_people.err == "0 problems, 0 warnings, 11 ok\n"
        assert "it is the one that the workers of this broker share" in for_people.out
        assert "EAAG-a-token" not in for_people.out + str(findings)
        assert (vhost.exchanges(), vhost.queues().keys()) == (exchanges, queues)
        assert service.requests() == 0


def rabbitmq_version(vhost: Vhost) -> str:
    return str(vhost.api.request("GET", "/overview")["rabbitmq_version"])


async def test_each_ill_is_told_with_its_remedy(vhost: Vhost, simulator: Simulator, tmp_path: Path) -> None:
    wanted = topology(["default"])
    vhost.declare_queue(DEAD, {"x-queue-type": "quorum", "x-delivery-limit": 1_000_000, "x-message-ttl": 5_000_000})
    async with connected(vhost) as connection:
        rest = Topology(wanted.exchanges, tuple(one for one in wanted.queues if one.name != DEAD), wanted.bindings[1:])
        await declare(connection, rest)
        await mark_ledger(connection, "somebody-elses")
    vhost.set_policy("short", r"^otpost\.jobs\.", {"max-length": 5})
    put_operator_policy(vhost, "limits", r"^otpost\.checks$", {"delivery-limit": 7})
    vhost.publish(DEAD, b"{}")
    vhost.publish("otpost.dropped", b"{}")
    await hold_sender(tmp_path)
    environment = settings(vhost, tmp_path, simulator.url)
    async with aiohttp.ClientSession() as session:
        impaired = {"entity_type": "WABA", "can_send_message": "BLOCKED", "errors": [{"error_code": 141006}]}
        async with session.put(f"{simulator.url}/_simulator/number", json={"entities": [impaired]}) as answer:
            assert answer.status == 200
    await vhost.wait_for_policies("otpost.jobs.default", "otpost.checks")
    status, findings = await examined(vhost, environment)
    assert status == 1
    assert levels(findings, "topology") == [("problem", DEAD)]
    assert findings["topology"][0]["what"] == "queue otpost.dead: x-message-ttl is 5000000, should be 1209600000"
    assert levels(findings, "consumers") == [("problem", "otpost.jobs.default")]
    assert levels(findings, "dead letters") == [("warning", DEAD)]
    assert levels(findings, "dropped") == [("problem", "otpost.dropped")]
    assert [(one["level"], one["where"], one["what"].partition(":")[0]) for one in findings["policies"]] == [
        ("problem", "otpost.checks", "the operator policy 'limits' sets delivery-limit=7"),
        ("problem", "otpost.jobs.default", "the policy 'short' sets max-length=5"),
    ]
    assert findings["bindings"][0]["what"] == "missing: otpost.dropped → otpost.dropped ()"
    assert findings["ledger"][0]["level"] == "ok"
    assert findings["ledger shared"][0]["what"] == "the workers of this broker share another one, somebody-elses"
    assert findings["sender"][0]["what"].startswith("halted since ")
    assert findings["provider"][0]["what"] == "WABA 102290129340398: BLOCKED: no description (code 141006)"


def levels(findings: dict[str, list[dict[str, Any]]], check: str) -> list[tuple[str, str]]:
    return [(one["level"], one["where"]) for one in findings[check]]


def put_operator_policy(vhost: Vhost, name: str, pattern: str, definition: dict[str, object]) -> None:
    order = {"pattern": pattern, "definition": definition, "apply-to": "queues", "priority": 1}
    vhost.api.request("PUT", f"/operator-policies/{vhost.name}/{name}", order)


async def hold_sender(folder: Path) -> None:
    """Let the ledger know of a refusal that halts the sender, as a worker would."""
    lane = Lane("default", "default", "+12015553931", "login", "en_US", 80.0, NOW, NOW)
    heard = Heard(lane, Signal.SENDER_REFUSED, NOW, error=Error(Kind.SENDER_HALTED, code=190, title="Session expired"))
    async with SqliteLedger(folder / "ledger.db") as ledger:
        entry = Entry(State.REFUSED, Kind.SENDER_HALTED, retry_step(1, NOW), heard=heard)
        await ledger.record(await claimed(ledger), entry)


async def test_a_ledger_in_redis_is_examined_too(vhost: Vhost, own_redis: PrivateRedis, tmp_path: Path) -> None:
    key = SecretStr(PrivateKey(bytes(range(32))).reveal())
    ledger = SecretStr(own_redis.url)
    async with running_service(vhost, tmp_path, ledger_url=ledger, private_keys=key) as service:
        await service.publish(job_body(id="job-1"))
        await service.wait_for_result("job-1", "accepted")
        environment = settings(vhost, tmp_path, service.simulator.url, ledger_url=own_redis.url)
        (status, findings), told = await asyncio.gather(
            examined(vhost, environment), otpost("explain", "job-1", environment=environment)
        )
    assert (status, findings["ledger"][0]["level"], findings["ledger"][0]["where"]) == (0, "ok", own_redis.url)
    assert findings["ledger shared"][0]["level"] == "ok"
    assert findings["sender"][0]["level"] == "ok"
    assert told.out.splitlines()[-1] == "it waits for nothing: it has ended as accepted"
    own_redis.stop()
    _, findings = await examined(vhost, environment)
    assert findings["ledger"][0]["level"] == "problem"
    assert findings["ledger"][0]["what"].startswith(f"the ledger {own_redis.url} cannot be used: ")


async def test_half_of_it_may_be_down(vhost: Vhost, simulator: Simulator, tmp_path: Path) -> None:
    await declare_topology(vhost, "default")
    before = vhost.exchanges()
    nobody = "http://127.0.0.1:1"
    gone = "amqp://eve:s3cret@127.0.0.1:1/"
    no_broker, no_provider, nothing = await asyncio.gather(
        otpost("doctor", "--json", environment=settings(vhost, tmp_path, simulator.url, broker_url=gone)),
        otpost("doctor", "--json", "--management-url", nobody, environment=settings(vhost, tmp_path, nobody)),
        otpost("doctor", "--json", environment={"OTPOST_BROKER_URL": gone, "OTPOST_LEDGER_URL": "sqlite:////no/where"}),
    )
    assert [done.status for done in (no_broker, no_provider, nothing)] == [1, 1, 1]
    where = "amqp://eve@127.0.0.1:1/"
    assert [(one["check"], one["level"], one["where"], one["what"]) for one in no_broker.objects] == [
        ("broker", "problem", where, "Connection refused"),
        ("ledger", "warning", f"{tmp_path}/ledger.db", f"there is no ledger {tmp_path}/ledger.db"),
        ("deliveries", "ok", "sender default", no_broker.objects[2]["what"]),
        ("provider", "ok", no_broker.objects[3]["where"], "the token is good, and the number can send"),
        ("clock", "ok", no_broker.objects[4]["where"], "ours agrees with the provider's"),
    ]
    assert [(one["check"], one["level"]) for one in no_provider.objects] == [
        ("broker", "ok"), ("topology", "ok"), ("consumers", "problem"), ("policies", "warning"),
        ("ledger", "warning"), ("deliveries", "ok"), ("provider", "problem"),
    ]  # fmt: skip
    assert no_provider.objects[-1]["what"].startswith("no connection to the provider: ")
    assert [(one["check"], one["level"]) for one in nothing.objects] == [
        ("settings", "warning"), ("broker", "problem"), ("ledger", "warning"),
    ]  # fmt: skip
    assert "s3cret" not in no_broker.out + no_broker.err + nothing.out + nothing.err
    # Looking for a ledger makes none, and comparing it writes none down.
    assert await asyncio.to_thread(os.listdir, tmp_path) == []
    assert vhost.exchanges() == before


def result(job_id: str, status: str, *, minutes_ago: float, sender: str = "default") -> bytes:
    """A result as a worker publishes it."""
    at = (datetime.now(UTC) - timedelta(minutes=minutes_ago)).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    error = {"kind": "no_report", "code": None, "title": None, "detail": None} if status == "undelivered" else None
    told = {
        "event_id": f"{job_id}/1/1/{status}", "job_id": job_id, "sender": sender, "status": status, "run": 1,
        "attempt": 1, "at": at, "provider": "cloud_api", "provider_message_id": "wamid.1", "to": "12*******31",
        "ref": None, "error": error and error | {"http_status": None, "provider_trace_id": None}, "retry_in_s": None,
        "latency_ms": 10,
    }  # fmt: skip
    return orjson.dumps(told)


async def test_senders_whose_reports_do_not_come_are_told_what_to_look_at(
    vhost: Vhost, simulator: Simulator, tmp_path: Path
) -> None:
    async def deliveries(**secrets_: str) -> list[tuple[str, str]]:
        environment = settings(vhost, tmp_path, simulator.url, **secrets_)
        _, findings = await examined(vhost, environment)
        assert secret not in str(findings)
        # The others are about the settings.
        return [(one["level"], one["what"]) for one in findings["deliveries"] if one["where"] == "otpost.results"]

    async def tell(job_id: str, status: str, **more: Any) -> None:  # noqa: ANN401 - see result
        properties = {"type": "otpost.result.v1", "message_id": f"{job_id}/1/1/{status}"}
        body = result(job_id, status, **more)
        assert_result(body)
        assert await asyncio.to_thread(
            vhost.publish, f"default.{status}", body, exchange="otpost.results", properties=properties
        )

    secret = "one-of-metas"
    # Nothing is declared yet, and the stream is missing.
    assert await deliveries(app_secret=secret) == []
    await declare_topology(vhost, "default")
    vhost.publish("otpost.webhooks", b"{}")
    assert await deliveries(app_secret=secret) == []
    await tell("job-1", "accepted", minutes_ago=1)
    await tell("job-2", "accepted", minutes_ago=50)
    await tell("job-2", "undelivered", minutes_ago=30)
    await tell("job-3", "accepted", minutes_ago=50, sender="other")
    await tell("job-3", "delivered", minutes_ago=50, sender="other")
    silence = ("warning", "1 message was accepted in the last 60 minutes, and not one report came")
    assert await deliveries(app_secret=secret) == [silence]
    assert await deliveries() == []
    _, findings = await examined(vhost, settings(vhost, tmp_path, simulator.url))
    assert levels(findings, "webhooks") == [("problem", "otpost.webhooks")]
    await tell("job-1", "sent", minutes_ago=0)
    assert await deliveries(app_secret=secret) == [("ok", "the provider reports what became of messages")]


async def test_a_token_that_is_refused_and_a_clock_that_is_off_are_told(vhost: Vhost, tmp_path: Path) -> None:
    async with Simulator(SimulatorOptions(rate=0, access_token="right")) as simulator:
        _, findings = await examined(vhost, settings(vhost, tmp_path, simulator.url))
    [refused] = findings["provider"]
    assert (refused["level"], refused["what"].startswith("the token is refused: ")) == ("problem", True)
    assert "put a new one into OTPOST_ACCESS_TOKEN (sender default)" in refused["remedy"]
    async with answering(
        b"HTTP/1.1 200 OK\r\nDate: Sun, 06 Nov 1994 08:49:37 GMT\r\nContent-Length: 2\r\n\r\n{}"
    ) as url:
        status, findings = await examined(vhost, settings(vhost, tmp_path, url))
    assert status == 1
    assert findings["clock"][0]["what"].endswith(" s ahead of that of the provider, so codes expire too early")
    assert findings["provider"][0]["what"] == "what answers there is not the Cloud API (HTTP status 200)"


@asynccontextmanager
async def answering(raw: bytes) -> AsyncIterator[str]:
    """Be a provider that gives everybody the same answer."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(raw)
        await writer.drain()
        writer.close()

    async with await asyncio.start_server(serve, "127.0.0.1", 0) as server:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"


async def test_a_user_who_may_less_is_told_what_could_not_be_found_out(
    vhost: Vhost, simulator: Simulator, tmp_path: Path
) -> None:
    await declare_topology(vhost, "default")
    async with connected(vhost) as connection:
        await mark_ledger(connection, "somebody-elses")
    name = f"eve-{secrets.token_hex(4)}"
    vhost.api.request("PUT", f"/users/{name}", {"password": "s3cret", "tags": ""})
    try:
        vhost.set_permissions(user=name, configure="^$")
        url = f"amqp://{name}:s3cret@127.0.0.1:{vhost.node.port}/{vhost.name}"
        status, findings = await examined(vhost, settings(vhost, tmp_path, simulator.url, broker_url=url))
    finally:
        vhost.api.request("DELETE", f"/users/{name}")
    assert status == 1  # nobody consumes
    [topology_] = findings["topology"]
    assert (topology_["level"], topology_["what"].partition(",")[0]) == (
        "warning", "not compared: exchange otpost.dropped",
    )  # fmt: skip
    [policies] = findings["policies"]
    assert (policies["level"], "does not let this user in (HTTP status 401)" in policies["what"]) == ("warning", True)
    assert policies["remedy"] == "give it the tag: 'rabbitmqctl set_user_tags USER management'"


async def test_another_service_on_the_management_port_is_told(
    vhost: Vhost, simulator: Simulator, tmp_path: Path
) -> None:
    done = await otpost(
        "doctor", "--json", "--management-url", simulator.url, environment=settings(vhost, tmp_path, simulator.url)
    )
    [policies] = [one for one in done.objects if one["check"] == "policies"]
    assert policies["what"].endswith(f"what answers at {simulator.url} is not the management API (HTTP status 400)")
    assert policies["remedy"] == "name it with --management-url"


async def test_a_check_that_fails_by_a_fault_of_ours_hides_nothing() -> None:
    async def broken() -> list[Finding]:
        raise KeyError("name")

    [finding] = await examination._safely("policies", broken())
    assert (finding.check, finding.where) == ("doctor", "policies")
    assert finding.what == "the check itself failed (KeyError: 'name')"


async def test_settings_that_cannot_be_used_are_told_like_everywhere() -> None:
    done = await otpost("doctor", environment={"OTPOST_PHONE_NUMBER_ID": "12"})
    assert (done.status, done.out) == (1, "")
    assert done.err.startswith("otpost: OTPOST_ACCESS_TOKEN: ")
