"""The systemd units: secrets are files, each process has its grace period, and may do little else."""

from __future__ import annotations

from collections import defaultdict
from pathlib import Path
from typing import Final

from otpost_worker.settings import KNOWN, load
from otpost_worker.webhook_settings import load_receiver

DEPLOY: Final = Path(__file__).parent.parent.parent / "deploy"
UNIT: Final = DEPLOY / "otpost-worker@.service"


def service(unit: Path = UNIT) -> dict[str, list[str]]:
    """The directives of [Service], each with all its values in order."""
    section = ""
    directives: dict[str, list[str]] = defaultdict(list)
    for line in unit.read_text(encoding="utf-8").splitlines():
        if line.startswith("["):
            section = line
        elif section == "[Service]" and line and not line.startswith("#"):
            name, _, value = line.partition("=")
            directives[name].append(value)
    return directives


SERVICE: Final = service()
RECEIVER: Final = service(DEPLOY / "otpost-webhook.service")


def environment(of: dict[str, list[str]] = SERVICE) -> dict[str, str]:
    pairs = (value.split("=", 1) for value in of["Environment"])
    return {name: value for name, value in pairs if name.startswith("OTPOST_")}


def test_secrets_are_files_and_never_stand_in_the_environment() -> None:
    assert SERVICE["LoadCredential"] == ["broker_url:/etc/otpost/broker_url"]
    assert environment()["OTPOST_BROKER_URL_FILE"] == "%d/broker_url"
    assert not {"OTPOST_BROKER_URL", "OTPOST_ACCESS_TOKEN"} & set(environment())


def test_the_token_is_read_where_an_operator_replaces_it_and_not_from_a_copy_made_at_the_start() -> None:
    assert environment()["OTPOST_ACCESS_TOKEN_FILE"] == "/etc/otpost/access_token"
    # What would hide that file from the service, or its group from it.
    assert not {"InaccessiblePaths", "TemporaryFileSystem", "RootDirectory", "DynamicUser"} & set(SERVICE)
    assert SERVICE["Group"] == ["otpost"]


def test_its_settings_can_be_read_and_instances_share_a_ledger_but_no_port() -> None:
    assert set(environment()) <= KNOWN
    first = {name: value.replace("%i", "1").replace("%d", "/run/credentials") for name, value in environment().items()}
    files = {"/run/credentials/broker_url": "amqp://broker/", "/etc/otpost/access_token": "EAAG-mine"}
    settings = load({**first, "OTPOST_PHONE_NUMBER_ID": "105954558954427"}, files.__getitem__).settings
    assert settings.http_port == 8081
    assert settings.ledger_url.get_secret_value() == "sqlite:////var/lib/otpost/otpost.db"
    assert SERVICE["StateDirectory"] == ["otpost"]
    assert SERVICE["StateDirectoryMode"] == ["0700"]
    assert float(SERVICE["TimeoutStopSec"][0]) > settings.shutdown_grace_s + 10


def test_it_stops_in_good_order_and_comes_back_for_as_long_as_it_takes() -> None:
    assert SERVICE["ExecStart"] == ["/opt/otpost/bin/otpost worker"]
    assert SERVICE["KillSignal"] == ["SIGTERM"]
    assert SERVICE["Restart"] == ["on-failure"]
    assert "StartLimitIntervalSec=0" in UNIT.read_text(encoding="utf-8").splitlines()


def test_it_is_not_root_and_writes_nowhere_but_to_its_state() -> None:
    assert SERVICE["User"] == ["otpost"]
    assert SERVICE["ProtectSystem"] == ["strict"]
    assert SERVICE["CapabilityBoundingSet"] == [""]
    for directive in ("NoNewPrivileges", "ProtectHome", "PrivateTmp", "PrivateDevices", "MemoryDenyWriteExecute"):
        assert SERVICE[directive] == ["yes"], directive
    assert "ReadWritePaths" not in SERVICE


def test_the_receiver_has_its_secrets_as_files_and_knows_neither_token_nor_ledger_nor_key() -> None:
    given = environment(RECEIVER)
    assert set(given) == {
        "OTPOST_BROKER_URL_FILE",
        "OTPOST_APP_SECRET_FILE",
        "OTPOST_VERIFY_TOKEN_FILE",
        "OTPOST_HTTP_PORT",
    }
    read = {name: value.replace("%d", "/run/credentials") for name, value in given.items()}
    settings = load_receiver(read, lambda file: f"amqp://{Path(file).name}/")
    assert settings.warnings == ()
    assert settings.service.http_port != settings.service.webhook_port
    assert not 8081 <= settings.service.webhook_port <= 8089, "workers tell of their health there"
    handed = {line.split(":")[0] for line in RECEIVER["LoadCredential"]}
    assert handed == {value.removeprefix("%d/") for name, value in given.items() if name.endswith("_FILE")}
    assert float(RECEIVER["TimeoutStopSec"][0]) > settings.service.shutdown_grace_s + 10
    assert RECEIVER["ExecStart"] == ["/opt/otpost/bin/otpost webhook"]


def test_the_receiver_may_do_no_more_than_a_worker() -> None:
    alike = {name for name in SERVICE if name.startswith(("Protect", "Private", "Restrict", "Capab", "System", "No"))}
    assert len(alike) > 15
    assert {name: RECEIVER[name] for name in alike} == {name: SERVICE[name] for name in alike}
    assert "StateDirectory" not in RECEIVER
