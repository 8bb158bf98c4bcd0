"""Fixtures that more than one kind of test uses: RabbitMQ nodes and virtual hosts, and Redis.

Tests run against a private node of the installed RabbitMQ, never against a mock and never against
a broker that somebody else uses. A missing server fails them: a skipped test proves nothing.
"""

from __future__ import annotations

import signal
from typing import TYPE_CHECKING

import pytest

from broker import Vhost, fresh_vhost
from private_rabbitmq import PrivateRabbitMQ, RabbitMQNotFoundError
from private_redis import PrivateRedis, RedisNotFoundError

if TYPE_CHECKING:
    from collections.abc import Iterator


# A run that a shell has put into the background ignores SIGINT, and so would every program that it starts.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


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
def broker_node() -> Iterator[PrivateRabbitMQ]:
    """One node for the whole run; tests must not stop it (see `own_node`)."""
    yield from _running_node()


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
    with fresh_vhost(own_node) as fresh:
        yield fresh
