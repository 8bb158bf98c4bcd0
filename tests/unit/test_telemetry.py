"""Logs: what must not be seen is taken out, whatever wrote the line."""

from __future__ import annotations

import json
import logging
from typing import TYPE_CHECKING, Any, Final

import pytest
import structlog
from hypothesis import given

from job_strategies import DIGITS, PROPERTY
from otpost_worker.telemetry import configure_logging, redact, redact_text

if TYPE_CHECKING:
    from collections.abc import Iterator

NUMBER: Final = "+12015553931"
WAMID: Final = "wamid.HBgLMTIwMTU1NTM5MzEVAgARGBI4Qzc5QUJDREVGMTIzNDU2AA=="
LIBRARIES: Final = ("aiormq", "aio_pika", "aiohttp", "asyncio", "aiormq.connection")


@pytest.fixture
def restored_logging() -> Iterator[None]:
    """Leave the process's logging as it was found."""
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    levels = {name: logging.getLogger(name).level for name in LIBRARIES}
    try:
        yield
    finally:
        root.handlers[:] = handlers
        root.setLevel(level)
        for name, before in levels.items():
            logging.getLogger(name).setLevel(before)
        structlog.reset_defaults()


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("to +12015553931 now", "to +12***31 now"),
        ("+1234567", "+12***67"),
        ("+123456789012345,+491511234567", "+12***45,+49***67"),
        ("12015553931 and +1 201", "12015553931 and +1 201"),
        (f"sent as {WAMID}!", "sent as …NDU2AA==!"),
        ("wamid.short", "wamid.short"),
        ("amqp://guest:guest@host:5672/", "amqp://guest:***@host:5672/"),
        ("amqps://u:p%40ss/word@host/v", "amqps://u:***@host/v"),
        ("amqp://:pw@host", "amqp://:***@host"),
        ("amqp://u:p@ss@host/v", "amqp://u:***@host/v"),
        ("amqp://host:5672/", "amqp://host:5672/"),
        ("nothing to hide", "nothing to hide"),
    ],
)
def test_numbers_message_ids_and_passwords_are_taken_out_of_texts(text: str, shown: str) -> None:
    assert redact_text(text) == shown


@PROPERTY
@given(DIGITS)
def test_no_number_with_a_plus_stays_whole(digits: str) -> None:
    assert digits not in redact_text(f"x +{digits} y")


@pytest.mark.parametrize(
    "key",
    [
        "code",
        "sealed_code",
        "sealed_body",
        "private_keys",
        "body",
        "to",
        "access_token",
        "token",
        "authorization",
        "app_secret",
        "verify_token",
    ],
)
@pytest.mark.parametrize("value", ["493817", b"493817", ["493817"], {"a": "493817"}])
def test_secret_keys_are_hidden_whatever_they_hold(key: str, value: object) -> None:
    assert redact(None, "info", {"event": "x", key: value}) == {"event": "x", key: "[hidden]"}


def test_a_providers_error_code_is_a_number_and_stays() -> None:
    assert redact(None, "info", {"event": "x", "code": 131026}) == {"event": "x", "code": 131026}
    assert redact(None, "info", {"event": "x", "code": None}) == {"event": "x", "code": None}


@pytest.mark.parametrize(
    "value",
    [
        [NUMBER],
        (NUMBER,),
        {"number": NUMBER},
        [[NUMBER]],
        {"inner": {"to": "x", "code": "493817"}},
        [{"code": "493817"}],
        ValueError(NUMBER),
    ],
)
def test_what_is_nested_is_taken_out_too(value: object) -> None:
    shown = repr(redact(None, "info", {"event": "x", "what": value}))
    assert NUMBER not in shown
    assert "493817" not in shown


@pytest.mark.parametrize("log_format", ["json", "console"])
@pytest.mark.usefixtures("restored_logging")
def test_every_line_is_redacted_whoever_wrote_it(log_format: str, capsys: pytest.CaptureFixture[str]) -> None:
    configure_logging(log_format=log_format, level="debug")
    own = structlog.get_logger("otpost.test")
    own.info("job.sent", to=NUMBER, code="493817", note=f"{NUMBER} got {WAMID}")
    own.warning(f"to {NUMBER}")
    logging.getLogger("somebody.else").warning("number %s, url %s", NUMBER, "amqp://u:pw123@host/")
    broken = ValueError(f"cannot send to {NUMBER}")
    own.error("job.broke", exc_info=broken)
    logging.getLogger("somebody.else").error("it broke", exc_info=broken)
    shown = capsys.readouterr().err
    assert shown.count("cannot send to +12***31") == 2
    for secret in (NUMBER, "493817", "pw123", WAMID, "HBgLMTIw"):
        assert secret not in shown
    assert "job.sent" in shown


@pytest.mark.usefixtures("restored_logging")
def test_a_json_line_says_when_who_how_grave_and_what(capsys: pytest.CaptureFixture[str]) -> None:
    configure_logging(log_format="json", level="info")
    structlog.get_logger("otpost.test").info("job.sent", attempt=2, odd=object)
    structlog.get_logger("otpost.test").debug("not.shown")
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 1
    line: dict[str, Any] = json.loads(lines[0])
    assert (line["event"], line["level"], line["logger"], line["attempt"]) == ("job.sent", "info", "otpost.test", 2)
    assert line["ts"].endswith("Z")


@pytest.mark.parametrize("level", ["debug", "info", "warning", "error"])
@pytest.mark.usefixtures("restored_logging")
def test_libraries_that_print_payloads_never_speak_below_info(level: str, capsys: pytest.CaptureFixture[str]) -> None:
    configure_logging(log_format="json", level=level)
    for name in (
        "aiormq",
        "aiormq.channel",
        "aiormq.connection",
        "aio_pika",
        "aio_pika.queue",
        "aio_pika.robust_channel",
    ):
        library = logging.getLogger(name)
        assert library.getEffectiveLevel() >= logging.INFO
        library.debug("payload 493817")
    assert capsys.readouterr().err == ""
