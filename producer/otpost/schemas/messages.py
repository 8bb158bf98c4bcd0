"""JSON Schema (2020-12) of the three messages, derived from their models."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from pydantic.json_schema import GenerateJsonSchema

from otpost.event import SenderEvent
from otpost.job import JOB_TYPE, OtpJob
from otpost.result import EVENT_TYPE, RESULT_TYPE, OtpResult

if TYPE_CHECKING:
    from pydantic import BaseModel

_DIALECT: Final = "https://json-schema.org/draft/2020-12/schema"
_JOB_TEXT: Final = (
    "One one-time password for one recipient: the body of a message to the exchange otpost.jobs. "
    "Unknown fields are refused; null stands for a field that is left out."
)
_RESULT_TEXT: Final = (
    "What became of a job, one event at a time, as otpost publishes it. "
    "Readers ignore fields that they do not know: later versions add some."
)
_EVENT_TEXT: Final = (
    "What happened to a sender rather than to one job, as otpost publishes it. "
    "Readers ignore fields that they do not know: later versions add some."
)


# Exactly one of the two, and not both of the others; null counts as left out.
_WHICH_FIELDS: Final[dict[str, Any]] = {
    "oneOf": [
        {"required": ["code"], "properties": {"code": {"type": "string"}}},
        {"required": ["sealed_code"], "properties": {"sealed_code": {"type": "string"}}},
    ],
    "not": {
        "required": ["expires_at", "ttl_s"],
        "properties": {"expires_at": {"type": "string"}, "ttl_s": {"type": "number"}},
    },
}


class _Untitled(GenerateJsonSchema):
    """Leaves out the fields' titles, which would only say their names again."""

    def field_title_should_be_set(self, schema: Any) -> bool:  # noqa: ANN401, ARG002 - pydantic's own
        return False


def job_schema() -> dict[str, Any]:
    """Describe the job, as far as a schema can; docs/producers.md lists what the worker refuses beyond it."""
    # Only the constructor makes up an id; a message without one is refused.
    return _described(OtpJob, JOB_TYPE, _JOB_TEXT) | {"required": ["id", "to"]} | _WHICH_FIELDS


def result_schema() -> dict[str, Any]:
    """Describe the result as it is published: every field is there but one, and no other."""
    schema = _closed(_described(OtpResult, RESULT_TYPE, _RESULT_TEXT))
    return schema | {"required": [name for name in schema["required"] if name != "message_status"]}


def event_schema() -> dict[str, Any]:
    """Describe the event as it is published: every field is there, and no other."""
    return _closed(_described(SenderEvent, EVENT_TYPE, _EVENT_TEXT))


def _described(model: type[BaseModel], title: str, text: str) -> dict[str, Any]:
    derived = model.model_json_schema(schema_generator=_Untitled)
    schema: dict[str, Any] = _without_references(derived, derived.pop("$defs", {}))
    return {"$schema": _DIALECT, "$id": f"urn:otpost:schema:{title}"} | schema | {"title": title, "description": text}


def _without_references(node: Any, definitions: dict[str, Any]) -> Any:  # noqa: ANN401 - JSON
    """Put each definition where it is used, so that a part of the schema can stand in another document."""
    if isinstance(node, list):
        return [_without_references(one, definitions) for one in node]
    if not isinstance(node, dict):
        return node
    if "$ref" in node:
        definition = definitions[node["$ref"].rpartition("/")[2]]
        node = definition | {name: value for name, value in node.items() if name != "$ref"}
        node.pop("title", None)
    # A default of null says no more than that the field may be left out.
    kept = {name: value for name, value in node.items() if not (name == "default" and value is None)}
    return _merged_with_null({name: _without_references(value, definitions) for name, value in kept.items()})


def _merged_with_null(node: dict[str, Any]) -> dict[str, Any]:
    """Write ``X or null`` as one schema with two types, of which validators say more when they refuse."""
    choices: list[dict[str, Any]] = node.get("anyOf", [])
    # Both would judge null too.
    if len(choices) != 2 or choices[1] != {"type": "null"} or choices[0].keys() & {"not", "enum"}:
        return node
    others = {name: value for name, value in node.items() if name != "anyOf"}
    return choices[0] | {"type": [choices[0]["type"], "null"]} | others


def _closed(schema: dict[str, Any]) -> dict[str, Any]:
    """Ask of each object for every field, and for no other. What a caller puts into its ``ref`` is its own."""
    fields: dict[str, Any] = schema.get("properties", {})
    if not fields:
        return schema
    closed = {name: _closed(field) for name, field in fields.items()}
    return schema | {"properties": closed, "required": list(fields), "additionalProperties": False}
