"""The broker over TLS, as docs/deployment.md has it: the certificate's authority and the host's name are checked."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from certificates import certificate
from free_ports import reserve_free_port
from otpost import declaring, rabbitmq
from otpost.errors import BrokerUnreachable
from otpost.topology import topology
from private_rabbitmq import HOST, PASSWORD, USER, PrivateRabbitMQ
from service import PATIENCE_S

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

pytestmark = pytest.mark.long


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("tls")


def urls_of_a_node_with(presented: Path) -> Iterator[str]:
    port = reserve_free_port()
    config = (
        f"listeners.ssl.1 = {HOST}:{port}",
        f"ssl_options.certfile = {presented}",
        f"ssl_options.keyfile = {presented.with_suffix('.key')}",
        "ssl_options.verify = verify_none",
    )
    with PrivateRabbitMQ(extra_config=config):
        yield f"amqps://{USER}:{PASSWORD}@{HOST}:{port}/"


@pytest.fixture(scope="module")
def url(folder: Path) -> Iterator[str]:
    """A broker whose certificate is for the address where it listens."""
    yield from urls_of_a_node_with(certificate(folder, "broker", HOST))


@pytest.fixture(scope="module")
def url_of_another(folder: Path) -> Iterator[str]:
    """A broker whose certificate is for another address."""
    yield from urls_of_a_node_with(certificate(folder, "another", "127.0.0.2"))


async def test_an_authority_that_the_url_names_is_trusted(url: str, folder: Path) -> None:
    connection = await rabbitmq.connect(f"{url}?cafile={folder}/broker.pem", name="test", timeout_s=PATIENCE_S)
    await declaring.declare(connection, topology(["default"]))
    assert await declaring.sender_exists(connection, "default", timeout_s=PATIENCE_S)
    await rabbitmq.close_quietly(connection)


async def test_an_authority_that_nobody_named_is_not(url: str) -> None:
    with pytest.raises(BrokerUnreachable, match="self-signed certificate"):
        await rabbitmq.connect(url, name="test", timeout_s=PATIENCE_S)


async def test_a_certificate_for_another_address_is_refused(url_of_another: str, folder: Path) -> None:
    with pytest.raises(BrokerUnreachable, match="IP address mismatch"):
        await rabbitmq.connect(f"{url_of_another}?cafile={folder}/another.pem", name="test", timeout_s=PATIENCE_S)
