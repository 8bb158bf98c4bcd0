"""The systemd unit: secrets are files, the worker has its grace period, and may do little else."""

from __future__ import annotations

from collections import defaultdict
from pathlib import Path
from typing import Final

from otpost_worker.settings import KNOWN, load

UNIT: Final = Path(__file__).parent.parent.parent / "deploy" / "otpost-worker@.service"


def service() -> dict[str, list[str]]:
    """The directives of [Service], each with all its values in order."""
    section = ""
    directives: dict[str, list[str]] = defaultdict(list)
    for line in UNIT.read_text(encoding="utf-8").splitlines():
        if line.startswith("["):
            section = line
        elif section == "[Service]" and line and not line.startswith("#"):
            name, _, value = line.partition("=")
            directives[name].append(value)
    return directives


SERVICE: Final = service()


def environment() -> dict[str, str]:
    pairs = (value.split("=", 1) for value in SERVICE["Environment"])
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
