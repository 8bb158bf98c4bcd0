"""The settings of a receiver [pure]: it needs the broker and the secrets of webhooks, and nothing else of a sender.

So neither a number's id nor a token has to be there; where they are, they are not even read.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from pydantic import BaseModel, ConfigDict, SecretStr, ValidationError

from otpost.topology import DEFAULT_SENDER
from otpost_worker.setting_rules import each_secret
from otpost_worker.setting_sources import SENDERS_FILE, Sources
from otpost_worker.settings import (
    AppSecrets,
    InvalidSettings,
    Settings,
    VerifyTokens,
    complaint,
    problems_of,
    unknown_names,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

_MISSING: Final = {
    "app_secret": "no app secret is configured, so that no webhook could be told from a forged one: set "
    "OTPOST_APP_SECRET_FILE or OTPOST_APP_SECRET to the app's secret (at Meta: App settings > Basic), or app_secret in "
    "OTPOST_SENDERS_FILE",
    "verify_token": "no verify token is configured, without which Meta takes no callback URL: set "
    "OTPOST_VERIFY_TOKEN_FILE or OTPOST_VERIFY_TOKEN to a text of your own, which is typed there too, or verify_token "
    "in OTPOST_SENDERS_FILE",
}
_SERVICE: Final = (
    "broker_url",
    "topology",
    "shutdown_grace_s",
    "log_format",
    "log_level",
    "http_port",
    "http_host",
    "webhook_host",
    "webhook_port",
    "webhook_path",
)


class _Secrets(BaseModel):
    """What a receiver takes from a sender's table; the rest is not its business."""

    model_config = ConfigDict(frozen=True, extra="ignore", hide_input_in_errors=True)

    app_secret: AppSecrets = None
    verify_token: VerifyTokens = None


class _Tables(BaseModel):
    model_config = ConfigDict(frozen=True, hide_input_in_errors=True)

    senders: dict[str, _Secrets]


@dataclass(frozen=True, slots=True)
class ReceiverSettings:
    """The settings of the *service*, without senders; and the secrets of all of them, of which each holds for any POST.

    *warnings*: what to tell about names that are no settings.
    """

    service: Settings
    app_secrets: tuple[SecretStr, ...]
    verify_tokens: tuple[SecretStr, ...]
    warnings: tuple[str, ...]


def load_receiver(environment: Mapping[str, str], read_text: Callable[[str], str]) -> ReceiverSettings:
    """Read the settings; *read_text* reads a file named in them.

    :raises InvalidSettings: with every problem.
    """
    secrets = tuple(_Secrets.model_fields)
    sources = Sources(environment, read_text, _SERVICE, secrets, ("broker_url", *secrets), ())
    problems, given = sources.problems, sources.given()
    senders_file = given.pop(SENDERS_FILE, None)
    common = {name: given.pop(name) for name in secrets if name in given}
    tables = {DEFAULT_SENDER: common} if senders_file is None else sources.tables(senders_file, common)
    service, senders = None, dict[str, _Secrets]()
    try:
        service = Settings.model_validate(given)
    except ValidationError as error:
        problems += problems_of(error, senders_file)
    try:
        senders = _Tables.model_validate({"senders": tables}).senders
    except ValidationError as error:
        problems += problems_of(error, senders_file)
    found = {name: _all(getattr(one, name) for one in senders.values()) for name in secrets}
    if not problems:
        problems += [_MISSING[name] for name, held in found.items() if not held]
    if problems or service is None:
        raise InvalidSettings(problems)
    warnings = tuple(complaint(*one) for one in unknown_names(environment))
    return ReceiverSettings(service, found["app_secret"], found["verify_token"], warnings)


def _all(given: Iterable[SecretStr | None]) -> tuple[SecretStr, ...]:
    """Take apart what each sender has, and keep each secret once, in their order."""
    found = dict.fromkeys(one for secret in given for one in each_secret(secret))
    return tuple(map(SecretStr, found))
