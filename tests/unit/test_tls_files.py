"""A file for TLS that cannot be used is named, and no waiting mends it."""

from __future__ import annotations

import ssl
from typing import TYPE_CHECKING, Final
from urllib.parse import quote, urlsplit

import pytest

from certificates import certificate
from otpost import BrokerUnreachable, rabbitmq
from otpost.diagnosis import diagnosis
from otpost.tls_files import wrong_tls_file

if TYPE_CHECKING:
    from pathlib import Path

NO_KEY: Final = "it holds no private key (PEM, without a passphrase)"
# Files are named by what they are: see `folder`. The first of each query's files that is wrong, and why.
WRONG: Final = {
    "cafile=nowhere": ("cafile", "nowhere", "No such file or directory"),
    "cafile=subfolder": ("cafile", "subfolder", "Is a directory"),
    "cafile=mine.pem/file": ("cafile", "mine.pem/file", "Not a directory"),
    "cafile=text": ("cafile", "text", "it holds no certificate (PEM)"),
    "certfile=nowhere&keyfile=mine.key": ("certfile", "nowhere", "No such file or directory"),
    "certfile=text&keyfile=mine.key": ("certfile", "text", "it holds no certificate (PEM)"),
    "certfile=mine.pem": ("certfile", "mine.pem", f"{NO_KEY}; see keyfile"),
    "cafile=mine.pem&certfile=mine.pem&keyfile=nowhere": ("keyfile", "nowhere", "No such file or directory"),
    "certfile=mine.pem&keyfile=text": ("keyfile", "text", NO_KEY),
    "certfile=mine.pem&keyfile=other.key": ("keyfile", "other.key", "it is not the key of the certificate in certfile"),
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("a@b")
    for name in ("mine", "other"):
        certificate(folder, name, "127.0.0.1")
    (folder / "text").write_text("hello")
    (folder / "subfolder").mkdir()
    return folder


def query(folder: Path, names: str) -> str:
    named = (parameter.partition("=") for parameter in names.split("&"))
    return "&".join(f"{name}={quote(str(folder / file), safe='/@')}" for name, _, file in named)


@pytest.mark.parametrize("names", WRONG)
async def test_a_file_that_cannot_be_loaded_is_named_and_told_as_permanent(
    folder: Path, unused_tcp_port: int, names: str
) -> None:
    name, file, why = WRONG[names]
    url = f"amqps://eve:s3cret@127.0.0.1:{unused_tcp_port}/?{query(folder, names)}"
    with pytest.raises(BrokerUnreachable) as raised:
        await rabbitmq.connect(url, name="test", timeout_s=30)
    assert raised.value.permanent
    assert str(raised.value) == (
        f"amqps://eve@127.0.0.1:{unused_tcp_port}/: {name} in the URL names '{folder / file}', which cannot be used: "
        f"{why}; check OTPOST_BROKER_URL"
    )


async def test_with_files_that_can_be_loaded_a_broker_that_is_away_is_told_and_worth_waiting_for(
    folder: Path, unused_tcp_port: int
) -> None:
    files = query(folder, "cafile=mine.pem&certfile=mine.pem&keyfile=mine.key")
    with pytest.raises(BrokerUnreachable, match="does RabbitMQ run there") as raised:
        await rabbitmq.connect(f"amqps://eve:s3cret@127.0.0.1:{unused_tcp_port}/?{files}", name="test", timeout_s=30)
    assert not raised.value.permanent


def test_a_folder_of_authorities_that_is_none_is_named_when_nobody_vouches_for_the_broker(folder: Path) -> None:
    # The library takes it without a word, and trusts nobody.
    told, permanent = diagnosis(
        ssl.SSLCertVerificationError(1, "certificate verify failed"), urlsplit(f"amqps://b/?capath={folder}/nowhere")
    )
    assert told == (
        f"capath in the URL names '{folder}/nowhere', which cannot be used: No such file or directory; "
        "check OTPOST_BROKER_URL"
    )
    assert permanent


def test_the_files_of_a_url_without_any_are_all_right() -> None:
    assert wrong_tls_file(urlsplit("amqps://b/?heartbeat=5")) is None
