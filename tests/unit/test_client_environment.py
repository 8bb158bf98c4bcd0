"""What a producer takes from the environment: the broker's URL, or the file that holds it."""

from __future__ import annotations

import asyncio
import os
from typing import TYPE_CHECKING, Final

import pytest

from otpost import BlockingProducer, BrokerUnreachable, OtpJob, Producer

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from pathlib import Path

    Connect = Callable[[], Awaitable[None]]

# Nothing listens on this port, so whoever takes this URL says so and names it.
URL: Final = "amqp://eve:s3cret@127.0.0.1:1/"
TAKEN: Final = "amqp://eve@127.0.0.1:1/: "


async def by_producer() -> None:
    async with Producer(timeout_s=3.0):
        pass


async def by_blocking_producer() -> None:
    def connect() -> None:
        with BlockingProducer(timeout_s=3.0):
            pass

    await asyncio.to_thread(connect)


async def complaint(connect: Connect) -> str:
    with pytest.raises(BrokerUnreachable) as raised:
        await connect()
    assert "s3cret" not in str(raised.value)
    assert raised.value.__cause__ is None or "s3cret" not in str(raised.value.__cause__)
    return str(raised.value)


@pytest.fixture(params=[by_producer, by_blocking_producer], ids=["Producer", "BlockingProducer"])
def connect(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Connect:
    """Connect as either of the two does, in an environment without settings."""
    for name in [name for name in os.environ if name.startswith("OTPOST_")]:
        monkeypatch.delenv(name)
    chosen: Connect = request.param
    return chosen


async def test_the_brokers_url_is_read_from_the_file_that_is_named(
    connect: Connect, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "broker_url"
    file.write_text(f"\n  {URL}\n", encoding="utf-8")
    monkeypatch.setenv("OTPOST_BROKER_URL_FILE", str(file))
    monkeypatch.setenv("OTPOST_BROKER_URL", "")
    assert (await complaint(connect)).startswith(TAKEN)


async def test_the_brokers_url_may_have_white_space_around_it(
    connect: Connect, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OTPOST_BROKER_URL", f" {URL}\n")
    assert (await complaint(connect)).startswith(TAKEN)


async def test_a_url_and_a_file_exclude_each_other(
    connect: Connect, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OTPOST_BROKER_URL", URL)
    monkeypatch.setenv("OTPOST_BROKER_URL_FILE", str(tmp_path / "nothing"))
    both = "OTPOST_BROKER_URL and OTPOST_BROKER_URL_FILE exclude each other: keep one of them"
    assert await complaint(connect) == both


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        pytest.param(None, "cannot be read: No such file or directory; check the path and its permissions", id="none"),
        pytest.param(
            b"s3cret\xff", "cannot be read: it is no text in UTF-8; check the path and its permissions", id="no text"
        ),
        pytest.param(b" \n", "is empty; write the broker's URL into it", id="empty"),
    ],
)
async def test_a_file_that_gives_no_url_is_named_with_what_to_do(
    connect: Connect, content: bytes | None, reason: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "broker_url"
    if content is not None:
        file.write_bytes(content)
    monkeypatch.setenv("OTPOST_BROKER_URL_FILE", str(file))
    assert await complaint(connect) == f"OTPOST_BROKER_URL_FILE: {file} {reason}"


async def test_waiting_does_not_mend_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTPOST_BROKER_URL_FILE", str(tmp_path / "nothing"))
    monkeypatch.delenv("OTPOST_BROKER_URL", raising=False)
    with pytest.raises(BrokerUnreachable) as raised:
        Producer()
    assert raised.value.permanent


def test_a_blocking_producer_on_a_modules_level_says_so_at_its_first_call(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OTPOST_BROKER_URL_FILE", str(tmp_path / "nothing"))
    monkeypatch.delenv("OTPOST_BROKER_URL", raising=False)
    producer = BlockingProducer()
    for _ in range(2):
        with pytest.raises(BrokerUnreachable, match="cannot be read"):
            producer.send(OtpJob(to="+12015553931", code="493817"))


async def test_a_url_that_is_given_comes_before_the_environments(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OTPOST_BROKER_URL_FILE", str(tmp_path / "nothing"))
    with pytest.raises(BrokerUnreachable, match=r"127\.0\.0\.1:1/"):
        await Producer(URL, timeout_s=3.0).__aenter__()
