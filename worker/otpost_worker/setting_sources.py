"""Where settings come from [pure]: variables, the files that they name, and the tables of the senders' file.

What the settings are called, and which of them are secrets, is told by whoever reads them.
"""

from __future__ import annotations

import tomllib
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from otpost.job import SENDER_NAME_RULE, is_sender_name

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator, Mapping

PREFIX: Final = "OTPOST_"
FILE_SUFFIX: Final = "_FILE"
SENDERS_FILE: Final = "senders_file"
# Stands in for a secret that has to be there and could not be read, so that the same trouble is not told twice.
_UNREAD: Final = "unread"


def is_described(sender: Mapping[str, object]) -> bool:
    """A default template alone describes no sender: 'otpost send' and 'otpost results' need none."""
    return "phone_number_id" in sender or "access_token" in sender


@dataclass(frozen=True, slots=True)
class Sources:
    """Reads the settings named *service* and *sender*; *secrets* are those that may come from files of their own.

    *read_text* reads a file. What is wrong is added to *problems*; *required* are secrets whose absence would be one
    problem more.
    """

    environment: Mapping[str, str]
    read_text: Callable[[str], str]
    service: Collection[str]
    sender: Collection[str]
    secrets: Collection[str]
    required: Collection[str]
    problems: list[str] = field(default_factory=list)

    def given(self) -> dict[str, str]:
        """Read the variables, and the files of secrets; with the path of the senders' file, where there is one."""
        return dict(self._given())

    def _given(self) -> Iterator[tuple[str, str]]:
        for name in (*self.service, *self.sender, SENDERS_FILE):
            variable = PREFIX + name.upper()
            value = self.environment.get(variable, "").strip()
            file = self.environment.get(variable + FILE_SUFFIX, "") if name in self.secrets else ""
            if value.startswith("tcp://"):  # Kubernetes again: OTPOST_HTTP_PORT=tcp://…
                continue
            if value and file:
                self.problems.append(f"{variable} and {variable}{FILE_SUFFIX} exclude each other: keep one of them")
            elif file:
                yield from self._from_file(name, file, variable + FILE_SUFFIX)
            elif value:
                yield name, value

    def _from_file(self, name: str, file: str, variable: str) -> Iterator[tuple[str, str]]:
        try:
            text = self.read_text(file).strip()
            if not text:
                self.problems.append(f"{variable}: {file} is empty; write the secret into it")
            if text or name in self.required:
                yield name, text or _UNREAD
        except (OSError, UnicodeDecodeError) as error:
            reason = error.strerror if isinstance(error, OSError) else "it is no text in UTF-8"
            self.problems.append(f"{variable}: {file} cannot be read: {reason}; check the path and its permissions")
            if name in self.required:
                yield name, _UNREAD

    def tables(self, file: str, defaults: Mapping[str, str]) -> dict[str, dict[str, Any]]:
        """Read the senders' tables, by their names; *defaults* hold where a table does not say otherwise."""
        if is_described(defaults):
            self.problems.append(
                "OTPOST_SENDERS_FILE and OTPOST_PHONE_NUMBER_ID or OTPOST_ACCESS_TOKEN exclude each other: "
                "with the file, each sender has its own"
            )
        try:
            document = tomllib.loads(self.read_text(file))
        except OSError as error:
            self.problems.append(f"OTPOST_SENDERS_FILE: {file} cannot be read: {error.strerror}")
            return {}
        except UnicodeDecodeError:
            self.problems.append(f"OTPOST_SENDERS_FILE: {file} is no text in UTF-8")
            return {}
        except tomllib.TOMLDecodeError as error:
            self.problems.append(f"OTPOST_SENDERS_FILE: {file} is no TOML: {error}")
            return {}
        tables = document.pop("senders", None)
        self.problems.extend(
            f"{file}: {name} is unknown: only [senders.<name>] tables may stand there" for name in document
        )
        if not isinstance(tables, dict) or not all(isinstance(table, dict) for table in tables.values()):
            self.problems.append(f"OTPOST_SENDERS_FILE: {file} needs one [senders.<name>] table for each sender")
            return {}
        self.problems.extend(
            f"{file}: [senders.{name}]: {SENDER_NAME_RULE}" for name in tables if not is_sender_name(name)
        )
        return {name: self._table(f"{file}: [senders.{name}]", table, defaults) for name, table in tables.items()}

    def _table(self, where: str, table: Mapping[str, Any], defaults: Mapping[str, str]) -> dict[str, Any]:
        filled: dict[str, Any] = {**defaults, **table}
        for name in self.secrets:
            key = name + FILE_SUFFIX.lower()
            if name in table and key in table:
                self.problems.append(f"{where}: {name} and {key} exclude each other: keep one of them")
            if (path := filled.get(key) if key in self.sender else filled.pop(key, None)) is not None:
                filled.update(self._from_file(name, str(path), f"{where} {key}"))
        return filled
