"""``otpost keys``, and ``otpost send`` with a public key in the environment."""

from __future__ import annotations

import stat
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import orjson
import pytest

from command import otpost, otpost_here
from otpost import Opener, PrivateKey, PublicKey
from otpost_worker.keyfile import write_private
from service import CODE, NUMBER, declare_topology

if TYPE_CHECKING:
    from pathlib import Path

    from broker import Vhost
    from command import Finished

JOBS: Final = "otpost.jobs.default"
ONE, TWO = (PrivateKey(bytes([number]) * 32) for number in (1, 2))


@dataclass(frozen=True)
class Shell:
    """Runs the command in this process, in a folder of the test's own."""

    monkeypatch: pytest.MonkeyPatch
    capsys: pytest.CaptureFixture[str]
    folder: Path

    def otpost(self, *arguments: str, **settings: str) -> Finished:
        """Run it; `settings` are named without OTPOST_, in small letters."""
        environment = {f"OTPOST_{name.upper()}": value for name, value in settings.items()}
        return otpost_here(*arguments, environment=environment, monkeypatch=self.monkeypatch, capsys=self.capsys)


@pytest.fixture
def shell(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> Shell:
    monkeypatch.chdir(tmp_path)
    return Shell(monkeypatch, capsys, tmp_path)


def test_a_pair_is_two_files_and_the_private_one_is_for_its_owner_alone(shell: Shell) -> None:
    made = shell.otpost("keys", "generate")
    private, public = shell.folder / "otpost-private.key", shell.folder / "otpost-public.key"
    assert (made.status, made.err) == (0, "")
    assert stat.S_IMODE(private.stat().st_mode) == 0o600
    key = PrivateKey.parse(private.read_text(encoding="ascii"))
    assert PublicKey.parse(public.read_text(encoding="ascii")) == key.public
    assert made.out.splitlines()[-1] == f"OTPOST_PUBLIC_KEY={key.public}"
    assert key.reveal() not in made.out
    # As its output says they are to be used.
    assert shell.otpost("config", "--strict", public_key=str(key.public), private_keys_file=str(private)).status == 0


def test_a_file_that_is_there_is_left_alone(shell: Shell) -> None:
    for file in ("otpost-private.key", "otpost-public.key"):
        (shell.folder / file).write_text("what was there", encoding="ascii")
        refused = shell.otpost("keys", "generate")
        assert (refused.status, refused.out) == (1, "")
        assert f"{file} is there already: choose another --name or --dir" in refused.err
        assert {one.name: one.read_text(encoding="ascii") for one in shell.folder.iterdir()} == {file: "what was there"}
        (shell.folder / file).unlink()


def test_a_pair_can_have_a_name_and_a_folder_of_its_own_and_be_told_as_json(shell: Shell) -> None:
    made = shell.otpost("keys", "generate", "--dir", "new/folder", "--name", "2026", "--json")
    [told] = made.objects
    public = (shell.folder / "new/folder/2026-public.key").read_text(encoding="ascii").strip()
    assert told == {
        "public_key": public,
        "public_key_file": "new/folder/2026-public.key",
        "private_key_file": "new/folder/2026-private.key",
    }


def test_a_folder_that_cannot_be_written_is_told(shell: Shell) -> None:
    (shell.folder / "file").touch()
    refused = shell.otpost("keys", "generate", "--dir", "file/below")
    assert (refused.status, refused.out) == (1, "")
    assert "cannot write to file/below: Not a directory; choose another --dir" in refused.err


def test_the_help_says_what_goes_where(shell: Shell) -> None:
    text = shell.otpost("keys", "generate", "--help").out
    assert "otpost-private.key  For workers, and nobody else: OTPOST_PRIVATE_KEYS_FILE" in text
    assert "otpost-public.key   For producers: OTPOST_PUBLIC_KEY" in text


def test_the_keys_of_a_worker_are_shown_by_what_is_sealed_to_them(shell: Shell) -> None:
    nothing = shell.otpost("keys", "show")
    assert (nothing.status, nothing.out) == (0, "")
    assert "there is no key yet" in nothing.err
    write_private(shell.folder / "otpost.db.key", ONE.reveal())
    both = f"{TWO.reveal()},{ONE.reveal()},{TWO.reveal()}"
    assert shell.otpost("keys", "show", "--json", private_keys=both).objects == [
        {"public_key": str(TWO.public), "from": "OTPOST_PRIVATE_KEYS", "seals_dead_letters": True},
        {"public_key": str(ONE.public), "from": "OTPOST_PRIVATE_KEYS", "seals_dead_letters": False},
    ]
    shown = shell.otpost("keys", "show").out
    assert shown.splitlines()[1].split() == [str(ONE.public), "otpost.db.key", "seals", "dead", "letters"]
    assert ONE.reveal() not in shown
    assert sorted(one.name for one in shell.folder.iterdir()) == ["otpost.db.key"]


def test_no_private_key_is_shown_among_the_settings(shell: Shell) -> None:
    for arguments in (("config",), ("config", "--json")):
        shown = shell.otpost(*arguments, private_keys=f"{ONE.reveal()} {TWO.reveal()}", public_key=str(TWO.public)).out
        assert str(TWO.public) in shown
        assert not any(key.reveal()[15:40] in shown for key in (ONE, TWO))


async def test_what_the_command_sends_is_sealed(vhost: Vhost) -> None:
    await declare_topology(vhost, "default")
    environment = {"OTPOST_BROKER_URL": vhost.url, "OTPOST_PUBLIC_KEY": f" {ONE.public} "}
    sealed_already = orjson.dumps({"id": "there", "to": NUMBER, "sealed_code": TWO.public.seal(CODE.encode())})
    lines = orjson.dumps({"id": "line", "to": NUMBER, "code": CODE}) + b"\n" + sealed_already + b"\n"
    sent = await otpost(
        "send", "--to", NUMBER, "--code-stdin", "--id", "one", stdin=CODE.encode(), environment=environment
    )
    many = await otpost("send", "--from", "-", stdin=lines, environment=environment)
    assert (sent.status, many.status) == (0, 0)
    bodies = {body["id"]: body for body in (orjson.loads(message.body) for message in vhost.get(JOBS, 3))}
    opened = {job_id: Opener([ONE, TWO]).open(body["sealed_code"]) for job_id, body in bodies.items()}
    assert opened == dict.fromkeys(("one", "line", "there"), CODE.encode())
    assert not any("code" in body for body in bodies.values())
    assert bodies["there"]["sealed_code"] == orjson.loads(sealed_already)["sealed_code"]
