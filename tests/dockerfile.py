"""A Dockerfile as a list of stages and instructions: enough of its syntax for ours."""

from __future__ import annotations

import json
import shlex
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@dataclass(frozen=True)
class Instruction:
    """One instruction; *text* is what follows its word, continued lines joined."""

    word: str
    text: str

    @property
    def flags(self) -> list[str]:
        """Such as --from=build."""
        return [word for word in self.text.split() if word.startswith("--")]

    @property
    def arguments(self) -> list[str]:
        """Everything that is no flag, as the shell would see it."""
        return [word for word in shlex.split(self.text) if not word.startswith("--")]

    @property
    def exec_form(self) -> list[str] | None:
        """The command of an instruction in exec form, None for one that a shell would run."""
        text = self.text[self.text.find("[") :] if "[" in self.text else ""
        try:
            command = json.loads(text)
        except json.JSONDecodeError:
            return None
        return command if isinstance(command, list) else None

    def pairs(self) -> dict[str, str]:
        """What an ENV or LABEL sets."""
        return dict(word.split("=", 1) for word in shlex.split(self.text))


@dataclass
class Stage:
    """What follows one FROM."""

    base: str
    instructions: list[Instruction] = field(default_factory=list)

    def all(self, word: str) -> list[Instruction]:
        """All instructions of that kind."""
        return [one for one in self.instructions if one.word == word]

    def last(self, word: str) -> Instruction:
        """The one that counts, of those that a later one overrules."""
        return self.all(word)[-1]

    def environment(self) -> dict[str, str]:
        """What ENV sets."""
        return {name: value for one in self.all("ENV") for name, value in one.pairs().items()}


def read_dockerfile(path: Path) -> list[Stage]:
    """Read the stages; the defaults of global arguments are filled into their bases."""
    stages: list[Stage] = []
    defaults: dict[str, str] = {}
    for instruction in _instructions(path.read_text(encoding="utf-8")):
        if instruction.word == "FROM":
            base = instruction.arguments[0]
            for name, value in defaults.items():
                base = base.replace(f"${{{name}}}", value)
            stages.append(Stage(base))
        elif stages:
            stages[-1].instructions.append(instruction)
        else:
            defaults.update(instruction.pairs())
    return stages


def _instructions(text: str) -> Iterator[Instruction]:
    lines = [line for line in text.splitlines() if line.strip() and not line.lstrip().startswith("#")]
    joined = "\n".join(lines).replace("\\\n", " ")
    for line in joined.splitlines():
        word, _, rest = line.partition(" ")
        yield Instruction(word, rest.strip())
