"""Where a worker's keys come from: the settings, and the file beside its ledger, made once by whoever comes first."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Final

import pytest

from command import otpost
from otpost.sealing import PrivateKey
from otpost_worker import keyfile
from otpost_worker.keyfile import KeyUnavailable, keys_in_force, write_private

if TYPE_CHECKING:
    from pathlib import Path

ONE, TWO, THREE = (PrivateKey(bytes([number]) * 32) for number in (1, 2, 3))
NEW: Final = PrivateKey(b"n" * 32)


def keys(folder: Path, given: str | None = None) -> tuple[PrivateKey, ...]:
    return keys_in_force(given, f"sqlite:///{folder / 'ledger.db'}", random=lambda size: b"n" * size)


def beside(folder: Path) -> Path:
    return folder / "ledger.db.key"


def test_without_a_key_one_is_made_beside_the_ledger_for_its_owner_alone(tmp_path: Path) -> None:
    old_mask = os.umask(0)
    try:
        assert keys(tmp_path) == (NEW,)
    finally:
        os.umask(old_mask)
    assert beside(tmp_path).read_text(encoding="ascii") == NEW.reveal() + "\n"
    assert stat.S_IMODE(beside(tmp_path).stat().st_mode) == 0o600
    assert [file.name for file in tmp_path.iterdir()] == ["ledger.db.key"]


def test_the_one_that_is_there_is_kept(tmp_path: Path) -> None:
    beside(tmp_path).write_text(f"\n{ONE.reveal()}\n", encoding="ascii")
    assert keys(tmp_path) == (ONE,)


def test_those_of_the_settings_come_first_and_none_is_made(tmp_path: Path) -> None:
    assert keys(tmp_path, f"{TWO.reveal()},{ONE.reveal()}") == (TWO, ONE)
    assert not beside(tmp_path).exists()


def test_what_was_sealed_before_there_were_settings_can_still_be_opened(tmp_path: Path) -> None:
    beside(tmp_path).write_text(THREE.reveal(), encoding="ascii")
    assert keys(tmp_path, f"{TWO.reveal()} {ONE.reveal()}") == (TWO, ONE, THREE)
    assert keys(tmp_path, THREE.reveal()) == (THREE,)


@pytest.mark.parametrize("url", ["redis://127.0.0.1:6379/0", "rediss://x", "sqlite:///:memory:"])
def test_a_ledger_that_is_no_file_needs_a_key_in_the_settings(url: str) -> None:
    with pytest.raises(KeyUnavailable, match=r"^OTPOST_PRIVATE_KEYS is needed: .* 'otpost keys generate' makes one"):
        keys_in_force(None, url)
    assert keys_in_force(ONE.reveal(), url) == (ONE,)


def test_workers_that_start_at_once_agree_on_one_key(tmp_path: Path) -> None:
    with ThreadPoolExecutor(16) as workers:
        url = f"sqlite:///{tmp_path / 'ledger.db'}"
        made = list(workers.map(lambda _: keys_in_force(None, url), range(64)))
    assert len(set(made)) == 1
    assert [file.name for file in tmp_path.iterdir()] == ["ledger.db.key"]


def test_so_do_processes(tmp_path: Path) -> None:
    script = (
        "import sys; from otpost_worker.keyfile import keys_in_force; print('ready', flush=True); input();"
        f"print(keys_in_force(None, 'sqlite:///{tmp_path}/ledger.db')[0].public)"
    )
    command = [sys.executable, "-c", script]
    processes = [subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) for _ in range(4)]
    for process in processes:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
    for process in processes:
        assert process.stdin is not None
        process.stdin.write("\n")
        process.stdin.flush()
    seen = {process.communicate(timeout=60)[0] for process in processes}
    assert len(seen) == 1
    assert seen.pop().startswith("otpost-public:")


def test_whoever_is_too_late_takes_the_key_that_is_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    looks = iter([None])
    real = keyfile.read_key

    def nothing_yet(file: Path) -> PrivateKey | None:
        # The first look comes before the other worker has made its key.
        key = next(looks, real(file))
        if key is None:
            write_private(file, ONE.reveal())
        return key

    monkeypatch.setattr(keyfile, "read_key", nothing_yet)
    assert keys(tmp_path) == (ONE,)


def test_a_file_that_is_there_is_never_written_over(tmp_path: Path) -> None:
    file = tmp_path / "some.key"
    file.write_text("what was there", encoding="ascii")
    with pytest.raises(FileExistsError):
        write_private(file, "something else")
    assert file.read_text(encoding="ascii") == "what was there"
    assert [one.name for one in tmp_path.iterdir()] == ["some.key"]


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (b"", "not a private key: one is otpost-private: .*; move it away, or restore it"),
        (b"otpost-private:tooshort", "not a private key: one is otpost-private: .*; move it away, or restore it"),
        (str(ONE.public).encode(), "that is a public key, .*; move it away, or restore it"),
        (b"\xff", "it is no text"),
    ],
    ids=["empty", "cut", "public", "no text"],
)
def test_a_file_that_holds_no_key_is_told_and_left_alone(tmp_path: Path, content: bytes, told: str) -> None:
    beside(tmp_path).write_bytes(content)
    with pytest.raises(KeyUnavailable, match=f"^the key file {beside(tmp_path)} cannot be used: .*{told}"):
        keys(tmp_path)
    assert beside(tmp_path).read_bytes() == content


def test_a_folder_that_cannot_be_written_is_told_with_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(
        KeyUnavailable, match=r"cannot be made: No such file or directory; .* or set OTPOST_PRIVATE_KEYS"
    ):
        keys(tmp_path / "missing")
    beside(tmp_path).mkdir()
    with pytest.raises(KeyUnavailable, match="cannot be used: Is a directory"):
        keys(tmp_path)


async def test_a_worker_whose_key_file_is_broken_ends_with_one_line(tmp_path: Path) -> None:
    beside(tmp_path).write_bytes(b"otpost-private:broken")
    ended = await otpost(
        "worker",
        environment={
            "OTPOST_PHONE_NUMBER_ID": "1", "OTPOST_ACCESS_TOKEN": "EAAG", "OTPOST_BROKER_URL": "amqp://127.0.0.1:1/",
            "OTPOST_LEDGER_URL": f"sqlite:///{tmp_path / 'ledger.db'}",
        },
    )  # fmt: skip
    assert (ended.status, ended.out, ended.err.count("\n")) == (1, "", 1)
    assert ended.err.startswith(f"otpost: the key file {beside(tmp_path)} cannot be used: not a private key")
    assert "broken" not in ended.err.partition("key file")[2].replace(str(tmp_path), "")
