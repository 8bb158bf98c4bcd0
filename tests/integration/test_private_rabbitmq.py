"""The private RabbitMQ node that other tests stand on does what it says."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pika
import pytest
from pika.exceptions import ChannelClosedByBroker, ConnectionClosedByBroker

import private_rabbitmq
from broker import ManagementError, fresh_vhost
from private_rabbitmq import PrivateRabbitMQ, PrivateRabbitMQError

if TYPE_CHECKING:
    from broker import Vhost

TOOL = Path(private_rabbitmq.__file__)


def _is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def _wait_until_gone(pids: list[int], timeout_s: float = 20.0) -> None:
    deadline = time.monotonic() + timeout_s
    while alive := [pid for pid in pids if _is_alive(pid)]:
        assert time.monotonic() < deadline, f"processes {alive} are still there after {timeout_s} s"
        time.sleep(0.05)


def _put_one_message(url: str, queue: str, arguments: dict[str, str]) -> None:
    connection = pika.BlockingConnection(pika.URLParameters(url))
    channel = connection.channel()
    channel.confirm_delivery()
    channel.queue_declare(queue, durable=True, arguments=arguments)
    channel.basic_publish("", queue, b"kept", pika.BasicProperties(delivery_mode=2))
    connection.close()


def _take_one_message(url: str, queue: str) -> bytes | None:
    connection = pika.BlockingConnection(pika.URLParameters(url))
    _method, _properties, body = connection.channel().basic_get(queue, auto_ack=True)
    connection.close()
    return body


@pytest.mark.long
def test_durable_messages_survive_restart_and_kill_on_the_same_port() -> None:
    with PrivateRabbitMQ() as node:
        url = node.amqp_url
        _put_one_message(url, "after-restart", {"x-queue-type": "quorum"})
        _put_one_message(url, "after-kill", {"x-queue-type": "quorum"})

        node.restart()
        assert node.amqp_url == url
        assert _take_one_message(url, "after-restart") == b"kept"

        node.kill()
        assert not node.is_running
        node.start()
        assert node.amqp_url == url
        assert _take_one_message(url, "after-kill") == b"kept"


@pytest.mark.long
async def test_two_nodes_run_side_by_side_and_leave_nothing_behind(broker_node: PrivateRabbitMQ) -> None:
    async with PrivateRabbitMQ() as other:
        pids = [other.pid, other.group]
        folder = other.folder
        assert other.port != broker_node.port
        assert other.nodename in other.ctl("eval", "node().")
        assert broker_node.nodename in broker_node.ctl("eval", "node().")
    _wait_until_gone(pids)
    assert not folder.exists()
    assert broker_node.is_running


def test_node_listens_on_loopback_only(broker_node: PrivateRabbitMQ) -> None:
    addresses = broker_node.ctl(
        "eval",
        "lists:usort([A || P <- erlang:ports(), {ok, {A, _}} <- [inet:sockname(P)], "
        "{ok, States} <- [prim_inet:getstatus(P)], lists:member(listen, States)]).",
    )
    assert addresses.strip() == "[{127,0,0,1}]"


def test_node_ends_with_a_parent_that_dies_without_a_word() -> None:
    script = (
        "import sys, time\n"
        f"sys.path.insert(0, {str(TOOL.parent)!r})\n"
        "from private_rabbitmq import PrivateRabbitMQ\n"
        "node = PrivateRabbitMQ()\n"
        "node.start()\n"
        "print(node.pid, node.group, node.folder, flush=True)\n"
        "time.sleep(120)\n"
    )
    with subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None
        server, group, folder = parent.stdout.readline().split()
        parent.kill()
    _wait_until_gone([int(server), int(group)])
    deadline = time.monotonic() + 10.0
    while Path(folder).exists():
        assert time.monotonic() < deadline, f"{folder} is still there"
        time.sleep(0.05)


def test_a_start_that_fails_shows_the_log_and_leaves_nothing_behind() -> None:
    node = PrivateRabbitMQ(extra_config=["no_such_setting = 1"])
    with pytest.raises(PrivateRabbitMQError, match="no_such_setting"):
        node.start()
    assert not node.is_running
    node.close()


def test_a_taken_port_is_named(broker_node: PrivateRabbitMQ) -> None:
    with pytest.raises(PrivateRabbitMQError, match=str(broker_node.port)):
        PrivateRabbitMQ(port=broker_node.port).start()


@pytest.mark.long
def test_command_line_runs_a_command_next_to_a_node() -> None:
    show = "import os; print(os.environ['OTPOST_BROKER_URL'])"
    done = subprocess.run(
        [sys.executable, str(TOOL), "--", sys.executable, "-c", show],
        capture_output=True,
        text=True,
        timeout=100.0,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("amqp://guest:guest@127.0.0.1:")


class TestVhostTools:
    """The virtual-host fixture and its tools."""

    async def test_publish_count_and_get(self, vhost: Vhost) -> None:
        vhost.declare_queue("q", {"x-queue-type": "quorum"})
        properties = {"message_id": "m1", "delivery_mode": 2, "headers": {"k": "v"}}
        assert vhost.publish("q", b"\x00one", properties=properties)
        assert vhost.publish("q", b"two")
        assert not vhost.publish("nowhere", b"lost")
        await vhost.wait_for_ready("q", 2)
        state = await vhost.wait_for_queue("q", ready=2, unacked=0, consumers=0)
        assert (state.type, state.durable) == ("quorum", True)
        assert vhost.queues().keys() == {"q"}

        peeked = vhost.get("q", 1, requeue=True)
        assert peeked[0].body == b"\x00one"
        first, second = vhost.get("q", 5)
        assert (first.body, first.properties["message_id"], first.headers["k"]) == (b"\x00one", "m1", "v")
        assert first.redelivered
        assert (second.body, second.routing_key) == (b"two", "q")
        assert vhost.ready_count("q") == 0

    async def test_close_connections_by_name(self, vhost: Vhost) -> None:
        parameters = pika.URLParameters(vhost.url)
        parameters.client_properties = {"connection_name": "to-be-closed"}
        connection = pika.BlockingConnection(parameters)
        await vhost.wait_for_connections(1, "to-be-closed")
        assert vhost.close_connections("another") == 0
        assert vhost.close_connections("to-be-closed") == 1
        with pytest.raises(ConnectionClosedByBroker, match="closed by a test"):
            connection.process_data_events(time_limit=5)

    def test_permissions_and_policies(self, vhost: Vhost) -> None:
        vhost.declare_queue("q")
        vhost.set_policy("one-only", "^q$", {"max-length": 1, "overflow": "reject-publish"})
        vhost.set_permissions(write="")
        connection = pika.BlockingConnection(pika.URLParameters(vhost.url))
        channel = connection.channel()
        channel.confirm_delivery()
        with pytest.raises(ChannelClosedByBroker, match="ACCESS_REFUSED"):
            channel.basic_publish("", "q", b"forbidden")
        connection.close()

    def test_vhosts_are_separate_and_deleted(self, broker_node: PrivateRabbitMQ, vhost: Vhost) -> None:
        with fresh_vhost(broker_node) as other:
            other.declare_queue("q")
            assert vhost.queue("q") is None
        with pytest.raises(ManagementError, match="404"):
            other.queues()
