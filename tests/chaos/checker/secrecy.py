"""Nothing leaked: no code and no full number where it must not be, whatever the workers went through."""

from __future__ import annotations

import base64
from typing import TYPE_CHECKING, Final

import orjson

from chaos.checker.evidence import Exposed, Violation

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping
    from pathlib import Path

    from chaos.checker.evidence import Evidence, Job

LEAKED: Final = "nothing leaked"
_WAMID: Final = "provider_message_id"


def check(evidence: Evidence, texts: Mapping[str, bytes]) -> Iterator[Violation]:
    """Search every text that somebody may read (logs, metrics, outputs), and all messages that the broker still has."""
    everything = dict(texts)
    everything["the results"] = "\n".join(map(_without_wamid, (result.body for result in evidence.results))).encode()
    everything["the results' properties"] = "\n".join(result.properties for result in evidence.results).encode()
    everything["the dead letters' headers"] = "\n".join(letter.headers for letter in evidence.letters).encode()
    everything["our own word for a message"] = "\n".join(
        str(request.callback) for request in evidence.requests
    ).encode()
    numbers = {job.to for job in evidence.jobs if job.to}
    for name, text in everything.items():
        for job in _with_code(evidence.jobs, text):
            yield Violation(LEAKED, job.id or job.kind, f"its code is in {name}")
        for secret, value in evidence.secrets.items():
            if value.encode() in text:
                yield Violation(LEAKED, name, f"{secret} is in it")
        for number in sorted(numbers):
            if number.encode() in text:
                yield Violation(LEAKED, _owner(evidence, number), f"its full number is in {name}")
            elif _base64(number) in text:
                yield Violation(LEAKED, _owner(evidence, number), f"its full number is in {name}, as base64")
    letters = "\n".join(letter.body for letter in evidence.letters).encode()
    for job in _with_code(evidence.jobs, letters):
        yield Violation(LEAKED, job.id or job.kind, "its code was buried without a seal")
    for one in evidence.exposed:
        yield Violation(LEAKED, one.job, f"its code was sealed, and is in {one.place}")


def search_stores(jobs: Iterable[Job], files: Iterable[Path]) -> Iterator[Exposed]:
    """Search the files of broker and ledger for codes that were sealed.

    Others may be in there, as the producer sent them; also in the broker's log, as RabbitMQ writes the messages that
    a channel had in hand into it when that channel crashes.
    """
    sealed = [job for job in jobs if job.is_sealed]
    for file in files:
        try:
            content = file.read_bytes()
        except FileNotFoundError:  # a broker that is at work takes its files away
            continue
        for job in _with_code(sealed, content):
            yield Exposed(job.id or job.kind, file.name)


def _with_code(jobs: Iterable[Job], content: bytes) -> Iterator[Job]:
    for job in jobs:
        if job.code and job.code.encode() in content:
            yield job


def _owner(evidence: Evidence, number: str) -> str:
    return next(job.id or job.kind for job in evidence.jobs if job.to == number)


def _without_wamid(body: str) -> str:
    event = orjson.loads(body)
    event.pop(_WAMID, None)
    return orjson.dumps(event).decode()


def _base64(digits: str) -> bytes:
    """Make what base64 makes of these digits inside something longer, at the offset that a wamid has."""
    return base64.b64encode(b"xxx" + digits.encode())[4:-4]
