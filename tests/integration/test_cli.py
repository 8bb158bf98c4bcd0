"""The command line: what each command prints, and how it ends (0 done, 1 failed, 2 misused)."""

from __future__ import annotations

import asyncio
import io
import signal
from typing import TYPE_CHECKING, Final

import orjson
import pytest

from command import Finished, finished, otpost, started_otpost
from otpost_worker.cli import run
from private_rabbitmq import PASSWORD
from service import CODE, DEAD, NUMBER, PATIENCE_S, declare_topology, job_body, running_service

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from broker import Vhost
    from service import Service

JOBS: Final = "otpost.jobs.default"
COMMANDS: Final = (
    "", "send", "worker", "results", "dead", "dead list", "dead show", "dead replay", "dead purge", "topology",
    "topology declare", "topology verify", "config", "simulator", "completion",
)  # fmt: skip


@pytest.fixture
async def broker(vhost: Vhost) -> dict[str, str]:
    """The settings of somebody whose broker has a worker for the sender 'default', which is not running."""
    await declare_topology(vhost, "default")
    return {"OTPOST_BROKER_URL": vhost.url}


@pytest.fixture
async def service(vhost: Vhost, tmp_path: Path) -> AsyncIterator[Service]:
    async with running_service(vhost, tmp_path) as running:
        yield running


def run_here(arguments: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Finished:
    """Run a command that needs no broker in this process, which saves the second that starting another takes."""
    monkeypatch.setattr("sys.argv", ["otpost", *arguments])
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO()))
    status = run()
    out, err = capsys.readouterr()
    return Finished(status, out, err)


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_explains_itself(
    command: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    done = run_here([*command.split(), "--help"], monkeypatch, capsys)
    assert (done.status, done.err) == (0, "")
    assert done.out.startswith(" ".join(["Usage: otpost", *command.split()]))
    assert "--help" in done.out
    # A range that has no end is one that nobody should see.
    assert "None" not in done.out


MISUSES: Final[dict[str, tuple[list[str], str]]] = {
    "no recipient": (["send", "--code-stdin"], "--to is needed"),
    "no code, and nobody to ask": (["send", "--to", NUMBER], "--code or --code-stdin is needed"),
    "two codes": (["send", "--to", NUMBER, "--code", CODE, "--code-stdin"], "exclude each other"),
    "a file and a recipient": (["send", "--from", "-", "--to", NUMBER], "--from takes everything from the file"),
    "no such command": (["sned"], "No such command 'sned'"),
    "no such option": (["send", "--number", "1"], "No such option"),
    "no such shell": (["completion", "tcsh"], "'tcsh' is not one of 'bash', 'zsh', 'fish'"),
    "no such age": (["results", "--since", "soon"], "write 90s, 10m, 2h or 7d"),
    "an age before there were results": (["results", "--since", "9999999d"], "is more than 3650d"),
    "an age before there were jobs": (["explain", "job-1", "--since", "87601h"], "is more than 3650d"),
    "a wait that is no number": (["send", "--to", NUMBER, "--wait", "nan"], "nan is not a finite number"),
    "a wait without an end": (["send", "--to", NUMBER, "--wait", "inf"], "inf is not a finite number"),
    "a lifetime that is no number": (["send", "--to", NUMBER, "--ttl", "nan"], "nan is not a finite number"),
    "no such number": (["send", "--to", "12", "--code", CODE], "otpost: to: must be one phone number"),
    "no such code": (["send", "--to", NUMBER, "--code", f"{CODE} "], "otpost: code: must be a string of 1 to 15"),
    "no code on standard input": (
        ["send", "--to", NUMBER, "--code-stdin"],
        "otpost: code: must be a string of 1 to 15",
    ),
    "no such lifetime": (["send", "--to", NUMBER, "--code", CODE, "--ttl", "0"], "otpost: ttl_s: must be a number of"),
    "no such id": (["send", "--to", NUMBER, "--code", CODE, "--id", "a b"], "otpost: id: must be a string of 1 to 64"),
    "a new lifetime that is no number": (["dead", "replay", "job-1", "--ttl", "nan"], "nan is not a finite number"),
    "a rate that is no number": (["simulator", "--host", "a..b", "--rate", "nan"], "nan is not a finite number"),
    "a rate without an end": (["simulator", "--host", "a..b", "--rate", "inf"], "inf is not a finite number"),
    "replay all without a word": (["dead", "replay"], "this needs --yes where nobody can be asked"),
    "purge without a word": (["dead", "purge"], "this needs --yes where nobody can be asked"),
}


@pytest.mark.parametrize("name", MISUSES)
def test_a_misuse_ends_with_2_and_says_what_to_do(
    name: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments, complaint = MISUSES[name]
    done = run_here(arguments, monkeypatch, capsys)
    assert (done.status, done.out) == (2, "")
    assert complaint in done.err
    assert CODE not in done.err


async def test_the_process_ends_with_the_commands_status() -> None:
    helped, misused = await asyncio.gather(otpost("--help"), otpost("dead", "purge"))
    assert (helped.status, helped.err) == (0, "")
    assert helped.out.startswith("Usage: otpost ")
    assert (misused.status, misused.out) == (2, "")
    assert "this needs --yes where nobody can be asked" in misused.err


# -- send ----------------------------------------------------------------------------------------------


async def test_send_publishes_one_job_and_prints_its_id(vhost: Vhost, broker: dict[str, str]) -> None:
    options = ["--template", "login", "--language", "de", "--ttl", "90", "--id", "job-7"]
    done = await otpost(
        "send", "--to", NUMBER, "--code-stdin", *options, stdin=f"{CODE}\n".encode(), environment=broker
    )
    assert (done.status, done.out, done.err) == (0, "job-7\n", "")
    [message] = vhost.get(JOBS, 5)
    job = orjson.loads(message.body)
    assert job.pop("created_at")
    assert job == {
        "id": "job-7", "to": NUMBER, "code": CODE, "template": "login", "language": "de", "ttl_s": 90.0, "version": 1,
    }  # fmt: skip


async def test_send_prints_json_when_asked(vhost: Vhost, broker: dict[str, str]) -> None:
    done = await otpost("send", "--to", NUMBER, "--code", CODE, "--json", environment=broker)
    [printed] = done.objects
    [message] = vhost.get(JOBS, 5)
    assert (done.status, done.err) == (0, "")
    assert printed == {"job_id": orjson.loads(message.body)["id"]}


async def test_send_wait_ends_with_0_only_when_the_message_was_accepted(service: Service) -> None:
    environment = {"OTPOST_BROKER_URL": service.vhost.url}
    wait = ["--code-stdin", "--wait", "30"]
    good, bad = await asyncio.gather(
        otpost("send", "--to", NUMBER, "--id", "good", *wait, stdin=CODE.encode(), environment=environment),
        otpost(
            *("send", "--to", "+9991310260001", "--id", "bad", "--json", *wait),
            stdin=CODE.encode(), environment=environment,
        ),
    )  # fmt: skip
    assert (good.status, good.err) == (0, "")
    first, second = good.out.splitlines()
    assert first == "good"
    for word in ("accepted", "good", "default", "12*******87"):
        assert word in second.split()
    assert bad.status == 1
    assert bad.objects[0] == {"job_id": "bad"}
    assert [(one["status"], one["error"]["code"]) for one in bad.objects[1:]] == [("failed", 131026)]


async def test_send_wait_gives_up_when_nothing_comes(broker: dict[str, str]) -> None:
    done = await otpost(
        *("send", "--to", NUMBER, "--id", "job-1", "--code-stdin", "--wait", "0.5"),
        stdin=CODE.encode(), environment=broker,
    )  # fmt: skip
    assert (done.status, done.out) == (1, "job-1\n")
    assert "no end within 0.5 s; the job goes on" in done.err


async def test_send_from_a_file_publishes_the_good_lines_and_names_the_bad_ones(
    vhost: Vhost, broker: dict[str, str], tmp_path: Path
) -> None:
    lines = [
        job_body(id="a"),
        b'{"id": "broken", "to": "' + NUMBER.encode(),
        b"",
        job_body(id="b", to="nobody", code=None),
        b'["' + CODE.encode() + b'"]',
        job_body(id="c"),
    ]
    file = tmp_path / "jobs.jsonl"
    file.write_bytes(b"\n".join(lines))
    from_file, from_stdin = await asyncio.gather(
        otpost("send", "--from", str(file), environment=broker),
        otpost("send", "--from", "-", "--json", stdin=b"\n".join(lines), environment=broker),
    )
    assert (from_file.status, from_file.out) == (1, "2 jobs published\n")
    for done in (from_file, from_stdin):
        assert "line 2: invalid job: the line is not a JSON object" in done.err
        assert "line 4: invalid job: to: must be one phone number" in done.err
        assert "line 5: invalid job: the line is not a JSON object" in done.err
        assert done.err.count("line ") - done.err.count("the line ") == 3
    assert from_stdin.status == 1
    assert sorted(one["job_id"] for one in from_stdin.objects) == ["a", "c"]
    assert vhost.ready_count(JOBS) == 4


async def test_send_from_a_good_file_ends_with_0(vhost: Vhost, broker: dict[str, str]) -> None:
    lines = b"\n".join(job_body(id=f"job-{number}") for number in range(300))
    done = await otpost("send", "--from", "-", stdin=lines, environment=broker)
    assert (done.status, done.out, done.err) == (0, "300 jobs published\n", "")
    assert vhost.ready_count(JOBS) == 300


async def test_all_of_a_file_is_published_although_who_reads_the_ids_goes_away(
    vhost: Vhost, broker: dict[str, str], tmp_path: Path
) -> None:
    file = tmp_path / "jobs.jsonl"
    file.write_bytes(b"\n".join(job_body(id=f"job-{number}") for number in range(600)))
    async with started_otpost("send", "--from", str(file), "--json", environment=broker) as process:
        process.read_no_more()
        done = await finished(process)
    assert (done.status, done.err) == (1, "")
    assert vhost.ready_count(JOBS) == 600


async def test_options_that_are_no_job_end_with_2_and_every_reason(broker: dict[str, str]) -> None:
    done = await otpost(
        "send", "--to", "12", "--template", "A!", "--code-stdin", stdin=CODE.encode(), environment=broker
    )
    assert (done.status, done.out) == (2, "")
    to, template = done.err.splitlines()
    assert to.startswith("otpost: to: must be one phone number")
    assert template.startswith("otpost: template: must be a template's name")


async def test_what_cannot_be_sent_ends_with_1_and_says_why(vhost: Vhost, broker: dict[str, str]) -> None:
    code = CODE.encode()
    wrong_login = {"OTPOST_BROKER_URL": vhost.url.replace(f":{PASSWORD}@", ":s3cret@")}
    nobody, nowhere, refused = await asyncio.gather(
        otpost("send", "--to", NUMBER, "--sender", "nobody", "--code-stdin", stdin=code, environment=broker),
        otpost(
            *("send", "--to", NUMBER, "--code-stdin"),
            stdin=code, environment={"OTPOST_BROKER_URL": "amqp://eve:s3cret@127.0.0.1:1/"},
        ),
        otpost("send", "--to", NUMBER, "--code-stdin", stdin=code, environment=wrong_login),
    )  # fmt: skip
    for done in (nobody, nowhere, refused):
        assert (done.status, done.out) == (1, "")
        assert "s3cret" not in done.err
    assert nobody.err.startswith("otpost: unknown sender 'nobody'")
    assert nowhere.err.startswith("otpost: amqp://eve@127.0.0.1:1/: ")
    assert "does RabbitMQ run there?" in nowhere.err
    assert "the broker refuses the login; check user and password in OTPOST_BROKER_URL" in refused.err


# -- results and dead letters --------------------------------------------------------------------------


async def test_results_are_printed_for_people_and_for_programs(service: Service) -> None:
    for job_id, to in (("good", NUMBER), ("bad", "+9991310260001")):
        await service.publish(job_body(id=job_id, to=to))
    await service.wait_for_result("good", "accepted")
    await service.wait_for_result("bad", "failed")
    environment = {"OTPOST_BROKER_URL": service.vhost.url}
    for_people, filtered, for_programs = await asyncio.gather(
        otpost("results", environment=environment),
        otpost("results", "--since", "10m", "--status", "failed", environment=environment),
        otpost("results", "--since", "1h", "--json", "--status", "accepted", environment=environment),
    )
    assert [done.status for done in (for_people, filtered, for_programs)] == [0, 0, 0]
    assert len(for_people.out.splitlines()) == 2
    [line] = filtered.out.splitlines()
    for word in ("failed", "bad", "default", "recipient", "131026:"):
        assert word in line.split()
    [result] = for_programs.objects
    assert (result["event_id"], result["to"]) == ("good/1/1/accepted", "12*******87")


async def test_results_that_are_followed_come_as_they_happen(service: Service) -> None:
    environment = {"OTPOST_BROKER_URL": service.vhost.url}
    async with started_otpost("results", "--follow", "--since", "1m", "--json", environment=environment) as process:
        for job_id in ("job-1", "job-2"):
            await service.publish(job_body(id=job_id))
            async with asyncio.timeout(PATIENCE_S):
                assert orjson.loads(await process.stdout.readline())["event_id"] == f"{job_id}/1/1/accepted"
        process.send_signal(signal.SIGINT)
        done = await finished(process)
    assert (done.status, done.err.strip()) == (130, "")


async def test_dead_letters_are_listed_shown_replayed_and_purged(vhost: Vhost, tmp_path: Path) -> None:
    environment = {"OTPOST_BROKER_URL": vhost.url}
    async with running_service(vhost, tmp_path) as service:
        for job_id in ("job-1", "job-2"):
            await service.publish(job_body(id=job_id, to="+9991310260001"))
            await service.wait_for_result(job_id, "failed")
        await service.publish(job_body(id="job-3", to="nobody"))
        await service.wait_for_result("job-3", "failed")
        await vhost.wait_for_ready(DEAD, 3)

    listed = await otpost("dead", "list", environment=environment)
    assert (listed.status, listed.err) == (0, "3 dead letters\n")
    assert [line.split()[:2] for line in listed.out.splitlines()[1:]] == [
        ["job-1", "recipient"], ["job-2", "recipient"], ["job-3", "invalid_job"],
    ]  # fmt: skip
    as_json = await otpost("dead", "list", "--json", "--reason", "recipient", environment=environment)
    assert [(one["job_id"], one["reason"], one["to"]) for one in as_json.objects] == [
        ("job-1", "recipient", "99*********01"), ("job-2", "recipient", "99*********01"),
    ]  # fmt: skip

    shown = await otpost("dead", "show", "job-1", environment=environment)
    assert shown.status == 0
    assert ["error.code", "131026"] in [line.split() for line in shown.out.splitlines()]

    replayed = await otpost("dead", "replay", "job-1", "job-9", environment=environment)
    assert (replayed.status, replayed.out) == (1, "1 replayed, 1 not\n")
    assert "job-9: no such dead letter" in replayed.err
    assert (vhost.ready_count(DEAD), vhost.ready_count(JOBS)) == (2, 1)

    mistyped = await otpost("dead", "purge", "job-2", "job-9", "--yes", environment=environment)
    assert (mistyped.status, mistyped.out) == (1, "1 dead letter removed\n")
    assert mistyped.err == "otpost: job-9: no such dead letter\n"
    only_mistyped = await otpost("dead", "purge", "job-9", "--yes", "--json", environment=environment)
    assert (only_mistyped.status, only_mistyped.objects) == (1, [{"purged": 0}])
    assert vhost.ready_count(DEAD) == 1

    purged = await otpost("dead", "purge", "--yes", "--json", environment=environment)
    assert (purged.status, purged.objects) == (0, [{"purged": 1}])
    assert vhost.ready_count(DEAD) == 0
