"""The users that docker-compose.yml starts RabbitMQ with: random passwords, in files of their owner's alone."""

from __future__ import annotations

import base64
import hashlib
import json
import re
import stat
import subprocess
import sys
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

import pytest

import broker_users
from broker_users import ROLES, definitions, make, password_hash
from otpost import PrivateKey

DOCUMENT: Final = Path(__file__).parent.parent.parent / "docs" / "deployment.md"


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, broker_users.__file__, *arguments], capture_output=True, text=True, timeout=60, check=False
    )


def test_each_role_gets_a_url_whose_password_is_the_one_that_rabbitmq_has_the_hash_of(tmp_path: Path) -> None:
    assert make(tmp_path, "rabbitmq")
    users = {user["name"]: user for user in json.loads((tmp_path / "definitions.json").read_text())["users"]}
    assert set(users) == {"producer", "worker", "webhook", "operator"}
    passwords = set()
    for name, user in users.items():
        url = urlsplit((tmp_path / f"{name}.url").read_text().strip())
        assert (url.scheme, url.username, url.hostname, url.port, url.path) == ("amqp", name, "rabbitmq", 5672, "/")
        assert re.fullmatch(r"[A-Za-z0-9_-]{32}", url.password or "")
        stored = base64.b64decode(user["password_hash"])
        assert stored[4:] == hashlib.sha256(stored[:4] + (url.password or "").encode()).digest()
        passwords.add(url.password)
    assert len(passwords) == 4


def test_a_password_hash_is_rabbitmqs() -> None:
    # From RabbitMQ's own guide to passwords: "test12" with the salt 908DC60A.
    assert password_hash("test12", bytes.fromhex("908DC60A")) == "kI3GCqW5JLMJa4iX1lo7X4D6XbYqlLgxIs30+P6tENUV2POR"


def test_rabbitmq_can_read_no_url_and_nobody_else_anything(tmp_path: Path) -> None:
    make(tmp_path, "rabbitmq")
    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in tmp_path.iterdir()}
    assert modes == {
        "definitions.json": 0o440,
        "rabbitmq.conf": 0o440,
        "advanced.config": 0o440,
        "operator.url": 0o400,
        "producer.url": 0o400,
        "worker.url": 0o400,
        "webhook.url": 0o400,
        "webhook.app_secret": 0o400,
        "webhook.verify_token": 0o400,
        "simulator.token": 0o400,
    }


def test_what_is_there_already_stays_as_it_is(tmp_path: Path) -> None:
    first = run(str(tmp_path))
    assert (first.returncode, first.stderr) == (0, "")
    assert first.stdout == f"users of RabbitMQ: made, in {tmp_path}\n"
    before = {path.name: path.read_text() for path in tmp_path.iterdir()}
    again = run(str(tmp_path))
    assert (again.returncode, again.stdout) == (0, f"users of RabbitMQ: there already, in {tmp_path}\n")
    assert {path.name: path.read_text() for path in tmp_path.iterdir()} == before


def test_the_workers_key_lies_apart_is_its_owners_alone_and_is_made_once(tmp_path: Path) -> None:
    apart = tmp_path / "apart"
    apart.mkdir()
    assert run(str(tmp_path), str(apart)).returncode == 0
    key = apart / "private.key"
    assert stat.S_IMODE(key.stat().st_mode) == 0o400
    text = key.read_text()
    assert len(PrivateKey.parse(text).raw) == 32
    (tmp_path / "rabbitmq.conf").unlink()
    done = run(str(tmp_path), str(apart))
    assert key.read_text() == text
    assert text.strip() not in done.stdout + done.stderr
    assert not (tmp_path / "private.key").exists()
    missing = run(str(tmp_path), str(tmp_path / "nowhere"))
    assert missing.stderr.startswith(f"broker_users.py: {tmp_path / 'nowhere'} cannot be written: No such file")


def test_a_run_that_was_cut_short_is_done_again(tmp_path: Path) -> None:
    make(tmp_path, "rabbitmq")
    (tmp_path / "rabbitmq.conf").unlink()
    (tmp_path / "worker.url.unfinished").write_text("amqp://wor")
    assert make(tmp_path, "rabbitmq")
    assert not list(tmp_path.glob("*.unfinished"))
    assert (tmp_path / "rabbitmq.conf").read_text() == f"load_definitions = {tmp_path}/definitions.json\n"


def test_no_password_is_ever_printed_and_a_missing_folder_is_told_in_one_line(tmp_path: Path) -> None:
    done = run(str(tmp_path))
    for url in tmp_path.glob("*.url"):
        assert str(urlsplit(url.read_text().strip()).password) not in done.stdout + done.stderr
    missing = run(str(tmp_path / "nowhere"))
    assert (missing.returncode, missing.stdout) == (1, "")
    assert missing.stderr.startswith(f"broker_users.py: {tmp_path / 'nowhere'} cannot be written: No such file")
    assert missing.stderr.count("\n") == 1
    assert run().returncode == 2


@pytest.mark.parametrize("name", sorted(ROLES))
def test_the_documentation_names_the_same_permissions(name: str) -> None:
    role = ROLES[name]
    command = f"rabbitmqctl set_permissions {name} '{role.configure}' '{role.write}' '{role.read}'"
    assert command in DOCUMENT.read_text(encoding="utf-8").splitlines()


def test_nobody_may_configure_everything() -> None:
    permissions = definitions(dict.fromkeys(ROLES, "x"), "/")["permissions"]
    assert isinstance(permissions, list)
    for one in permissions:
        assert "otpost" in one["configure"]
        assert not re.search(one["configure"], "somebody.elses")
        assert not re.search(one["write"], "somebody.elses")
        assert not re.search(one["read"], "somebody.elses")
