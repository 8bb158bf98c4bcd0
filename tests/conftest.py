"""Fixtures that more than one kind of test uses: RabbitMQ nodes and virtual hosts, and Redis.

Tests run against a private node of the installed RabbitMQ, never against a mock and never against
a broker that somebody else uses. A missing server fails them: a skipped test proves nothing.
"""

from __future__ import annotations

import contextlib
import signal
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import pytest

from broker import Vhost, fresh_vhost
from private_rabbitmq import PrivateRabbitMQ, PrivateRabbitMQError, RabbitMQNotFoundError
from private_redis import PrivateRedis, RedisNotFoundError
from shared_rabbitmq import NodeForAll, look_for_node

if TYPE_CHECKING:
    from collections.abc import Iterator

_NODE_FOLDER = "otpost_node_folder"


class _TestProcess(Protocol):
    """What pytest-xdist says of a process that it starts."""

    workerinput: dict[str, object]


# A run that a shell has put into the background ignores SIGINT, and so would every program that it starts.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


class _NodeOfTheRun:
    """Runs the node of a run of several processes, in the process that has them all."""

    def __init__(self) -> None:
        self._stack = contextlib.ExitStack()
        self._folder: str | None = None

    @pytest.hookimpl(optionalhook=True)
    def pytest_configure_node(self, node: _TestProcess) -> None:
        """Tell a process where to look for the node; the first one has it started."""
        if self._folder is None:
            self._folder = self._stack.enter_context(tempfile.TemporaryDirectory(prefix="otpost-tests-"))
            self._stack.enter_context(NodeForAll(Path(self._folder)))
        node.workerinput[_NODE_FOLDER] = self._folder

    @pytest.hookimpl(trylast=True)
    def pytest_unconfigure(self) -> None:
        """End it."""
        self._stack.close()


def pytest_configure(config: pytest.Config) -> None:
    """Register what starts the node, where there are several processes."""
    config.pluginmanager.register(_NodeOfTheRun())


def _running_node() -> Iterator[PrivateRabbitMQ]:
    node = PrivateRabbitMQ(management=True)
    try:
        node.start()
    except RabbitMQNotFoundError as error:
        pytest.fail(f"This test needs RabbitMQ: {error}", pytrace=False)
    try:
        yield node
    finally:
        node.close()


@pytest.fixture(scope="session")
def broker_node(request: pytest.FixtureRequest) -> Iterator[PrivateRabbitMQ]:
    """One node for the whole run and all its processes; tests must not stop it (see `own_node`)."""
    folder = getattr(request.config, "workerinput", {}).get(_NODE_FOLDER)
    if folder is None:
        yield from _running_node()
        return
    try:
        yield look_for_node(Path(folder))
    except PrivateRabbitMQError as error:
        pytest.fail(f"This test needs RabbitMQ: {error}", pytrace=False)


@pytest.fixture
def vhost(broker_node: PrivateRabbitMQ) -> Iterator[Vhost]:
    """Give the test a virtual host of its own on the shared node; it is deleted afterwards."""
    with fresh_vhost(broker_node) as fresh:
        yield fresh


@pytest.fixture
def own_node() -> Iterator[PrivateRabbitMQ]:
    """Start a node for one test that restarts or kills it (about five seconds)."""
    yield from _running_node()


@pytest.fixture(scope="module")
def module_node() -> Iterator[PrivateRabbitMQ]:
    """Start a node for the tests of one module, which may restart it but leave it running."""
    yield from _running_node()


@pytest.fixture(scope="session")
def redis_server() -> Iterator[PrivateRedis]:
    """One Redis for the whole run; tests must not stop it (see `own_redis`)."""
    yield from _running_redis()


@pytest.fixture
def own_redis() -> Iterator[PrivateRedis]:
    """Start a Redis for one test that restarts, kills or changes it (a tenth of a second)."""
    yield from _running_redis()


def _running_redis() -> Iterator[PrivateRedis]:
    server = PrivateRedis()
    try:
        server.start()
    except RedisNotFoundError as error:
        pytest.fail(f"This test needs Redis: {error}", pytrace=False)
    try:
        yield server
    finally:
        server.close()


@pytest.fixture
def own_vhost(own_node: PrivateRabbitMQ) -> Iterator[Vhost]:
    """Give the test a virtual host on a node that it may restart or kill."""
    with fresh_vhost(own_node, to_delete=False) as fresh:
        yield fresh
