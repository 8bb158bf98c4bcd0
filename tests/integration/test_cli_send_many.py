"""`otpost send --from`: why jobs were not confirmed, and whether it helps to send them again."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final

import pytest

from command import otpost
from otpost import NotConfirmed, OtpJob, Producer
from service import CODE, NUMBER, PATIENCE_S, declare_topology, job_body

if TYPE_CHECKING:
    from broker import Vhost

JOBS: Final = "otpost.jobs.default"
LINES: Final = b"\n".join(job_body(id=f"job-{number}") for number in range(3))
SEND_AGAIN: Final = "send the file again"


async def send_endlessly(producer: Producer) -> None:
    while True:
        await producer.send(OtpJob(to=NUMBER, code=CODE))


async def test_jobs_that_a_full_queue_refuses_are_told_with_the_reason_and_may_be_sent_again(vhost: Vhost) -> None:
    await declare_topology(vhost, "default")
    vhost.set_policy("full", f"^{JOBS}$", {"max-length": 1, "overflow": "reject-publish"})
    async with Producer(vhost.url) as producer, asyncio.timeout(PATIENCE_S):
        with pytest.raises(NotConfirmed):
            await send_endlessly(producer)  # the policy takes a moment to apply
    done = await otpost("send", "--from", "-", stdin=LINES, environment={"OTPOST_BROKER_URL": vhost.url})
    assert (done.status, done.out) == (1, "0 jobs published\n")
    assert done.err == (
        "otpost: 3 jobs were not confirmed: a queue refused the message; send the file again: what has an id of its "
        "own in it is not sent twice\n"
    )


async def test_jobs_that_the_user_may_not_publish_are_told_with_the_missing_right_and_not_to_be_sent_again(
    vhost: Vhost,
) -> None:
    await declare_topology(vhost, "default")
    vhost.set_permissions(write="^$")
    done = await otpost("send", "--from", "-", stdin=LINES, environment={"OTPOST_BROKER_URL": vhost.url})
    assert (done.status, done.out) == (1, "0 jobs published\n")
    [line] = done.err.splitlines()
    assert line.startswith("otpost: 3 jobs were not confirmed: ")
    assert "access to exchange 'otpost.jobs'" in line
    assert "it needs the right to write" in line
    assert SEND_AGAIN not in line


async def test_what_was_not_confirmed_is_known_with_its_reason_and_whether_waiting_mends_it(vhost: Vhost) -> None:
    await declare_topology(vhost, "default")
    jobs = [OtpJob(id=f"job-{number}", to=NUMBER, code=CODE) for number in range(3)]
    async with Producer(vhost.url) as producer:
        vhost.set_permissions(write="^$")
        with pytest.raises(NotConfirmed) as raised:
            await producer.send_many(jobs)
    assert sorted(raised.value.job_ids) == ["job-0", "job-1", "job-2"]
    assert raised.value.permanent
    assert raised.value.reason in str(raised.value)
    assert "access to exchange 'otpost.jobs'" in raised.value.reason
