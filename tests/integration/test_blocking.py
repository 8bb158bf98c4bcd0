"""``BlockingProducer``: the producer for code without an event loop, from threads, forks and interrupted scripts."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import os
import signal
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Final

import pytest

from otpost import (
    BlockingProducer,
    BrokerUnreachable,
    InsideEventLoop,
    NoResult,
    NotConfirmed,
    OtpJob,
    ProducerClosed,
    UnknownSender,
)
from otpost.result import RESULT_TYPE
from published_results import accepted_result
from service import CODE, NUMBER, PATIENCE_S, STREAM, declare_topology, running_service

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from broker import Vhost

JOBS: Final = "otpost.jobs.default"
THREAD: Final = "otpost"
TYPED: Final = {"type": RESULT_TYPE}


@pytest.fixture
def broker(vhost: Vhost) -> Vhost:
    """A broker on which a worker for the sender 'default' has declared everything."""
    asyncio.run(declare_topology(vhost, "default"))
    return vhost


@pytest.fixture
def producer(broker: Vhost) -> Iterator[BlockingProducer]:
    with BlockingProducer(broker.url) as connected:
        yield connected


def job(job_id: str, ttl_s: float = 300) -> OtpJob:
    return OtpJob(id=job_id, to=NUMBER, code=CODE, ttl_s=ttl_s)


def jobs(count: int) -> Iterator[OtpJob]:
    for number in range(count):
        yield job(f"job-{number}")


def own_threads() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name == THREAD]


def wait_until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.02)


def run_script(source: str, broker: Vhost) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "OTPOST_BROKER_URL": broker.url}
    command = [sys.executable, "-W", "error", "-c", source]
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=PATIENCE_S, check=False)


def test_send_returns_the_id_once_the_broker_has_it(producer: BlockingProducer, broker: Vhost) -> None:
    assert producer.send(job("sign-in:7")) == "sign-in:7"
    assert broker.ready_count(JOBS) == 1


def test_without_with_the_first_call_connects_and_close_ends_the_thread(broker: Vhost) -> None:
    producer = BlockingProducer(broker.url)
    assert own_threads() == []
    producer.send(job("job-1"))
    assert len(own_threads()) == 1
    producer.close()
    assert own_threads() == []
    producer.close()
    with pytest.raises(ProducerClosed, match="this producer was closed; make a new one"):
        producer.send(job("job-2"))
    asyncio.run(broker.wait_for_connections(0, "otpost producer"))
    assert broker.ready_count(JOBS) == 1


def test_a_producer_that_was_closed_can_be_entered_again(broker: Vhost) -> None:
    producer = BlockingProducer(broker.url)
    for number in range(2):
        with producer:
            producer.send(job(f"job-{number}"))
    assert broker.ready_count(JOBS) == 2


def test_a_producer_that_was_forgotten_takes_its_thread_with_it(broker: Vhost) -> None:
    producer = BlockingProducer(broker.url)
    producer.send(job("job-1"))
    del producer
    gc.collect()
    wait_until(lambda: own_threads() == [])


def test_nothing_of_a_producer_is_left_that_could_not_connect(unused_tcp_port: int) -> None:
    with (
        pytest.raises(BrokerUnreachable, match="does RabbitMQ run there"),
        BlockingProducer(f"amqp://127.0.0.1:{unused_tcp_port}/", timeout_s=1.0),
    ):
        pass
    assert own_threads() == []


def test_send_many_reads_its_generator_and_tells_of_confirms_in_the_callers_thread(broker: Vhost) -> None:
    here = threading.current_thread()
    confirmed: list[str] = []
    read = most_open = 0

    def counted() -> Iterator[OtpJob]:
        nonlocal read, most_open
        for one in jobs(300):
            assert threading.current_thread() is here
            read += 1
            most_open = max(most_open, read - len(confirmed))
            yield one

    def confirm(one: OtpJob) -> None:
        assert threading.current_thread() is here
        confirmed.append(one.id)

    with BlockingProducer(broker.url, max_in_flight=16) as producer:
        ids = producer.send_many(counted(), on_confirmed=confirm)
    assert ids == confirmed == [f"job-{number}" for number in range(300)]
    assert broker.ready_count(JOBS) == 300
    assert 8 <= most_open <= 17


def test_send_many_raises_the_callers_own_errors_once_it_is_known_which_jobs_are_stored(
    producer: BlockingProducer, broker: Vhost
) -> None:
    confirmed: list[str] = []

    def broken() -> Iterator[OtpJob]:
        yield from jobs(20)
        raise ZeroDivisionError

    def tell(one: OtpJob) -> None:
        confirmed.append(one.id)
        if len(confirmed) == 23:
            raise KeyError(one.id)

    with pytest.raises(ZeroDivisionError):
        producer.send_many(broken(), on_confirmed=tell)
    assert confirmed == [f"job-{number}" for number in range(20)]
    assert broker.ready_count(JOBS) == 20
    with pytest.raises(KeyError, match="job-2"):
        producer.send_many(jobs(5), on_confirmed=tell)
    assert confirmed[20:] == [f"job-{number}" for number in range(5)]
    assert broker.ready_count(JOBS) == 25


def test_send_many_to_an_unknown_sender_publishes_and_reads_nothing(producer: BlockingProducer) -> None:
    untouched = jobs(3)
    with pytest.raises(UnknownSender, match="'marketing'"):
        producer.send_many(untouched, sender="marketing")
    assert next(untouched).id == "job-0"


def test_send_many_names_exactly_the_jobs_that_were_not_confirmed(producer: BlockingProducer, broker: Vhost) -> None:
    producer.send(job("job-x"))
    broker.set_policy("full", f"^{JOBS}$", {"max-length": 1, "overflow": "reject-publish"})

    def refused() -> bool:
        with contextlib.suppress(NotConfirmed):
            producer.send(job("job-y"))
            return False
        return True

    wait_until(refused)  # the policy takes a moment to apply
    with pytest.raises(NotConfirmed) as raised:
        producer.send_many(jobs(3))
    assert raised.value.job_ids == ("job-0", "job-1", "job-2")


def test_eight_threads_share_one_connection_and_lose_nothing(producer: BlockingProducer, broker: Vhost) -> None:
    def send(thread: int) -> list[str]:
        return [producer.send(job(f"job-{thread}-{number}")) for number in range(50)]

    with ThreadPoolExecutor(8) as pool:
        sent = [job_id for ids in pool.map(send, range(8)) for job_id in ids]
    assert sent == [f"job-{thread}-{number}" for thread in range(8) for number in range(50)]
    assert broker.ready_count(JOBS) == 400
    asyncio.run(broker.wait_for_connections(1, "otpost producer"))


def test_the_first_calls_of_eight_threads_start_one_loop(broker: Vhost) -> None:
    producer = BlockingProducer(broker.url)
    together = threading.Barrier(8)

    def send(thread: int) -> str:
        together.wait(PATIENCE_S)
        return producer.send(job(f"job-{thread}"))

    with contextlib.closing(producer), ThreadPoolExecutor(8) as pool:
        assert len(list(pool.map(send, range(8)))) == 8
        assert len(own_threads()) == 1
    assert broker.ready_count(JOBS) == 8


def test_a_connection_that_the_broker_closed_is_opened_again_by_the_next_call(
    producer: BlockingProducer, broker: Vhost
) -> None:
    for number in range(2):
        asyncio.run(broker.wait_for_connections(1, "otpost producer"))
        assert broker.close_connections("otpost producer") == 1
        producer.send(job(f"job-{number}"))
    assert broker.ready_count(JOBS) == 2


async def test_request_returns_the_end_of_the_job(vhost: Vhost, tmp_path: Path) -> None:
    producer = BlockingProducer(vhost.url)
    async with running_service(vhost, tmp_path):
        end = await asyncio.to_thread(producer.request, job("job-1"), timeout_s=PATIENCE_S)
    assert (end.job_id, end.status) == ("job-1", "accepted")
    await asyncio.to_thread(producer.close)


def test_request_without_a_worker_raises_in_time(producer: BlockingProducer) -> None:
    begun = time.monotonic()
    with pytest.raises(NoResult):
        producer.request(job("job-1"), timeout_s=0.5)
    assert 0.4 <= time.monotonic() - begun < 6


@pytest.mark.parametrize("given_up", ["closed", "forgotten"])
def test_results_are_a_plain_iterator_and_its_end_is_the_end_of_its_connection(
    producer: BlockingProducer, broker: Vhost, given_up: str
) -> None:
    for number in range(3):
        broker.publish("default.accepted", accepted_result(number), exchange=STREAM, properties=TYPED)
    results = producer.results(since="first")
    assert [next(results).job_id for _ in range(3)] == ["job-0", "job-1", "job-2"]
    asyncio.run(broker.wait_for_connections(1, "otpost results"))
    if given_up == "closed":
        results.close()
    else:
        del results
        gc.collect()
    asyncio.run(broker.wait_for_connections(0, "otpost results"))


def test_results_keep_the_producer_alive_that_they_come_from(broker: Vhost) -> None:
    broker.publish("default.accepted", accepted_result(0), exchange=STREAM, properties=TYPED)
    results = BlockingProducer(broker.url).results(since="first")
    gc.collect()
    assert next(results).job_id == "job-0"


def test_close_ends_what_other_threads_wait_for(broker: Vhost) -> None:
    producer = BlockingProducer(broker.url)
    with ThreadPoolExecutor(2) as pool:
        asking = pool.submit(producer.request, job("job-1"), timeout_s=PATIENCE_S)
        reading = pool.submit(lambda: next(producer.results()))
        asyncio.run(broker.wait_for_connections(1, "otpost results"))
        asyncio.run(broker.wait_for_ready(JOBS, 1))
        producer.close()
        with pytest.raises(ProducerClosed):
            asking.result(PATIENCE_S)
        with pytest.raises(ProducerClosed):
            reading.result(PATIENCE_S)


def test_calls_and_closes_from_many_threads_all_come_to_an_end(broker: Vhost) -> None:
    producer = BlockingProducer(broker.url)

    def use(number: int) -> str:
        if number % 20 == 19:
            producer.close()
            return "closed"
        try:
            return producer.send(job(f"job-{number}"))
        except (ProducerClosed, NotConfirmed) as error:
            return type(error).__name__

    with ThreadPoolExecutor(8) as pool:
        outcomes = list(pool.map(use, range(100), timeout=PATIENCE_S))
    assert len(outcomes) == 100
    assert set(outcomes[50:]) <= {"closed", "ProducerClosed", "NotConfirmed"}
    assert own_threads() == []


async def test_inside_an_event_loop_it_refuses_and_says_what_to_use(vhost: Vhost) -> None:
    await declare_topology(vhost, "default")
    producer = BlockingProducer(vhost.url)
    for call in (lambda: producer.send(job("job-1")), lambda: producer.request(job("job-1")), producer.results):
        with pytest.raises(InsideEventLoop, match=r"use 'await' with a Producer here, or asyncio\.to_thread"):
            call()
    assert await asyncio.to_thread(producer.send, job("job-1")) == "job-1"
    await asyncio.to_thread(producer.close)


FORKING: Final = """
import os, signal, sys, warnings
from otpost import BlockingProducer, OtpJob
warnings.filterwarnings("ignore", "This process .* is multi-threaded")  # from Python 3.12 on; the very case in hand
producer = BlockingProducer()
def send(name):
    return producer.send(OtpJob(id=name, to="+12025550187", code="806274"))
send("before")
children = []
for number in range(3):
    child = os.fork()
    if child == 0:
        signal.alarm(30)  # one that hangs does not outlive the test
        send(f"child-{number}-one")
        send(f"child-{number}-two")
        sys.exit(0)  # with all that a process does at its end
    children.append(child)
    send(f"parent-{number}")
statuses = [os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children]
send("after")
print(*statuses)
"""


def test_a_forked_process_opens_its_own_connection_and_leaves_the_parents_alone(broker: Vhost) -> None:
    done = run_script(FORKING, broker)
    assert (done.returncode, done.stdout, done.stderr) == (0, "0 0 0\n", "")
    # Once each: had anybody's connection been disturbed, something would have been published twice.
    assert broker.ready_count(JOBS) == 1 + 3 * 2 + 3 + 1


def test_a_process_that_never_closes_its_producer_ends_at_once_and_in_silence(broker: Vhost) -> None:
    script = """
from otpost import BlockingProducer, OtpJob
producer = BlockingProducer()
producer.send(OtpJob(to="+12025550187", code="806274"))
results = producer.results(since="next")
"""
    begun = time.monotonic()
    done = run_script(script, broker)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert time.monotonic() - begun < 15
    asyncio.run(broker.wait_for_connections(0, "otpost producer"))


def test_ctrl_c_interrupts_a_request_and_cancels_it(broker: Vhost) -> None:
    script = """
import time
from otpost import BlockingProducer, OtpJob
producer = BlockingProducer()
try:
    producer.request(OtpJob(to="+12025550187", code="806274"), timeout_s=600)
except KeyboardInterrupt:
    deadline = time.monotonic() + 30
    while producer._engine.producer._replies._inboxes and time.monotonic() < deadline:
        time.sleep(0.01)
    print("interrupted", len(producer._engine.producer._replies._inboxes))
    print(producer.send(OtpJob(id="later", to="+12025550187", code="806274")))
"""
    environment = {**os.environ, "OTPOST_BROKER_URL": broker.url}
    process = subprocess.Popen([sys.executable, "-c", script], env=environment, stdout=subprocess.PIPE, text=True)
    try:
        asyncio.run(broker.wait_for_ready(JOBS, 1, timeout_s=PATIENCE_S))
        process.send_signal(signal.SIGINT)
        output, _ = process.communicate(timeout=PATIENCE_S)
    finally:
        process.kill()
        process.wait()
    assert (process.returncode, output) == (0, "interrupted 0\nlater\n")
