"""Where codes, numbers and secrets may not be found: everything that somebody may read, searched as a whole.

Each subject has a code and a number of its own, neither of which occurs anywhere else.
"""

from __future__ import annotations

import asyncio
import base64
import itertools
import re
import secrets
import string
import subprocess
import time
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final

import aiohttp
import orjson

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from pathlib import Path

PATIENCE_S: Final = 60.0
_CODE_CHARACTERS: Final = string.ascii_letters + string.digits
_numbers = itertools.count(1)


@dataclass(frozen=True)
class Subject:
    """One user, with a code and a number that occur nowhere else."""

    id: str
    to: str
    code: str

    @property
    def digits(self) -> str:
        return self.to.removeprefix("+")

    def body(self, **changes: object) -> bytes:
        job = {"id": self.id, "to": self.to, "code": self.code, "created_at": datetime.now(UTC), "ttl_s": 60}
        return orjson.dumps({name: value for name, value in (job | changes).items() if value is not None})


def subject(what: str, to: str = "+1203555{:04}") -> Subject:
    number = next(_numbers)
    # With a digit in it: without one, what looks like any other word may stay in a text of the provider's.
    code = f"{secrets.randbelow(10)}" + "".join(secrets.choice(_CODE_CHARACTERS) for _ in range(11))
    return Subject(f"{what.replace(' ', '-')}-{number}", to.format(number), code)


@dataclass
class Sinks:
    """Everything that somebody may read, by what it is."""

    texts: dict[str, str] = field(default_factory=dict)

    def add(self, name: str, text: object) -> None:
        shown = text.decode(errors="replace") if isinstance(text, bytes) else str(text)
        self.texts[name] = self.texts.get(name, "") + shown + "\n"

    def leaks(self, subjects: Iterable[Subject]) -> list[str]:
        found = []
        for one in subjects:
            hidden = {"code": one.code, "number": one.digits, "number as base64": as_base64(one.digits)}
            found += [f"{one.id}: {place}" for place in self.holding(hidden)]
        return found

    def holding(self, hidden: Mapping[str, str]) -> list[str]:
        """Name what of *hidden* is found, and where."""
        return [
            f"{what} in {name}"
            for name, text in self.texts.items()
            for what, secret in hidden.items()
            if secret in text
        ]


def as_base64(digits: str) -> str:
    """What base64 makes of these digits inside something longer, at the offset that a wamid has."""
    return base64.b64encode(b"xxx" + digits.encode())[4:-4].decode()


def port_of(log: Path, event: str = "health.listening") -> int:
    """Read from a process's log, in either format, where it answers."""
    deadline = time.monotonic() + PATIENCE_S
    while time.monotonic() < deadline:
        for line in log.read_text(encoding="utf-8").splitlines():
            if event in line and (match := re.search(r'port"?[:=](\d+)', line)):
                return int(match[1])
        time.sleep(0.05)
    raise AssertionError("the process does not say where it listens")


async def scrape(log: Path, sinks: Sinks, of: str = "") -> None:
    """Add the pages of the process that writes *log*."""
    port = await asyncio.to_thread(port_of, log)
    async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=10)) as session:
        for path in ("/metrics", "/readyz"):
            async with session.get(f"http://127.0.0.1:{port}{path}") as answer:
                sinks.add(path + of, await answer.text())


def command_line(pid: int) -> str:
    """Read what everybody on this machine may read of a process."""
    question = ["ps", "-o", "args=", "-p", str(pid)]
    shown = subprocess.run(question, capture_output=True, text=True, check=True)
    return shown.stdout
