"""A POST on its way, and what is remembered of it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from .bodies import signature

if TYPE_CHECKING:
    import asyncio

    from .reports import Report
    from .telling import Signature

_WRONG: Final = "sha256=" + "0" * 64


@dataclass(slots=True)
class Posting:
    """One POST, however often it is tried.

    `kind` is `statuses`, or what a control request asked for; `statuses` how many are in it. `answer` is the last HTTP
    status, None for none in time. `state`: `waiting`, `answered` (with 200), `given_up`.
    """

    seq: int
    kind: str
    statuses: int = 0
    tries: int = 0
    answer: int | None = None
    state: str = "waiting"
    first_at: float | None = None
    last_at: float | None = None


@dataclass(slots=True)
class Letter:
    """A posting on its way. The moments are of a clock that never goes back."""

    posting: Posting
    reports: tuple[Report, ...] = ()
    body: bytes | None = None
    signature: Signature = "right"
    signature_header: str | None = None
    retry: bool = True
    pause_s: float = 0.0
    started: float | None = None
    tried: asyncio.Future[None] | None = None

    def header(self, secret: str, body: bytes) -> str | None:
        """The value of `X-Hub-Signature-256`; None for no such header."""
        if self.signature_header is not None:
            return self.signature_header
        match self.signature:
            case "right":
                return signature(secret, body)
            case "wrong":
                return _WRONG
            case "none":
                return None

    def was_tried(self) -> None:
        """Let go on who waits for the first try."""
        if self.tried is not None and not self.tried.done():
            self.tried.set_result(None)
