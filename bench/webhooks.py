"""How many webhooks a second one receiver takes on this machine, and how soon it answers.

    python bench/webhooks.py --rate 1000 --seconds 60
    python bench/webhooks.py --rate 1000 --seconds 60 --beside 80

It starts a private RabbitMQ and `otpost webhook`, and posts one delivery report a POST at a steady pace, whether or not
the answers keep up: each latency counts from when the POST was due. With ``--beside`` a worker sends so many messages a
second meanwhile, to the simulated provider, and takes what is posted: reports of those messages, most of them copies.
"""

from __future__ import annotations

import argparse
import asyncio
import hashlib
import hmac
import json
import os
import sys
import tempfile
import time
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from otpost import declaring, rabbitmq
from otpost.topology import WEBHOOKS
from throughput import cpu_s, environment, otpost, pids_of_group, publish_steadily, simulator, stats

sys.path.insert(0, str(Path(__file__).parents[1] / "tools"))

from private_rabbitmq import PrivateRabbitMQ

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

SECRET: Final = "bench-app-secret"  # noqa: S105 - of this measurement only
CONNECTIONS: Final = 64
PATIENCE_S: Final = 60.0


@dataclass(frozen=True)
class Report:
    """What was found; *within_50_ms* is a share of all that were sent."""

    sent: int
    per_s: float
    answered_200: int
    within_50_ms: float
    p50_ms: float
    p99_ms: float
    most_ms: float
    stored: int
    taken_beside: int
    receiver_cpu_s: float
    broker_cpu_s: float


def request(number: int, job: int) -> bytes:
    """Make one POST with one report of a job, about as long as Meta's."""
    status = {
        "id": f"wamid.HBgLMTY1MDU1NTEyMzQVAgARGBI{number:020}AA",
        "status": ("sent", "delivered", "read")[number % 3],
        "timestamp": "1750030076",
        "recipient_id": f"1202{number:07}",
        "biz_opaque_callback_data": f"bench-{job}",
        "pricing": {"billable": True, "pricing_model": "PMP", "type": "regular", "category": "authentication"},
    }
    value = {
        "messaging_product": "whatsapp",
        "metadata": {"display_phone_number": "15550783881", "phone_number_id": "106540352242922"},
        "statuses": [status],
    }
    entry = {"id": "102290129340398", "changes": [{"field": "messages", "value": value}]}
    body = json.dumps({"object": "whatsapp_business_account", "entry": [entry]}).encode()
    signature = hmac.new(SECRET.encode(), body, hashlib.sha256).hexdigest()
    head = (
        "POST /webhook HTTP/1.1\r\nHost: bench\r\nContent-Type: application/json\r\n"
        f"Content-Length: {len(body)}\r\nX-Hub-Signature-256: sha256={signature}\r\n\r\n"
    )
    return head.encode() + body


async def post(port: int, due: Iterator[tuple[float, bytes]], answers: list[tuple[int, float]]) -> None:
    """Post over one connection whatever is due next, until nothing is."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    for at, sent in due:
        await asyncio.sleep(at - time.monotonic())
        writer.write(sent)
        head = await reader.readuntil(b"\r\n\r\n")
        length = next(line for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:"))
        await reader.readexactly(int(length.split(b":")[1]))
        answers.append((int(head.split(b" ", 2)[1]), time.monotonic() - at))
    writer.close()


async def until_told(log: Path, *events: str) -> dict[str, dict[str, Any]]:
    """Wait until a process has told all of these; gives its log lines by event."""
    async with asyncio.timeout(PATIENCE_S):
        while True:
            text = await asyncio.to_thread(log.read_text, "utf-8")
            told = {line["event"]: line for line in map(json.loads, text.splitlines())}
            if told.keys() >= set(events):
                return told
            await asyncio.sleep(0.05)


async def stored(url: str, count: int) -> int:
    """Count what is in the queue, once it is as many as *count* or no longer becomes more."""
    connection = await rabbitmq.connect(url, name="bench", timeout_s=10)
    try:
        found, before = 0, -1
        while found not in (count, before):
            await asyncio.sleep(1)
            before, state = found, await declaring.inspect_queue(connection, WEBHOOKS, timeout_s=10)
            found = state.ready if state else 0
        return found
    finally:
        await rabbitmq.close_quietly(connection)


@asynccontextmanager
async def sender(url: str, folder: Path, per_s: float, seconds: float) -> AsyncIterator[str | None]:
    """Send *per_s* messages a second meanwhile; gives the provider's address, None where nothing is sent."""
    if not per_s:
        yield None
        return
    async with simulator(folder) as (api_base, _), asyncio.TaskGroup() as tasks:
        env = environment(url, api_base, folder) | {"OTPOST_APP_SECRET": SECRET}
        async with otpost("worker", log=folder / "worker.log", env=env):
            await until_told(folder / "worker.log", "consuming")
            sending = tasks.create_task(publish_steadily(url, 0, int(per_s * seconds), per_s=per_s))
            yield api_base
            await sending


async def measure(rate: float, seconds: float, beside: float) -> Report:
    """Run it all."""
    async with AsyncExitStack() as resources:
        folder = Path(resources.enter_context(tempfile.TemporaryDirectory(prefix="otpost-bench-")))
        node = await resources.enter_async_context(PrivateRabbitMQ())
        env = {name: value for name, value in os.environ.items() if not name.startswith("OTPOST_")} | {
            "OTPOST_BROKER_URL": node.amqp_url,
            "OTPOST_APP_SECRET": SECRET,
            "OTPOST_VERIFY_TOKEN": "bench",
            "OTPOST_LOG_FORMAT": "json",
        }
        log = folder / "webhook.log"
        receiver = await resources.enter_async_context(otpost("webhook", "--port", "0", log=log, env=env))
        port = int((await until_told(log, "webhook.listening", "storing"))["webhook.listening"]["port"])
        count = int(rate * seconds)
        # Of a job that was sent a while ago: a report that comes before its job would be put off again and again.
        jobs_until = [max(1, int((number / rate - 5) * beside)) for number in range(count)]
        requests = [request(number, number % jobs_until[number] if beside else number) for number in range(count)]
        api_base = await resources.enter_async_context(sender(node.amqp_url, folder, beside, seconds))
        answers: list[tuple[int, float]] = []
        receiver_before, broker_before = cpu_s([receiver.pid]), cpu_s(pids_of_group(node.group))
        began = time.monotonic() + 0.5
        due = ((began + number / rate, sent) for number, sent in enumerate(requests))
        async with asyncio.TaskGroup() as tasks:
            for _ in range(CONNECTIONS):
                tasks.create_task(post(port, due, answers))
        took_s = time.monotonic() - began
        used = cpu_s([receiver.pid]) - receiver_before, cpu_s(pids_of_group(node.group)) - broker_before
        good = [latency for status, latency in answers if status == 200]
        late = sorted(latency for _, latency in answers)
        return Report(
            sent=count,
            per_s=round(count / took_s, 1),
            answered_200=len(good),
            within_50_ms=round(sum(latency <= 0.05 for latency in good) / count, 4),
            p50_ms=round(late[count // 2] * 1000, 1),
            p99_ms=round(late[int(count * 0.99)] * 1000, 1),
            most_ms=round(late[-1] * 1000, 1),
            stored=len(good) if api_base else await stored(node.amqp_url, count),
            taken_beside=stats(api_base)["taken"] if api_base else 0,
            receiver_cpu_s=round(used[0], 2),
            broker_cpu_s=round(used[1], 2),
        )


def main() -> int:
    """Measure and print; the exit status is 1 where one was refused or is not there, however fast that was."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rate", type=float, default=1000, help="POSTs a second")
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--beside", type=float, default=0, help="messages a second that a worker sends meanwhile")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    options = parser.parse_args()
    report = asyncio.run(measure(options.rate, options.seconds, options.beside))
    if options.json:
        print(json.dumps(asdict(report)))
    else:
        print(f"{report.sent} POSTs at {report.per_s}/s: {report.answered_200} answered 200, {report.stored} stored")
        late = f"p50 {report.p50_ms}, p99 {report.p99_ms}, at most {report.most_ms} ms"
        print(f"{report.within_50_ms:.2%} within 50 ms; {late}")
        if options.beside:
            print(f"{report.taken_beside} messages taken by the provider beside them")
        print(f"CPU seconds: receiver {report.receiver_cpu_s}, broker {report.broker_cpu_s}")
    return int(not report.sent == report.answered_200 == report.stored)


if __name__ == "__main__":
    sys.exit(main())
