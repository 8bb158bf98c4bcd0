"""What is SQLite's own about the SQLite ledger: its file, its locks, several processes, and what a kill leaves."""

from __future__ import annotations

import asyncio
import sqlite3
import stat
import subprocess
import sys
import time
from contextlib import asynccontextmanager, closing, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Final

import pytest

from known_states import LEASE_S, claim_request, claimed, end_step, retry_step
from otpost_worker.attempts import State, Wait
from otpost_worker.ledger.sqlite import SqliteLedger
from otpost_worker.outcome import Kind
from otpost_worker.ports import Claimed, Entry, LedgerUnavailable
from ports_in_memory import CODE, NOW, Clock, envelope, job_body

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

TESTS: Final = Path(__file__).parents[1]
PATIENCE_S: Final = 60.0
JOBS: Final = 300
# Waits for a line on standard input, claims every job, and prints the ids of those that it got.
RACER: Final = f"""
import asyncio, sys
sys.path.insert(0, {str(TESTS)!r})
from pathlib import Path
from known_states import claim_request
from otpost_worker.ledger.sqlite import SqliteLedger
from otpost_worker.ports import Claimed
from ports_in_memory import Clock

async def main():
    print("here", flush=True)
    sys.stdin.readline()
    async with SqliteLedger(Path(sys.argv[1]), clock=Clock()) as ledger:
        claims = [ledger.claim(claim_request(job_id=f"job-{{number}}")) for number in range({JOBS})]
        replies = await asyncio.gather(*claims)
        print(*(reply.ticket.job_id for reply in replies if isinstance(reply, Claimed)), flush=True)
        sys.stdin.readline()

asyncio.run(main())
"""


@asynccontextmanager
async def racers(file: Path, count: int) -> AsyncIterator[list[asyncio.subprocess.Process]]:
    """Processes that are ready to race."""
    command = (sys.executable, "-c", RACER, str(file))
    started = [
        await asyncio.create_subprocess_exec(*command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        for _ in range(count)
    ]
    try:
        for racer in started:
            assert await said(racer) == "here"
        yield started
    finally:
        for racer in started:
            if racer.returncode is None:
                racer.kill()
            await racer.wait()


async def said(racer: asyncio.subprocess.Process) -> str:
    assert racer.stdout is not None
    return (await asyncio.wait_for(racer.stdout.readline(), PATIENCE_S)).decode().strip()


def go(racer: asyncio.subprocess.Process) -> None:
    assert racer.stdin is not None
    racer.stdin.write(b"go\n")


async def test_of_processes_that_race_for_the_same_claims_exactly_one_wins_each(tmp_path: Path) -> None:
    # The file does not exist either when they begin.
    async with racers(tmp_path / "ledger.db", 3) as started:
        for racer in started:
            go(racer)
        granted = [set((await said(racer)).split()) for racer in started]
    assert sorted(job for one in granted for job in one) == sorted(f"job-{number}" for number in range(JOBS))


async def test_what_a_killed_process_was_granted_stays_claimed(tmp_path: Path) -> None:
    file = tmp_path / "ledger.db"
    async with racers(file, 1) as (racer,):
        go(racer)
        assert len((await said(racer)).split()) == JOBS
        racer.kill()
        await racer.wait()
    async with SqliteLedger(file, clock=Clock()) as ledger:
        assert await ledger.claim(claim_request(job_id="job-7")) == Wait(NOW + LEASE_S)


async def test_many_that_open_a_new_file_at_once_all_succeed(tmp_path: Path) -> None:
    for number in range(20):
        opening = [SqliteLedger(tmp_path / f"{number}.db", clock=Clock()) for _ in range(8)]
        opened = await asyncio.gather(*(ledger.__aenter__() for ledger in opening), return_exceptions=True)
        await asyncio.gather(
            *(ledger.__aexit__(None, None, None) for ledger in opened if isinstance(ledger, SqliteLedger))
        )
        assert [error for error in opened if isinstance(error, BaseException)] == []


# The file


def modes_in(folder: Path) -> dict[str, int]:
    return {file.name: stat.S_IMODE(file.stat().st_mode) for file in folder.iterdir()}


def let_everybody_read(folder: Path) -> None:
    for file in folder.iterdir():
        file.chmod(0o644)


def move_away(folder: Path) -> None:
    files = list(folder.iterdir())
    (folder / "elsewhere").mkdir()
    for file in files:
        file.rename(folder / "elsewhere" / file.name)


async def test_only_its_owner_may_read_the_file_and_what_stands_beside_it(tmp_path: Path) -> None:
    async with SqliteLedger(tmp_path / "ledger.db", clock=Clock()) as ledger:
        await claimed(ledger)
        modes = modes_in(tmp_path)
    assert modes == {"ledger.db": 0o600, "ledger.db-wal": 0o600, "ledger.db-shm": 0o600}


async def test_a_file_that_others_could_read_is_its_owners_alone_once_it_was_opened(tmp_path: Path) -> None:
    # What a worker left that was killed, put back by somebody without its modes.
    async with SqliteLedger(tmp_path / "ledger.db", clock=Clock()) as killed:
        await claimed(killed)
        let_everybody_read(tmp_path)
        async with SqliteLedger(tmp_path / "ledger.db", clock=Clock()):
            modes = modes_in(tmp_path)
    assert modes == {"ledger.db": 0o600, "ledger.db-wal": 0o600, "ledger.db-shm": 0o600}


@pytest.mark.parametrize("name", ["ledger.db", "100% of it?.db"])
async def test_tidying_up_makes_no_file_in_place_of_one_that_was_moved_away(tmp_path: Path, name: str) -> None:
    async with SqliteLedger(tmp_path / name, clock=Clock()) as ledger:
        move_away(tmp_path)
        assert not await ledger.tidy()
        assert modes_in(tmp_path).keys() == {"elsewhere"}


@pytest.mark.parametrize("place", ["missing/ledger.db", ".", "text.db"])
async def test_a_file_that_cannot_be_a_ledger_is_said_to_be_so_with_its_path_and_a_remedy(
    tmp_path: Path, place: str
) -> None:
    (tmp_path / "text.db").write_text("This is no database. " * 100)
    with pytest.raises(LedgerUnavailable, match="OTPOST_LEDGER_URL") as caught:
        await SqliteLedger(tmp_path / place, clock=Clock()).__aenter__()
    assert str(tmp_path / place) in str(caught.value)


async def test_a_missing_folder_that_appears_makes_the_ledger_usable(tmp_path: Path) -> None:
    file = tmp_path / "missing" / "ledger.db"
    with pytest.raises(LedgerUnavailable):
        await SqliteLedger(file, clock=Clock()).__aenter__()
    file.parent.mkdir()
    async with SqliteLedger(file, clock=Clock()) as ledger:
        assert isinstance(await ledger.claim(claim_request()), Claimed)


# Locks


@contextmanager
def locked(file: Path) -> Iterator[sqlite3.Connection]:
    """Hold the file's write lock, as a process does that was paused in the middle of a transaction."""
    with closing(sqlite3.connect(file, isolation_level=None, check_same_thread=False)) as db:
        db.execute("BEGIN IMMEDIATE")
        yield db
        if db.in_transaction:
            db.execute("ROLLBACK")


async def test_a_lock_of_a_moment_is_waited_for(tmp_path: Path) -> None:
    file = tmp_path / "ledger.db"
    async with SqliteLedger(file, clock=Clock()) as ledger:
        with locked(file) as db:
            claiming = asyncio.create_task(ledger.claim(claim_request()))
            await asyncio.wait({claiming}, timeout=0.2)
            assert not claiming.done()
            db.execute("ROLLBACK")
            assert isinstance(await asyncio.wait_for(claiming, PATIENCE_S), Claimed)


async def test_a_lock_that_lasts_is_reported_to_everybody_who_waits_within_seconds(tmp_path: Path) -> None:
    file = tmp_path / "ledger.db"
    async with SqliteLedger(file, clock=Clock()) as ledger:
        with locked(file):
            began = time.monotonic()
            claims = [ledger.claim(claim_request(job_id=f"job-{number}")) for number in range(500)]
            # Hundreds of jobs may wait here, and each may have an end in hand that somebody waits for.
            replies = await asyncio.gather(*claims, return_exceptions=True)
            took = time.monotonic() - began
        assert [type(reply) for reply in replies] == [LedgerUnavailable] * 500
        assert isinstance(await ledger.claim(claim_request()), Claimed)
    # SQLite gives up after 5 s, once for the first and once for all who came meanwhile.
    assert took < 15


# What is left of the codes of jobs that have ended, while workers have the file open


def holds_a_code(file: Path) -> bool:
    return any(CODE.encode() in each.read_bytes() for each in file.parent.glob(f"{file.name}*"))


async def end_a_job(ledger: SqliteLedger) -> None:
    accepted = Entry(State.SETTLED, None, end_step(1, "accepted"), "wamid.1")
    assert (await ledger.record(await claimed(ledger), accepted)).recorded


@pytest.mark.parametrize("name", ["ledger.db", "100% of it?.db"])
async def test_a_ledger_that_was_tidied_up_holds_no_code_of_a_job_that_has_ended(tmp_path: Path, name: str) -> None:
    file = tmp_path / name
    async with SqliteLedger(file, clock=Clock()) as ledger, SqliteLedger(file, clock=Clock()) as other:
        await end_a_job(ledger)
        assert await asyncio.to_thread(holds_a_code, file)
        assert await other.tidy()
        assert not await asyncio.to_thread(holds_a_code, file)


async def test_tidying_up_begins_with_the_worker(tmp_path: Path) -> None:
    file = tmp_path / "ledger.db"
    async with SqliteLedger(file, clock=Clock()) as ledger, asyncio.timeout(PATIENCE_S):
        await end_a_job(ledger)
        keeping = asyncio.create_task(ledger.keep_small())
        while await asyncio.to_thread(holds_a_code, file):
            assert not keeping.done()
        keeping.cancel()


async def test_a_reader_in_the_way_of_tidying_up_holds_up_no_claim_and_the_next_round_does_it(tmp_path: Path) -> None:
    file = tmp_path / "ledger.db"
    async with SqliteLedger(file, clock=Clock()) as ledger, asyncio.timeout(PATIENCE_S):
        with closing(sqlite3.connect(file, isolation_level=None)) as reader:
            await end_a_job(ledger)
            reader.execute("BEGIN")
            reader.execute("SELECT * FROM runs").fetchall()
            other = envelope(job_body(id="job-2", code="112233"))
            claiming = asyncio.create_task(ledger.claim(claim_request(job_id="job-2", of=other)))
            assert not await ledger.tidy()
            assert isinstance(await claiming, Claimed)
            reader.execute("ROLLBACK")
        assert await asyncio.to_thread(holds_a_code, file)
        assert await ledger.tidy()
        assert not await asyncio.to_thread(holds_a_code, file)


async def test_a_worker_that_ends_leaves_no_code_of_its_jobs_to_the_others(tmp_path: Path) -> None:
    file = tmp_path / "ledger.db"
    async with SqliteLedger(file, clock=Clock()):
        async with SqliteLedger(file, clock=Clock()) as ledger:
            await end_a_job(ledger)
        assert not await asyncio.to_thread(holds_a_code, file)


# What its tables keep beside what the port shows


async def test_a_late_acceptance_keeps_the_providers_id_although_the_run_has_ended(tmp_path: Path) -> None:
    file, clock = tmp_path / "ledger.db", Clock()
    async with SqliteLedger(file, clock=clock) as ledger:
        ticket = await claimed(ledger)
        clock.reach(NOW + LEASE_S)
        await ledger.lapse(ticket, Entry(State.SETTLED, Kind.UNKNOWN, end_step(1, "failed")))
        await ledger.record(ticket, Entry(State.SETTLED, None, end_step(1, "accepted"), "wamid.late"))
    with closing(sqlite3.connect(file)) as db:
        assert db.execute("SELECT provider_message_id FROM attempts").fetchall() == [("wamid.late",)]


async def test_a_late_acceptance_of_an_earlier_attempt_keeps_the_providers_id_too(tmp_path: Path) -> None:
    file, clock = tmp_path / "ledger.db", Clock()
    async with SqliteLedger(file, clock=clock) as ledger:
        first = await claimed(ledger)
        await ledger.record(first, Entry(State.UNKNOWN, Kind.UNKNOWN, retry_step(1, NOW + 5)))
        clock.reach(NOW + 5)
        second = await claimed(ledger, 1, 2)
        await ledger.record(second, Entry(State.SETTLED, None, end_step(2, "accepted"), "wamid.two"))
        assert (
            await ledger.record(first, Entry(State.SETTLED, None, end_step(1, "accepted"), "wamid.one"))
        ).recorded is None
    with closing(sqlite3.connect(file)) as db:
        kept = db.execute("SELECT provider_message_id FROM attempts ORDER BY attempt").fetchall()
    assert kept == [("wamid.one",), ("wamid.two",)]
