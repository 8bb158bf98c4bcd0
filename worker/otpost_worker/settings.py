"""The settings: from a mapping such as ``os.environ`` to one frozen value, every problem reported together."""

from __future__ import annotations

import difflib
import re
import tomllib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, Final, Literal
from urllib.parse import urlsplit

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, PrivateAttr, SecretStr, ValidationError

from otpost.errors import InvalidKey
from otpost.job import SENDER_NAME_RULE, is_sender_name
from otpost.sealing import PrivateKey, PublicKey
from otpost.topology import DEFAULT_BROKER_URL, DEFAULT_SENDER, TopologyMode
from otpost.urls import read_url
from otpost_worker.providers.cloud_api_codes import DEFAULT_API_BASE, DEFAULT_API_VERSION

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator, Mapping

PREFIX: Final = "OTPOST_"
_FILE_SUFFIX: Final = "_FILE"
# What Kubernetes puts into every container's environment for a service named otpost-…
_INJECTED: Final = re.compile(r"OTPOST_(.+_)?(SERVICE_(HOST|PORT(_.+)?)|PORT_\d+_(TCP|UDP)(_.+)?)")


class InvalidSettings(Exception):
    """The settings cannot be used; *problems* lists each, with its name and what to do."""

    def __init__(self, problems: list[str]) -> None:
        self.problems = tuple(problems)
        super().__init__("\n".join(problems))


def _fits_a_header(secret: SecretStr) -> SecretStr:
    if not re.fullmatch(r"[!-~]+", secret.get_secret_value()):
        raise ValueError("must be printable ASCII without spaces or line breaks, as it goes into a header")
    return secret


def _is_an_address(url: str) -> str:
    try:
        parsed = urlsplit(url)
        named = all((parsed.hostname or "").rstrip(".").split(".")) and parsed.port != 0
    except ValueError:
        named = False
    if not named:
        raise ValueError("must be a URL with a host and, if need be, a port up to 65535")
    return url


def _is_a_public_key(text: str) -> str:
    try:
        return str(PublicKey.parse(text))
    except InvalidKey as error:
        raise ValueError(str(error)) from None


def _are_private_keys(secret: SecretStr) -> SecretStr:
    try:
        PrivateKey.parse_all(secret.get_secret_value())
    except InvalidKey as error:
        raise ValueError(str(error)) from None
    return secret


def _names_a_ledger(secret: SecretStr) -> SecretStr:
    url = secret.get_secret_value()
    if re.fullmatch(r"sqlite:///.+", url):
        return secret
    if not re.match(r"rediss?://", url):
        raise ValueError("must begin with sqlite:///, redis:// or rediss://")
    if read_url(url) is None:
        raise ValueError(
            "must be redis://user:password@host:port/0; in the password / ? # @ have to be written %2F %3F %23 %40"
        )
    _is_an_address(url)
    if not re.fullmatch(r"/?[0-9]*", urlsplit(url).path):
        raise ValueError("must end in the number of a database, such as /0, or in nothing")
    return secret


class SenderSettings(BaseModel):
    """One business number with what belongs to it."""

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True, allow_inf_nan=False)

    phone_number_id: Annotated[
        str, Field(pattern=r"^[0-9]{1,32}$", description="The business number's id: digits; not the number itself.")
    ]
    access_token: Annotated[
        SecretStr,
        AfterValidator(_fits_a_header),
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
        AfterValidator(_is_an_address),
    ] = DEFAULT_API_BASE
    api_version: Annotated[
        str, Field(pattern=r"^v[0-9]+\.[0-9]+$", description="The Graph API's version, such as v25.0.")
    ] = DEFAULT_API_VERSION
    rate: Annotated[
        float,
        Field(gt=0, le=10_000, description="Messages a second of the business number, for all workers together."),
    ] = 80.0
    app_secret: Annotated[SecretStr | None, Field(description="For webhook signatures (reserved).")] = None
    verify_token: Annotated[SecretStr | None, Field(description="For the webhook handshake (reserved).")] = None


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
        AfterValidator(_names_a_ledger),
        Field(
            description="The ledger that all workers share. On one machine a file: sqlite:///relative or "
            "sqlite:////absolute. On several Redis: redis://:password@host:6379/0, or rediss:// for TLS."
        ),
    ] = SecretStr("sqlite:///otpost.db")
    public_key: Annotated[
        str | None,
        AfterValidator(_is_a_public_key),
        Field(description="The workers' public key: jobs sent from here have their codes sealed to it."),
    ] = None
    private_keys: Annotated[
        SecretStr | None,
        AfterValidator(_are_private_keys),
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
    senders: dict[str, SenderSettings] = Field(default_factory=dict)
    _quotas: dict[str, str] = PrivateAttr(default_factory=dict)

    def model_post_init(self, context: object, /) -> None:
        """Name the quotas while all senders are there; a copy keeps the names."""
        del context
        for name in sorted(self.senders):
            token = self.senders[name].access_token
            self._quotas[name] = next(
                first for first in sorted(self.senders) if self.senders[first].access_token == token
            )

    def quota_of(self, sender: str) -> str:
        """Name what shares the app's quota with *sender*: those with the same token, by the first of their names.

        It is the first of all that are configured, served here or not: the name is what workers share in the ledger.
        """
        return self._quotas[sender]

    def serving(self, names: Collection[str]) -> Settings:
        """Take only these senders; what they share with the others is called as before."""
        return self.model_copy(update={"senders": {name: one for name, one in self.senders.items() if name in names}})


SECRETS: Final = frozenset({"broker_url", "ledger_url", "private_keys", "access_token", "app_secret", "verify_token"})
_SENDERS_FILE: Final = "senders_file"
# Stands in for a secret that has to be there and could not be read, so that the same trouble is not told twice.
_UNREAD: Final = "unread"
_REQUIRED: Final = frozenset(name for name, field in SenderSettings.model_fields.items() if field.is_required())
_SERVICE_FIELDS: Final = frozenset(Settings.model_fields) - {"senders"}
_SENDER_FIELDS: Final = frozenset(SenderSettings.model_fields)
KNOWN: Final = frozenset(
    [PREFIX + name.upper() for name in (*_SERVICE_FIELDS, *_SENDER_FIELDS, _SENDERS_FILE)]
    + [PREFIX + name.upper() + _FILE_SUFFIX for name in SECRETS]
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
        return tuple(_complaint(*one) for one in self.unknown)


def load(environment: Mapping[str, str], read_text: Callable[[str], str], *, strict: bool = False) -> Loaded:
    """Read the settings; *read_text* reads a file named in them. Where *strict*, an unknown name is a problem too.

    :raises InvalidSettings: with every problem.
    """
    problems: list[str] = []
    given = dict(_given(environment, read_text, problems))
    senders_file = given.pop(_SENDERS_FILE, None)
    service = {name: value for name, value in given.items() if name in _SERVICE_FIELDS}
    sender = {name: value for name, value in given.items() if name in _SENDER_FIELDS}
    if senders_file is not None:
        tables = _tables(senders_file, sender, read_text, problems)
    else:
        tables = {DEFAULT_SENDER: sender} if _is_described(sender) else {}
    settings = None
    try:
        settings = Settings.model_validate({**service, "senders": tables})
    except ValidationError as error:
        problems += [_problem(entry["loc"], entry["type"], entry["msg"], senders_file) for entry in error.errors()]
    unknown = tuple(_unknown(environment))
    if strict:
        problems += [_complaint(*one) for one in unknown]
    if problems or settings is None:
        raise InvalidSettings(problems)
    return Loaded(settings, unknown)


def _is_described(sender: Mapping[str, object]) -> bool:
    """A default template alone describes no sender: 'otpost send' and 'otpost results' need none."""
    return "phone_number_id" in sender or "access_token" in sender


def _given(
    environment: Mapping[str, str], read_text: Callable[[str], str], problems: list[str]
) -> Iterator[tuple[str, str]]:
    for name in (*_SERVICE_FIELDS, *_SENDER_FIELDS, _SENDERS_FILE):
        variable = PREFIX + name.upper()
        value = environment.get(variable, "").strip()
        file = environment.get(variable + _FILE_SUFFIX, "") if name in SECRETS else ""
        if value.startswith("tcp://"):  # Kubernetes again: OTPOST_HTTP_PORT=tcp://…
            continue
        if value and file:
            problems.append(f"{variable} and {variable}{_FILE_SUFFIX} exclude each other: keep one of them")
        elif file:
            yield from _from_file(name, file, variable + _FILE_SUFFIX, read_text, problems)
        elif value:
            yield name, value


def _from_file(
    name: str, file: str, variable: str, read_text: Callable[[str], str], problems: list[str]
) -> Iterator[tuple[str, str]]:
    try:
        text = read_text(file).strip()
        if not text:
            problems.append(f"{variable}: {file} is empty; write the secret into it")
        if text or name in _REQUIRED:
            yield name, text or _UNREAD
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is no text in UTF-8"
        problems.append(f"{variable}: {file} cannot be read: {reason}; check the path and its permissions")
        if name in _REQUIRED:
            yield name, _UNREAD


def _tables(
    file: str, defaults: Mapping[str, str], read_text: Callable[[str], str], problems: list[str]
) -> dict[str, Any]:
    if _is_described(defaults):
        problems.append(
            "OTPOST_SENDERS_FILE and OTPOST_PHONE_NUMBER_ID or OTPOST_ACCESS_TOKEN exclude each other: "
            "with the file, each sender has its own"
        )
    try:
        document = tomllib.loads(read_text(file))
    except OSError as error:
        problems.append(f"OTPOST_SENDERS_FILE: {file} cannot be read: {error.strerror}")
        return {}
    except UnicodeDecodeError:
        problems.append(f"OTPOST_SENDERS_FILE: {file} is no text in UTF-8")
        return {}
    except tomllib.TOMLDecodeError as error:
        problems.append(f"OTPOST_SENDERS_FILE: {file} is no TOML: {error}")
        return {}
    tables = document.pop("senders", None)
    problems += [f"{file}: {name} is unknown: only [senders.<name>] tables may stand there" for name in document]
    if not isinstance(tables, dict) or not all(isinstance(table, dict) for table in tables.values()):
        problems.append(f"OTPOST_SENDERS_FILE: {file} needs one [senders.<name>] table for each sender")
        return {}
    problems += [f"{file}: [senders.{name}]: {SENDER_NAME_RULE}" for name in tables if not is_sender_name(name)]
    return {
        name: _table(f"{file}: [senders.{name}]", table, defaults, read_text, problems)
        for name, table in tables.items()
    }


def _table(
    where: str,
    table: Mapping[str, Any],
    defaults: Mapping[str, str],
    read_text: Callable[[str], str],
    problems: list[str],
) -> dict[str, Any]:
    filled: dict[str, Any] = {**defaults, **table}
    for name in SECRETS:
        if name in table and name + _FILE_SUFFIX.lower() in table:
            problems.append(f"{where}: {name} and {name}_file exclude each other: keep one of them")
        key = name + _FILE_SUFFIX.lower()
        if (file := filled.get(key) if key in _SENDER_FIELDS else filled.pop(key, None)) is not None:
            filled.update(_from_file(name, str(file), f"{where} {name}_file", read_text, problems))
    return filled


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


def _unknown(environment: Mapping[str, str]) -> Iterator[tuple[str, str | None]]:
    for name in sorted(environment):
        injected = _INJECTED.fullmatch(name) or (name.endswith("_PORT") and environment[name].startswith("tcp://"))
        if not name.startswith(PREFIX) or name in KNOWN or injected:
            continue
        # Without what all names have in common, and what would make any two of them look alike.
        nearest = difflib.get_close_matches(name.removeprefix(PREFIX), _KNOWN_ENDS, n=1)
        yield name, PREFIX + nearest[0] if nearest else None


def _complaint(name: str, nearest: str | None) -> str:
    hint = f"did you mean {nearest}?" if nearest else "'otpost config' lists the settings"
    return f"{name} is no setting: {hint}"
