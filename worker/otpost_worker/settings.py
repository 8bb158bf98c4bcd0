"""The settings: from a mapping such as ``os.environ`` to one frozen value, every problem reported together."""

from __future__ import annotations

import difflib
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Final, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, PrivateAttr, SecretStr, ValidationError

from otpost.topology import DEFAULT_BROKER_URL, DEFAULT_SENDER, TopologyMode
from otpost_worker import setting_sources
from otpost_worker.providers.cloud_api_codes import DEFAULT_API_BASE, DEFAULT_API_VERSION
from otpost_worker.setting_rules import (
    are_private_keys,
    are_secrets,
    each_secret,
    fits_a_header,
    is_a_public_key,
    is_an_address,
    names_a_ledger,
)
from otpost_worker.setting_sources import FILE_SUFFIX, SENDERS_FILE, Sources, is_described

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator, Mapping

PREFIX: Final = setting_sources.PREFIX
# What Kubernetes puts into every container's environment for a service named otpost-…
_INJECTED: Final = re.compile(r"OTPOST_(.+_)?(SERVICE_(HOST|PORT(_.+)?)|PORT_\d+_(TCP|UDP)(_.+)?)")


class InvalidSettings(Exception):
    """The settings cannot be used; *problems* lists each, with its name and what to do."""

    def __init__(self, problems: list[str]) -> None:
        self.problems = tuple(problems)
        super().__init__("\n".join(problems))


AppSecrets = Annotated[
    SecretStr | None,
    AfterValidator(are_secrets),
    Field(
        description="The app's secret, which signs webhooks; several between commas or white space, all of which hold."
    ),
]
VerifyTokens = Annotated[
    SecretStr | None,
    AfterValidator(are_secrets),
    Field(description="What is typed at the provider beside the callback URL; several between commas or white space."),
]


class SenderSettings(BaseModel):
    """One business number with what belongs to it."""

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True, allow_inf_nan=False)

    phone_number_id: Annotated[
        str, Field(pattern=r"^[0-9]{1,32}$", description="The business number's id: digits; not the number itself.")
    ]
    access_token: Annotated[
        SecretStr,
        AfterValidator(fits_a_header),
        Field(description="A system user's token: printable ASCII without spaces."),
    ]
    access_token_file: Annotated[
        str | None, Field(description="The file that the token is read from, in place of the setting above.")
    ] = None
    template: Annotated[
        str | None,
        Field(pattern=r"^[a-z0-9_]{1,512}$", description="A template's name, a-z 0-9 _, for jobs that name none."),
    ] = None
    language: Annotated[
        str | None,
        Field(
            pattern=r"^[a-z]{2,3}(_[A-Z]{2})?$",
            description="A template's language such as en_US, for jobs that name none.",
        ),
    ] = None
    api_base: Annotated[
        str,
        Field(
            pattern=r"^https?://[^/\s?#]+[^\s?#]*$",
            description="Where the Cloud API is: https://host, without a query.",
        ),
        AfterValidator(is_an_address),
    ] = DEFAULT_API_BASE
    api_version: Annotated[
        str, Field(pattern=r"^v[0-9]+\.[0-9]+$", description="The Graph API's version, such as v25.0.")
    ] = DEFAULT_API_VERSION
    rate: Annotated[
        float,
        Field(gt=0, le=10_000, description="Messages a second of the business number, for all workers together."),
    ] = 80.0
    app_secret: AppSecrets = None
    verify_token: VerifyTokens = None
    waba_id: Annotated[
        str | None,
        Field(
            pattern=r"^[0-9]{1,32}$",
            description="The business account's id, digits: webhooks about that account concern this sender.",
        ),
    ] = None
    message_ttl_s: Annotated[
        int,
        Field(
            ge=30,
            le=900,
            description="The template's message_send_ttl_seconds: for so long the provider tries to deliver a message.",
        ),
    ] = 600

    @property
    def app_secrets(self) -> tuple[str, ...]:
        """Each app secret that may have signed a webhook of this sender; none where nothing listens for them."""
        return each_secret(self.app_secret)


class Settings(BaseModel):
    """Everything that the service can be told; secrets are hidden in its ``repr``."""

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True, allow_inf_nan=False)

    broker_url: Annotated[SecretStr, Field(description="RabbitMQ: amqp:// or amqps://.")] = SecretStr(
        DEFAULT_BROKER_URL
    )
    topology: Annotated[
        TopologyMode,
        Field(
            description="What a worker does about exchanges and queues: declare them, verify that they are as needed, "
            "or passive: somebody else provides them."
        ),
    ] = "declare"
    ledger_url: Annotated[
        SecretStr,
        AfterValidator(names_a_ledger),
        Field(
            description="The ledger that all workers share. On one machine a file: sqlite:///relative or "
            "sqlite:////absolute. On several Redis: redis://:password@host:6379/0, or rediss:// for TLS."
        ),
    ] = SecretStr("sqlite:///otpost.db")
    public_key: Annotated[
        str | None,
        AfterValidator(is_a_public_key),
        Field(description="The workers' public key: jobs sent from here have their codes sealed to it."),
    ] = None
    private_keys: Annotated[
        SecretStr | None,
        AfterValidator(are_private_keys),
        Field(
            description="A worker's private keys, between commas or white space. All of them open sealed codes, the "
            "first seals dead letters. Without any, a worker makes one beside its SQLite ledger."
        ),
    ] = None
    concurrency: Annotated[int, Field(ge=1, le=2000, description="Jobs in hand at once, for each sender.")] = 100
    shutdown_grace_s: Annotated[
        float, Field(ge=0, le=600, description="Seconds that jobs in hand have to finish after SIGTERM.")
    ] = 20.0
    http_timeout_s: Annotated[
        float,
        Field(
            gt=0,
            le=60,
            description="Total seconds of one request; none starts later than this before a deadline.",
        ),
    ] = 5.0
    http_connect_timeout_s: Annotated[float, Field(gt=0, le=60, description="Seconds to connect to the provider.")] = (
        2.0
    )
    max_attempts: Annotated[int, Field(ge=1, le=100, description="Attempts of a job that count.")] = 8
    unknown_outcome: Annotated[
        Literal["resend", "fail"], Field(description="After a request whose answer was lost.")
    ] = "resend"
    log_format: Annotated[Literal["json", "console"], Field(description="How log lines look.")] = "json"
    log_level: Annotated[
        Literal["debug", "info", "warning", "error"], Field(description="The least that is logged.")
    ] = "info"
    http_port: Annotated[
        int | None,
        Field(ge=0, le=65535, description="Where /healthz, /readyz and /metrics answer; without it nowhere."),
    ] = None
    http_host: Annotated[
        str, Field(min_length=1, description="The address to listen on: 0.0.0.0 for probes from elsewhere.")
    ] = "127.0.0.1"
    webhook_host: Annotated[
        str, Field(min_length=1, description="Where 'otpost webhook' listens: 0.0.0.0 for a proxy elsewhere.")
    ] = "127.0.0.1"
    # The workers' health has 8081 to 8089 with systemd, the simulator 8088.
    webhook_port: Annotated[int, Field(ge=0, le=65535, description="Its port; 0 takes a free one.")] = 8090
    webhook_path: Annotated[
        str,
        Field(
            pattern=r"^/[A-Za-z0-9._~/-]{0,200}$",
            description="The path of the callback URL: / and then A-Z a-z 0-9 . _ ~ / -.",
        ),
    ] = "/webhook"
    senders: dict[str, SenderSettings] = Field(default_factory=dict)
    _quotas: dict[str, str] = PrivateAttr(default_factory=dict)
    _configured: dict[str, SenderSettings] = PrivateAttr(default_factory=dict)

    def model_post_init(self, context: object, /) -> None:
        """Remember all senders, and name their quotas, while they are there; a copy keeps that."""
        del context
        self._configured = dict(self.senders)
        for name in sorted(self.senders):
            token = self.senders[name].access_token
            self._quotas[name] = next(
                first for first in sorted(self.senders) if self.senders[first].access_token == token
            )

    @property
    def configured(self) -> Mapping[str, SenderSettings]:
        """All senders, served here or not: webhooks of each come to whichever worker is free."""
        return self._configured

    def quota_of(self, sender: str) -> str:
        """Name what shares the app's quota with *sender*: those with the same token, by the first of their names.

        It is the first of all that are configured, served here or not: the name is what workers share in the ledger.
        """
        return self._quotas[sender]

    def serving(self, names: Collection[str]) -> Settings:
        """Take only these senders; what they share with the others is called as before."""
        return self.model_copy(update={"senders": {name: one for name, one in self.senders.items() if name in names}})


SECRETS: Final = frozenset({"broker_url", "ledger_url", "private_keys", "access_token", "app_secret", "verify_token"})
_REQUIRED: Final = frozenset(name for name, field in SenderSettings.model_fields.items() if field.is_required())
_SERVICE_FIELDS: Final = frozenset(Settings.model_fields) - {"senders"}
_SENDER_FIELDS: Final = frozenset(SenderSettings.model_fields)
KNOWN: Final = frozenset(
    [PREFIX + name.upper() for name in (*_SERVICE_FIELDS, *_SENDER_FIELDS, SENDERS_FILE)]
    + [PREFIX + name.upper() + FILE_SUFFIX for name in SECRETS]
)
_KNOWN_ENDS: Final = sorted(name.removeprefix(PREFIX) for name in KNOWN)


@dataclass(frozen=True, slots=True)
class Loaded:
    """The settings; and by each OTPOST_ name that nobody knows, the nearest setting, or None where none is near."""

    settings: Settings
    unknown: tuple[tuple[str, str | None], ...]

    @property
    def warnings(self) -> tuple[str, ...]:
        """What to tell about the unknown names."""
        return tuple(complaint(*one) for one in self.unknown)


def load(environment: Mapping[str, str], read_text: Callable[[str], str], *, strict: bool = False) -> Loaded:
    """Read the settings; *read_text* reads a file named in them. Where *strict*, an unknown name is a problem too.

    :raises InvalidSettings: with every problem.
    """
    sources = Sources(environment, read_text, _SERVICE_FIELDS, _SENDER_FIELDS, SECRETS, _REQUIRED)
    problems, given = sources.problems, sources.given()
    senders_file = given.pop(SENDERS_FILE, None)
    service = {name: value for name, value in given.items() if name in _SERVICE_FIELDS}
    sender = {name: value for name, value in given.items() if name in _SENDER_FIELDS}
    if senders_file is not None:
        tables = sources.tables(senders_file, sender)
    else:
        tables = {DEFAULT_SENDER: sender} if is_described(sender) else {}
    settings = None
    try:
        settings = Settings.model_validate({**service, "senders": tables})
    except ValidationError as error:
        problems += problems_of(error, senders_file)
    unknown = unknown_names(environment)
    if strict:
        problems += [complaint(*one) for one in unknown]
    if problems or settings is None:
        raise InvalidSettings(problems)
    return Loaded(settings, unknown)


def problems_of(error: ValidationError, senders_file: str | None) -> list[str]:
    """Tell what pydantic found, by the names that operators know."""
    return [_problem(entry["loc"], entry["type"], entry["msg"], senders_file) for entry in error.errors()]


def _problem(where: tuple[str | int, ...], kind: str, message: str, senders_file: str | None) -> str:
    message = message.removeprefix("Value error, ")
    message = message[0].lower() + message[1:]
    if kind == "string_pattern_mismatch":
        fields = SenderSettings.model_fields if where[0] == "senders" else Settings.model_fields
        message = f"is not well formed; expected: {fields[str(where[-1])].description}"
    if where[0] != "senders":
        return f"{PREFIX}{str(where[0]).upper()}: {message}"
    field = str(where[-1])
    if senders_file is None:
        return f"{PREFIX}{field.upper()}: {message}"
    return f"{senders_file}: [senders.{where[1]}] {field}: {message}"


def unknown_names(environment: Mapping[str, str]) -> tuple[tuple[str, str | None], ...]:
    """List the OTPOST_ names that nobody knows, each with the nearest setting or None."""
    return tuple(_unknown(environment))


def _unknown(environment: Mapping[str, str]) -> Iterator[tuple[str, str | None]]:
    for name in sorted(environment):
        injected = _INJECTED.fullmatch(name) or (name.endswith("_PORT") and environment[name].startswith("tcp://"))
        if not name.startswith(PREFIX) or name in KNOWN or injected:
            continue
        # Without what all names have in common, and what would make any two of them look alike.
        nearest = difflib.get_close_matches(name.removeprefix(PREFIX), _KNOWN_ENDS, n=1)
        yield name, PREFIX + nearest[0] if nearest else None


def complaint(name: str, nearest: str | None) -> str:
    """Tell that a name is none, and what may have been meant."""
    hint = f"did you mean {nearest}?" if nearest else "'otpost config' lists the settings"
    return f"{name} is no setting: {hint}"
