"""How many jobs a second two workers send on this machine, and what it costs them.

    python bench/throughput.py --jobs 20000 --workers 2

It starts everything itself: a private RabbitMQ, the simulated provider in a process of its own, and the workers,
which share one SQLite ledger. The jobs are published beforehand, so that the producer takes no time from the
workers; the rate is measured from the first acceptance to the last. The latency is measured afterwards, with jobs
sent one by one at a steady pace far below that rate.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import signal
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from otpost import OtpJob, OtpResult, Producer, declaring, rabbitmq
from otpost.topology import DEAD, DROPPED, job_queue, topology

sys.path.insert(0, str(Path(__file__).parents[1] / "tools"))

from private_rabbitmq import PrivateRabbitMQ

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

CODE: Final = "493817"
PACE_PER_S: Final = 100
NO_LIMIT: Final = 10_000
# Far longer than any part of it takes; whoever waits for longer has found a fault.
PATIENCE_S: Final = 600.0
_TICKS: Final = os.sysconf("SC_CLK_TCK")


@dataclass
class Tally:
    """Every result that has come."""

    patience_s: float = PATIENCE_S
    ends: dict[str, OtpResult] = field(default_factory=dict)
    copies: int = 0
    others: int = 0
    news: asyncio.Condition = field(default_factory=asyncio.Condition)

    async def listen(self, url: str) -> None:
        """Read the results stream from its beginning."""
        async with Producer(url) as producer:
            async for result in producer.results(since="first"):
                async with self.news:
                    self._note(result)
                    self.news.notify_all()

    def _note(self, result: OtpResult) -> None:
        if not result.ends_job:
            self.others += 1
        elif result.event_id in self.ends:
            self.copies += 1
        else:
            self.ends[result.event_id] = result

    async def wait_for(self, count: int) -> None:
        """Wait for so many ends."""
        async with asyncio.timeout(self.patience_s), self.news:
            await self.news.wait_for(lambda: len(self.ends) >= count)


@dataclass(frozen=True)
class Report:
    """What was found."""

    jobs: int
    workers: int
    results: int
    accepted: int
    copies: int
    other_events: int
    requests: int
    requests_twice: int
    left_in_queues: int
    publish_s: float
    first_to_last_s: float
    jobs_per_s: float
    cpu_s: dict[str, float]
    latency_jobs: int
    p50_ms: float
    p99_ms: float


def cpu_s(pids: list[int]) -> float:
    """Sum the CPU seconds that processes have used."""
    ticks = 0
    for pid in pids:
        # The name before the bracket may hold anything; utime and stime are the 12th and 13th field behind it.
        fields = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rsplit(")", 1)[1].split()
        ticks += int(fields[11]) + int(fields[12])
    return round(ticks / _TICKS, 2)


def pids_of_group(group: int) -> list[int]:
    """List the processes of one process group."""
    pids = [int(entry.name) for entry in Path("/proc").iterdir() if entry.name.isdigit()]
    return [pid for pid in pids if _group_of(pid) == group]


def _group_of(pid: int) -> int | None:
    try:
        return os.getpgid(pid)
    except ProcessLookupError:
        return None


def environment(broker_url: str, api_base: str, folder: Path, *, rate: int = NO_LIMIT) -> dict[str, str]:
    """Describe one sender; unless *rate* says otherwise, without a limit that it could meet."""
    clean = {name: value for name, value in os.environ.items() if not name.startswith("OTPOST_")}
    return clean | {
        "OTPOST_BROKER_URL": broker_url,
        "OTPOST_LEDGER_URL": f"sqlite:///{folder / 'ledger.db'}",
        "OTPOST_PHONE_NUMBER_ID": "106540352242922",
        "OTPOST_ACCESS_TOKEN": "EAAG-a-token",
        "OTPOST_TEMPLATE": "verification_code",
        "OTPOST_LANGUAGE": "en_US",
        "OTPOST_API_BASE": api_base,
        "OTPOST_LOG_FORMAT": "json",
        "OTPOST_RATE": str(rate),
    }


@asynccontextmanager
async def otpost(*arguments: str, log: Path, env: dict[str, str]) -> AsyncIterator[asyncio.subprocess.Process]:
    """Run one `otpost` command until the block ends."""
    with log.open("wb") as output:
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "otpost", *arguments, env=env, stdout=subprocess.PIPE, stderr=output
        )
    try:
        yield process
    finally:
        if process.returncode is None:
            process.send_signal(signal.SIGTERM)
        await asyncio.wait_for(process.wait(), PATIENCE_S)


@asynccontextmanager
async def simulator(folder: Path) -> AsyncIterator[tuple[str, int]]:
    """Run the provider without a limit of throughput; the pair limits stay. Gives its URL and process id."""
    arguments = ("simulator", "--port", "0", "--rate", "0")
    async with otpost(*arguments, log=folder / "simulator.log", env=dict(os.environ)) as process:
        assert process.stdout is not None  # noqa: S101 - it was asked for
        url = (await process.stdout.readline()).decode().split()[-1]
        yield url, process.pid


def stats(api_base: str) -> dict[str, Any]:
    """Ask the provider what it received."""
    with urllib.request.urlopen(f"{api_base}/_simulator/stats", timeout=30) as answer:  # noqa: S310 - our own server
        found: dict[str, Any] = json.load(answer)
        return found


def jobs(first: int, count: int) -> Iterator[OtpJob]:
    """Make jobs to recipients of their own, each when it is asked for: its latency counts from then."""
    for number in range(first, first + count):
        yield OtpJob(id=f"bench-{number}", to=f"+1201{number:07}", code=CODE, ttl_s=3600)


async def publish_beforehand(url: str, count: int) -> float:
    """Publish all jobs while nobody takes them; returns the seconds that took."""
    began = time.monotonic()
    async with Producer(url) as producer:
        await producer.send_many(jobs(0, count))
    return time.monotonic() - began


async def publish_steadily(url: str, first: int, count: int, *, per_s: float = PACE_PER_S) -> None:
    """Publish jobs one by one, so many a second."""
    began = time.monotonic()
    async with Producer(url) as producer:
        for number in range(count):
            await asyncio.sleep(began + number / per_s - time.monotonic())
            (job,) = jobs(first + number, 1)
            await producer.send(job)


async def left_over(url: str) -> int:
    """Count what is left in the queues that a job can be in."""
    names = [queue.name for queue in topology(["default"]).queues if queue.name.startswith("otpost.delay")]
    connection = await rabbitmq.connect(url, name="bench", timeout_s=10)
    try:
        states = [
            await declaring.inspect_queue(connection, name, timeout_s=10)
            for name in (job_queue("default"), DROPPED, DEAD, *names)
        ]
        return sum(state.ready for state in states if state is not None)
    finally:
        await rabbitmq.close_quietly(connection)


async def declare(url: str) -> None:
    """Declare what the workers will, so that the jobs can be published before there is one."""
    connection = await rabbitmq.connect(url, name="bench", timeout_s=10)
    await declaring.declare(connection, topology(["default"]))
    await rabbitmq.close_quietly(connection)


async def measure(count: int, workers: int, latency_jobs: int, *, tell_pids: bool) -> Report:
    """Run it all."""
    async with AsyncExitStack() as resources:
        folder = Path(resources.enter_context(tempfile.TemporaryDirectory(prefix="otpost-bench-")))
        node = await resources.enter_async_context(PrivateRabbitMQ())
        api_base, simulator_pid = await resources.enter_async_context(simulator(folder))
        await declare(node.amqp_url)
        publish_s = await publish_beforehand(node.amqp_url, count)
        tally = Tally()
        listening = asyncio.create_task(tally.listen(node.amqp_url))
        resources.callback(listening.cancel)
        broker_before = cpu_s(pids_of_group(node.group))
        env = environment(node.amqp_url, api_base, folder)
        running = [
            await resources.enter_async_context(otpost("worker", log=folder / f"worker-{number}.log", env=env))
            for number in range(1, workers + 1)
        ]
        if tell_pids:
            print("workers:", *(worker.pid for worker in running), file=sys.stderr, flush=True)
        await tally.wait_for(count)
        times = sorted(end.at.timestamp() for end in tally.ends.values())
        used = {f"worker {number}": cpu_s([worker.pid]) for number, worker in enumerate(running, start=1)}
        used["broker"] = round(cpu_s(pids_of_group(node.group)) - broker_before, 2)
        used["simulator"] = cpu_s([simulator_pid])
        await publish_steadily(node.amqp_url, count, latency_jobs)
        await tally.wait_for(count + latency_jobs)
        late = sorted(end.latency_ms or 0 for end in list(tally.ends.values())[count:])
        found = await asyncio.to_thread(stats, api_base)
        return Report(
            jobs=count,
            workers=workers,
            results=len(tally.ends),
            accepted=sum(end.status == "accepted" for end in tally.ends.values()),
            copies=tally.copies,
            other_events=tally.others,
            requests=found["received"],
            requests_twice=int(found["max_per_callback"] > 1),
            left_in_queues=await left_over(node.amqp_url),
            publish_s=round(publish_s, 2),
            first_to_last_s=round(times[-1] - times[0], 2),
            jobs_per_s=round((count - 1) / (times[-1] - times[0]), 1),
            cpu_s=used,
            latency_jobs=latency_jobs,
            p50_ms=statistics.median(late),
            p99_ms=late[int(len(late) * 0.99)],
        )


def show(report: Report) -> None:
    """Print the report for people."""
    print(f"{report.jobs} jobs published beforehand in {report.publish_s} s; {report.workers} workers, one ledger")
    print(f"{report.jobs_per_s} jobs/s ({report.first_to_last_s} s from the first acceptance to the last)")
    print(f"{report.accepted} accepted, {report.copies} results twice, {report.other_events} other events")
    print(f"{report.requests} requests, {report.left_in_queues} messages left in queues")
    print("CPU seconds: " + ", ".join(f"{name} {seconds}" for name, seconds in report.cpu_s.items()))
    print(f"latency at {PACE_PER_S} jobs/s: p50 {report.p50_ms:g} ms, p99 {report.p99_ms:g} ms")


def is_right(report: Report) -> bool:
    """Tell whether every job has one end and one request, and nothing is left."""
    everything = report.jobs + report.latency_jobs
    return (
        report.results == report.accepted == report.requests == everything
        and not report.requests_twice
        and not report.left_in_queues
    )


def main() -> int:
    """Measure and print; the exit status is 1 where a promise was broken, however fast that was."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--jobs", type=int, default=20_000)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--latency-jobs", type=int, default=1000, help="how many jobs measure the latency afterwards")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.add_argument("--pids", action="store_true", help="tell the workers' process ids, for a profiler")
    options = parser.parse_args()
    report = asyncio.run(measure(options.jobs, options.workers, options.latency_jobs, tell_pids=options.pids))
    if options.json:
        print(json.dumps(asdict(report)))
    else:
        show(report)
    return 0 if is_right(report) else 1


if __name__ == "__main__":
    sys.exit(main())
