"""How many claims a second each kind of ledger grants one worker, and how long one claim takes.

    python bench/ledgers.py --claims 3000 --rounds 5

A job's way through the ledger is a claim and a record. In each round all kinds take turns, so that whatever else the
machine does strikes them alike; the ratio to SQLite in the same round is what says something, not the number alone.
Redis is a private one, with `appendfsync` as named: `always` writes each command to the disk before it answers, as
SQLite does not (it leaves that to the system), `everysec` once a second.
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import json
import statistics
import sys
import tempfile
import time
from contextlib import AsyncExitStack
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from otpost_worker.attempts import State, Wish
from otpost_worker.envelope import Envelope, Event, Step
from otpost_worker.ledger.memory import MemoryLedger
from otpost_worker.ledger.redis import RedisLedger
from otpost_worker.ledger.sqlite import SqliteLedger
from otpost_worker.pacing import Lane
from otpost_worker.ports import Claimed, ClaimRequest, Entry
from otpost_worker.standing import Heard, Signal

sys.path.insert(0, str(Path(__file__).parents[1] / "tools"))

from private_redis import PrivateRedis

if TYPE_CHECKING:
    from collections.abc import Mapping

    from otpost_worker.ports import Ledger

AT_ONCE: Final = 200
# One at a time, to see how long a single one takes.
ALONE: Final = 200
REFERENCE: Final = "sqlite"
_numbers = itertools.count()


@dataclass(frozen=True)
class Result:
    """What was found of one kind: jobs a second with many at once, and what a job takes that has it to itself.

    *ratio*: jobs a second against SQLite's in the same round; the median of all rounds, as are the others.
    """

    ledger: str
    jobs_per_s: float
    ratio: float
    claim_ms: float
    record_ms: float


def request() -> ClaimRequest:
    """Make up the next job's claim, with limits that let everything through."""
    number, now = next(_numbers), time.time()
    job_id, to = f"job-{number}", f"+1202{number:07}"
    body = b'{"id":"%s","to":"%s","code":"493817","ttl_s":300}' % (job_id.encode(), to.encode())
    lane = Lane("default", "default", to, "login", "en_US", 1e9, now + 295, now + 300)
    return ClaimRequest(job_id, Wish(1, 1), Envelope(body, "default"), now + 300, 10.0, lane, token=f"{number:016x}")


def accepted(made: ClaimRequest) -> Entry:
    """Make up the outcome of a claim that went well."""
    assert made.lane is not None  # noqa: S101 - see request()
    event = Event(f"{made.job_id}/1/1/accepted", "accepted", b'{"status":"accepted"}')
    return Entry(State.SETTLED, None, Step(event), "wamid.1", Heard(made.lane, Signal.ACCEPTED, time.time()))


async def one_job(ledger: Ledger) -> tuple[float, float]:
    """Claim and record; returns how many seconds each took."""
    made, begun = request(), time.perf_counter()
    reply = await ledger.claim(made)
    claimed = time.perf_counter()
    assert isinstance(reply, Claimed)  # noqa: S101 - nothing keeps it from being granted
    await ledger.record(reply.ticket, accepted(made))
    return claimed - begun, time.perf_counter() - claimed


async def many(ledger: Ledger, count: int) -> float:
    """Take so many jobs, many at once; returns how many a second."""
    left = iter(range(count))

    async def take() -> None:
        for _ in left:
            await one_job(ledger)

    begun = time.perf_counter()
    await asyncio.gather(*(take() for _ in range(AT_ONCE)))
    return count / (time.perf_counter() - begun)


async def measure(ledgers: Mapping[str, Ledger], claims: int, rounds: int) -> list[Result]:
    """Let the ledgers take turns, a round after the other; the first round is not counted."""
    rates: dict[str, list[float]] = {name: [] for name in ledgers}
    alone: dict[str, list[tuple[float, float]]] = {name: [] for name in ledgers}
    for number in range(rounds + 1):
        for name, ledger in ledgers.items():
            rate = await many(ledger, claims)
            took = [await one_job(ledger) for _ in range(ALONE)]
            if number:
                rates[name].append(rate)
                alone[name] += took
    reference = rates[REFERENCE]
    return [
        Result(
            name,
            round(statistics.median(rates[name])),
            round(statistics.median(own / theirs for own, theirs in zip(rates[name], reference, strict=True)), 2),
            round(statistics.median(claim for claim, _ in alone[name]) * 1000, 3),
            round(statistics.median(record for _, record in alone[name]) * 1000, 3),
        )
        for name in ledgers
    ]


async def compare(claims: int, rounds: int) -> list[Result]:
    """Open one ledger of each kind, all on this machine, and measure them."""
    async with AsyncExitStack() as resources:
        folder = resources.enter_context(tempfile.TemporaryDirectory(prefix="otpost-bench-"))
        kinds = {name: f"appendfsync {name}" for name in ("always", "everysec")}
        servers = {
            f"redis, {kind}": resources.enter_context(PrivateRedis(extra_config=[kind])) for kind in kinds.values()
        }
        return await measure(
            {
                REFERENCE: await resources.enter_async_context(SqliteLedger(Path(folder) / "ledger.db")),
                **{
                    name: await resources.enter_async_context(RedisLedger(server.url))
                    for name, server in servers.items()
                },
                "memory": await resources.enter_async_context(MemoryLedger()),
            },
            claims,
            rounds,
        )


def main() -> int:
    """Measure, and print what was found."""
    parser = argparse.ArgumentParser(description="Compare the ledgers on this machine.")
    parser.add_argument("--claims", type=int, default=3000, help="jobs a round and ledger")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--json", action="store_true", help="one object a ledger")
    options = parser.parse_args()
    results = asyncio.run(compare(options.claims, options.rounds))
    if options.json:
        for result in results:
            print(json.dumps(asdict(result)))
        return 0
    print(f"{'ledger':28}{'jobs/s':>8}{'ratio':>8}{'claim':>12}{'record':>12}")
    for one in results:
        print(f"{one.ledger:28}{one.jobs_per_s:8.0f}{one.ratio:8.2f}{one.claim_ms:9.3f} ms{one.record_ms:9.3f} ms")
    return 0


if __name__ == "__main__":
    sys.exit(main())
