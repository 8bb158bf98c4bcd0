"""Thousands of jobs to one recipient beside thousands to others: do the others wait for it? And is any limit crossed?

    python bench/flood.py --jobs 5000 --workers 4

Twice the same jobs to others, at the number's full rate: alone, and mixed with as many to one recipient, whose limit
lets through only a few. The provider is the simulator with Meta's limits: 80 messages a second, and to one recipient
45 at once and then one every 6 s. It counts what it refuses for them.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import secrets
import sys
import tempfile
import time
from contextlib import AsyncExitStack
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from otpost import OtpJob, Producer
from otpost.result import Status
from otpost.sealing import PrivateKey
from throughput import CODE, Tally, declare, environment, otpost, stats

sys.path.insert(0, str(Path(__file__).parents[1] / "tools"))

from private_rabbitmq import PrivateRabbitMQ
from private_redis import PrivateRedis

if TYPE_CHECKING:
    from collections.abc import Iterator

RATE: Final = 80
FLOODED: Final = "+12015550000"


@dataclass(frozen=True)
class Run:
    """What was found in one run; times in seconds."""

    others_s: float
    flood_accepted: int
    flood_expired: int
    requests: int
    throughput_refusals: int
    pair_refusals: int


def jobs(count: int, *, flood: bool) -> Iterator[OtpJob]:
    """Make the jobs to others, each followed by one to the flooded recipient where there is a *flood*."""
    for number in range(count):
        yield OtpJob(id=f"other-{number}", to=f"+1202{number:07}", code=CODE, ttl_s=1800)
        if flood:
            yield OtpJob(id=f"flood-{number}", to=FLOODED, code=CODE, ttl_s=60)


async def measure(count: int, workers: int, *, redis: bool, flood: bool) -> Run:
    """Publish the jobs while nobody takes them, then let workers have them."""
    async with AsyncExitStack() as resources:
        folder = Path(resources.enter_context(tempfile.TemporaryDirectory(prefix="otpost-bench-")))
        node = await resources.enter_async_context(PrivateRabbitMQ())
        simulator = await resources.enter_async_context(
            otpost("simulator", "--port", "0", log=folder / "simulator.log", env=dict(os.environ))
        )
        assert simulator.stdout is not None  # noqa: S101 - it was asked for
        api_base = (await simulator.stdout.readline()).decode().split()[-1]
        await declare(node.amqp_url)
        async with Producer(node.amqp_url) as producer:
            await producer.send_many(jobs(count, flood=flood))
        tally = Tally()
        listening = asyncio.create_task(tally.listen(node.amqp_url))
        resources.callback(listening.cancel)
        env = environment(node.amqp_url, api_base, folder, rate=RATE)
        if redis:
            env["OTPOST_LEDGER_URL"] = resources.enter_context(PrivateRedis()).url
            env["OTPOST_PRIVATE_KEYS"] = PrivateKey(secrets.token_bytes(32)).reveal()
        began = time.monotonic()
        for number in range(1, workers + 1):
            await resources.enter_async_context(otpost("worker", log=folder / f"worker-{number}.log", env=env))
        await tally.wait_for(count * (2 if flood else 1))
        ends = tally.ends.values()
        others = sorted(end.at.timestamp() for end in ends if (end.job_id or "").startswith("other-"))
        flooded = [end.status for end in ends if (end.job_id or "").startswith("flood-")]
        found = await asyncio.to_thread(stats, api_base)
        print(f"took {time.monotonic() - began:.1f} s in all", file=sys.stderr, flush=True)
        return Run(
            others_s=round(others[-1] - others[0], 2),
            flood_accepted=flooded.count(Status.ACCEPTED),
            flood_expired=flooded.count(Status.EXPIRED),
            requests=found["received"],
            throughput_refusals=found["throughput_refusals"],
            pair_refusals=found["pair_refusals"],
        )


async def compare(count: int, workers: int, *, redis: bool) -> tuple[Run, Run]:
    """Measure the others alone, then beside the flood."""
    alone = await measure(count, workers, redis=redis, flood=False)
    return alone, await measure(count, workers, redis=redis, flood=True)


def main() -> int:
    """Measure and print; the exit status is 1 where the provider refused anything for a limit."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--jobs", type=int, default=5000, help="to others, and again to the one recipient")
    parser.add_argument("--workers", type=int, default=4)
    parser.add_argument(
        "--redis", action="store_true", help="with a ledger in a Redis of its own, not in a SQLite file"
    )
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    options = parser.parse_args()
    alone, beside = asyncio.run(compare(options.jobs, options.workers, redis=options.redis))
    ratio = round(beside.others_s / alone.others_s, 3)
    if options.json:
        print(json.dumps({"alone": asdict(alone), "beside": asdict(beside), "ratio": ratio}))
    else:
        print(f"alone:  {alone}\nbeside: {beside}\nthe others took {ratio} times as long beside the flood")
    return int(any(run.throughput_refusals or run.pair_refusals for run in (alone, beside)))


if __name__ == "__main__":
    sys.exit(main())
