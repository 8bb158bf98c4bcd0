"""The programs of docs/producers.md, written into a folder and made ready to run.

programs = Programs(folder, GO)
command = programs.publish("job-1")
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

import pytest

from node_client import ensure, node_modules

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

ROOT: Final = Path(__file__).parents[1]
TEXT: Final = (ROOT / "docs" / "producers.md").read_text(encoding="utf-8")
_BLOCK: Final = re.compile(r"^```(\w+)\n(.*?)^```", re.MULTILINE | re.DOTALL)
# Its own comment at its top names each program's file.
_FILE: Final = re.compile(r"(?://|#) (\w+\.(?:js|php|java|go|sh|py)): ")
_BUILD_TIMEOUT_S: Final = 300


def programs_of_the_page() -> dict[str, str]:
    """Read every program, by its file's name; each block of code has to be one."""
    programs = {}
    for _, text in _BLOCK.findall(TEXT):
        named = _FILE.search(text)
        assert named is not None, f"this block names no file: {text[:80]}"
        programs[named[1]] = text
    return programs


@dataclass(frozen=True)
class Language:
    """How the programs of one language are run: *start* gives the command for a file, once *prepare* has run."""

    name: str
    publisher: str
    reader: str
    prepare: Callable[[Path], None]
    start: Callable[[Path, str], Sequence[str]]
    # Over HTTP nothing is confirmed.
    published: str = "confirmed"


def _prepare_node(folder: Path) -> None:
    (folder / "node_modules").symlink_to(node_modules())


def _prepare_php(folder: Path) -> None:
    ensure("ensure_php.sh")
    (folder / "vendor").mkdir()
    # Debian's package stands in for composer's.
    (folder / "vendor" / "autoload.php").write_text("<?php require 'PhpAmqpLib/autoload.php';\n", encoding="utf-8")


def _prepare_shell(folder: Path) -> None:
    ensure("ensure_curl.sh")
    netrc = folder / ".netrc"
    netrc.write_text("machine 127.0.0.1 login guest password guest\n", encoding="utf-8")
    netrc.chmod(0o600)


_JARS: Final = ":".join(f"/usr/share/java/{name}.jar" for name in ("amqp-client", "gson", "slf4j-api"))


def _prepare_java(folder: Path) -> None:
    ensure("ensure_java.sh")
    _build(["javac", "-cp", _JARS, "-Xlint:all", "-Werror", "Publish.java", "Results.java"], folder)


def _prepare_go(folder: Path) -> None:
    ensure("ensure_go.sh")
    # Debian's packages are found without modules, and so without a network.
    where = {"GO111MODULE": "off", "GOPATH": "/usr/share/gocode", "GOCACHE": str(folder / "cache"), "GOFLAGS": ""}
    for program in ("publish", "results"):
        _build(["go", "vet", f"{program}.go"], folder, where)
        _build(["go", "build", "-o", program, f"{program}.go"], folder, where)


def _build(command: Sequence[str], folder: Path, more: dict[str, str] | None = None) -> None:
    done = subprocess.run(
        command,
        cwd=folder,
        env=os.environ | (more or {}),
        capture_output=True,
        text=True,
        timeout=_BUILD_TIMEOUT_S,
        check=False,
    )
    if done.returncode != 0:
        pytest.fail(f"{' '.join(command)} failed:\n{done.stdout}{done.stderr}", pytrace=False)


NODE: Final = Language(
    "Node", "publish.js", "results.js", _prepare_node, lambda folder, file: ["node", str(folder / file)]
)
PHP: Final = Language(
    "PHP", "publish.php", "results.php", _prepare_php, lambda folder, file: ["php", str(folder / file)]
)
SHELL: Final = Language(
    "the shell",
    "publish.sh",
    "results.sh",
    _prepare_shell,
    lambda folder, file: ["sh", str(folder / file)],
    published="routed",
)
JAVA: Final = Language(
    "Java",
    "Publish.java",
    "Results.java",
    _prepare_java,
    lambda folder, file: ["java", "-cp", f"{_JARS}:{folder}", file.removesuffix(".java")],
)
GO: Final = Language(
    "Go", "publish.go", "results.go", _prepare_go, lambda folder, file: [str(folder / file.removesuffix(".go"))]
)


@dataclass(frozen=True)
class Sealer:
    """How the program is run that seals a code in one language."""

    name: str
    program: str
    prepare: Callable[[Path], None]
    interpreter: str

    def ready_in(self, folder: Path) -> Sequence[str]:
        """Write the program into `folder`, and give the command that runs it."""
        (folder / self.program).write_text(programs_of_the_page()[self.program], encoding="utf-8")
        self.prepare(folder)
        return [self.interpreter, str(folder / self.program)]


SEALERS: Final = (
    Sealer("Node", "seal.js", _prepare_node, "node"),
    Sealer("PHP", "seal.php", lambda _: ensure("ensure_php.sh"), "php"),
    Sealer("Python", "seal.py", lambda _: None, sys.executable),
)


class Programs:
    """The two programs of one language, in a folder of their own, ready to run."""

    def __init__(self, folder: Path, language: Language) -> None:
        self.folder = folder
        self.language = language
        for file in (language.publisher, language.reader):
            (folder / file).write_text(programs_of_the_page()[file], encoding="utf-8")
        language.prepare(folder)

    def publish(self, job_id: str) -> Sequence[str]:
        """Give the command that publishes a job of that id."""
        return [*self.language.start(self.folder, self.language.publisher), job_id]

    def results(self, offset: str | None = None) -> Sequence[str]:
        """Give the command that reads results, from the stream where there is an offset."""
        return [*self.language.start(self.folder, self.language.reader), *([offset] if offset else [])]
