"""The order of the demo: set the stage, send, compare, replay, stop, judge."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import aio_pika

from cases import REPLAYED, RULES, Form, Names, plan
from comparing import Seen, add_up, compare, count, judge
from otpost import Producer, rabbitmq
from otpost.topology import JOBS
from processes import START_TIMEOUT_S, Children, DemoFailed
from witnesses import Broker, Journal, Results, dead_letters, scrape

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from contextlib import AsyncExitStack
    from pathlib import Path

    from cases import Case, Planned
    from showing import Show

_WORKERS: Final = ("worker-1", "worker-2")
_TIMEOUT_S: Final = 10.0
_PUBLISH_TIMEOUT_S: Final = 30.0
# All of it ends within 15 s; a machine that is busy with other things may take its time.
_END_TIMEOUT_S: Final = 120.0
_SENDERS_FILE: Final = """\
[senders.{0}]
phone_number_id = "106540352242922"
access_token = "demo"

[senders.{1}]
phone_number_id = "106540352242923"
access_token = "demo"
"""


@dataclass(frozen=True, slots=True)
class Stage:
    """Everything that runs, and everything that is looked at. *is_shared*: the broker stays when the demo is over."""

    show: Show
    names: Names
    url: str
    children: Children
    broker: Broker
    journal: Journal
    results: Results
    logs: Path
    is_shared: bool

    @classmethod
    async def set_up(
        cls,
        show: Show,
        url: str,
        folder: Path,
        resources: AsyncExitStack,
        *,
        is_shared: bool,
        quieten: Callable[[], None],
    ) -> Stage:
        """Start the simulator and the workers; *resources* ends them, after *quieten* has shut out interruptions.

        The ledger and the workers' settings go into *folder*, logs into ``logs`` below it.

        :raises DemoFailed: the broker is somebody else's, or a program did not start.
        """
        names = Names.fresh()
        connection = await rabbitmq.connect(url, name="otpost demo", timeout_s=_TIMEOUT_S)
        resources.push_async_callback(rabbitmq.close_quietly, connection)
        broker = Broker(connection, names)
        if strangers := await broker.strangers():
            raise DemoFailed(
                f"this broker is in use: {', '.join(strangers)}. Nothing was started. "
                "Name another one (or another virtual host) in OTPOST_BROKER_URL, or none for a private RabbitMQ"
            )
        children = Children(_settings(url, folder, names), folder / "logs")
        resources.push_async_callback(_end, show, children, broker if is_shared else None, quieten)
        with show.busy("  starting the simulator and two workers"):
            journal = await resources.enter_async_context(await _start_simulator(show, children))
            await journal.set_rules(RULES)
            for worker in _WORKERS:
                await children.start(worker, "worker", settings={"OTPOST_API_BASE": journal.url})
            await children.while_running(
                broker.served_by(len(_WORKERS)), "the workers to begin", timeout_s=START_TIMEOUT_S
            )
        show.done("two workers, which share one ledger")
        results = await resources.enter_async_context(Results(url, names))
        return cls(show, names, url, children, broker, journal, results, folder / "logs", is_shared)


def _settings(url: str, folder: Path, names: Names) -> dict[str, str]:
    senders = folder / "senders.toml"
    senders.write_text(_SENDERS_FILE.format(*names.served), encoding="utf-8")
    return {
        "OTPOST_BROKER_URL": url,
        "OTPOST_LEDGER_URL": f"sqlite:///{folder / 'ledger.db'}",
        "OTPOST_SENDERS_FILE": str(senders),
        "OTPOST_TEMPLATE": "verification_code",
        "OTPOST_LANGUAGE": "en_US",
        "OTPOST_LOG_FORMAT": "json",
        "OTPOST_SHUTDOWN_GRACE_S": "10",
        "OTPOST_HTTP_PORT": "0",
    }


async def _start_simulator(show: Show, children: Children) -> Journal:
    simulator = await children.start("simulator", "simulator", "--port", "0", "--rate", "0")
    assert simulator.stdout is not None  # noqa: S101 - Children pipes it
    line = await children.while_running(simulator.stdout.readline(), "the simulator", timeout_s=START_TIMEOUT_S)
    url = line.decode().strip()
    show.done(f"the WhatsApp Cloud API, simulated at {url}")
    return Journal(url)


async def _end(show: Show, children: Children, shared: Broker | None, quieten: Callable[[], None]) -> None:
    """End everything that was started, and take our queues from a broker that stays."""
    quieten()
    await children.stop()
    if survivors := children.survivors():
        raise DemoFailed(f"still running: {', '.join(survivors)}")
    if shared is not None:
        await shared.remove_ours()
        if left := await shared.left():
            show.wrong(f"jobs of the demo are left in {', '.join(left)}; the next worker makes dead letters of them")


async def tell(stage: Stage, cases: Sequence[Case]) -> bool:
    """Play everything; return whether all was as expected."""
    planned = plan(cases, stage.names)
    await _send(stage, planned)
    as_expected, seen = await _compare(stage, cases, planned)
    if any(case.key == REPLAYED.key for case in cases):
        replayed, seen = await _replay(stage)
        as_expected = as_expected and replayed
    return await _judge(stage, planned, seen) and as_expected


async def _send(stage: Stage, planned: Sequence[Planned]) -> None:
    show, names = stage.show, stage.names
    show.step("Jobs are sent: good ones, and each kind of bad one")
    await stage.children.while_running(
        _publish(stage.url, names, planned), "the jobs to be published", timeout_s=_PUBLISH_TIMEOUT_S
    )
    with show.progress("ended", len(planned)) as bar:
        work = stage.results.ends(len(planned), bar)
        await stage.children.while_running(work, "the jobs to end", timeout_s=_END_TIMEOUT_S)
    with show.busy("  waiting until nothing is on its way any more"):
        # Second copies of a job wait until the first one's claim on it would have lapsed.
        await stage.children.while_running(stage.broker.quiet(), "the queues to be empty", timeout_s=_END_TIMEOUT_S)
    show.done(f"all {len(planned)} jobs have ended")


async def _publish(url: str, names: Names, planned: Sequence[Planned]) -> None:
    ours = [one for one in planned if one.case.form is Form.CLIENT]
    async with Producer(url) as producer:
        for sender in sorted({one.sender for one in ours}):
            await producer.send_many((one.job for one in ours if one.sender == sender), sender=sender)
        for copies in range(2, 1 + max((one.case.copies for one in ours), default=1)):
            again = (one.job for one in ours if one.case.copies >= copies)
            await producer.send_many(again, sender=names.marker)
    await _publish_by_hand(url, [one for one in planned if one.case.form is not Form.CLIENT])


async def _publish_by_hand(url: str, planned: Sequence[Planned]) -> None:
    """Publish as a program would that does not use our client."""
    async with await aio_pika.connect(url) as connection:
        channel = await connection.channel()
        jobs = await channel.get_exchange(JOBS, ensure=False)
        for one in planned:
            message = aio_pika.Message(one.body, delivery_mode=aio_pika.DeliveryMode.PERSISTENT)
            await jobs.publish(message, routing_key=one.sender, timeout=_TIMEOUT_S)


async def _look(stage: Stage, *, letters: int) -> Seen:
    requests = await stage.journal.requests()
    return Seen(requests, stage.results.seen(), await dead_letters(stage.children, stage.names, wanted=letters))


async def _compare(stage: Stage, cases: Sequence[Case], planned: Sequence[Planned]) -> tuple[bool, Seen]:
    stage.show.step("Every outcome beside what was expected")
    with stage.show.busy("  asking the simulator, the results and the dead letters"):
        seen = await _look(stage, letters=sum(one.case.reason != "" for one in planned))
    rows = compare(cases, count(seen, stage.names, run=1))
    stage.show.table(rows)
    stage.show.explain_table()
    return all(row.ok for row in rows), seen


async def _replay(stage: Stage) -> tuple[bool, Seen]:
    show, children = stage.show, stage.children
    job_id = f"{stage.names.marker}:{REPLAYED.key}:1"
    show.step("One dead letter is looked at, what made it fail is put right, and it is replayed")
    with show.busy("  looking"):
        shown = await children.run("dead", "show", job_id)
    show.command(f"otpost dead show {job_id}", shown)
    await stage.journal.set_rules([])
    with show.busy("  replaying"):
        done = await children.run("dead", "replay", job_id)
        show.command(f"otpost dead replay {job_id}", done)
        work = stage.results.end_of(job_id, run=2)
        await children.while_running(work, "the replayed job to end", timeout_s=_END_TIMEOUT_S)
        seen = await _look(stage, letters=0)
    again = count(seen, stage.names, run=2)
    rows = compare([REPLAYED], again)
    first = count(seen, stage.names, run=1)[REPLAYED.key]
    show.table(rows)
    if first.letters:
        show.wrong("its dead letter should be gone, but is still there")
    return all(row.ok for row in rows) and not first.letters, seen


async def _judge(stage: Stage, planned: Sequence[Planned], seen: Seen) -> bool:
    """Stop the workers, look once more, and hold the promises against everything."""
    show = stage.show
    show.step("Four promises and the workers' metrics, held against all that was seen")
    worker_logs = [stage.logs / f"{worker}.log" for worker in _WORKERS]
    with show.busy("  stopping the workers"):
        counters = await scrape(worker_logs)
        statuses = await stage.children.stop(*_WORKERS)
        left = await stage.broker.left()
        final = Seen(await stage.journal.requests(), stage.results.seen(), seen.letters)
    logs = "".join(log.read_text(encoding="utf-8") for log in worker_logs)
    promises = [*judge(planned, final, left=left, logs=logs), add_up(final, counters)]
    show.promises(promises)
    for worker, status in statuses.items():
        if status != 0:
            show.wrong(f"{worker} ended with {status} where 0 was expected")
    kept = all(promise.ok for promise in promises) and not any(statuses.values())
    if kept and stage.is_shared and seen.letters:
        await stage.children.run("dead", "purge", "--yes", *(letter["job_id"] for letter in seen.letters))
    return kept
