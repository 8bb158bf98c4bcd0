"""Writes docs/settings.md from the settings themselves: `make docs`. A test tells when the file is out of date."""

from __future__ import annotations

import sys
import types
import typing
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Literal

from pydantic import SecretStr

from otpost_worker.settings import PREFIX, SECRETS, SenderSettings, Settings

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pydantic.fields import FieldInfo

DOCUMENT: Final = Path(__file__).parent.parent / "docs" / "settings.md"
# It holds the senders' tables and is a field for that reason only; the environment names a file in its place.
_TABLES: Final = "senders"
_LIMITS: Final = {"ge": "from", "gt": "more than", "le": "up to", "lt": "less than"}

_INTRODUCTION: Final = """\
# Settings

<!-- Written by `make docs` from worker/otpost_worker/settings.py: change it there. -->

Every setting is an environment variable. `otpost config` prints those in force, secrets hidden, and
`otpost config --strict` fails on a name that is no setting. An empty variable counts as one that is not set.

A *secret* can come from a file: the same name with `_FILE` names it, and white space around its text does not count.
"""

_SENDER: Final = """
## Of a sender

One sender, named `default`, needs no file: its settings are environment variables too.
"""

_SEVERAL: Final = """
### Several senders

`OTPOST_SENDERS_FILE` names a TOML file with one table for each sender, and excludes `{required}`.
In the file the names are those of the last column; a secret's file is `<name>_file`. What the environment says of the
others holds for each sender whose table does not say otherwise.

```toml
{tables}
```
"""

_ENVIRONMENT: Final = """
## As a file

For `docker run --env-file` or systemd's `EnvironmentFile=`. What is commented out stands at its default.

```sh
{lines}
```
"""


def rendered() -> str:
    """Write the whole document."""
    service = {name: field for name, field in Settings.model_fields.items() if name != _TABLES}
    sender = SenderSettings.model_fields
    required = [name for name, field in sender.items() if field.is_required()]
    return "".join(
        (
            _INTRODUCTION,
            "\n## Of the service\n\n",
            _table(service, in_file=False),
            _SENDER,
            "\n",
            _table(sender, in_file=True),
            _SEVERAL.format(
                required="` and `".join(PREFIX + name.upper() for name in required),
                tables="\n\n".join(_toml(name, sender) for name in ("default", "bank")),
            ),
            _ENVIRONMENT.format(lines="\n".join(_lines({**service, **sender}))),
        )
    )


def _table(fields: dict[str, FieldInfo], *, in_file: bool) -> str:
    head = ["setting", "default", "allowed", "what it is"] + ["in the file"] * in_file
    rows = [head, ["---"] * len(head)]
    for name, field in fields.items():
        row = [f"`{PREFIX}{name.upper()}`", _default(field), _allowed(name, field), str(field.description)]
        rows.append(row + [f"`{name}`"] * in_file)
    return "".join(f"| {' | '.join(row)} |\n" for row in rows)


def _default(field: FieldInfo) -> str:
    if field.is_required():
        return "required"
    plain = _plain(field)
    return "" if plain is None else f"`{plain}`"


def _plain(field: FieldInfo) -> object:
    """The default as one would write it; None where there is none."""
    default = field.default
    if isinstance(default, SecretStr):
        return default.get_secret_value()
    return int(default) if isinstance(default, float) and default.is_integer() else default


def _allowed(name: str, field: FieldInfo) -> str:
    kind = _kind(field)
    if typing.get_origin(kind) is Literal:
        return ", ".join(f"`{choice}`" for choice in typing.get_args(kind))
    number = {int: "a whole number", float: "a number"}.get(kind, "")
    words = [number, *(_bound(one) for one in field.metadata)]
    if name in SECRETS:
        words.append("secret")
    return ", ".join(word for word in words if word)


def _kind(field: FieldInfo) -> Any:  # noqa: ANN401 - a type, or what typing has in place of one
    annotation: object = field.annotation
    if isinstance(annotation, types.UnionType):  # X | None
        return next(one for one in annotation.__args__ if one is not types.NoneType)
    return annotation


def _bound(constraint: object) -> str:
    """A limit in words; none for a pattern, which the description says in words."""
    if getattr(constraint, "min_length", None) == 1:
        return "not empty"
    found = (f"{word} {getattr(constraint, name)}" for name, word in _LIMITS.items() if hasattr(constraint, name))
    return next(found, "")


def _toml(sender: str, fields: dict[str, FieldInfo]) -> str:
    lines = [f"[senders.{sender}]"]
    for name, field in fields.items():
        if field.is_required():
            lines.append(f'{name}_file = "/run/secrets/{sender}_{name}"' if name in SECRETS else f'{name} = "..."')
    return "\n".join(lines)


def _lines(fields: dict[str, FieldInfo]) -> Iterator[str]:
    for name, field in fields.items():
        variable = PREFIX + name.upper()
        if name in SECRETS and field.is_required():
            yield f"{variable}_FILE="
        elif field.is_required():
            yield f"{variable}="
        elif name.removesuffix("_file") not in SECRETS or name in SECRETS:  # its file stands in its place already
            plain = _plain(field)
            yield f"#{variable}={'' if plain is None else plain}"
    yield f"#{PREFIX}SENDERS_FILE="


def main() -> int:
    """Write the file."""
    DOCUMENT.write_text(rendered(), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
