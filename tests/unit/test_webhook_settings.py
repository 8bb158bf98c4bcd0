"""A receiver's settings: the broker and the secrets of webhooks are enough, and nothing else of a sender is read."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import pytest

from otpost_worker.settings import InvalidSettings, load
from otpost_worker.webhook_settings import ReceiverSettings, load_receiver

if TYPE_CHECKING:
    from pydantic import SecretStr

FILE: Final = "/etc/otpost/senders.toml"
BOTH: Final = {"OTPOST_APP_SECRET": "appsecretQWERT1", "OTPOST_VERIFY_TOKEN": "verifyQWERT1"}


def read(environment: dict[str, str], files: dict[str, str] | None = None) -> ReceiverSettings:
    def read_text(name: str) -> str:
        if files is None or name not in files:
            raise FileNotFoundError(2, "No such file or directory", name)
        return files[name]

    return load_receiver(environment, read_text)


def problems(environment: dict[str, str], files: dict[str, str] | None = None) -> list[str]:
    with pytest.raises(InvalidSettings) as raised:
        read(environment, files)
    assert "QWERT" not in str(raised.value)
    return list(raised.value.problems)


def plain(secrets: tuple[SecretStr, ...]) -> list[str]:
    return [secret.get_secret_value() for secret in secrets]


def test_three_variables_are_enough() -> None:
    settings = read({**BOTH, "OTPOST_BROKER_URL": "amqp://broker/"})
    assert settings.service.broker_url.get_secret_value() == "amqp://broker/"
    assert plain(settings.app_secrets) == ["appsecretQWERT1"]
    assert plain(settings.verify_tokens) == ["verifyQWERT1"]
    assert (settings.service.webhook_host, settings.service.webhook_port) == ("127.0.0.1", 8090)
    assert settings.service.webhook_path == "/webhook"
    assert settings.service.senders == {}
    assert settings.warnings == ()
    assert "QWERT" not in repr(settings)


def test_several_secrets_stand_between_commas_or_white_space_and_may_come_from_files() -> None:
    environment = {"OTPOST_APP_SECRET": "old, new\tnewest,", "OTPOST_VERIFY_TOKEN_FILE": "/run/token"}
    settings = read(environment, {"/run/token": "one\ntwo\none\n"})
    assert plain(settings.app_secrets) == ["old", "new", "newest"]
    assert plain(settings.verify_tokens) == ["one", "two"]


def test_nothing_else_of_a_sender_is_read_nor_has_to_be_right() -> None:
    environment = {
        "OTPOST_ACCESS_TOKEN_FILE": "/not/for/us",
        "OTPOST_PRIVATE_KEYS_FILE": "/not/for/us/either",
        "OTPOST_LEDGER_URL": "nonsense",
        "OTPOST_PHONE_NUMBER_ID": "",
    }
    assert plain(read({**BOTH, **environment}).app_secrets) == ["appsecretQWERT1"]


def test_the_secrets_of_all_senders_hold_and_those_of_the_environment_where_a_table_has_none() -> None:
    tables = (
        '[senders.de]\nphone_number_id = "1"\naccess_token_file = "/not/for/us"\napp_secret = "de-secret"\n'
        '[senders.bank]\napp_secret_file = "/run/bank"\nverify_token = "bank-token"\n'
        "[senders.other]\nrate = 5\n"
    )
    settings = read({**BOTH, "OTPOST_SENDERS_FILE": FILE}, {FILE: tables, "/run/bank": "bank-secret\n"})
    assert plain(settings.app_secrets) == ["de-secret", "bank-secret", "appsecretQWERT1"]
    assert plain(settings.verify_tokens) == ["verifyQWERT1", "bank-token"]


def test_without_a_secret_or_a_token_one_line_each_says_what_to_set() -> None:
    [secret, token] = problems({})
    assert secret.startswith("no app secret is configured")
    assert "OTPOST_APP_SECRET_FILE or OTPOST_APP_SECRET" in secret
    assert token.startswith("no verify token is configured")
    assert "OTPOST_VERIFY_TOKEN_FILE or OTPOST_VERIFY_TOKEN" in token
    assert problems({"OTPOST_VERIFY_TOKEN": "x"}) == [secret]
    assert problems({"OTPOST_APP_SECRET": "x"}) == [token]


def test_every_problem_is_told_and_no_secret_with_it() -> None:
    told = problems(
        {
            "OTPOST_APP_SECRET": "QWERT\u00e4",
            "OTPOST_VERIFY_TOKEN": " , ",
            "OTPOST_WEBHOOK_PORT": "70000",
            "OTPOST_WEBHOOK_PATH": "webhook",
            "OTPOST_WEBHOOK_HOST": " ",
        }
    )
    assert sorted(problem.split(":")[0] for problem in told) == [
        "OTPOST_APP_SECRET",
        "OTPOST_VERIFY_TOKEN",
        "OTPOST_WEBHOOK_PATH",
        "OTPOST_WEBHOOK_PORT",
    ]
    assert "OTPOST_APP_SECRET: must be printable ASCII; several go between commas or white space" in told
    assert problems({**BOTH, "OTPOST_SENDERS_FILE": FILE}, {FILE: '[senders.de]\napp_secret = "QWERT\u00e4"\n'}) == [
        f"{FILE}: [senders.de] app_secret: must be printable ASCII; several go between commas or white space"
    ]
    assert problems({**BOTH, "OTPOST_APP_SECRET_FILE": "/run/secret"}) == [
        "OTPOST_APP_SECRET and OTPOST_APP_SECRET_FILE exclude each other: keep one of them"
    ]


def test_a_name_that_is_none_is_a_warning_with_the_nearest_one() -> None:
    assert read({**BOTH, "OTPOST_WEBHOOK_PRT": "1"}).warnings == (
        "OTPOST_WEBHOOK_PRT is no setting: did you mean OTPOST_WEBHOOK_PORT?",
    )


# What Kubernetes tells every container of a Service that is named otpost-webhook.
def test_what_kubernetes_tells_of_a_service_is_no_port() -> None:
    injected = {
        "OTPOST_WEBHOOK_PORT": "tcp://10.0.0.7:8090",
        "OTPOST_WEBHOOK_SERVICE_HOST": "10.0.0.7",
        "OTPOST_WEBHOOK_PORT_8090_TCP_ADDR": "10.0.0.7",
    }
    settings = read({**BOTH, **injected})
    assert (settings.service.webhook_port, settings.warnings) == (8090, ())


def test_a_worker_knows_which_senders_listen_and_for_how_long_a_message_may_be_under_way() -> None:
    one = {"OTPOST_PHONE_NUMBER_ID": "1", "OTPOST_ACCESS_TOKEN": "x"}
    sender = load({**one, "OTPOST_WABA_ID": "102290129340398", **BOTH}, str).settings.senders["default"]
    assert (sender.waba_id, sender.message_ttl_s) == ("102290129340398", 600)
    assert sender.app_secrets == ("appsecretQWERT1",)
    assert load(one, str).settings.senders["default"].app_secrets == ()
    assert load({**one, "OTPOST_MESSAGE_TTL_S": "30"}, str).settings.senders["default"].message_ttl_s == 30
    for name, wrong in (("MESSAGE_TTL_S", "29"), ("MESSAGE_TTL_S", "901"), ("WABA_ID", "my-account")):
        with pytest.raises(InvalidSettings, match=f"OTPOST_{name}: "):
            load({**one, f"OTPOST_{name}": wrong}, str)
