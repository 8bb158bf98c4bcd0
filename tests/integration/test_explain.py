"""`otpost explain`: the life of one job, told from a real ledger and a real stream of results."""

from __future__ import annotations

import asyncio
import os
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final

from command import otpost, otpost_here
from known_states import claimed, retry_step
from otpost_worker.attempts import State
from otpost_worker.ledger.sqlite import SqliteLedger
from otpost_worker.outcome import Error, Kind
from otpost_worker.pacing import Lane
from otpost_worker.ports import Entry
from otpost_worker.standing import Heard, Signal
from ports_in_memory import NOW
from published_results import publish_event
from service import CODE, NUMBER, STREAM, Amqp, declare_topology, job_body, running_service

if TYPE_CHECKING:
    from pathlib import Path

    import pytest

    from broker import Vhost
    from command import Finished
    from service import Service

# The simulator says 131000 once, 131026 for ever, and nothing at all.
ON_THE_SECOND_TRY: Final = "+999131000100001"
UNDELIVERABLE: Final = "+999131026000001"
SILENT: Final = "+99001000001"
NOWHERE: Final = "amqp://eve:s3cret@127.0.0.1:1/"


def settings(vhost: Vhost, folder: Path) -> dict[str, str]:
    return {
        "OTPOST_BROKER_URL": vhost.url, "OTPOST_LEDGER_URL": f"sqlite:///{folder}/ledger.db",
        "OTPOST_PHONE_NUMBER_ID": "106540352242922", "OTPOST_ACCESS_TOKEN": "EAAG-a-token",
    }  # fmt: skip


def told(done: Finished) -> list[tuple[str, Any, str]]:
    """What it said as JSON, without times."""
    assert (done.status, done.err) == (0, "")
    return [(one["what"], one.get("attempt"), one["text"]) for one in done.objects]


async def test_the_life_of_jobs_that_ended(vhost: Vhost, tmp_path: Path) -> None:
    async with running_service(vhost, tmp_path) as service:
        await service.publish(job_body(id="job-1", to=ON_THE_SECOND_TRY))
        await service.publish(job_body(id="job-2", to=UNDELIVERABLE))
        await service.wait_for_result("job-1", "accepted")
        await service.wait_for_result("job-2", "failed")
        environment = settings(vhost, tmp_path)
        accepted, dead, for_people = await asyncio.gather(
            otpost("explain", "job-1", "--json", environment=environment),
            otpost("explain", "job-2", "--since", "1h", "--json", environment=environment),
            otpost("explain", "job-1", environment=environment),
        )
        refused = (
            "the provider did not take it: unavailable 131000 ((#131000) Something went wrong, Message failed to send "
        )
        assert told(accepted) == [
            ("made", None, "the job is made (created_at)"),
            ("claimed", 1, "a worker claims it for a request"),
            ("outcome", 1, f"{refused}due to an unknown error.); result 'retrying' published"),
            ("due", 2, "the next attempt is due"),
            ("claimed", 2, "a worker claims it for a request"),
            ("outcome", 2, told(accepted)[5][2]),
            ("ended", None, "the run ends as accepted; result 'accepted' published"),
            ("waits_for", None, "nothing: it has ended as accepted"),
        ]
        [wamid] = [entry.wamid for entry in service.simulator.journal.entries() if entry.wamid]
        assert told(accepted)[5][2] == f"the provider took it, message id …{wamid[-8:]}"
        times = [one["after_s"] for one in accepted.objects[:-1]]
        assert times == sorted(times)
        assert times[0] == 0
        undeliverable = "recipient 131026 ((#131026) Message undeliverable, Message undeliverable.)"
        assert [text for _, _, text in told(dead)][-3:-1] == [
            f"the run ends as failed: {undeliverable}; result 'failed' published",
            "the job is among the dead letters: recipient",
        ]
        lines = for_people.out.splitlines()
        assert lines[0] == "job job-1  sender default  to 99***********01"
        assert lines[1].split()[:2] == ["+0.000", "s"]
        assert lines[-1] == "it waits for nothing: it has ended as accepted"
        assert CODE not in for_people.out + accepted.out + dead.out


async def test_a_job_that_is_being_sent_and_one_that_waits_for_its_retry(vhost: Vhost, tmp_path: Path) -> None:
    async with running_service(vhost, tmp_path) as service:
        await service.publish(job_body(id="busy", to="+999131056000001"))
        # The recipient waits a second, and then four.
        await service.wait_for_result("busy", "retrying", nth=2)
        await service.publish(job_body(id="slow", to=SILENT), timestamp=datetime.now(UTC))
        await requested(service, "slow")
        slow, busy = await asyncio.gather(
            otpost("explain", "slow", "--json", environment=settings(vhost, tmp_path)),
            otpost("explain", "busy", "--json", environment=settings(vhost, tmp_path)),
        )
    assert told(busy)[-3][:2] == ("due", 3)
    assert told(busy)[-2][2].startswith("its next attempt, which is due in ")
    assert told(busy)[-1][2].startswith("at the latest its deadline, in ")
    assert told(slow)[0] == ("published", None, "it is published")
    assert told(slow)[1] == ("claimed", 1, "a worker claims it for a request")
    assert told(slow)[2][2].startswith("the worker that has claimed attempt 1 and is sending it; the claim ends in ")


async def test_a_code_that_its_recipient_had_not_requested(vhost: Vhost, tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere"
    await asyncio.to_thread(elsewhere.mkdir)
    said = "the recipient says that they did not ask for this code: let it expire"
    not_requested = {"name": "code_not_requested", "detail": said}
    async with running_service(vhost, tmp_path) as service:
        for job_id in ("default", "job-1"):
            await service.publish(job_body(id=job_id))
            await service.wait_for_result(job_id, "accepted")
        for job_id in ("job-1", "job-2", "job-1"):
            event_id = f"{job_id}/1/1/code_not_requested"
            await publish_event(service.amqp, event_id=event_id, job_id=job_id, **not_requested)
    async with Amqp.connect(vhost.url) as amqp:
        # The sender has the name of the other job.
        await publish_event(amqp)
        unreadable = "default/sold/1790000000000"
        await amqp.publish(
            b"{}", exchange=STREAM, key="default.event.sold", message_id=unreadable, kind="otpost.event.v1"
        )
        environment = settings(vhost, tmp_path)
        done, named_so, forgotten, for_people = await asyncio.gather(
            otpost("explain", "job-1", "--json", environment=environment),
            otpost("explain", "default", "--json", environment=environment),
            otpost("explain", "job-2", "--json", environment=settings(vhost, elsewhere)),
            otpost("explain", "job-2", environment=settings(vhost, elsewhere)),
        )
    assert told(done)[-3:] == [
        ("ended", None, "the run ends as accepted; result 'accepted' published"),
        ("event", 1, f"{said}; event 'code_not_requested' published"),
        ("waits_for", None, "nothing: it has ended as accepted"),
    ]
    assert [what for what, _, _ in told(named_so)] == ["made", "claimed", "outcome", "ended", "waits_for"]
    # Of this job nothing else is known.
    [event] = forgotten.objects
    assert (forgotten.status, event["what"], event["run"], event["attempt"]) == (0, "event", 1, 1)
    assert for_people.out.splitlines()[0] == "job job-2  sender default"


async def requested(service: Service, callback: str) -> None:
    """Wait until the provider has got the job's request."""
    while not service.requests(callback):
        assert await service.simulator.journal.wait(received=service.simulator.journal.total + 1, timeout_s=30)


async def test_a_halted_sender_is_what_its_jobs_wait_for(vhost: Vhost, tmp_path: Path) -> None:
    await declare_topology(vhost, "default")
    lane = Lane("default", "default", NUMBER, "login", "en_US", 80.0, NOW, NOW)
    heard = Heard(lane, Signal.SENDER_REFUSED, NOW, error=Error(Kind.SENDER_HALTED, code=190, title="Session expired"))
    async with SqliteLedger(tmp_path / "ledger.db") as ledger:
        entry = Entry(State.REFUSED, Kind.SENDER_HALTED, retry_step(1, NOW), heard=heard)
        await ledger.record(await claimed(ledger), entry)
        # The workers go on meanwhile.
        done = await otpost("explain", "job-1", "--json", environment=settings(vhost, tmp_path))
        unknown = await otpost("explain", "job-2", environment=settings(vhost, tmp_path))
    waits = [text for what, _, text in told(done) if what == "waits_for"]
    assert waits[0].startswith("a worker to take it from otpost.jobs.default (its next attempt was due ")
    assert waits[1].startswith("its sender, which is halted (Session expired); the next probe goes out ")
    assert unknown.status == 1
    assert "or for its sender (default is held now)" in unknown.err


async def test_of_a_job_that_nobody_knows_it_says_what_that_can_mean(vhost: Vhost, tmp_path: Path) -> None:
    async with running_service(vhost, tmp_path) as service:
        await service.publish(job_body(id="job-1"))
        await service.wait_for_result("job-1", "accepted")
        done = await otpost("explain", "job-11", "--since", "2h", "--json", environment=settings(vhost, tmp_path))
    assert (done.status, done.out) == (1, "")
    long_ago = (
        "- it ended long ago: the ledger forgets a job 24 h after its deadline, and results older than 2 h were not "
        "read (--since)"
    )
    assert done.err.splitlines() == [
        "otpost: nothing is known of job job-11: neither the ledger nor a result names it. That can mean:",
        "- it was never published, or under another id: look for a typing error",
        "- no worker has claimed it yet: it waits in its queue, or for its sender; 'otpost doctor' tells more",
        long_ago,
        "- its workers have another broker or another ledger than these settings name",
    ]


async def test_what_cannot_be_asked_is_said_and_the_rest_is_told(vhost: Vhost, tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere"
    await asyncio.to_thread(elsewhere.mkdir)
    async with running_service(vhost, tmp_path) as service:
        await service.publish(job_body(id="job-1"))
        await service.wait_for_result("job-1", "accepted")
        no_ledger, no_broker, nobody = await asyncio.gather(
            otpost("explain", "job-1", environment=settings(vhost, elsewhere)),
            otpost("explain", "job-1", environment=settings(vhost, tmp_path) | {"OTPOST_BROKER_URL": NOWHERE}),
            otpost("explain", "job-1", environment=settings(vhost, elsewhere) | {"OTPOST_BROKER_URL": NOWHERE}),
        )
    assert [done.status for done in (no_ledger, no_broker, nobody)] == [0, 0, 1]
    assert no_ledger.err.startswith(f"otpost: there is no ledger {elsewhere}/ledger.db; ")
    assert "result 'accepted' published, message id …" in no_ledger.out
    assert no_broker.err.startswith("otpost: the results cannot be read: amqp://eve@127.0.0.1:1/: Connection refused; ")
    assert "the run ends as accepted\n" in "\n".join(line.rstrip() for line in no_broker.out.splitlines()) + "\n"
    assert "nothing is known of job job-1, as nobody could be asked. That can mean:" in nobody.err
    # Asking makes no ledger.
    assert await asyncio.to_thread(os.listdir, elsewhere) == []


def test_what_can_be_no_id_is_a_misuse(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    done = otpost_here("explain", "a/b", environment={}, monkeypatch=monkeypatch, capsys=capsys)
    assert (done.status, "a job's id is 1 to 64 of A-Z a-z 0-9 _ . : -" in done.err) == (2, True)
