"""The mistakes that people make most often, made on purpose: each is told in a line or two that say what to do.

The first five are about the broker. The missing extra is in test_install.py; the other four in test_more_mistakes.py.
"""

from __future__ import annotations

import asyncio
import secrets
import signal
from collections.abc import Callable
from typing import TYPE_CHECKING, Final

import orjson
import pytest

from command import Finished, finished, otpost, otpost_here, started_otpost
from greeting_broker import greeting_broker
from otpost import AccessRefused, OtpJob, Producer, rabbitmq
from otpost_worker.simulator import Simulator, SimulatorOptions
from private_rabbitmq import PASSWORD
from service import PATIENCE_S, declare_topology
from worker_process import load_on, worker_environment, worker_process

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from broker import Vhost

Complaint = Callable[..., str]

SECRET: Final = "s3cret"
SEND: Final = ("send", "--to", "+12015553931", "--code", "493817")


def settings(url: str, folder: Path, **more: str) -> dict[str, str]:
    return {
        "OTPOST_BROKER_URL": url, "OTPOST_LEDGER_URL": f"sqlite:///{folder}/ledger.db",
        "OTPOST_PHONE_NUMBER_ID": "106540352242922", "OTPOST_ACCESS_TOKEN": f"EAAG-{SECRET}",
        "OTPOST_TEMPLATE": "login", "OTPOST_LANGUAGE": "en_US", **more,
    }  # fmt: skip


@pytest.fixture
def complaint_of(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Complaint:
    """Run a command that is to fail, and return its complaint."""

    def run(*arguments: str, environment: dict[str, str]) -> str:
        return complaint(otpost_here(*arguments, environment=environment, monkeypatch=monkeypatch, capsys=capsys))

    return run


def complaint(done: Finished) -> str:
    """The one complaint of a command that failed: a line or two, and nothing else."""
    assert (done.status, done.out) == (1, "")
    assert SECRET not in done.err
    lines = done.err.splitlines()
    assert 1 <= len(lines) <= 2, done.err
    assert done.err.startswith("otpost: ")
    return done.err.removeprefix("otpost: ").rstrip("\n")


async def worker_that_waits(environment: dict[str, str]) -> str:
    """The first thing that a worker says which goes on trying; it ends well when it is told to."""
    async with started_otpost("worker", environment=environment) as process:
        async with asyncio.timeout(PATIENCE_S):
            line = await process.stderr.readline()
        process.send_signal(signal.SIGTERM)
        assert (await finished(process)).status == 0
    said = orjson.loads(line)
    assert (said["level"], said["event"]) == ("warning", "broker.unreachable")
    assert said["retry_in_s"] > 0
    assert SECRET not in line.decode()
    return str(said["error"])


# -- the broker's address ------------------------------------------------------------------------------


async def test_a_host_that_nobody_knows(tmp_path: Path) -> None:
    environment = settings(f"amqp://eve:{SECRET}@broker.invalid/", tmp_path)
    told = "amqp://eve@broker.invalid/: the host name 'broker.invalid' cannot be resolved; check OTPOST_BROKER_URL"
    sent, waiting = await asyncio.gather(otpost(*SEND, environment=environment), worker_that_waits(environment))
    assert complaint(sent) == told
    # In a cluster the name may come to be known later than the worker is started.
    assert waiting == told


def test_a_port_where_nobody_listens(tmp_path: Path, unused_tcp_port: int, complaint_of: Complaint) -> None:
    environment = settings(f"amqp://eve:{SECRET}@127.0.0.1:{unused_tcp_port}/", tmp_path)
    # That a worker waits for it is in test_cli_service.py.
    assert complaint_of(*SEND, environment=environment) == (
        f"amqp://eve@127.0.0.1:{unused_tcp_port}/: Connection refused; does RabbitMQ run there? If not: check "
        "OTPOST_BROKER_URL"
    )


def test_a_scheme_that_is_not_amqps(tmp_path: Path, complaint_of: Complaint) -> None:
    environment = settings(f"http://eve:{SECRET}@127.0.0.1:15672/", tmp_path)
    told = "http://eve@127.0.0.1:15672/: a broker's URL begins with amqp:// or amqps://; see OTPOST_BROKER_URL"
    assert complaint_of(*SEND, environment=environment) == told
    assert complaint_of("worker", environment=environment) == told


def test_tls_on_the_port_without_it(vhost: Vhost, tmp_path: Path, complaint_of: Complaint) -> None:
    environment = settings(vhost.url.replace("amqp://", "amqps://"), tmp_path)
    told = "what listens there does not speak TLS; RabbitMQ's port is 5672, or 5671 with amqps://"
    assert told in complaint_of(*SEND, environment=environment)
    assert told in complaint_of("worker", environment=environment)


def test_a_file_for_tls_that_is_not_there(tmp_path: Path, unused_tcp_port: int, complaint_of: Complaint) -> None:
    url = f"amqps://eve:{SECRET}@127.0.0.1:{unused_tcp_port}/"
    environment = settings(f"{url}?cafile={tmp_path}/ca.pem", tmp_path)
    told = (
        f"amqps://eve@127.0.0.1:{unused_tcp_port}/: cafile in the URL names '{tmp_path}/ca.pem', which cannot be used: "
        "No such file or directory; check OTPOST_BROKER_URL"
    )
    assert complaint_of(*SEND, environment=environment) == told
    assert complaint_of("worker", environment=environment) == told


# -- login and rights ----------------------------------------------------------------------------------


def test_a_wrong_password(vhost: Vhost, tmp_path: Path, complaint_of: Complaint) -> None:
    environment = settings(vhost.url.replace(f":{PASSWORD}@", f":{SECRET}@"), tmp_path)
    told = (
        f"amqp://guest@127.0.0.1:{vhost.node.port}/{vhost.name}: the broker refuses the login; check user and password "
        "in OTPOST_BROKER_URL (RabbitMQ lets 'guest' in from its own machine only)"
    )
    assert complaint_of(*SEND, environment=environment) == told
    assert complaint_of("worker", environment=environment) == told


def test_a_virtual_host_that_does_not_exist(vhost: Vhost, tmp_path: Path, complaint_of: Complaint) -> None:
    environment = settings(vhost.node.amqp_url_of("nowhere"), tmp_path)
    told = (
        f"amqp://guest@127.0.0.1:{vhost.node.port}/nowhere: the broker does not let us into the virtual host "
        "'nowhere'; check the virtual host at the end of the URL (OTPOST_BROKER_URL), and the user's permission for it"
    )
    assert complaint_of(*SEND, environment=environment) == told
    assert complaint_of("worker", environment=environment) == told


@pytest.fixture
def limited_user(vhost: Vhost) -> Iterator[Callable[[str, str, str], str]]:
    """Give a user these rights (configure, write, read) and tell the URL to log in with."""
    name = f"eve-{secrets.token_hex(4)}"
    vhost.api.request("PUT", f"/users/{name}", {"password": SECRET, "tags": ""})

    def with_rights(configure: str, write: str, read: str) -> str:
        vhost.set_permissions(user=name, configure=configure, write=write, read=read)
        return vhost.url.replace(f"guest:{PASSWORD}@", f"{name}:{SECRET}@")

    yield with_rights
    vhost.api.request("DELETE", f"/users/{name}")


def test_a_user_without_a_right(
    vhost: Vhost, limited_user: Callable[[str, str, str], str], tmp_path: Path, complaint_of: Complaint
) -> None:
    asyncio.run(declare_topology(vhost, "default"))
    refused = f"in vhost '{vhost.name}' refused for user 'eve-"
    remedy = "give it with 'rabbitmqctl set_permissions'"

    environment = settings(limited_user(".*", "^$", ".*"), tmp_path)
    told = complaint_of(*SEND, environment=environment)
    assert told.startswith(f"access to exchange 'otpost.jobs' {refused}")
    assert told.endswith(f": it needs the right to write; {remedy}")

    environment = settings(limited_user(".*", ".*", "^$"), tmp_path, OTPOST_TOPOLOGY="passive")
    for command, queue in (("results", "otpost.results"), ("worker", "otpost.jobs.default")):
        told = complaint_of(command, environment=environment)
        assert told.startswith(f"access to queue '{queue}' {refused}")
        assert told.endswith(f": it needs the right to read; {remedy}")

    environment = settings(limited_user("^$", ".*", ".*"), tmp_path)
    for command in ("topology declare", "worker"):
        told = complaint_of(*command.split(), environment=environment)
        assert told.startswith(f"access to exchange 'otpost.dropped' {refused}")
        assert "declaring needs the rights to configure, write and read 'otpost.*'; " in told
        assert told.endswith("run 'otpost topology declare' and set OTPOST_TOPOLOGY=passive")


async def test_a_job_that_may_not_be_published_is_told_at_once_and_not_after_the_timeout(
    vhost: Vhost, limited_user: Callable[[str, str, str], str]
) -> None:
    await declare_topology(vhost, "default")
    async with Producer(limited_user("^$", "^$", "^$"), timeout_s=PATIENCE_S) as producer:
        with pytest.raises(AccessRefused, match="it needs the right to write"):
            await producer.send(OtpJob(to="+12015553931", code="493817"))


async def test_a_worker_that_may_not_write_says_so_and_goes_on_once_it_may(
    vhost: Vhost, limited_user: Callable[[str, str, str], str], tmp_path: Path
) -> None:
    await declare_topology(vhost, "default")
    url = limited_user("^$", "^$", ".*")
    async with Simulator(SimulatorOptions(rate=0, pair=False)) as simulator:
        environment = worker_environment(vhost, tmp_path, simulator.url, broker_url=url, topology="passive")
        async with worker_process(environment) as worker, load_on(vhost) as load:
            await load.send()
            await worker.logged("publish.not_permitted")
            [said] = [entry for entry in worker.log if entry["event"] == "publish.not_permitted"][:1]
            assert said["level"] == "error"
            assert said["error"].startswith("access to exchange 'otpost.results' in vhost ")
            assert said["error"].endswith("it needs the right to write; give it with 'rabbitmqctl set_permissions'")
            limited_user("^$", ".*", ".*")
            await load.all_ended()
            assert load.statuses() == {"job-0": ["accepted"]}
            assert simulator.journal.total == 1
            await worker.stop()


# -- another service -----------------------------------------------------------------------------------


async def test_the_simulators_port(tmp_path: Path) -> None:
    async with Simulator(SimulatorOptions()) as simulator:
        environment = settings(simulator.url.replace("http://", f"amqp://eve:{SECRET}@") + "/", tmp_path)
        sent, worked = await asyncio.gather(
            otpost(*SEND, environment=environment), otpost("worker", environment=environment)
        )
    told = (
        "what listens there is no RabbitMQ, but another service; RabbitMQ's port is 5672, or 5671 with amqps://; "
        "check OTPOST_BROKER_URL"
    )
    assert complaint(sent).endswith(told)
    assert complaint(worked).endswith(told)


@pytest.mark.long
async def test_the_port_of_the_management_interface(vhost: Vhost, tmp_path: Path) -> None:
    environment = settings(f"amqp://eve:{SECRET}@127.0.0.1:{vhost.node.management_port}/", tmp_path)
    told = "what listens there hangs up without a word; if it is another service: RabbitMQ's port is 5672"
    sent, waiting = await asyncio.gather(otpost(*SEND, environment=environment), worker_that_waits(environment))
    assert told in complaint(sent)
    # A broker that is only starting looks the same.
    assert told in waiting


# -- an old broker -------------------------------------------------------------------------------------


async def test_a_rabbitmq_that_is_too_old(tmp_path: Path) -> None:
    async with greeting_broker("3.8.9") as url:
        environment = settings(url, tmp_path)
        sent, worked = await asyncio.gather(
            otpost(*SEND, environment=environment), otpost("worker", environment=environment)
        )
    told = "RabbitMQ 3.8.9 is too old: otpost needs 3.10 or later; upgrade the broker, or use another one"
    assert complaint(sent).endswith(told)
    assert complaint(worked).endswith(told)


@pytest.mark.parametrize(
    ("version", "product"),
    [("3.10.0", "RabbitMQ"), ("4.1.2", "RabbitMQ"), ("weekly", "RabbitMQ"), ("2.1.0", "LavinMQ")],
)
async def test_a_broker_that_is_young_enough_or_counts_in_another_way_is_let_be(version: str, product: str) -> None:
    async with greeting_broker(version, product=product) as url:
        connection = await rabbitmq.connect(url, name="test", timeout_s=PATIENCE_S)
        await rabbitmq.close_quietly(connection)
