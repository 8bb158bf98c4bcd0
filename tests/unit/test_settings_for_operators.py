"""Settings that operators steer by: where a token comes from, strictness, and how the broker is provided."""

from __future__ import annotations

import pytest

from otpost_worker.settings import InvalidSettings, load

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
