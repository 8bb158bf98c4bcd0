"""Shell completion, pressed in a real bash."""

from __future__ import annotations

import asyncio
import os
import pty
import shutil
import sys
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Final

import pytest

from command import otpost
from service import PATIENCE_S

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

BASH: Final = shutil.which("bash") or "bash"
# Neither a prompt nor a bell may be taken for a completion.
SETUP: Final = "PS1= PS2=; bind 'set bell-style none'; bind 'set enable-bracketed-paste off'\n"


class Terminal:
    """An interactive shell: what is typed, and what it shows."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._shown = b""
        self._news = asyncio.Event()
        asyncio.get_running_loop().add_reader(descriptor, self._read)

    def _read(self) -> None:
        try:
            self._shown += os.read(self._descriptor, 65536)
        except OSError:  # the shell has ended
            asyncio.get_running_loop().remove_reader(self._descriptor)
        self._news.set()

    def press(self, keys: str) -> None:
        self._shown = b""
        os.write(self._descriptor, keys.encode())

    async def shows(self, text: str) -> None:
        try:
            async with asyncio.timeout(PATIENCE_S):
                while text.encode() not in self._shown:
                    self._news.clear()
                    await self._news.wait()
        except TimeoutError:
            raise AssertionError(f"waited for {text!r} in vain; it shows {self._shown!r}") from None

    async def completes(self, typed: str, completed: str) -> None:
        """Press Tab behind what is typed, and clear the line again."""
        self.press(f"{typed}\t")
        await self.shows(completed)
        self.press("\x15")


@asynccontextmanager
async def terminal(environment: dict[str, str]) -> AsyncIterator[Terminal]:
    ours, theirs = pty.openpty()
    shell = await asyncio.create_subprocess_exec(
        *(BASH, "--norc", "--noprofile", "-i"), stdin=theirs, stdout=theirs, stderr=theirs, env=environment,
        start_new_session=True,
    )  # fmt: skip
    os.close(theirs)
    try:
        yield Terminal(ours)
    finally:
        shell.kill()
        await shell.wait()
        asyncio.get_running_loop().remove_reader(ours)
        os.close(ours)


async def test_bash_completes_commands_options_senders_and_reasons(tmp_path: Path) -> None:
    senders = tmp_path / "senders.toml"
    senders.write_text('[senders.zurich]\nphone_number_id = "1"\naccess_token = "EAAG"\n', encoding="utf-8")
    environment = {
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}", "HOME": str(tmp_path),
        "TERM": "dumb", "OTPOST_SENDERS_FILE": str(senders), "OTPOST_CONCURENCY": "a warning must not be shown",
    }  # fmt: skip
    async with terminal(environment) as shell:
        shell.press(SETUP + 'eval "$(otpost completion bash)"; echo rea""dy\n')
        await shell.shows("ready")
        await shell.completes("otpost topology ver", "otpost topology verify")
        await shell.completes("otpost results --status deli", "otpost results --status delivered")
        await shell.completes("otpost send --sender zu", "otpost send --sender zurich")
        await shell.completes("otpost dead list --reason exh", "otpost dead list --reason exhausted")


async def test_without_usable_settings_nothing_is_completed_and_nothing_is_said(tmp_path: Path) -> None:
    asked = {"_OTPOST_COMPLETE": "bash_complete", "COMP_WORDS": "otpost send --sender ", "COMP_CWORD": "3"}
    done = await otpost(environment={**asked, "OTPOST_SENDERS_FILE": str(tmp_path / "missing.toml")})
    assert (done.status, done.out.strip(), done.err) == (0, "", "")


@pytest.mark.parametrize(
    ("shell", "mark"), [("zsh", "#compdef otpost"), ("fish", "complete --no-files --command otpost")]
)
async def test_there_is_a_script_for_other_shells(shell: str, mark: str) -> None:
    done = await otpost("completion", shell)
    assert (done.status, done.err) == (0, "")
    assert mark in done.out
