"""docs/sealed-codes.md: its commands and programs do what it says, in the order in which they stand there."""

from __future__ import annotations

import asyncio
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Final

from pydantic import SecretStr

from service import CODE, DEAD, PATIENCE_S, job_body, running_service

if TYPE_CHECKING:
    from broker import Vhost

ROOT: Final = Path(__file__).parents[2]
TEXT: Final = (ROOT / "docs" / "sealed-codes.md").read_text(encoding="utf-8")


def blocks(language: str) -> list[str]:
    """Each block of that language, as somebody would paste it."""
    found = re.findall(rf"^( *)```{language}\n(.*?)^ *```", TEXT, re.MULTILINE | re.DOTALL)
    return [re.sub(rf"^{indent}", "", text, flags=re.MULTILINE) for indent, text in found]


async def run(*command: str, folder: Path, **settings: str) -> str:
    """Run a command in `folder`, with settings named without OTPOST_; it has to succeed."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("OTPOST_")}
    environment |= {f"OTPOST_{name.upper()}": value for name, value in settings.items()}
    environment["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{environment['PATH']}"
    process = await asyncio.create_subprocess_exec(
        *command, cwd=folder, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    )
    async with asyncio.timeout(PATIENCE_S):
        out, _ = await process.communicate()
    assert process.returncode == 0, out.decode()
    return out.decode()


async def test_keys_are_made_given_out_used_and_changed_as_the_page_says(vhost: Vhost, tmp_path: Path) -> None:
    begin, make_new, both = blocks("sh")
    producer, reader = blocks("python")
    await run("sh", "-ec", begin, folder=tmp_path)
    private, public = ((tmp_path / f"otpost-{half}.key").read_text().strip() for half in ("private", "public"))
    async with running_service(vhost, tmp_path, private_keys=SecretStr(private)) as service:
        ended = await run(sys.executable, "-c", producer, folder=tmp_path, broker_url=vhost.url, public_key=public)
        assert ended == "accepted\n"
        [entry] = service.simulator.journal.entries()
        assert (entry.to, entry.code) == ("+12015553931", "493817")

        broken = job_body(otp=CODE)
        await service.publish(broken)
        await vhost.wait_for_ready(DEAD, 1)
        (tmp_path / "letter.json").write_bytes(vhost.get(DEAD)[0].body)
        keys = {"private_keys_file": "otpost-private.key"}
        assert await run(sys.executable, "-c", reader, folder=tmp_path, **keys) == f"{broken!r}\n"

    await run("sh", "-ec", make_new, folder=tmp_path)
    shown = await run("sh", "-ec", both, folder=tmp_path)
    new = (tmp_path / "new-public.key").read_text().strip()
    assert [line.split()[0] for line in shown.splitlines()[1:3]] == [public, new]
    assert "seals dead letters" in shown.splitlines()[1]


def test_every_page_that_it_links_to_exists() -> None:
    links = re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", TEXT)
    assert links
    assert [link for link in links if not (ROOT / "docs" / link).exists()] == []
