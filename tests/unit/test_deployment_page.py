"""docs/deployment.md: what it tells to write elsewhere fits the settings and the files that it names."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Final

import yaml

from otpost_worker.settings import KNOWN, Settings, load

ROOT: Final = Path(__file__).parent.parent.parent
TEXT: Final = (ROOT / "docs/deployment.md").read_text(encoding="utf-8")


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", TEXT, re.DOTALL)


def test_it_names_no_setting_that_is_none() -> None:
    named = set(re.findall(r"OTPOST_[A-Z_]*[A-Z]", TEXT))
    assert "OTPOST_SHUTDOWN_GRACE_S" in named
    assert named <= KNOWN


def test_its_links_lead_somewhere() -> None:
    links = re.findall(r"\]\(([^)#]+)\)", TEXT)
    assert links
    assert [link for link in links if not (ROOT / "docs" / link).exists()] == []
    headings = {re.sub(r"[^a-z ]", "", line[3:].lower()).replace(" ", "-") for line in re.findall(r"## .*", TEXT)}
    assert set(re.findall(r"\]\(#([^)]+)\)", TEXT)) <= headings


def test_its_pod_has_settings_that_can_be_read_and_time_to_stop() -> None:
    [block] = blocks("yaml")
    pod = yaml.safe_load(block)["spec"]["template"]["spec"]
    [worker] = pod["containers"]
    given = {one["name"]: one["value"] for one in worker["env"]}
    files = {"/run/otpost/broker_url": "amqp://broker/", "/run/otpost/access_token": "EAAG-mine"}
    loaded = load(given, files.__getitem__)
    assert loaded.warnings == ()
    assert list(loaded.settings.senders) == ["default"]
    assert pod["terminationGracePeriodSeconds"] > loaded.settings.shutdown_grace_s + 10
    assert worker["livenessProbe"]["httpGet"]["path"] == "/healthz"
    assert worker["readinessProbe"]["httpGet"]["path"] == "/readyz"
    mounted = {mount["name"]: mount["mountPath"] for mount in worker["volumeMounts"]}
    assert mounted == {"ledger": "/var/lib/otpost", "secrets": "/run/otpost"}
    assert {volume["name"] for volume in pod["volumes"]} == set(mounted)


def test_what_kills_a_worker_waits_longer_than_its_grace_period() -> None:
    [stop_timeout] = re.findall(r"--stop-timeout (\d+)", TEXT)
    assert int(stop_timeout) > Settings().shutdown_grace_s + 10


def test_the_services_that_its_compose_commands_name_exist() -> None:
    services = yaml.safe_load((ROOT / "docker-compose.yml").read_text(encoding="utf-8"))["services"]
    named = set(re.findall(r"docker compose (?:run --rm|exec) ([a-z]+)", TEXT))
    assert named == {"otpost", "worker"}
    assert named <= set(services)


def test_a_token_that_is_replaced_as_it_says_is_seen_by_the_services_of_the_unit() -> None:
    unit = (ROOT / "deploy/otpost-worker@.service").read_text(encoding="utf-8")
    [file] = re.findall(r"^Environment=OTPOST_ACCESS_TOKEN_FILE=(.*)$", unit, re.MULTILINE)
    put = [line for block in blocks("sh") for line in block.splitlines() if "/etc/otpost/access_token" in line]
    first, *renewal = [line for line in put if "OTPOST_ACCESS_TOKEN_FILE" not in line]
    # Root's, for the group of the service to read; the new one under another name, and then whole at once.
    assert first.startswith(f"sudo install -m 0640 -g otpost /dev/stdin {file} ")
    assert renewal[0].startswith(f"sudo install -m 0640 -g otpost /dev/stdin {file}.new ")
    assert renewal[1] == f"sudo mv {file}.new {file}"
    assert len(renewal) == 2


def test_several_senders_under_systemd_keep_their_tokens_where_they_are_read_again() -> None:
    [drop_in] = blocks("ini")
    assert "LoadCredential=senders:/etc/otpost/senders.toml" in drop_in
    assert "access_token_file" in TEXT
    assert "LoadCredential=access_token" not in TEXT
