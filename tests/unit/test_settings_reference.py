"""docs/settings.md is written from the settings, and holds each of them."""

from __future__ import annotations

import re
import tomllib
from typing import Final

from otpost_worker.settings import KNOWN, load
from settings_reference import DOCUMENT, rendered

TEXT: Final = DOCUMENT.read_text(encoding="utf-8")


def block(language: str) -> str:
    found = re.search(rf"```{language}\n(.*?)```", TEXT, re.DOTALL)
    assert found
    return found[1]


def test_the_reference_is_what_the_settings_say() -> None:
    assert rendered() == TEXT, "docs/settings.md is out of date: run 'make docs'"


def test_it_names_every_setting_and_nothing_that_is_none() -> None:
    plain = {name for name in KNOWN if not name.endswith("_FILE")} | {"OTPOST_SENDERS_FILE"}
    named = set(re.findall(r"OTPOST_[A-Z_]+", TEXT))
    assert named <= KNOWN
    assert plain <= named


def test_a_row_tells_default_range_and_meaning() -> None:
    number = "| `OTPOST_MAX_ATTEMPTS` | `8` | a whole number, from 1, up to 100 | Attempts of a job that count. |"
    assert number in TEXT.splitlines()
    choice = "| `OTPOST_UNKNOWN_OUTCOME` | `resend` | `resend`, `fail` | After a request whose answer was lost. |"
    assert choice in TEXT.splitlines()


def test_its_file_of_variables_can_be_used_as_it_stands_once_the_sender_is_filled_in() -> None:
    lines = [line.removeprefix("#") for line in block("sh").splitlines()]
    given = dict(line.split("=", 1) for line in lines)
    given |= {"OTPOST_PHONE_NUMBER_ID": "105954558954427", "OTPOST_ACCESS_TOKEN_FILE": "/run/secrets/token"}
    given = {name: value for name, value in given.items() if value}
    loaded = load(given, lambda _: "EAAG-from-a-file\n")
    assert loaded.warnings == ()
    # Every default that stands in the document is the one that holds.
    assert (
        loaded.settings
        == load(
            {"OTPOST_PHONE_NUMBER_ID": "105954558954427", "OTPOST_ACCESS_TOKEN_FILE": "/run/secrets/token"},
            lambda _: "EAAG-from-a-file",
        ).settings
    )


def test_its_file_of_senders_can_be_read_once_the_numbers_are_filled_in() -> None:
    text = block("toml").replace('"..."', '"105954558954427"')
    assert set(tomllib.loads(text)["senders"]) == {"default", "bank"}
    files = {"/etc/otpost/senders.toml": text}
    settings = load(
        {"OTPOST_SENDERS_FILE": "/etc/otpost/senders.toml"}, lambda name: files.get(name, "EAAG-from-a-file")
    ).settings
    assert settings.senders["bank"].access_token.get_secret_value() == "EAAG-from-a-file"
