"""docker-compose.yml: valid by the Compose Specification, without a secret, with few rights for each service."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any, Final

import pytest
import yaml
from click import Context, Group
from jsonschema import Draft7Validator

from dockerfile import read_dockerfile
from otpost import PrivateKey
from otpost_worker.cli import otpost_command
from otpost_worker.settings import KNOWN, Settings, load
from otpost_worker.webhook_settings import load_receiver

ROOT: Final = Path(__file__).parent.parent.parent
SCHEMA: Final = json.loads((ROOT / "tests/fixtures/compose-spec/compose-spec.json").read_text(encoding="utf-8"))
FILES: Final = ("docker-compose.yml", "deploy/compose.account.yml")


def read(name: str) -> dict[str, Any]:
    document = yaml.safe_load((ROOT / name).read_text(encoding="utf-8"))
    assert isinstance(document, dict)
    return document


COMPOSE: Final = read("docker-compose.yml")
SERVICES: Final[dict[str, dict[str, Any]]] = COMPOSE["services"]
KEY: Final = PrivateKey(bytes(range(32))).reveal()
ONE_SHOT: Final = {"credentials", "otpost"}
each_service = pytest.mark.parametrize("name", sorted(SERVICES))


def seconds(duration: str) -> int:
    assert duration.endswith("s")
    return int(duration.removesuffix("s"))


def ours(service: dict[str, Any]) -> dict[str, str]:
    """The settings of a service of our image, those of the image included."""
    image = read_dockerfile(ROOT / "Dockerfile")[-1].environment()
    given = {**image, **service["environment"]}.items()
    return {name: in_the_end(value) for name, value in given if name.startswith("OTPOST_")}


def in_the_end(value: str) -> str:
    """What Compose makes of `${NAME:-value}` and of `${NAME-value}` where nobody sets NAME."""
    return re.sub(r"\$\{[A-Z_]+:?-([^}]*)\}", r"\1", value)


@pytest.mark.parametrize("name", FILES)
def test_it_is_valid_by_the_compose_specification(name: str) -> None:
    assert [error.message for error in Draft7Validator(SCHEMA).iter_errors(read(name))] == []


def test_the_schema_would_notice_a_misspelt_key() -> None:
    broken = {"services": {"worker": {"image": "otpost", "stop_grace_periode": "40s"}}}
    assert list(Draft7Validator(SCHEMA).iter_errors(broken))


def test_there_is_everything_that_the_service_needs_and_the_ledgers_redis() -> None:
    assert set(SERVICES) == {"credentials", "rabbitmq", "simulator", "worker", "webhook", "otpost", "redis"}
    assert SERVICES["rabbitmq"]["image"].startswith("rabbitmq:4.")
    assert {name for name, service in SERVICES.items() if "profiles" in service} == {"otpost", "redis"}


@each_service
def test_a_service_can_write_only_to_its_volumes_and_has_no_rights_to_gain(name: str) -> None:
    service = SERVICES[name]
    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert service["user"] in ("10001:10001", "rabbitmq", "redis")
    assert not {"cap_add", "privileged", "network", "pid", "devices"} & set(service)


@each_service
def test_a_service_that_stays_has_a_health_check_without_a_shell_and_comes_back(name: str) -> None:
    service = SERVICES[name]
    if name in ONE_SHOT:
        assert service["healthcheck"] == {"disable": True}
        assert service["restart"] in ("on-failure:3", "no")
        return
    assert service["restart"] == "unless-stopped"
    check = service["healthcheck"]
    assert {"test", "interval", "timeout", "start_period", "retries"} <= set(check)
    assert check["test"][0] == "CMD"
    if check["test"][1] == "python":
        compile(check["test"][3], "the health check", "exec")


@each_service
def test_whom_a_service_waits_for_is_asked_for_its_health_or_its_success(name: str) -> None:
    for other, how in SERVICES[name].get("depends_on", {}).items():
        wanted = "service_completed_successfully" if other == "credentials" else "service_healthy"
        assert how["condition"] == wanted
        # Only whom a profile leaves out need not be there.
        assert how.get("required", True) is ("profiles" not in SERVICES[other])


@each_service
def test_ports_are_open_to_this_machine_alone(name: str) -> None:
    for port in SERVICES[name].get("ports", []):
        assert re.fullmatch(r"127\.0\.0\.1:\$\{[A-Z_]+:-\d+\}:\d+", port)


@each_service
def test_an_image_is_pinned_or_our_own_and_only_one_service_builds_it(name: str) -> None:
    service = SERVICES[name]
    if service["image"] == "otpost":
        assert ("build" in service) == (name == "credentials")
        assert service["pull_policy"] == ("build" if name == "credentials" else "never")
    else:
        assert re.fullmatch(r"[a-z]+:\d+\.\d+-[a-z]+", service["image"])


@each_service
def test_a_volume_is_declared_and_credentials_are_written_by_one_service_only(name: str) -> None:
    for volume in SERVICES[name]["volumes"]:
        source, target, *mode = volume.split(":")
        assert source in COMPOSE["volumes"]
        if source == "credentials":
            assert target == "/run/otpost"
            assert mode == ([] if name == "credentials" else ["ro"])


@pytest.mark.parametrize("name", FILES)
def test_there_is_no_secret_in_it(name: str) -> None:
    for service in read(name)["services"].values():
        for variable, value in service.get("environment", {}).items():
            is_secret = re.search(r"PASS|SECRET|TOKEN|COOKIE|KEY|BROKER_URL", variable)
            kept = in_the_end(value).startswith(("/run/", "/var/lib/otpost/"))
            assert not is_secret or (variable.endswith("_FILE") and kept), variable
    text = (ROOT / name).read_text(encoding="utf-8")
    assert not re.search(r"://[^/\s]*:[^/\s]*@", text)
    assert "EAA" not in text


def test_the_workers_settings_can_be_read_and_point_at_the_simulator() -> None:
    environment = ours(SERVICES["worker"])
    assert set(environment) <= KNOWN
    files = {
        "/run/otpost/worker.url": "amqp://worker:x@rabbitmq:5672/\n",
        "/run/otpost/simulator.token": "any\n",
        "/run/otpost/webhook.app_secret": "signed-with\n",
        "/var/lib/otpost/private.key": KEY,
    }
    loaded = load(environment, files.__getitem__)
    assert loaded.warnings == ()
    sender = loaded.settings.senders["default"]
    assert sender.api_base == "http://simulator:8088"
    assert (sender.template, sender.language) == ("verification_code", "en_US")
    assert sender.app_secret is not None
    assert sender.app_secret.get_secret_value() == "signed-with"
    assert loaded.settings.ledger_url.get_secret_value() == "sqlite:////var/lib/otpost/otpost.db"
    assert "ledger:/var/lib/otpost" in SERVICES["worker"]["volumes"]
    assert SERVICES["worker"]["stop_grace_period"] == "40s"
    assert seconds(SERVICES["worker"]["stop_grace_period"]) > loaded.settings.shutdown_grace_s + 10


def test_with_an_account_nothing_of_the_simulators_is_left() -> None:
    account = read("deploy/compose.account.yml")
    changed = {name: in_the_end(value) for name, value in account["services"]["worker"]["environment"].items()}
    environment = {**ours(SERVICES["worker"]), **changed}
    required = {name: value for name, value in environment.items() if value.startswith("${")}
    assert set(required) == {"OTPOST_PHONE_NUMBER_ID", "OTPOST_TEMPLATE", "OTPOST_LANGUAGE"}
    # Compose refuses to start where one of them is missing, and says so.
    assert all(re.fullmatch(r"\$\{" + name + r":\?set it to [^}]+\}", value) for name, value in required.items())
    given = {"OTPOST_PHONE_NUMBER_ID": "105954558954427", "OTPOST_TEMPLATE": "login", "OTPOST_LANGUAGE": "de"}
    files = {
        "/run/otpost/worker.url": "amqp://worker:x@rabbitmq:5672/\n",
        "/run/account/access_token": "EAAG-mine\n",
        "/run/account/app_secret": "metas\n",
        "/var/lib/otpost/private.key": KEY,
    }
    loaded = load({**environment, **given}, files.__getitem__)
    sender = loaded.settings.senders["default"]
    assert sender.access_token.get_secret_value() == "EAAG-mine"
    assert sender.api_base == load({**given, "OTPOST_ACCESS_TOKEN": "x"}, str).settings.senders["default"].api_base
    assert sender.app_secrets == ("metas",)
    # Who has no webhooks must be able to say so: with a secret, silence would be told of every message.
    assert "OTPOST_APP_SECRET_FILE: ${APP_SECRET_FILE-" in (ROOT / "deploy/compose.account.yml").read_text("utf-8")
    without = load({**environment, **given, "OTPOST_APP_SECRET_FILE": ""}, files.__getitem__)
    assert without.settings.senders["default"].app_secrets == ()


def test_the_folder_of_the_token_is_mounted_so_that_a_file_that_takes_its_place_is_seen() -> None:
    # Mounted by itself, a file stays the one that it was, whatever is moved onto its name.
    account = read("deploy/compose.account.yml")
    [folder] = account["services"]["worker"]["volumes"]
    assert (folder["type"], folder["target"], folder["read_only"]) == ("bind", "/run/account", True)
    assert re.fullmatch(r"\$\{ACCOUNT_FOLDER:\?set it to [^}]+\}", folder["source"])
    assert folder["bind"] == {"create_host_path": False}
    assert "secrets" not in account
    assert "secrets" not in account["services"]["worker"]


@pytest.mark.parametrize("name", ["simulator", "worker", "webhook", "otpost"])
def test_the_command_of_a_service_of_ours_is_one_that_the_command_line_takes(name: str) -> None:
    command = SERVICES[name].get("command", ["worker"])
    if command == ["--help"]:
        return
    found = otpost_command.get_command(Context(otpost_command), command[0])
    assert found is not None
    assert not isinstance(found, Group)
    found.make_context(command[0], command[1:])


def test_the_receivers_settings_can_be_read_and_it_knows_neither_token_nor_ledger_nor_key() -> None:
    given = SERVICES["webhook"]["environment"]
    assert set(given) == {"OTPOST_BROKER_URL_FILE", "OTPOST_APP_SECRET_FILE", "OTPOST_VERIFY_TOKEN_FILE"}
    files = {
        "/run/otpost/webhook.url": "amqp://webhook:x@rabbitmq:5672/\n",
        "/run/otpost/webhook.app_secret": "a-secret\n",
        "/run/otpost/webhook.verify_token": "a-token\n",
    }
    settings = load_receiver(ours(SERVICES["webhook"]), files.__getitem__)
    assert settings.warnings == ()
    assert settings.service.http_port == 8080
    assert SERVICES["webhook"]["ports"] == [f"127.0.0.1:${{WEBHOOK_PORT:-8090}}:{settings.service.webhook_port}"]
    assert seconds(SERVICES["webhook"]["stop_grace_period"]) > settings.service.shutdown_grace_s + 10
    account = read("deploy/compose.account.yml")["services"]["webhook"]["environment"]
    files |= {"/run/account/app_secret": "metas", "/run/account/verify_token": "typed-there"}
    [secret] = load_receiver({**ours(SERVICES["webhook"]), **account}, files.__getitem__).app_secrets
    assert secret.get_secret_value() == "metas"


def test_the_simulator_is_looked_for_where_it_listens() -> None:
    simulator = otpost_command.get_command(Context(otpost_command), "simulator")
    assert simulator is not None
    options = simulator.make_context("simulator", SERVICES["simulator"]["command"][1:]).params
    assert (options["host"], options["port"]) == ("0.0.0.0", 8088)  # noqa: S104 - as meant
    assert "'127.0.0.1', 8088" in SERVICES["simulator"]["healthcheck"]["test"][3]
    assert options["webhook_url"] == "http://webhook:8090/webhook"
    assert SERVICES["simulator"]["environment"] == {"OTPOST_APP_SECRET_FILE": "/run/otpost/webhook.app_secret"}


def test_redis_forgets_nothing_by_itself_and_keeps_what_it_has_written() -> None:
    command = " ".join(SERVICES["redis"]["command"])
    assert command == "redis-server --appendonly yes --appendfsync always --maxmemory-policy noeviction"
    assert SERVICES["redis"]["volumes"] == ["redis:/data"]


@pytest.mark.parametrize("name", ["worker", "otpost"])
def test_one_variable_makes_redis_the_ledger(name: str) -> None:
    written = SERVICES[name]["environment"]["OTPOST_LEDGER_URL"]
    assert re.fullmatch(r"\$\{OTPOST_LEDGER_URL:-sqlite:////var/lib/otpost/otpost.db\}", written)
    document = (ROOT / "docs/deployment.md").read_text(encoding="utf-8")
    [url] = re.findall(r"`OTPOST_LEDGER_URL=(redis://[^`]+)`", document)
    assert load({"OTPOST_LEDGER_URL": url}, str).settings.ledger_url.get_secret_value() == "redis://redis:6379/0"
    # Where the profile is off, there is no Redis to wait for.
    assert SERVICES["worker"]["depends_on"]["redis"] == {"condition": "service_healthy", "required": False}


def test_the_workers_have_a_key_whatever_the_ledger_and_new_passwords_leave_it_alone() -> None:
    file = SERVICES["worker"]["environment"]["OTPOST_PRIVATE_KEYS_FILE"]
    *_, folder = SERVICES["credentials"]["command"]
    assert file == f"{folder}/private.key"
    assert f"ledger:{folder}" in SERVICES["credentials"]["volumes"]


def test_the_grace_period_is_that_of_the_settings() -> None:
    assert float(SERVICES["worker"]["environment"]["OTPOST_SHUTDOWN_GRACE_S"]) == Settings().shutdown_grace_s
