"""Looking into a ledger that workers use: nothing is written, nothing is made, nobody waits."""

from __future__ import annotations

import asyncio
import os
import sqlite3
import time
from contextlib import closing
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from known_states import claim_request, claimed, retry_step
from ledger_implementations import Redis, Sqlite
from otpost_worker.attempts import State, Wait
from otpost_worker.ledger.reading import open_to_read, visible
from otpost_worker.outcome import Error, Kind
from otpost_worker.pacing import PAIR_BURST, Lane
from otpost_worker.ports import Claimed, Entry, LedgerUnavailable, NoLedger
from otpost_worker.standing import Heard, Signal

if TYPE_CHECKING:
    from pathlib import Path

    from ledger_implementations import Implementation, Lasting


def url_of(implementation: Implementation) -> str:
    assert isinstance(implementation, (Sqlite, Redis))
    return f"sqlite:///{implementation.file}" if isinstance(implementation, Sqlite) else implementation.url


def contents(implementation: Implementation) -> bytes:
    """Everything that is stored; SQLite's shared memory, where readers leave their marks, is not."""
    if isinstance(implementation, Redis):
        return implementation.remains()
    assert isinstance(implementation, Sqlite)
    return b"".join(implementation.file.with_name(name).read_bytes() for name in ("ledger.db", "ledger.db-wal"))


def lane() -> Lane:
    end = time.time() + 600
    return Lane("default", "default", "+12015553931", "login", "en_US", 1000.0, end, end)


async def test_what_workers_wrote_is_told_and_nothing_of_it_changes(lasting: Lasting) -> None:
    heard = Heard(lane(), Signal.SENDER_REFUSED, time.time(), error=Error(Kind.SENDER_HALTED, code=190))
    async with lasting.open(time.time) as ledger:
        entry = Entry(State.REFUSED, Kind.SENDER_HALTED, retry_step(1, time.time()), heard=heard)
        await ledger.record(await claimed(ledger), entry)
        before = await asyncio.to_thread(contents, lasting)
        async with open_to_read(url_of(lasting)) as reader:
            assert reader.identity == ledger.identity
            assert reader.writable
            assert await reader.story("job-1") == await ledger.story("job-1")
            assert await reader.story("job-2") == ()
            report = (await reader.report({"default": 80.0}, {"default": "default"}))["default"]
            assert [hold.error.code for hold in report.holds if hold.error] == [190]
        assert await asyncio.to_thread(contents, lasting) == before


async def test_the_turn_of_a_job_that_was_never_claimed_is_known(lasting: Lasting) -> None:
    async with lasting.open(time.time) as ledger:
        requests = [replace(claim_request(job_id=f"job-{number}"), lane=lane()) for number in range(PAIR_BURST + 1)]
        *granted, reply = [await ledger.claim(request) for request in requests]
        assert all(isinstance(one, Claimed) for one in granted)
        assert isinstance(reply, Wait)
        last = requests[-1].job_id
        async with open_to_read(url_of(lasting)) as reader:
            assert await reader.story(last) == ()
            turn = await reader.turn(last)
            assert turn is not None
            assert abs(turn - reply.until) < 0.5
            assert await reader.turn("job-0") is None


async def test_a_ledger_that_is_not_there_is_not_made(lasting: Lasting) -> None:
    with pytest.raises(NoLedger, match="there is no ledger"):
        async with open_to_read(url_of(lasting)):
            pass
    assert await asyncio.to_thread(lasting.remains) == b""


async def test_a_ledger_out_of_reach_is_said_to_be(own_redis_ledger: Redis) -> None:
    with own_redis_ledger.out_of_reach(), pytest.raises(LedgerUnavailable, match="cannot be used: "):
        async with open_to_read(own_redis_ledger.url):
            pass


# -- one file ------------------------------------------------------------------------------------------


async def test_reading_a_file_waits_for_no_writer_and_leaves_none_behind(tmp_path: Path) -> None:
    ledger = Sqlite(tmp_path / "ledger.db")
    async with ledger.open(time.time) as opened:
        await claimed(opened)
        with closing(sqlite3.connect(ledger.file, isolation_level=None)) as db:
            db.execute("BEGIN IMMEDIATE")
            async with open_to_read(url_of(ledger)) as reader:
                assert len(await reader.story("job-1")) == 1
            db.execute("ROLLBACK")
    before = await asyncio.to_thread(ledger.remains)
    async with open_to_read(url_of(ledger)) as reader:
        assert len(await reader.story("job-1")) == 1
    assert await asyncio.to_thread(os.listdir, tmp_path) == ["ledger.db"]
    assert await asyncio.to_thread(ledger.remains) == before


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (b"no database at all, whatever its name", "file is not a database"),
        (b"", "was written by another version of otpost (its schema is 0, this one knows "),
    ],
)
async def test_a_file_that_is_no_ledger_is_said_to_be_none(tmp_path: Path, content: bytes, told: str) -> None:
    file = tmp_path / "ledger.db"
    await asyncio.to_thread(file.write_bytes, content)
    with pytest.raises(LedgerUnavailable) as raised:
        async with open_to_read(f"sqlite:///{file}"):
            pass
    assert told in str(raised.value)
    assert "(OTPOST_LEDGER_URL)" in str(raised.value)


# -- Redis ---------------------------------------------------------------------------------------------


async def test_what_may_lose_a_redis_ledgers_contents_is_told(own_redis_ledger: Redis) -> None:
    async with own_redis_ledger.open(time.time):
        pass
    own_redis_ledger.client.config_set("appendonly", "no")
    async with open_to_read(own_redis_ledger.url) as reader:
        assert [warning.partition(":")[0] for warning in reader.warnings] == ["its appendonly is off"]


def test_a_password_is_not_shown() -> None:
    assert visible("redis://:s3cret@redis.example:6379/0") == "redis://redis.example:6379/0"
    assert visible("sqlite:////var/lib/otpost/otpost.db") == "/var/lib/otpost/otpost.db"
