"""Settings that operators steer by: where a token comes from, keys, strictness, and how the broker is provided."""

from __future__ import annotations

from typing import Final

import pytest

from otpost_worker.settings import InvalidSettings, load

KEY: Final = "otpost-private:AQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQE="
PUBLIC = "otpost-public:pOCSkraR1zg+mTUGg6jeQ/uOIq3YD4zXjPHY+xdI0UU="
SENDER = {"OTPOST_PHONE_NUMBER_ID": "1", "OTPOST_ACCESS_TOKEN": "EAAG"}


def test_a_token_tells_which_file_it_came_from() -> None:
    files = {
        "/run/token": "EAAG\n", "/run/de": "EAAD",
        "senders.toml": '[senders.de]\nphone_number_id = "1"\naccess_token_file = "/run/de"\n',
    }  # fmt: skip

    def token_of(environment: dict[str, str]) -> tuple[str, str | None]:
        [sender] = load(environment, files.__getitem__).settings.senders.values()
        return sender.access_token.get_secret_value(), sender.access_token_file

    assert token_of(SENDER) == ("EAAG", None)
    assert token_of({"OTPOST_PHONE_NUMBER_ID": "1", "OTPOST_ACCESS_TOKEN_FILE": "/run/token"}) == ("EAAG", "/run/token")
    assert token_of({"OTPOST_SENDERS_FILE": "senders.toml"}) == ("EAAD", "/run/de")


def test_where_it_is_strict_an_unknown_name_is_a_problem_beside_the_others() -> None:
    environment = {"OTPOST_CONCURENCY": "7", "OTPOST_RATE": "-1", "OTPOST_WORKER_SERVICE_HOST": "10.0.0.1"}
    with pytest.raises(InvalidSettings) as raised:
        load({**SENDER, **environment}, str, strict=True)
    assert [problem.split(":")[0] for problem in raised.value.problems] == [
        "OTPOST_RATE",
        "OTPOST_CONCURENCY is no setting",
    ]
    assert load({"OTPOST_WORKER_SERVICE_HOST": "10.0.0.1"}, str, strict=True).unknown == ()


def test_what_all_names_begin_with_makes_none_of_them_near() -> None:
    assert load({"OTPOST_XYZZY": "1"}, str).unknown == (("OTPOST_XYZZY", None),)


def test_there_are_three_ways_to_provide_what_is_on_the_broker() -> None:
    for mode in ("declare", "verify", "passive"):
        assert load({"OTPOST_TOPOLOGY": mode}, str).settings.topology == mode
    assert load({}, str).settings.topology == "declare"
    with pytest.raises(InvalidSettings, match="OTPOST_TOPOLOGY: input should be 'declare', 'verify' or 'passive'"):
        load({"OTPOST_TOPOLOGY": "verified"}, str)


def test_keys_are_read_from_the_environment_and_hidden() -> None:
    settings = load({"OTPOST_PRIVATE_KEYS": f" {KEY},{KEY} ", "OTPOST_PUBLIC_KEY": f" {PUBLIC}\n"}, str).settings
    assert settings.private_keys is not None
    assert settings.private_keys.get_secret_value() == f"{KEY},{KEY}"
    assert settings.public_key == PUBLIC
    assert KEY[15:40] not in repr(settings)
    assert (load({}, str).settings.private_keys, load({}, str).settings.public_key) == (None, None)


def test_several_keys_stand_in_a_file() -> None:
    files = {"/run/keys": f"{KEY}\n{KEY}\n"}
    settings = load({"OTPOST_PRIVATE_KEYS_FILE": "/run/keys"}, files.__getitem__).settings
    assert settings.private_keys is not None
    assert settings.private_keys.get_secret_value() == f"{KEY}\n{KEY}"


@pytest.mark.parametrize(
    ("name", "value", "told"),
    [
        (
            "OTPOST_PRIVATE_KEYS",
            f"{KEY} QWERT12345",
            "not a private key number 2: one is otpost-private: and the base64",
        ),
        ("OTPOST_PRIVATE_KEYS", PUBLIC, "not a private key: that is a public key, and one that begins with"),
        ("OTPOST_PRIVATE_KEYS", ", ,", "not a private key: there is none"),
        ("OTPOST_PUBLIC_KEY", KEY, "not a public key: that is a private key, and one that begins with otpost-public:"),
        ("OTPOST_PRIVATE_KEYS_FILE", "/run/empty", "/run/empty is empty; write the secret into it"),
    ],
    ids=["second", "public", "none", "private", "empty file"],
)
def test_what_is_no_key_is_told_once_and_not_shown(name: str, value: str, told: str) -> None:
    with pytest.raises(InvalidSettings) as refused:
        load({name: value}, {"/run/empty": "\n"}.__getitem__)
    [problem] = refused.value.problems
    assert problem.startswith(f"{name}: {told}")
    assert not any(secret in problem for secret in (KEY[15:40], "QWERT12345"))


# Quotas and numbers


TWO_ON_ONE_TOKEN: Final = """
[senders.bank]
phone_number_id = "1"
access_token = "EAAG-shared"
[senders.default]
phone_number_id = "2"
access_token = "EAAG-shared"
[senders.shop]
phone_number_id = "3"
access_token = "EAAG-own"
"""


def test_a_worker_for_some_of_the_senders_knows_their_quotas_by_the_same_names() -> None:
    settings = load({"OTPOST_SENDERS_FILE": "senders.toml"}, lambda _: TWO_ON_ONE_TOKEN).settings
    assert {name: settings.quota_of(name) for name in settings.senders} == {
        "bank": "bank", "default": "bank", "shop": "shop",
    }  # fmt: skip
    only_default = settings.serving({"default"})
    assert list(only_default.senders) == ["default"]
    assert only_default.quota_of("default") == "bank"
    assert list(only_default.configured) == ["bank", "default", "shop"]
    assert settings.serving({"shop", "default"}).serving({"default"}).quota_of("default") == "bank"


@pytest.mark.parametrize("rate", ["nan", "inf", "-inf"])
def test_a_rate_in_the_senders_file_is_a_finite_number(rate: str) -> None:
    table = f'[senders.de]\nphone_number_id = "1"\naccess_token = "EAAG"\nrate = {rate}\n'
    with pytest.raises(InvalidSettings, match=r"\[senders\.de\] rate: input should be a finite number"):
        load({"OTPOST_SENDERS_FILE": "senders.toml"}, lambda _: table)


@pytest.mark.parametrize("name", ["RATE", "SHUTDOWN_GRACE_S", "HTTP_TIMEOUT_S", "HTTP_CONNECT_TIMEOUT_S"])
@pytest.mark.parametrize("number", ["nan", "inf", "-inf", "1e999"])
def test_a_number_in_the_environment_is_finite(name: str, number: str) -> None:
    one = {"OTPOST_PHONE_NUMBER_ID": "1", "OTPOST_ACCESS_TOKEN": "EAAG"}
    with pytest.raises(InvalidSettings, match=f"^OTPOST_{name}: input should be a finite number$"):
        load({**one, f"OTPOST_{name}": number}, str)
