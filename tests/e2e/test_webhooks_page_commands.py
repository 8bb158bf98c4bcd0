"""docs/webhooks.md: its commands do what it says, with the simulator in place of Meta."""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Final

import orjson

from free_ports import release_ports, reserve_free_port
from worker_process import PATIENCE_S

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from broker import Vhost

ROOT: Final = Path(__file__).parents[2]
TEXT: Final = (ROOT / "docs" / "webhooks.md").read_text(encoding="utf-8")


def blocks(after: str) -> list[str]:
    """The blocks of shell commands below a heading."""
    part = TEXT.partition(f"\n## {after}\n")[2].partition("\n## ")[0]
    return re.findall(r"^```sh\n(.*?)^```", part, re.MULTILINE | re.DOTALL)


class Machine:
    """Where somebody follows the page: with files and ports of its own in place of those that are named there."""

    def __init__(self, vhost: Vhost, folder: Path) -> None:
        self._folder = folder
        self._ports = {"8090": str(reserve_free_port()), "8088": str(reserve_free_port())}
        clean = {name: value for name, value in os.environ.items() if not name.startswith("OTPOST_")}
        self._environment = clean | {
            "PATH": f"{Path(sys.executable).parent}{os.pathsep}{clean['PATH']}",
            "OTPOST_BROKER_URL": vhost.url,
            "OTPOST_WEBHOOK_PORT": self._ports["8090"],
        }

    def close(self) -> None:
        release_ports([int(port) for port in self._ports.values()])

    def _here(self, commands: str) -> str:
        commands = re.sub("|".join(self._ports), lambda port: self._ports[port[0]], commands)
        # What stays until it is ended has to get the signal itself, and not the shell.
        stays = re.compile(r"^((?:[A-Z_]+=\S+ )*)otpost (webhook|worker|simulator)", re.MULTILINE)
        commands = stays.sub(r"\1exec otpost \2", commands)
        commands = commands.replace("exec otpost simulator", f"exec otpost simulator --port {self._ports['8088']}")
        return commands.replace("/etc/otpost", str(self._folder))

    async def run(self, commands: str) -> str:
        """Run what somebody pastes, to its end; it has to succeed."""
        process = await self._start(commands, subprocess.STDOUT)
        async with asyncio.timeout(PATIENCE_S):
            out, _ = await process.communicate()
        assert process.returncode == 0, out.decode()
        return out.decode()

    @contextlib.asynccontextmanager
    async def running(self, commands: str) -> AsyncIterator[None]:
        """Run what stays until it is ended by a signal; it has to end with success."""
        process = await self._start(commands, subprocess.DEVNULL)
        try:
            yield
            process.send_signal(signal.SIGTERM)
            async with asyncio.timeout(PATIENCE_S):
                out, _ = await process.communicate()
            assert process.returncode == 0, out.decode()
        finally:
            if process.returncode is None:
                process.kill()
                await process.communicate()

    async def _start(self, commands: str, stderr: int) -> asyncio.subprocess.Process:
        return await asyncio.create_subprocess_exec(
            *("bash", "-ec", self._here(commands)),
            cwd=self._folder, env=self._environment, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=stderr,
        )  # fmt: skip

    async def until_it_listens(self, port: str) -> None:
        async with asyncio.timeout(PATIENCE_S):
            while True:
                try:
                    _, writer = await asyncio.open_connection("127.0.0.1", int(self._ports[port]))
                except OSError:
                    await asyncio.sleep(0.05)
                else:
                    writer.close()
                    return


async def test_what_meta_asks_and_posts_is_answered_as_the_page_says(vhost: Vhost, tmp_path: Path) -> None:
    machine = Machine(vhost, tmp_path)
    (tmp_path / "webhook_broker_url").write_text(f"{vhost.url}\n")
    (tmp_path / "app_secret").write_text("9f3e1b\n")
    (tmp_path / "verify_token").write_text("5c1a7d\n")
    [start] = re.findall(r"^```sh\n(export OTPOST_BROKER_URL_FILE.*?)^```", TEXT, re.MULTILINE | re.DOTALL)
    unset = "unset OTPOST_BROKER_URL\n"
    try:
        async with machine.running(unset + start):
            await machine.until_it_listens("8090")
            answers = await machine.run(blocks("Trying it")[0])
        assert answers.splitlines()[-1].endswith("ok")
        assert "1158201444" in answers
        assert "HTTP/1.1 200 OK" in answers
        [message] = vhost.get("otpost.webhooks", 10)
        assert message.body == b'{"object":"whatsapp_business_account","entry":[]}'
    finally:
        machine.close()


async def test_with_the_simulator_in_place_of_meta_a_code_is_told_to_be_accepted_sent_delivered_and_read(
    vhost: Vhost, tmp_path: Path
) -> None:
    machine = Machine(vhost, tmp_path)
    _, receiver, simulator, worker, send = blocks("Trying it")
    asked = send.replace("otpost results", "otpost results --json")
    try:
        async with machine.running(receiver), machine.running(simulator), machine.running(worker):
            for port in ("8090", "8088"):
                await machine.until_it_listens(port)
            await vhost.wait_for_queue("otpost.jobs.default", consumers=1, timeout_s=PATIENCE_S)
            told = await machine.run(asked)
            again = asked.splitlines()[-1]
            begun = time.monotonic()
            while told.count('"read"') == 0:
                assert time.monotonic() - begun < PATIENCE_S
                told = await machine.run(again)
        results = [orjson.loads(line) for line in told.splitlines() if line.startswith("{")]
        assert {one["status"] for one in results} == {"accepted", "sent", "delivered", "read"}
    finally:
        machine.close()
