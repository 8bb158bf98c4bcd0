"""The README's code blocks do what they say."""

from __future__ import annotations

import asyncio
import os
import re
import signal
import subprocess
import sys
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from node_client import node_modules
from otpost_worker.simulator import Simulator, SimulatorOptions

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from broker import Vhost

ROOT = Path(__file__).parents[2]
TEXT = (ROOT / "README.md").read_text(encoding="utf-8")
PATIENCE_S = 30.0


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", TEXT, re.MULTILINE | re.DOTALL)


def shell_block(beginning: str) -> str:
    return next(block for block in blocks("sh") if block.startswith(beginning))


@pytest.fixture
async def simulator() -> AsyncIterator[Simulator]:
    async with Simulator(SimulatorOptions()) as running:
        yield running


@pytest.fixture
def environment(vhost: Vhost, simulator: Simulator, tmp_path: Path) -> dict[str, str]:
    """What the reader's shell has, and the README's own exports; the provider is the simulator."""
    exported = dict(
        word.split("=", 1)
        for line in shell_block("export OTPOST_PHONE").splitlines()
        if line.startswith("export ")
        for word in line.removeprefix("export ").split()
    )
    return {
        **{name: value for name, value in os.environ.items() if not name.startswith("OTPOST_")},
        **exported,
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        "OTPOST_BROKER_URL": vhost.url,
        "OTPOST_API_BASE": simulator.url,
        "OTPOST_LEDGER_URL": f"sqlite:///{tmp_path / 'ledger.db'}",
    }


@asynccontextmanager
async def worker(environment: dict[str, str], vhost: Vhost) -> AsyncIterator[None]:
    """The worker, as the README's command line starts it."""
    command = shell_block("export OTPOST_PHONE").splitlines()[-1].split()
    process = await asyncio.create_subprocess_exec(*command, env=environment, stderr=subprocess.DEVNULL)
    try:
        await vhost.wait_for_queue("otpost.jobs.default", consumers=1, timeout_s=PATIENCE_S)
        yield
    finally:
        process.terminate()
        assert await asyncio.wait_for(process.wait(), PATIENCE_S) == 0


async def run(*command: str, environment: dict[str, str], cwd: Path | None = None) -> tuple[int | None, str]:
    process = await asyncio.create_subprocess_exec(
        *command, env=environment, cwd=cwd, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    )
    output, _ = await asyncio.wait_for(process.communicate(), PATIENCE_S)
    return process.returncode, output.decode()


async def received(simulator: Simulator, count: int) -> list[str]:
    assert await simulator.journal.wait(received=count, timeout_s=PATIENCE_S)
    return [str(entry.to) for entry in simulator.journal.entries()]


async def test_the_first_job_in_python_reaches_the_provider(
    environment: dict[str, str], vhost: Vhost, simulator: Simulator, tmp_path: Path
) -> None:
    script = tmp_path / "first_job.py"
    script.write_text(blocks("python")[0], encoding="utf-8")
    async with worker(environment, vhost):
        status, output = await run(sys.executable, str(script), environment=environment)
        assert status == 0, output
        assert await received(simulator, 1) == ["+12015553931"]


def test_the_first_job_in_python_is_sent_in_five_lines() -> None:
    lines = [line for line in blocks("python")[0].splitlines() if line and not line.startswith(("import", "from"))]
    assert len(lines) <= 5


async def test_the_first_job_in_node_reaches_the_provider(
    environment: dict[str, str], vhost: Vhost, simulator: Simulator, tmp_path: Path
) -> None:
    script = tmp_path / "first_job.js"
    script.write_text(blocks("js")[0], encoding="utf-8")
    async with worker(environment, vhost):
        where = {**environment, "NODE_PATH": str(node_modules())}
        status, output = await run("node", str(script), environment=where)
        assert status == 0, output
        assert await received(simulator, 1) == ["+12015553931"]


async def test_the_command_line_with_an_account_sends_and_waits(
    environment: dict[str, str], vhost: Vhost, simulator: Simulator
) -> None:
    async with worker(environment, vhost):
        status, output = await run(*shell_block("otpost send").split(), environment=environment)
        assert status == 0, output
        assert "accepted" in output
        assert await received(simulator, 1) == ["+12015553931"]


async def test_every_command_of_the_operators_works(
    environment: dict[str, str], vhost: Vhost, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)  # some of them write files
    lines = [line.split("#")[0].split() for line in shell_block("otpost worker --conc").splitlines()]
    async with worker(environment, vhost):
        dead = ["otpost", "send", "--to", "+99913102600001", "--code", "493817", "--id", "JOB_ID", "--wait", "20"]
        status, output = await run(*dead, environment=environment)
        assert status == 1, output
        # In their order, but side by side: each is half a second of starting Python.
        dead_letters = [command for command in lines[1:] if command[1] == "dead"]
        endless = [command for command in lines[1:] if "--follow" in command]
        others = [command for command in lines[1:] if command not in dead_letters + endless]
        await asyncio.gather(*(succeeds(command, environment) for command in others))
        for command in dead_letters:
            await succeeds(command, environment)
        (follow,) = endless
        await shows_what_comes_until_interrupted(follow, environment)


async def succeeds(command: list[str], environment: dict[str, str]) -> None:
    status, output = await run(*command, environment=environment)
    assert status == 0, f"{command}: {output}"


async def shows_what_comes_until_interrupted(command: list[str], environment: dict[str, str]) -> None:
    process = await asyncio.create_subprocess_exec(*command, env=environment, stdout=subprocess.PIPE)
    assert process.stdout is not None
    line = asyncio.create_task(process.stdout.readline())
    async with asyncio.timeout(PATIENCE_S):
        while not line.done():  # what was published before it looked does not count
            await succeeds(["otpost", "send", "--to", "+12015553932", "--code", "493817", "--wait", "20"], environment)
    process.send_signal(signal.SIGINT)
    assert await asyncio.wait_for(process.wait(), PATIENCE_S) == 130
    assert "accepted" in line.result().decode()


async def test_the_fake_for_tests_works_without_a_broker(environment: dict[str, str], tmp_path: Path) -> None:
    script = tmp_path / "own_test.py"
    script.write_text(blocks("python")[1], encoding="utf-8")
    status, output = await run(
        sys.executable, str(script), environment={**environment, "OTPOST_BROKER_URL": "amqp://127.0.0.1:1/"}
    )
    assert status == 0, output


@pytest.mark.parametrize("target", shell_block("make demo").split("\n")[:2])
async def test_both_commands_exist(target: str, environment: dict[str, str]) -> None:
    status, output = await run(*target.split(), "--dry-run", environment=environment, cwd=ROOT)
    assert status == 0, output


def test_every_page_that_it_links_to_exists() -> None:
    links = re.findall(r"\]\(([^)#:]+)\)", TEXT)
    assert links
    assert [link for link in links if not (ROOT / link).exists()] == []
