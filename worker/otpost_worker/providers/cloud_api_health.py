"""What Meta says of a business number when it is asked: whether it can send, and what is in the way [pure]."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import orjson

from otpost_worker.providers.cloud_api_codes import remedy_of

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

AVAILABLE: Final = "AVAILABLE"
LIMITED: Final = "LIMITED"
BLOCKED: Final = "BLOCKED"
_MAX_TEXT: Final = 300


@dataclass(frozen=True, slots=True)
class Obstacle:
    """What Meta has against an entity: *what* and, where it knows one, a *solution*."""

    code: int | None
    what: str
    solution: str | None


@dataclass(frozen=True, slots=True)
class Entity:
    """Something that the number needs to send: itself, its account, the business, the app.

    *can_send* is ``AVAILABLE``, ``LIMITED``, ``BLOCKED``, or a word that is newer than this program.
    """

    kind: str
    id: str
    can_send: str
    obstacles: tuple[Obstacle, ...]


@dataclass(frozen=True, slots=True)
class NumberHealth:
    """The number was asked and answered; *can_send* is about all of *entities* together."""

    can_send: str
    entities: tuple[Entity, ...]


@dataclass(frozen=True, slots=True)
class QuestionRefused:
    """The provider does not answer the question: its code and words, and what to do."""

    code: int | None
    http_status: int
    title: str
    remedy: str


@dataclass(frozen=True, slots=True)
class NoAnswer:
    """Nobody was reached, or nobody who speaks as Meta does."""

    why: str


Health = NumberHealth | QuestionRefused | NoAnswer


def health_of(status: int, body: bytes | None, *, token_source: str) -> Health:
    """Read the answer, whatever somebody may have put into it."""
    answer = _object(body)
    health, error = answer.get("health_status"), answer.get("error")
    if 200 <= status < 300 and isinstance(health, dict):
        return NumberHealth(_text(health.get("can_send_message")) or "?", tuple(_entities(health)))
    if not isinstance(error, dict):
        return NoAnswer(f"what answers there is not the Cloud API (HTTP status {status})")
    code = error.get("code")
    code = code if isinstance(code, int) and not isinstance(code, bool) else None
    title = _text(error.get("message")) or f"HTTP status {status}"
    return QuestionRefused(code, status, title, remedy_of(code, token_source=token_source))


def _entities(health: Mapping[str, Any]) -> Iterator[Entity]:
    entities = health.get("entities")
    for entity in entities if isinstance(entities, list) else ():
        if isinstance(entity, dict):
            yield Entity(
                _text(entity.get("entity_type")) or "?",
                _text(entity.get("id")) or "?",
                _text(entity.get("can_send_message")) or "?",
                (*_errors(entity.get("errors")), *_notes(entity.get("additional_info"))),
            )


def _errors(errors: object) -> Iterator[Obstacle]:
    for error in errors if isinstance(errors, list) else ():
        if isinstance(error, dict):
            code = error.get("error_code")
            yield Obstacle(
                code if isinstance(code, int) and not isinstance(code, bool) else None,
                _text(error.get("error_description")) or "no description",
                _text(error.get("possible_solution")),
            )


def _notes(notes: object) -> Iterator[Obstacle]:
    for note in notes if isinstance(notes, list) else ():
        if text := _text(note):
            yield Obstacle(None, text, None)


def _object(body: bytes | None) -> dict[str, Any]:
    try:
        decoded = orjson.loads(body or b"")
    except orjson.JSONDecodeError:
        return {}
    return decoded if isinstance(decoded, dict) else {}


def _text(value: object) -> str | None:
    return value[:_MAX_TEXT] if isinstance(value, str) and value else None
