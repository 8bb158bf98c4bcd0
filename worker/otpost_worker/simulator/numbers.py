"""What the business number says of itself when it is asked: `health_status`, and whatever keeps it from sending.

Pure. A number is healthy until the control endpoint says otherwise.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

from .control import ControlError, Fields, shown
from .errors import ErrorAnswer, invalid_parameter

# From the best to the worst; the number as a whole fares no better than the worst that it depends on.
CONDITIONS: Final = ("AVAILABLE", "LIMITED", "BLOCKED")
ENTITIES: Final = ("PHONE_NUMBER", "WABA", "BUSINESS", "APP")
_IDS: Final = {"WABA": "102290129340398", "BUSINESS": "506914307656634", "APP": "634974688087057"}
_FIELDS: Final = ("id", "health_status")


@dataclass(frozen=True, slots=True)
class Impairment:
    """What is wrong with one entity: its condition, and Meta's errors or notes about it."""

    entity_type: str
    can_send_message: str
    errors: tuple[dict[str, Any], ...] = ()
    additional_info: tuple[str, ...] = ()


def parse_impairments(payload: object) -> tuple[Impairment, ...]:
    """The body of PUT /_simulator/number: what is impaired; whatever it does not name is well."""
    fields = Fields.of(payload, "number", ("entities",))
    return tuple(_impairment(item, f"number: entities[{at}]") for at, item in enumerate(fields.items("entities")))


def _impairment(item: object, where: str) -> Impairment:
    fields = Fields.of(item, where, ("entity_type", "can_send_message", "errors", "additional_info"))
    entity_type = _one_of(fields, "entity_type", ENTITIES)
    condition = _one_of(fields, "can_send_message", CONDITIONS)
    errors = [_error(error, f"{where}.errors[{at}]") for at, error in enumerate(fields.items("errors"))]
    notes = fields.items("additional_info")
    if not all(isinstance(note, str) for note in notes):
        raise ControlError(f"{where}: additional_info must be an array of strings; got {shown(notes)}.")
    return Impairment(entity_type, condition, tuple(errors), tuple(map(str, notes)))


def _one_of(fields: Fields, name: str, allowed: tuple[str, ...]) -> str:
    value = fields.text(name)
    if value not in allowed:
        raise ControlError(f"{fields.where}: {name} must be one of {', '.join(allowed)}; got {shown(value)}.")
    return value


def _error(item: object, where: str) -> dict[str, Any]:
    fields = Fields.of(item, where, ("error_code", "error_description", "possible_solution"))
    told = {"error_code": fields.whole("error_code", 0)} | {
        name: fields.text(name) for name in ("error_description", "possible_solution")
    }
    return {name: value for name, value in told.items() if value is not None}


def describe(number_id: str, fields: str | None, impairments: tuple[Impairment, ...]) -> dict[str, Any] | ErrorAnswer:
    """Answer GET /{phone-number-id}?fields=…, as far as it is known here."""
    wanted = [name for name in (fields or "id").split(",") if name]
    strangers = [name for name in wanted if name not in _FIELDS]
    if strangers:
        return invalid_parameter(
            f"Tried accessing nonexisting field ({strangers[0][:60]}) on node type (WhatsAppBusinessPhoneNumber)"
        )
    known = {"health_status": _health(number_id, impairments)} if "health_status" in wanted else {}
    return {**known, "id": number_id}


def _health(number_id: str, impairments: tuple[Impairment, ...]) -> dict[str, Any]:
    by_type = {impairment.entity_type: impairment for impairment in impairments}
    conditions = [impairment.can_send_message for impairment in by_type.values()]
    return {
        "can_send_message": max(conditions, key=CONDITIONS.index, default=CONDITIONS[0]),
        "entities": [_entity(name, _IDS.get(name, number_id), by_type.get(name)) for name in ENTITIES],
    }


def _entity(entity_type: str, entity_id: str, impairment: Impairment | None) -> dict[str, Any]:
    entity: dict[str, Any] = {
        "entity_type": entity_type,
        "id": entity_id,
        "can_send_message": impairment.can_send_message if impairment else CONDITIONS[0],
    }
    if impairment and impairment.errors:
        entity["errors"] = list(impairment.errors)
    if impairment and impairment.additional_info:
        entity["additional_info"] = list(impairment.additional_info)
    return entity
