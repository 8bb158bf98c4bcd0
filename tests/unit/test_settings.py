"""The settings: names of the contract's ninth section, every problem together, and no secret shown."""

from __future__ import annotations

import traceback
from typing import Any, Final

import pytest
from hypothesis import given
from hypothesis import strategies as st

from job_strategies import PROPERTY
from otpost_worker.settings import InvalidSettings, Loaded, load

TOKEN: Final = "EAAtokenQWERT12345"
SECRET: Final = "appsecretQWERT12345"
ONE: Final = {"OTPOST_PHONE_NUMBER_ID": "106540352242922", "OTPOST_ACCESS_TOKEN": TOKEN}
FILE: Final = "/etc/otpost/senders.toml"


def read(environment: dict[str, str], files: dict[str, str | OSError] | None = None) -> Loaded:
    def read_text(name: str) -> str:
        content = (files or {}).get(name, FileNotFoundError(2, "No such file or directory", name))
        if isinstance(content, OSError):
            raise content
        return content

    return load(environment, read_text)


def refusal(environment: dict[str, str], files: dict[str, str | OSError] | None = None) -> InvalidSettings:
    with pytest.raises(InvalidSettings) as caught:
        read(environment, files)
    error = caught.value
    shown = "\n".join([str(error), repr(error), *traceback.format_exception(error)])
    assert TOKEN not in shown
    assert SECRET not in shown
    return error


def problems(environment: dict[str, str], files: dict[str, str | OSError] | None = None) -> list[str]:
    """The names that the problems begin with."""
    return sorted(problem.split(":")[0] for problem in refusal(environment, files).problems)


def toml(text: str, **more: str) -> Loaded:
    return read({"OTPOST_SENDERS_FILE": FILE, **more}, {FILE: text})


def toml_problems(text: str, environment: dict[str, str] | None = None) -> str:
    return str(refusal({"OTPOST_SENDERS_FILE": FILE, **(environment or {})}, {FILE: text}))


# Defaults and one sender


def test_without_any_setting_the_defaults_of_the_contract_hold() -> None:
    settings = read({}).settings
    assert settings.broker_url.get_secret_value() == "amqp://guest:guest@127.0.0.1:5672/"
    assert settings.ledger_url.get_secret_value() == "sqlite:///otpost.db"
    assert (settings.log_format, settings.log_level, settings.http_port) == ("json", "info", None)
    assert (settings.max_attempts, settings.unknown_outcome) == (8, "resend")
    assert settings.senders == {}


def test_one_sender_needs_no_file() -> None:
    settings = read(
        {
            **ONE,
            "OTPOST_TEMPLATE": "verification_code",
            "OTPOST_LANGUAGE": "en_US",
            "OTPOST_API_BASE": "http://127.0.0.1:8090",
            "OTPOST_API_VERSION": "v23.0",
            "OTPOST_RATE": "20",
            "OTPOST_APP_SECRET": SECRET,
            "OTPOST_VERIFY_TOKEN": "v",
        }
    ).settings
    assert list(settings.senders) == ["default"]
    sender = settings.senders["default"]
    assert (sender.phone_number_id, sender.access_token.get_secret_value()) == ("106540352242922", TOKEN)
    assert (sender.template, sender.language, sender.rate) == ("verification_code", "en_US", 20.0)
    assert (sender.api_base, sender.api_version) == ("http://127.0.0.1:8090", "v23.0")
    assert sender.app_secret is not None
    assert sender.app_secret.get_secret_value() == SECRET


def test_a_sender_has_metas_host_and_80_messages_a_second_by_default() -> None:
    sender = read(ONE).settings.senders["default"]
    assert (sender.api_base, sender.api_version, sender.rate) == ("https://graph.facebook.com", "v25.0", 80.0)
    assert (sender.template, sender.language, sender.app_secret) == (None, None, None)


def test_settings_of_the_service_are_read() -> None:
    settings = read(
        {
            "OTPOST_BROKER_URL": "amqps://u:p@broker/v",
            "OTPOST_LEDGER_URL": "sqlite:////var/lib/otpost.db",
            "OTPOST_CONCURRENCY": "7",
            "OTPOST_SHUTDOWN_GRACE_S": "2.5",
            "OTPOST_LOG_FORMAT": "console",
            "OTPOST_LOG_LEVEL": "debug",
            "OTPOST_HTTP_PORT": "8080",
            "OTPOST_UNKNOWN_OUTCOME": "fail",
        }
    ).settings
    assert settings.broker_url.get_secret_value() == "amqps://u:p@broker/v"
    assert (settings.ledger_url.get_secret_value(), settings.concurrency) == ("sqlite:////var/lib/otpost.db", 7)
    assert (settings.shutdown_grace_s, settings.log_format, settings.log_level) == (2.5, "console", "debug")
    assert (settings.http_port, settings.unknown_outcome) == (8080, "fail")


@pytest.mark.parametrize("value", ["", "   "])
def test_an_empty_variable_is_as_good_as_none(value: str) -> None:
    assert read({"OTPOST_CONCURRENCY": value, "OTPOST_TEMPLATE": value}) == read({})


def test_a_default_template_alone_makes_no_sender() -> None:
    assert read({"OTPOST_TEMPLATE": "verification_code"}).settings.senders == {}


# Problems


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("OTPOST_CONCURRENCY", "0"),
        ("OTPOST_CONCURRENCY", "many"),
        ("OTPOST_CONCURRENCY", "1.5"),
        ("OTPOST_SHUTDOWN_GRACE_S", "-1"),
        ("OTPOST_SHUTDOWN_GRACE_S", "nan"),
        ("OTPOST_HTTP_TIMEOUT_S", "0"),
        ("OTPOST_HTTP_CONNECT_TIMEOUT_S", "61"),
        ("OTPOST_MAX_ATTEMPTS", "0"),
        ("OTPOST_UNKNOWN_OUTCOME", "retry"),
        ("OTPOST_LOG_FORMAT", "xml"),
        ("OTPOST_LOG_LEVEL", "INFO"),
        ("OTPOST_HTTP_PORT", "65536"),
        ("OTPOST_LEDGER_URL", "otpost.db"),
        ("OTPOST_LEDGER_URL", "mysql://x"),
        ("OTPOST_LEDGER_URL", "redis://"),
        ("OTPOST_LEDGER_URL", "redis://:password@:6379"),
        ("OTPOST_LEDGER_URL", "redis://localhost:99999"),
        ("OTPOST_LEDGER_URL", "redis://localhost/ledger"),
        ("OTPOST_LEDGER_URL", "redis:///0"),
        ("OTPOST_LEDGER_URL", "unix:///run/redis.sock"),
        ("OTPOST_PHONE_NUMBER_ID", "+12015553931"),
        ("OTPOST_PHONE_NUMBER_ID", "1/../2"),
        ("OTPOST_TEMPLATE", "Verification"),
        ("OTPOST_LANGUAGE", "en-US"),
        ("OTPOST_API_BASE", "graph.facebook.com"),
        ("OTPOST_API_BASE", "https://graph.facebook.com?x=1"),
        ("OTPOST_API_BASE", "file:///etc"),
        ("OTPOST_API_BASE", "https://graph..facebook.com"),
        ("OTPOST_API_BASE", "http://127.0.0.1:99999"),
        ("OTPOST_API_VERSION", "25"),
        ("OTPOST_RATE", "0"),
        ("OTPOST_RATE", "nan"),
        ("OTPOST_RATE", "inf"),
    ],
)
def test_a_value_that_cannot_be_is_told_by_its_name(name: str, value: str) -> None:
    assert problems({**ONE, name: value}) == [name]


def test_a_token_that_no_header_can_carry_is_told_without_showing_it() -> None:
    told = problems({"OTPOST_PHONE_NUMBER_ID": "1", "OTPOST_ACCESS_TOKEN": f"{TOKEN}\n{SECRET}"})
    assert told == ["OTPOST_ACCESS_TOKEN"]


def test_every_problem_is_told_at_once() -> None:
    assert problems(
        {
            "OTPOST_CONCURRENCY": "0",
            "OTPOST_LOG_FORMAT": "xml",
            "OTPOST_LEDGER_URL": "x",
            "OTPOST_PHONE_NUMBER_ID": "x",
            "OTPOST_RATE": "-1",
        }
    ) == [
        "OTPOST_ACCESS_TOKEN",
        "OTPOST_CONCURRENCY",
        "OTPOST_LEDGER_URL",
        "OTPOST_LOG_FORMAT",
        "OTPOST_PHONE_NUMBER_ID",
        "OTPOST_RATE",
    ]


def test_a_secrets_file_that_cannot_be_read_hides_no_other_problem() -> None:
    told = str(
        refusal({**ONE, "OTPOST_APP_SECRET_FILE": "/run/missing", "OTPOST_CONCURRENCY": "0", "OTPOST_RATE": "-1"})
    )
    assert "OTPOST_APP_SECRET_FILE" in told
    assert "OTPOST_CONCURRENCY" in told
    assert "OTPOST_RATE" in told


def test_a_senders_file_that_is_broken_hides_no_other_problem() -> None:
    told = toml_problems("[senders", {"OTPOST_CONCURRENCY": "0"})
    assert "is no TOML" in told
    assert "OTPOST_CONCURRENCY" in told


def test_a_value_that_is_not_well_formed_is_told_with_an_example() -> None:
    assert "en_US" in str(refusal({**ONE, "OTPOST_LANGUAGE": "en-US"}))


# Secrets from files


@pytest.mark.parametrize(
    "name", ["OTPOST_BROKER_URL", "OTPOST_ACCESS_TOKEN", "OTPOST_APP_SECRET", "OTPOST_VERIFY_TOKEN"]
)
def test_a_secret_can_be_read_from_a_file(name: str) -> None:
    environment = {**ONE, name + "_FILE": "/run/secret"}
    environment.pop(name, None)
    settings = read(environment, {"/run/secret": f"  {SECRET}\n"}).settings
    sender = settings.senders["default"]
    found: dict[str, Any] = {
        "OTPOST_BROKER_URL": settings.broker_url,
        "OTPOST_ACCESS_TOKEN": sender.access_token,
        "OTPOST_APP_SECRET": sender.app_secret,
        "OTPOST_VERIFY_TOKEN": sender.verify_token,
    }
    assert found[name].get_secret_value() == SECRET


def test_a_secret_and_its_file_exclude_each_other() -> None:
    told = str(refusal({**ONE, "OTPOST_ACCESS_TOKEN_FILE": "/run/secret"}, {"/run/secret": SECRET}))
    assert "OTPOST_ACCESS_TOKEN and OTPOST_ACCESS_TOKEN_FILE exclude each other" in told


def test_a_file_that_cannot_be_read_is_told_with_its_name_and_why() -> None:
    told = str(
        refusal({"OTPOST_ACCESS_TOKEN_FILE": "/run/secret"}, {"/run/secret": PermissionError(13, "Permission denied")})
    )
    assert "OTPOST_ACCESS_TOKEN_FILE: /run/secret cannot be read: Permission denied" in told


def test_an_empty_secrets_file_is_no_secret() -> None:
    environment = {"OTPOST_PHONE_NUMBER_ID": "1", "OTPOST_ACCESS_TOKEN_FILE": "/run/secret"}
    assert problems(environment, {"/run/secret": "\n"}) == ["OTPOST_ACCESS_TOKEN_FILE"]


def test_what_is_no_secret_has_no_file() -> None:
    loaded = read({"OTPOST_CONCURRENCY_FILE": "/x"})
    assert any("OTPOST_CONCURRENCY_FILE" in warning for warning in loaded.warnings)


# Several senders

TWO: Final = f"""
[senders.default]
phone_number_id = "1"
access_token = "{TOKEN}"
template = "own"
rate = 5
[senders.bank_2]
phone_number_id = "2"
access_token_file = "/run/secret"
"""


def test_several_senders_stand_in_a_file() -> None:
    files: dict[str, str | OSError] = {FILE: TWO, "/run/secret": SECRET}
    environment = {"OTPOST_SENDERS_FILE": FILE, "OTPOST_TEMPLATE": "common", "OTPOST_LANGUAGE": "en"}
    senders = read(environment, files).settings.senders
    assert sorted(senders) == ["bank_2", "default"]
    assert (senders["default"].template, senders["default"].language, senders["default"].rate) == ("own", "en", 5.0)
    assert (senders["bank_2"].template, senders["bank_2"].rate) == ("common", 80.0)
    assert senders["bank_2"].access_token.get_secret_value() == SECRET


def test_a_senders_file_excludes_the_one_sender() -> None:
    assert "exclude each other" in toml_problems('[senders.a]\nphone_number_id = "1"\naccess_token = "t"', ONE)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("[senders", "is no TOML"),
        ("", "needs one [senders.<name>] table"),
        ("senders = 3", "needs one [senders.<name>] table"),
        ("senders.a = 3", "needs one [senders.<name>] table"),
        ('[sender.a]\nphone_number_id = "1"', "needs one [senders.<name>] table"),
        ('[senders.A]\nphone_number_id = "1"\naccess_token = "t"', "[senders.A]: a sender's name is"),
        ('[senders.a]\naccess_token = "t"', "[senders.a] phone_number_id: field required"),
        ('[senders.a]\nphone_number_id = "x"\naccess_token = "t"', "[senders.a] phone_number_id: is not well formed"),
        ('[senders.a]\nphone_number_id = "1"\naccess_token = "t"\nspeed = 1', "[senders.a] speed: "),
        (f'[senders.a]\nphone_number_id = "1"\naccess_token = ["{TOKEN}"]', "[senders.a] access_token: "),
        (f'[senders.a]\nphone_number_id = "1"\naccess_token = {TOKEN}', "is no TOML"),
        (
            '[senders.a]\nphone_number_id = "1"\naccess_token_file = "/run/missing"',
            "[senders.a] access_token_file: /run/missing cannot be read",
        ),
    ],
)
def test_a_problem_in_the_file_is_told_with_its_place(text: str, told: str) -> None:
    message = toml_problems(text)
    assert FILE in message
    assert told in message


def test_a_missing_senders_file_is_told() -> None:
    told = str(refusal({"OTPOST_SENDERS_FILE": FILE}))
    assert told == f"OTPOST_SENDERS_FILE: {FILE} cannot be read: No such file or directory"


# Names that nobody knows


@pytest.mark.parametrize(
    ("name", "nearest"),
    [
        ("OTPOST_ACESS_TOKEN", "OTPOST_ACCESS_TOKEN"),
        ("OTPOST_TEMPLATES", "OTPOST_TEMPLATE"),
        ("OTPOST_BROKER", "OTPOST_BROKER_URL"),
        ("OTPOST_CONCURENCY", "OTPOST_CONCURRENCY"),
    ],
)
def test_an_unknown_name_is_a_warning_that_names_the_nearest(name: str, nearest: str) -> None:
    warnings = read({name: "1"}).warnings
    assert len(warnings) == 1
    assert name in warnings[0]
    assert nearest in warnings[0]


def test_a_name_near_to_nothing_is_a_warning_too() -> None:
    assert len(read({"OTPOST_QQQQQQQQQQ": "1", "OTHER": "1"}).warnings) == 1


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("OTPOST_SERVICE_HOST", "10.0.0.1"),
        ("OTPOST_SERVICE_PORT", "80"),
        ("OTPOST_SERVICE_PORT_HTTP", "80"),
        ("OTPOST_PORT", "tcp://10.0.0.1:80"),
        ("OTPOST_PORT_80_TCP", "tcp://10.0.0.1:80"),
        ("OTPOST_PORT_80_TCP_ADDR", "10.0.0.1"),
        ("OTPOST_WEBHOOK_SERVICE_HOST", "10.0.0.1"),
        ("OTPOST_WEBHOOK_PORT", "tcp://10.0.0.1:80"),
        ("OTPOST_HTTP_PORT", "tcp://10.0.0.1:8080"),
    ],
)
def test_what_kubernetes_injects_is_ignored(name: str, value: str) -> None:
    assert read({name: value}) == read({})


# Secrets


def test_secrets_are_shown_nowhere() -> None:
    loaded = read({**ONE, "OTPOST_APP_SECRET": SECRET, "OTPOST_BROKER_URL": f"amqp://u:{SECRET}@h/"})
    for shown in (repr(loaded), str(loaded), str(loaded.settings), str(loaded.settings.model_dump())):
        assert TOKEN not in shown
        assert SECRET not in shown
    assert TOKEN not in loaded.settings.model_dump_json()


@PROPERTY
@given(
    st.dictionaries(
        st.sampled_from(
            ["OTPOST_CONCURRENCY", "OTPOST_LOG_LEVEL", "OTPOST_PHONE_NUMBER_ID", "OTPOST_RATE", "OTPOST_X"]
        ),
        st.text(max_size=10),
    )
)
def test_whatever_is_set_there_are_settings_or_problems_without_secrets(environment: dict[str, str]) -> None:
    secrets = {"OTPOST_ACCESS_TOKEN": TOKEN, "OTPOST_APP_SECRET": SECRET, "OTPOST_BROKER_URL": f"amqp://u:{SECRET}@h/"}
    try:
        shown = repr(read({**environment, **secrets}))
    except InvalidSettings as error:
        shown = "\n".join(traceback.format_exception(error))
    assert TOKEN not in shown
    assert SECRET not in shown
