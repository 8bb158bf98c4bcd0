"""The command line of those who run the service: provisioning, settings, the worker."""

from __future__ import annotations

import asyncio
import signal
import socket
from typing import TYPE_CHECKING, Final

import orjson
import pytest

from command import finished, otpost, otpost_here, started_otpost
from private_rabbitmq import PASSWORD
from service import PATIENCE_S, declare_topology, job_body, running_service

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from broker import Vhost
    from service import Service

ONE_SENDER: Final = {"OTPOST_PHONE_NUMBER_ID": "106540352242922", "OTPOST_ACCESS_TOKEN": "EAAG-s3cret"}


@pytest.fixture
async def service(vhost: Vhost, tmp_path: Path) -> AsyncIterator[Service]:
    async with running_service(vhost, tmp_path) as running:
        yield running


# -- settings and provisioning -------------------------------------------------------------------------


async def test_the_topology_can_be_declared_again_and_again(vhost: Vhost) -> None:
    environment = {"OTPOST_BROKER_URL": vhost.url}
    first = await otpost("topology", "declare", "--sender", "us", "--sender", "de", environment=environment)
    assert (first.status, first.err) == (0, "")
    assert first.out.startswith("declared 20 exchanges, 22 queues and 39 bindings on amqp://guest@127.0.0.1:")
    declared = set(vhost.queues())
    assert {"otpost.jobs.us", "otpost.jobs.de", "otpost.results", "otpost.dead"} <= declared
    again = await otpost("topology", "declare", "--sender", "us", "--sender", "de", environment=environment)
    assert (again.status, again.out) == (0, first.out)
    assert set(vhost.queues()) == declared


async def test_what_is_declared_differently_is_named(vhost: Vhost) -> None:
    vhost.declare_queue("otpost.dead", {"x-queue-type": "classic"})
    done = await otpost("topology", "declare", "--sender", "us", environment={"OTPOST_BROKER_URL": vhost.url})
    assert (done.status, done.out) == (1, "")
    assert done.err == (
        "otpost: queue otpost.dead: x-message-ttl is not set, should be 1209600000. Arguments cannot be changed: once "
        "what differs is empty and unused, delete it and run 'otpost topology declare'; 'otpost topology verify' lists "
        "every difference\n"
    )


@pytest.mark.parametrize("verb", ["declare", "verify"])
@pytest.mark.parametrize("name", ["#", "*", "Bank", "~checks", "", "a" * 41, "a" * 260, "name\n"])
def test_a_name_that_no_sender_can_have_is_not_provisioned(
    verb: str, name: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    # Nothing listens on port 1: it is refused before anybody is asked.
    environment = {"OTPOST_BROKER_URL": "amqp://127.0.0.1:1/"}
    arguments = ("topology", verb, "--sender", "de", "--sender", name)
    done = otpost_here(*arguments, environment=environment, monkeypatch=monkeypatch, capsys=capsys)
    assert (done.status, done.out) == (2, "")
    assert f"{name!r}: a sender's name is 1 to 40 of a-z 0-9 _ -" in done.err


async def test_config_shows_the_settings_in_force_with_their_secrets_hidden() -> None:
    environment = {
        **ONE_SENDER, "OTPOST_BROKER_URL": "amqp://eve:s3cret@broker:5671/otp", "OTPOST_APP_SECRET": "app-s3cret",
        "OTPOST_CONCURRENCY": "7",
    }  # fmt: skip
    table, as_json = await asyncio.gather(
        otpost("config", environment=environment), otpost("config", "--json", environment=environment)
    )
    for done in (table, as_json):
        assert (done.status, done.err) == (0, "")
        assert "s3cret" not in done.out
    assert ["OTPOST_CONCURRENCY", "7"] in [line.split()[:2] for line in table.out.splitlines()]
    [shown] = as_json.objects
    assert shown["settings"]["OTPOST_BROKER_URL"] == "amqp://eve@broker:5671/otp"
    assert shown["settings"]["OTPOST_CONCURRENCY"] == 7
    assert (shown["settings"]["OTPOST_TOPOLOGY"], shown["unknown"]) == ("declare", {})
    sender = shown["senders"]["default"]
    assert (sender["phone_number_id"], sender["access_token"], sender["app_secret"]) == (
        "106540352242922",
        "***",
        "***",
    )


async def test_a_setting_that_nobody_knows_is_a_warning_that_names_the_nearest() -> None:
    environment = {
        "OTPOST_CONCURENCY": "7",
        "OTPOST_WORKER_SERVICE_HOST": "10.0.0.1",
        "OTPOST_PORT": "tcp://10.0.0.1:1",
    }
    lenient, strict, as_json = await asyncio.gather(
        otpost("config", environment=environment),
        otpost("config", "--strict", environment=environment),
        otpost("config", "--json", environment={**environment, "OTPOST_XYZZY": ""}),
    )
    complaint = "OTPOST_CONCURENCY is no setting: did you mean OTPOST_CONCURRENCY?\n"
    assert (lenient.status, lenient.err) == (0, f"otpost: warning: {complaint}")
    assert (strict.status, strict.err, strict.out) == (1, f"otpost: {complaint}", "")
    assert as_json.status == 0
    assert as_json.objects[0]["unknown"] == {"OTPOST_CONCURENCY": "OTPOST_CONCURRENCY", "OTPOST_XYZZY": None}


async def test_settings_that_cannot_be_used_are_all_named() -> None:
    environment = {**ONE_SENDER, "OTPOST_PHONE_NUMBER_ID": "+1 202", "OTPOST_CONCURRENCY": "many", "OTPOST_RATE": "-1"}
    done = await otpost("config", environment=environment)
    assert (done.status, done.out) == (1, "")
    for name in ("OTPOST_PHONE_NUMBER_ID", "OTPOST_CONCURRENCY", "OTPOST_RATE"):
        assert f"otpost: {name}: " in done.err


# -- simulator -----------------------------------------------------------------------------------------


async def test_a_simulator_that_cannot_listen_says_where_and_why_and_what_to_do() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        in_use, no_host, no_name = await asyncio.gather(
            otpost("simulator", "--port", str(port)),
            otpost("simulator", "--port", "0", "--host", "simulator.invalid"),
            otpost("simulator", "--port", "0", "--host", "a..b"),
        )
    assert [(done.status, done.out) for done in (in_use, no_host, no_name)] == [(1, "")] * 3
    remedy = "; choose another --port (0 takes a free one) or --host\n"
    assert in_use.err == f"otpost: cannot listen on 127.0.0.1 port {port}: Address already in use{remedy}"
    assert no_host.err.startswith("otpost: cannot listen on simulator.invalid port 0: ")
    assert no_name.err == f"otpost: cannot listen on a..b port 0: this is no name of a host{remedy}"
    assert no_host.err.endswith(remedy)


# -- worker --------------------------------------------------------------------------------------------


async def test_a_worker_that_cannot_work_says_why_and_ends(vhost: Vhost, tmp_path: Path) -> None:
    ledger = {"OTPOST_LEDGER_URL": f"sqlite:///{tmp_path}/ledger.db"}
    wrong_login = vhost.url.replace(f":{PASSWORD}@", ":s3cret@")
    no_sender, refused, other = await asyncio.gather(
        otpost("worker", environment={"OTPOST_BROKER_URL": vhost.url}),
        otpost("worker", environment={**ONE_SENDER, **ledger, "OTPOST_BROKER_URL": wrong_login}),
        otpost("worker", "--sender", "de", environment={**ONE_SENDER, "OTPOST_BROKER_URL": vhost.url}),
    )
    assert (no_sender.status, refused.status, other.status) == (1, 1, 2)
    assert no_sender.err.startswith("otpost: no sender is configured: set OTPOST_PHONE_NUMBER_ID and")
    assert "the broker refuses the login; check user and password in OTPOST_BROKER_URL" in refused.err
    assert "no such sender: de; configured are default" in other.err
    for done in (no_sender, refused, other):
        assert "s3cret" not in done.err + done.out


async def test_a_worker_waits_for_its_broker_and_can_be_stopped_while_it_does(tmp_path: Path) -> None:
    environment = {
        **ONE_SENDER, "OTPOST_LEDGER_URL": f"sqlite:///{tmp_path}/ledger.db",
        "OTPOST_BROKER_URL": "amqp://eve:s3cret@127.0.0.1:1/",
    }  # fmt: skip
    async with started_otpost("worker", environment=environment) as process:
        async with asyncio.timeout(PATIENCE_S):
            line = (await process.stderr.readline()).decode()
        process.send_signal(signal.SIGTERM)
        done = await finished(process)
    assert done.status == 0
    assert orjson.loads(line)["event"] == "broker.unreachable"
    assert "does RabbitMQ run there?" in line
    assert "s3cret" not in line + done.err + done.out


async def test_a_worker_process_sends_until_it_is_told_to_stop(service: Service, tmp_path: Path) -> None:
    await declare_topology(service.vhost, "default")
    senders = tmp_path / "senders.toml"
    senders.write_text(
        '[senders.eu]\nphone_number_id = "222"\naccess_token = "EAAG-s3cret"\ntemplate = "login"\nlanguage = "de"\n'
        f'api_base = "{service.simulator.url}"\n',
        encoding="utf-8",
    )
    environment = {
        "OTPOST_SENDERS_FILE": str(senders), "OTPOST_BROKER_URL": service.vhost.url,
        "OTPOST_LEDGER_URL": f"sqlite:///{tmp_path}/ledger.db",
    }  # fmt: skip
    async with started_otpost("worker", "--concurrency", "3", environment=environment) as process:
        await service.vhost.wait_for_queue("otpost.jobs.eu", consumers=1, timeout_s=PATIENCE_S)
        await service.publish(job_body(id="job-1"), key="eu")
        await service.wait_for_result("job-1", "accepted")
        process.send_signal(signal.SIGTERM)
        done = await finished(process)
    assert done.status == 0
    assert "s3cret" not in done.err + done.out
    [entry] = service.simulator.journal.entries()
    assert (entry.phone_number_id, entry.template, entry.language) == ("222", "login", "de")
