"""The Dockerfile: what it promises about users, secrets, signals and where the worker writes."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Final

from click import Command, Context

from dockerfile import Stage, read_dockerfile
from otpost_worker.cli import otpost_command
from otpost_worker.settings import KNOWN, load

ROOT: Final = Path(__file__).parent.parent.parent
BUILD, IMAGE = read_dockerfile(ROOT / "Dockerfile")
SECRET: Final = re.compile(r"PASS|SECRET|TOKEN|KEY|CREDENTIAL", re.IGNORECASE)


def commands(stage: Stage) -> list[str]:
    return [part.strip() for run in stage.all("RUN") for part in run.text.split("&&")]


def test_both_stages_have_the_same_slim_base_pinned_by_its_minor_version_and_debian() -> None:
    assert BUILD.base == IMAGE.base
    assert re.fullmatch(r"python:3\.\d+-slim-[a-z]+", IMAGE.base)


def test_every_download_is_checked_against_its_hash_and_nothing_is_built_from_source() -> None:
    installs = [command for command in commands(BUILD) if " install " in command or " wheel " in command]
    assert len(installs) == 4
    for command in installs:
        hashed = "--require-hashes" in command and "--only-binary :all:" in command
        offline = "--no-index" in command and "--no-deps" in command
        assert hashed or offline, command


def test_the_image_installs_nothing_but_what_the_build_stage_made() -> None:
    assert not [command for command in commands(IMAGE) if re.search(r"\b(apt|apt-get|pip|curl|wget)\b", command)]
    assert [copied.text for copied in IMAGE.all("COPY")] == [
        "--from=build /opt/otpost /opt/otpost",
        "--chmod=0444 deploy/broker_users.py /opt/otpost/share/otpost/",
    ]


def test_the_user_is_a_number_and_not_root_and_nothing_comes_after_that_needs_more() -> None:
    assert IMAGE.last("USER").text == "10001:10001"
    after = IMAGE.instructions[IMAGE.instructions.index(IMAGE.last("USER")) :]
    assert not {"RUN", "COPY", "ADD"} & {one.word for one in after}


def test_only_the_ledgers_folder_is_written_to() -> None:
    environment = IMAGE.environment()
    assert environment["PYTHONDONTWRITEBYTECODE"] == "1"
    assert environment["OTPOST_LEDGER_URL"] == "sqlite:////var/lib/otpost/otpost.db"
    assert "install --directory --owner 10001 --group 10001 --mode 0700 /var/lib/otpost" in commands(IMAGE)


def test_its_settings_are_settings_and_serve_health_to_other_containers() -> None:
    ours = {name: value for name, value in IMAGE.environment().items() if name.startswith("OTPOST_")}
    assert set(ours) <= KNOWN
    loaded = load(ours, lambda _: "")
    assert loaded.warnings == ()
    assert (loaded.settings.http_host, loaded.settings.http_port) == ("0.0.0.0", 8080)  # noqa: S104 - as meant
    assert loaded.settings.log_format == "json"
    assert IMAGE.last("EXPOSE").text == "8080"


def test_it_holds_no_secret() -> None:
    for stage in (BUILD, IMAGE):
        named = [*stage.environment(), *(one.text for one in stage.all("ARG"))]
        assert not [name for name in named if SECRET.search(name)]
        assert not [one.text for one in stage.instructions if "://" in one.text and "sqlite://" not in one.text]


def test_signals_reach_the_worker_itself() -> None:
    assert IMAGE.last("STOPSIGNAL").text == "SIGTERM"
    assert IMAGE.last("ENTRYPOINT").exec_form == ["otpost"]
    assert IMAGE.last("CMD").exec_form == ["worker"]


def test_its_command_is_one_of_ours() -> None:
    command = otpost_command.get_command(Context(otpost_command), "worker")
    assert isinstance(command, Command)


def test_its_health_check_needs_no_shell_and_nothing_that_a_slim_image_lacks() -> None:
    check = IMAGE.last("HEALTHCHECK").exec_form
    assert check is not None
    assert check[:2] == ["python", "-c"]
    compile(check[2], "the health check", "exec")


def test_the_build_sees_only_the_files_that_it_copies() -> None:
    lines = (ROOT / ".dockerignore").read_text(encoding="utf-8").splitlines()
    rules = [line for line in lines if line and not line.startswith("#")]
    assert rules[0] == "*"
    allowed = {rule.removeprefix("!") for rule in rules if rule.startswith("!")}
    copied = {
        source
        for one in (*BUILD.all("COPY"), *IMAGE.all("COPY"))
        if not [flag for flag in one.flags if flag.startswith("--from")]
        for source in one.arguments[:-1]
    }
    assert copied == allowed
    assert all((ROOT / source).exists() for source in copied)
