"""More of the commonest mistakes, made on purpose: no template, tokens, clocks and ledgers; see test_mistakes.py."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from email.utils import formatdate
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import orjson
import pytest

from command import otpost, otpost_here
from otpost import OtpJob, Producer
from otpost_worker.ledger.sqlite import SqliteLedger
from otpost_worker.simulator import Simulator, SimulatorOptions
from raw_answers import raw_server
from worker_process import load_on, worker_environment, worker_process

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from broker import Vhost
    from worker_process import WorkerProcess

Complaint = Callable[..., str]

TOKEN: Final = "EAAG-s3cret"
NEW_TOKEN: Final = "EAAG-n3w-s3cret"


@pytest.fixture
def complaint_of(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Complaint:
    """Start a worker with these settings, which is to fail at once, and return its one complaint."""

    def run(**settings: object) -> str:
        # Whoever gets as far as the broker is refused there too, with another complaint.
        given = {
            "phone_number_id": "106540352242922",
            "access_token": TOKEN,
            "broker_url": "http://127.0.0.1/",
        } | settings
        environment = {f"OTPOST_{name.upper()}": str(value) for name, value in given.items() if value is not None}
        done = otpost_here("worker", environment=environment, monkeypatch=monkeypatch, capsys=capsys)
        assert (done.status, done.out) == (1, "")
        assert "s3cret" not in done.err
        [line] = done.err.splitlines()
        return line.removeprefix("otpost: ")

    return run


def lines(worker: WorkerProcess, event: str) -> list[dict[str, Any]]:
    return [entry for entry in worker.log if entry["event"] == event]


# -- no template ---------------------------------------------------------------------------------------


async def test_a_job_without_a_template_for_a_sender_without_one(vhost: Vhost, tmp_path: Path) -> None:
    environment = worker_environment(vhost, tmp_path, "http://127.0.0.1:1", template="", language="")
    told = (
        "template: is required: this sender has no default (OTPOST_TEMPLATE); name one in the job; "
        "language: is required: this sender has no default (OTPOST_LANGUAGE); name one in the job"
    )
    async with worker_process(environment) as worker:
        send = ("send", "--to", "+12015553931", "--code", "493817", "--wait", "30", "--json")
        sent = await otpost(*send, environment={"OTPOST_BROKER_URL": vhost.url})
        # Who sends is told ...
        assert (sent.status, sent.err) == (1, "")
        published, result = sent.objects
        assert (result["job_id"], result["status"]) == (published["job_id"], "failed")
        assert (result["error"]["kind"], result["error"]["detail"]) == ("invalid_job", told)
        # ... and so is who operates it.
        await worker.logged("job.invalid")
        [line] = lines(worker, "job.invalid")
        assert (line["job_id"], line["sender"], line["problems"]) == (published["job_id"], "default", told)
        await worker.stop()


# -- tokens --------------------------------------------------------------------------------------------


@asynccontextmanager
async def refusing_together(count: int) -> AsyncIterator[str]:
    """Be a provider that refuses every token, and answers nobody before so many have asked."""
    all_asked = asyncio.Barrier(count)
    body = b'{"error": {"message": "Error validating access token: Session has expired", "code": 190}}'

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        await all_asked.wait()
        writer.write(b"HTTP/1.1 401 Unauthorized\r\nContent-Length: %d\r\nConnection: close\r\n\r\n" % len(body) + body)
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    try:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    finally:
        server.close()


async def test_a_token_that_was_revoked_is_told_once_and_not_with_every_job(vhost: Vhost, tmp_path: Path) -> None:
    file = tmp_path / "token"
    file.write_text(TOKEN, encoding="utf-8")
    async with refusing_together(8) as url:
        environment = worker_environment(
            vhost, tmp_path, url, access_token="", access_token_file=file, http_timeout_s=50
        )
        async with worker_process(environment) as worker, Producer(vhost.url) as producer:
            await producer.send_many(OtpJob(to=f"+1201555{number:04}", code="493817") for number in range(8))
            await worker.logged("attempt.finished", nth=8)
            await worker.logged("sender.halted")
            [line] = lines(worker, "sender.halted")
            assert (line["level"], line["sender"], line["code"], line["http_status"]) == ("error", "default", 190, 401)
            assert line["remedy"] == (
                f"the access token is expired, revoked or wrong: put a new one into {file}; it is read again by itself"
            )
            await worker.stop()
        assert "s3cret" not in str(worker.log)


async def test_a_new_token_in_the_file_is_the_remedy(vhost: Vhost, tmp_path: Path) -> None:
    file = tmp_path / "token"
    file.write_text(f"{NEW_TOKEN}\n", encoding="utf-8")
    async with Simulator(SimulatorOptions(rate=0, pair=False, access_token=NEW_TOKEN)) as simulator:
        environment = worker_environment(vhost, tmp_path, simulator.url, access_token="", access_token_file=file)
        async with worker_process(environment) as worker, load_on(vhost) as load:
            await load.send()
            await load.all_ended()
            assert load.statuses() == {"job-0": ["accepted"]}
            assert worker.warnings() == []
            await worker.stop()


async def test_a_token_from_the_environment_is_named_by_its_setting(vhost: Vhost, tmp_path: Path) -> None:
    async with Simulator(SimulatorOptions(rate=0, pair=False, access_token=NEW_TOKEN)) as simulator:
        environment = worker_environment(vhost, tmp_path, simulator.url, access_token=TOKEN)
        async with worker_process(environment) as worker, Producer(vhost.url) as producer:
            await producer.send(OtpJob(to="+12015553931", code="493817"))
            await worker.logged("sender.halted")
            [line] = lines(worker, "sender.halted")
            assert "put a new one into OTPOST_ACCESS_TOKEN (sender default); then restart the workers" in line["remedy"]
            await worker.stop()


def test_a_token_file_that_cannot_be_read(tmp_path: Path, complaint_of: Complaint) -> None:
    def told_of(file: Path) -> str:
        return complaint_of(access_token=None, access_token_file=file)

    empty, binary = tmp_path / "empty", tmp_path / "binary"
    empty.write_text(" \n", encoding="utf-8")
    binary.write_bytes(b"\xff\xfe\x00")
    begin, remedy = "OTPOST_ACCESS_TOKEN_FILE", "check the path and its permissions"
    missing = tmp_path / "missing"
    assert told_of(missing) == f"{begin}: {missing} cannot be read: No such file or directory; {remedy}"
    assert told_of(tmp_path) == f"{begin}: {tmp_path} cannot be read: Is a directory; {remedy}"
    assert told_of(binary) == f"{begin}: {binary} cannot be read: it is no text in UTF-8; {remedy}"
    assert told_of(empty) == f"{begin}: {empty} is empty; write the secret into it"


# -- clocks --------------------------------------------------------------------------------------------


def answer_dated(unix_s: float) -> bytes:
    body = orjson.dumps({"messages": [{"id": "wamid.HBgLMTIwMTU1NTM5MzEVAgARGBI4Qzc5QUJDREVGMTIzNDU2AA=="}]})
    date = formatdate(unix_s, usegmt=True).encode()
    return b"HTTP/1.1 200 OK\r\nDate: %b\r\nContent-Length: %d\r\nConnection: close\r\n\r\n%b" % (date, len(body), body)


async def test_a_clock_that_is_off_is_told_once(vhost: Vhost, tmp_path: Path) -> None:
    # Sun, 06 Nov 1994: our clock is decades ahead of this provider's.
    async with raw_server(answer_dated(784111777.0)) as provider:
        environment = worker_environment(vhost, tmp_path, provider.url)
        async with worker_process(environment) as worker, load_on(vhost) as load:
            for _ in range(3):
                await load.send()
            await load.all_ended()
            [line] = lines(worker, "clock.compared")
            assert line["level"] == "warning"
            assert line["message"].startswith("the clock of this machine is ")
            assert line["message"].endswith(
                " s ahead of that of the provider, so codes expire too early; set the one that is wrong (timedatectl "
                "and chronyc tell which)"
            )
            await worker.stop()


async def test_a_job_from_the_future_is_told_once(vhost: Vhost, tmp_path: Path) -> None:
    job: dict[str, Any] = {"to": "+12015553931", "code": "493817", "ttl_s": 300}
    async with Simulator(SimulatorOptions(rate=0, pair=False)) as simulator:
        environment = worker_environment(vhost, tmp_path, simulator.url)
        async with worker_process(environment) as worker, load_on(vhost) as load:
            load.sent.extend(["far", "near-1", "near-2"])
            near = (datetime.now(UTC) + timedelta(minutes=10)).isoformat()
            for name, created_at in (("far", "2999-01-01T00:00:00Z"), ("near-1", near), ("near-2", near)):
                body = orjson.dumps({**job, "id": name, "created_at": created_at})
                await asyncio.to_thread(vhost.publish, "default", body, exchange="otpost.jobs")
            await load.all_ended()
            # By far too late: no job at all.
            assert load.statuses() == {"far": ["failed"], "near-1": ["accepted"], "near-2": ["accepted"]}
            [invalid] = lines(worker, "job.invalid")
            assert invalid["problems"] == (
                "expires_at: must be at most 5400 s after the job was made; it is later even from now: if the job is "
                "right, the clock of its producer or of this worker is wrong"
            )
            [line] = lines(worker, "clock.compared")
            assert line["job_id"] in ("near-1", "near-2")
            assert " s behind that of whoever made the job (created_at), so codes expire too late; " in line["message"]
            await worker.stop()


# -- ledgers -------------------------------------------------------------------------------------------


def test_a_ledger_that_cannot_be_written(tmp_path: Path, complaint_of: Complaint) -> None:
    def told_of(path: Path) -> str:
        told = complaint_of(ledger_url=f"sqlite:///{path}")
        begin = f"the ledger {path} "
        assert told.startswith(begin)
        return told.removeprefix(begin)

    note, newer = tmp_path / "note.txt", tmp_path / "newer.db"
    note.write_text("This is no database, but a note of more than a hundred bytes.\n" * 3, encoding="utf-8")
    with sqlite3.connect(newer) as database:
        database.execute("PRAGMA user_version = 7")
    database.close()
    assert told_of(tmp_path / "missing" / "ledger.db") == (
        "cannot be used: its folder does not exist; make the folder, or name a file elsewhere (OTPOST_LEDGER_URL)"
    )
    assert told_of(note / "ledger.db") == (
        "cannot be used: a part of its path is a file and no folder; name a file elsewhere (OTPOST_LEDGER_URL)"
    )
    assert told_of(tmp_path) == (
        "cannot be used: it is a folder; name a file in it, such as otpost.db (OTPOST_LEDGER_URL)"
    )
    assert told_of(note) == (
        "cannot be used: it is no SQLite database; name another file, or move this one away (OTPOST_LEDGER_URL)"
    )
    assert told_of(newer) == (
        "was written by a newer otpost (its schema is 7, this one knows 4): run that version, or name another file in "
        "OTPOST_LEDGER_URL"
    )
    # Nobody may write here, not even root.
    assert told_of(Path("/proc/otpost-ledger.db")).startswith("cannot be used: ")
    assert note.read_text(encoding="utf-8").startswith("This is no database")


def test_a_full_disk_is_told(complaint_of: Complaint) -> None:
    # Whatever is written to this device meets a full disk.
    assert complaint_of(ledger_url="sqlite:////dev/full").startswith("the ledger /dev/full cannot be used: ")


async def test_a_ledger_says_which_schema_it_has(tmp_path: Path) -> None:
    async with SqliteLedger(tmp_path / "ledger.db"):
        pass
    async with SqliteLedger(tmp_path / "ledger.db"):
        pass
    with sqlite3.connect(tmp_path / "ledger.db") as database:
        assert database.execute("PRAGMA user_version").fetchone() == (4,)
    database.close()
