"""Does a worker's memory grow with the recipients that it has seen?

    python bench/memory.py --jobs 200000

One worker sends jobs to recipients of their own; its resident memory after a tenth of them stands beside that after
all of them.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
import tempfile
from contextlib import AsyncExitStack
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final

from otpost import Producer
from throughput import Tally, declare, environment, jobs, otpost, simulator, stats

sys.path.insert(0, str(Path(__file__).parents[1] / "tools"))

from private_rabbitmq import PrivateRabbitMQ

# So many are published ahead of the worker: enough to keep it busy, few enough to keep the broker's queues short.
AHEAD: Final = 2000
PATIENCE_S: Final = 1800.0


@dataclass(frozen=True)
class Report:
    """What was found; memory in MiB."""

    early_jobs: int
    early_mib: float
    jobs: int
    mib: float
    ratio: float
    requests: int
    ledger_mib: float


def resident_mib(pid: int) -> float:
    """Tell how much memory of a process is in use now."""
    status = Path(f"/proc/{pid}/status").read_text(encoding="utf-8")
    line = next(line for line in status.splitlines() if line.startswith("VmRSS:"))
    return int(line.split()[1]) / 1024


async def publish(url: str, count: int, tally: Tally) -> None:
    """Publish jobs, never far ahead of those that have ended."""
    async with Producer(url) as producer:
        for first in range(0, count, AHEAD // 2):
            await tally.wait_for(first - AHEAD)
            await producer.send_many(jobs(first, min(AHEAD // 2, count - first)))


async def measure(count: int) -> Report:
    """Run it all."""
    async with AsyncExitStack() as resources:
        folder = Path(resources.enter_context(tempfile.TemporaryDirectory(prefix="otpost-bench-")))
        node = await resources.enter_async_context(PrivateRabbitMQ())
        api_base, _ = await resources.enter_async_context(simulator(folder))
        await declare(node.amqp_url)
        tally = Tally(patience_s=PATIENCE_S)
        listening = asyncio.create_task(tally.listen(node.amqp_url))
        resources.callback(listening.cancel)
        worker = await resources.enter_async_context(
            otpost("worker", log=folder / "worker.log", env=environment(node.amqp_url, api_base, folder))
        )
        publishing = asyncio.create_task(publish(node.amqp_url, count, tally))
        resources.callback(publishing.cancel)
        await tally.wait_for(count // 10)
        early = resident_mib(worker.pid)
        print(f"{early:.1f} MiB after {count // 10} jobs", file=sys.stderr, flush=True)
        await tally.wait_for(count)
        late = resident_mib(worker.pid)
        found = await asyncio.to_thread(stats, api_base)
        return Report(
            early_jobs=count // 10,
            early_mib=round(early, 1),
            jobs=count,
            mib=round(late, 1),
            ratio=round(late / early, 3),
            requests=found["received"],
            ledger_mib=round((folder / "ledger.db").stat().st_size / 2**20, 1),
        )


def main() -> int:
    """Measure and print; the exit status is 1 where memory grew by more than a tenth."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--jobs", type=int, default=200_000)
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    options = parser.parse_args()
    report = asyncio.run(measure(options.jobs))
    print(json.dumps(asdict(report)) if options.json else report)
    return int(report.ratio > 1.1 or report.requests != options.jobs)


if __name__ == "__main__":
    sys.exit(main())
