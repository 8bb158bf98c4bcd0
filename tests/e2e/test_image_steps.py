"""Every step of the Dockerfile, taken from the file itself, in a folder in place of an image; then what it starts."""

from __future__ import annotations

import asyncio
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Final

import pytest

from dockerfile import Stage, read_dockerfile
from otpost import OtpJob
from otpost_worker.simulator import Simulator, SimulatorOptions
from service import CODE, NUMBER
from worker_process import PATIENCE_S, WorkerProcess, load_on, worker_environment

if TYPE_CHECKING:
    from collections.abc import Mapping

    from broker import Vhost

ROOT: Final = Path(__file__).parent.parent.parent
BUILD_TIMEOUT_S: Final = 300

pytestmark = [pytest.mark.long, pytest.mark.timeout(BUILD_TIMEOUT_S + 200)]


class Folder:
    """A folder in place of an image: its paths are those of the image, below the folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.program = folder / "opt" / "otpost"
        self.state = folder / "var" / "lib" / "otpost"
        self.work = folder / "build"
        for one in (self.program.parent, self.state, self.work):
            one.mkdir(parents=True)

    def inside(self, text: str) -> str:
        """Say the same of the folder."""
        return text.replace("/opt/otpost", str(self.program)).replace("/var/lib/otpost", str(self.state))

    def run(self, stage: Stage, environment: Mapping[str, str]) -> None:
        """Carry out what a stage copies and runs."""
        for one in stage.instructions:
            if one.word == "COPY":
                *sources, target = one.arguments
                for source in sources:
                    self._copy(ROOT / source, self.work / target)
            elif one.word == "RUN":
                subprocess.run(
                    ["/bin/sh", "-euc", self.inside(one.text)],
                    cwd=self.work,
                    env={**environment, **stage.environment()},
                    timeout=BUILD_TIMEOUT_S,
                    check=True,
                )

    def _copy(self, source: Path, target: Path) -> None:
        if source.is_dir():
            shutil.copytree(source, target, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            target = target / source.name if target == self.work or target.name == "requirements" else target
            target.parent.mkdir(exist_ok=True)
            shutil.copy(source, target)

    def files(self) -> dict[str, tuple[int, int]]:
        """Every file outside the ledger's folder, with its size and time of change."""
        found = (path for path in self.folder.rglob("*") if path.is_file() and self.state not in path.parents)
        return {str(path): (path.stat().st_size, path.stat().st_mtime_ns) for path in found}


def based_on(folder: Path) -> dict[str, str]:
    """The environment of a base image: a Python of its own, with pip."""
    subprocess.run([sys.executable, "-m", "venv", folder], timeout=BUILD_TIMEOUT_S, check=True)
    return {**os.environ, "PATH": f"{folder}/bin{os.pathsep}{os.environ['PATH']}"}


async def test_the_steps_of_the_dockerfile_make_a_worker_that_sends_is_ready_and_stops_and_writes_only_its_ledger(
    vhost: Vhost, tmp_path: Path
) -> None:
    build, image = read_dockerfile(ROOT / "Dockerfile")
    folder = Folder(tmp_path / "image")
    await asyncio.to_thread(folder.run, build, based_on(tmp_path / "base"))
    before = folder.files()

    async with Simulator(SimulatorOptions(rate=0, pair=False)) as provider:
        described = worker_environment(vhost, tmp_path, provider.url)
        environment = {
            **described,
            **{name: folder.inside(value) for name, value in image.environment().items()},
            "PATH": f"{folder.program}/bin{os.pathsep}{os.environ['PATH']}",
            # The image's own port may be in use here, and its address open to others.
            "OTPOST_HTTP_HOST": "127.0.0.1",
            "OTPOST_HTTP_PORT": "0",
        }
        command = [*(image.last("ENTRYPOINT").exec_form or []), *(image.last("CMD").exec_form or [])]
        worker = WorkerProcess(
            await asyncio.create_subprocess_exec(
                f"{folder.program}/bin/{command[0]}",
                *command[1:],
                env=environment,
                cwd=folder.state,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.PIPE,
            )
        )
        try:
            await worker.logged("health.listening")
            port = next(entry["port"] for entry in worker.log if entry["event"] == "health.listening")
            await worker.logged("consuming")
            async with load_on(vhost) as load:
                job_id = await load.producer.send(OtpJob(to=NUMBER, code=CODE))
                await load.ended([job_id])
                assert load.statuses() == {job_id: ["accepted"]}
            assert await health(image, environment, port) == 0
            await worker.stop()
            assert await health(image, environment, port) != 0
        finally:
            await worker.clear_away()
    assert (folder.state / "otpost.db").exists()
    assert folder.files() == before


async def health(image: Stage, environment: Mapping[str, str], port: int) -> int:
    """Run the image's health check as Docker would, and return its exit status."""
    check = image.last("HEALTHCHECK").exec_form
    assert check is not None
    process = await asyncio.create_subprocess_exec(
        f"{environment['PATH'].split(os.pathsep)[0]}/{check[0]}",
        *check[1:],
        env={**environment, "OTPOST_HTTP_PORT": str(port)},
        stderr=subprocess.DEVNULL,
    )
    async with asyncio.timeout(PATIENCE_S):
        return await process.wait()
