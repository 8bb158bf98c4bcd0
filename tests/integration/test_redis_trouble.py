"""A Redis that cannot be used, or not any more: what is said of it, how soon, and that it is used again afterwards."""

from __future__ import annotations

import asyncio
import logging
import re
import time
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Final

import pytest
import structlog
from redis.exceptions import NoPermissionError

from certificates import certificate
from free_ports import reserve_free_port
from known_states import LEASE_S, claim_request, claimed
from ledger_entries import FAILED, REFUSED, step_of
from otpost_worker.attempts import Wait
from otpost_worker.ledger.redis import RedisLedger, link, scripts
from otpost_worker.ledger.redis.fitness import warnings_of
from otpost_worker.ports import Claimed, LedgerUnavailable
from ports_in_memory import CODE, NOW, Clock
from private_redis import PrivateRedis
from redis_client import client_of, keys_of

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT: Final = Path(__file__).parents[2]
PATIENCE_S: Final = 20.0
PASSWORD: Final = "QWERT12345asdfg"
# Where a test waits in vain on purpose, it need not wait long.
HASTY: Final = "?socket_timeout=0.3&socket_connect_timeout=0.3"


@pytest.fixture(scope="module")
def server() -> Iterator[PrivateRedis]:
    """A Redis for this module, whose settings may be changed for the length of a test."""
    with PrivateRedis() as running:
        yield running


@pytest.fixture(autouse=True)
def empty(server: PrivateRedis) -> None:
    """Begin each test with nothing."""
    client_of(server).flushall()


def hasty(server: PrivateRedis) -> RedisLedger:
    clock = Clock()
    return RedisLedger(server.url + HASTY, clock=clock, redis_clock=clock)


async def refusal_of(url: str) -> str:
    """Why a ledger of this URL cannot be opened."""
    with pytest.raises(LedgerUnavailable) as refused:
        async with asyncio.timeout(PATIENCE_S), RedisLedger(url):
            pass
    return str(refused.value)


async def unavailable_to(ledger: RedisLedger) -> str:
    """Why a claim is not answered."""
    with pytest.raises(LedgerUnavailable) as refused:
        await asyncio.wait_for(ledger.claim(claim_request(job_id="job-9")), PATIENCE_S)
    return str(refused.value)


async def connections_see_their_end() -> None:
    """Let the event loop take note of what has come over its connections by now."""
    for _ in range(5):
        await asyncio.sleep(0)


# What keeps a worker from starting


async def test_a_password_that_is_wrong_or_missing_is_told_and_not_shown(server: PrivateRedis) -> None:
    client_of(server).config_set("requirepass", PASSWORD)
    try:
        address, where = f"127.0.0.1:{server.port}", f"the ledger redis://127.0.0.1:{server.port}/0 cannot be used: "
        assert (await refusal_of(f"redis://{address}")).startswith(where + "it wants a password; put it into the URL")
        told = await refusal_of(f"redis://:{PASSWORD}x@{address}/0")
        assert told.startswith(where + "it refuses the user or the password")
        assert PASSWORD not in told
        told = await refusal_of(f"redis://nobody:{PASSWORD}@{address}/0?db=0")
        assert "it refuses the user or the password" in told
        assert PASSWORD not in told
        async with RedisLedger(f"redis://:{PASSWORD}@{address}/0") as open_ledger:
            await claimed(open_ledger)
    finally:
        client_of(server, password=PASSWORD).config_set("requirepass", "")


async def test_a_user_with_the_rights_that_the_documentation_names_is_enough(server: PrivateRedis) -> None:
    page = (ROOT / "docs/ledgers.md").read_text(encoding="utf-8")
    [command] = re.findall(r"^ACL SETUSER .*$", page, re.MULTILINE)
    client_of(server).execute_command(*command.replace("PASSWORD", PASSWORD).split())  # type: ignore[no-untyped-call] # redis-py leaves it so
    with structlog.testing.capture_logs() as told:
        async with RedisLedger(f"redis://otpost:{PASSWORD}@127.0.0.1:{server.port}") as open_ledger:
            await open_ledger.record(await claimed(open_ledger), REFUSED)
            await open_ledger.check()
            await open_ledger.report({"default": 80.0}, {"default": "app"})
            await open_ledger.probe_soon(["default"])
    assert told == []
    stranger = client_of(server, username="otpost", password=PASSWORD)
    for forbidden in (stranger.flushdb, lambda: stranger.get("another's"), lambda: stranger.config_get("*")):
        with pytest.raises(NoPermissionError):
            forbidden()


async def test_a_user_without_rights_is_told_what_is_missing(server: PrivateRedis) -> None:
    client_of(server).acl_setuser("reader", enabled=True, nopass=True, keys=["*"], categories=["+@read"], reset=True)
    told = await refusal_of(f"redis://reader:x@127.0.0.1:{server.port}")
    assert "its user may not do that; let it read and write the keys {otpost}:* and run scripts" in told


async def test_a_replica_is_refused(server: PrivateRedis) -> None:
    client_of(server).replicaof("127.0.0.1", "1")
    try:
        assert "it is a replica, which may not be written; name the primary" in await refusal_of(server.url)
    finally:
        client_of(server).replicaof("NO", "ONE")


def test_the_settings_that_the_documentation_names_start_a_redis_that_nobody_is_warned_of() -> None:
    page = (ROOT / "docs/ledgers.md").read_text(encoding="utf-8")
    [lines] = re.findall(r"```\n(# Write each command.*?)```", page, re.DOTALL)
    with PrivateRedis(extra_config=lines.splitlines()) as running:
        assert warnings_of(client_of(running).info()) == ()
        assert client_of(running).config_get("appendfsync") == {"appendfsync": "always"}


async def test_an_option_that_there_is_not_is_told() -> None:
    told = await refusal_of("redis://localhost?keep=all")
    assert "its URL has an option that is not known" in told
    assert "'keep'" in told


async def test_what_is_no_redis_is_told_of() -> None:
    async def answer(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 400 Bad Request\r\n\r\n")
        writer.close()

    async with await asyncio.start_server(answer, "127.0.0.1", 0) as stranger:
        port = stranger.sockets[0].getsockname()[1]
        assert "cannot be used: " in await refusal_of(f"redis://127.0.0.1:{port}{HASTY}")


@pytest.mark.parametrize(
    ("careless", "told"),
    [
        (
            "maxmemory-policy allkeys-lru",
            "its maxmemory-policy is allkeys-lru: short of memory, it",
        ),
        ("appendonly no", "its appendonly is off: when it ends without warning, it forgets what was sent"),
    ],
)
async def test_a_redis_that_may_forget_is_warned_of(careless: str, told: str) -> None:
    with PrivateRedis(extra_config=[careless]) as forgetful, structlog.testing.capture_logs() as logged:
        async with hasty(forgetful):
            pass
    ((event, level, detail),) = [(one["event"], one["log_level"], one["detail"]) for one in logged]
    assert (event, level) == ("ledger.unsafe", "warning")
    assert detail.startswith(told)


async def test_a_redis_that_says_nothing_of_itself_is_warned_of(server: PrivateRedis) -> None:
    client_of(server).acl_setuser(
        "silent", enabled=True, nopass=True, keys=["*"], categories=["+@all"], commands=["-info"], reset=True
    )
    with structlog.testing.capture_logs() as logged:
        async with RedisLedger(f"redis://silent:x@127.0.0.1:{server.port}"):
            pass
    assert [one["detail"][:31] for one in logged] == ["its user may not ask for INFO, "]


# What befalls one that is in use


async def test_a_redis_that_is_killed_is_back_with_all_it_was_told(server: PrivateRedis) -> None:
    async with hasty(server) as open_ledger:
        ticket = await claimed(open_ledger)
        server.kill()
        assert "see whether it is up" in await unavailable_to(open_ledger)
        server.start()
        await connections_see_their_end()
        assert await open_ledger.claim(claim_request()) == Wait(NOW + LEASE_S)
        assert step_of(await open_ledger.record(ticket, REFUSED)) == REFUSED.step


async def test_connections_that_were_closed_while_nothing_was_asked_are_not_noticed(server: PrivateRedis) -> None:
    async with hasty(server) as open_ledger:
        await claimed(open_ledger)
        client_of(server).client_kill_filter(_type="normal", skipme=True)
        await connections_see_their_end()
        assert await open_ledger.claim(claim_request()) == Wait(NOW + LEASE_S)


async def test_a_redis_that_does_not_answer_is_given_up_and_what_it_did_meanwhile_is_found(
    server: PrivateRedis,
) -> None:
    async with hasty(server) as open_ledger:
        await claimed(open_ledger)
        request = claim_request(job_id="job-2")
        server.stand_still()
        try:
            begun = time.monotonic()
            with pytest.raises(LedgerUnavailable, match="it does not answer in time"):
                await open_ledger.claim(request)
            assert time.monotonic() - begun < 2.0
        finally:
            server.go_on()
        # Whether the first request was done or is not: the claim is the asker's.
        assert isinstance(await open_ledger.claim(request), Claimed)
        assert await open_ledger.claim(claim_request(job_id="job-2")) == Wait(NOW + LEASE_S)


async def test_a_claim_that_arrives_after_its_asker_has_given_up_is_not_granted(
    server: PrivateRedis, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(scripts.CONSTANTS, "PATIENCE_S", 0.1)
    monkeypatch.setattr(link, "PATIENCE_S", 0.3)
    async with RedisLedger(server.url) as open_ledger:
        server.stand_still()
        try:
            with pytest.raises(LedgerUnavailable, match="it does not answer in time"):
                await open_ledger.claim(claim_request())
        finally:
            server.go_on()
        await open_ledger.check()
    assert "{otpost}:job:job-1" not in keys_of(server)


async def test_a_redis_whose_memory_is_full_takes_nothing_in_part_and_lets_go_of_what_it_has(
    server: PrivateRedis,
) -> None:
    async with hasty(server) as open_ledger:
        ticket = await claimed(open_ledger)
        client_of(server).config_set("maxmemory", "1")
        try:
            told = "its memory (maxmemory) is full; give it more, and never let it evict"
            assert told in await unavailable_to(open_ledger)
            with pytest.raises(LedgerUnavailable, match="maxmemory"):
                await open_ledger.record(ticket, FAILED)
            with pytest.raises(LedgerUnavailable, match="maxmemory"):
                await open_ledger.check()
            await open_ledger.release(ticket)
        finally:
            client_of(server).config_set("maxmemory", "0")
        assert {"{otpost}:job:job-1", "{otpost}:job:job-9"} & set(keys_of(server)) == set()
        await open_ledger.check()


async def test_a_redis_that_has_become_a_replica_is_told_of_and_is_used_when_it_is_a_primary_again(
    server: PrivateRedis,
) -> None:
    async with hasty(server) as open_ledger:
        await claimed(open_ledger)
        client_of(server).replicaof("127.0.0.1", "1")
        try:
            assert "it is a replica, which may not be written" in await unavailable_to(open_ledger)
        finally:
            client_of(server).replicaof("NO", "ONE")
        assert await open_ledger.claim(claim_request()) == Wait(NOW + LEASE_S)


async def test_a_redis_that_lacks_the_replicas_that_it_wants_is_told_of(server: PrivateRedis) -> None:
    async with hasty(server) as open_ledger:
        client_of(server).config_set("min-replicas-to-write", "1")
        try:
            assert "too few of its replicas are up" in await unavailable_to(open_ledger)
        finally:
            client_of(server).config_set("min-replicas-to-write", "0")
        await claimed(open_ledger)


async def test_what_goes_wrong_shows_neither_code_nor_number_nor_password_however_much_is_logged(
    server: PrivateRedis, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    client_of(server).acl_setuser("otpost", enabled=True, passwords=[f"+{PASSWORD}"], keys=["*"], categories=["+@all"])
    clock = Clock()
    url = f"redis://otpost:{PASSWORD}@127.0.0.1:{server.port}/0{HASTY}"
    async with RedisLedger(url, clock=clock, redis_clock=clock) as open_ledger:
        told = [repr(open_ledger), str(vars(open_ledger))]
        client_of(server).config_set("maxmemory", "1")
        told.append(await unavailable_to(open_ledger))
        client_of(server).config_set("maxmemory", "0")
        server.kill()
        told.append(await unavailable_to(open_ledger))
        server.start()
        # A script that fails, as by a mistake of ours.
        broken = replace(claim_request(), lease_s=float("nan"))
        told.append(str(await asyncio.gather(open_ledger.claim(broken), return_exceptions=True)))
    seen = " ".join([*told, caplog.text])
    assert CODE not in seen
    assert "2015553931" not in seen
    assert PASSWORD not in seen


# TLS


@pytest.fixture(scope="module")
def secure(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, Path]]:
    """A Redis that speaks TLS, with a certificate that is its own authority."""
    made = certificate(tmp_path_factory.mktemp("tls"), "redis", "127.0.0.1")
    port = reserve_free_port()
    config = (
        f"tls-port {port}",
        f"tls-cert-file {made}",
        f"tls-key-file {made.with_suffix('.key')}",
        f"tls-ca-cert-file {made}",
        "tls-auth-clients no",
    )
    with PrivateRedis(extra_config=config):
        yield f"rediss://127.0.0.1:{port}", made


async def test_an_authority_that_the_url_names_is_trusted(secure: tuple[str, Path]) -> None:
    url, made = secure
    async with RedisLedger(f"{url}?ssl_ca_certs={made}") as open_ledger:
        await claimed(open_ledger)


async def test_an_authority_that_nobody_named_is_not(secure: tuple[str, Path]) -> None:
    told = await refusal_of(secure[0])
    assert "no secure connection comes about: [SSL: CERTIFICATE_VERIFY_FAILED]" in told


async def test_tls_where_there_is_none_is_told_of(server: PrivateRedis) -> None:
    told = await refusal_of(f"rediss://127.0.0.1:{server.port}{HASTY}")
    assert "cannot be used: " in told
