"""The AsyncAPI document: valid by AsyncAPI's own schema, and true of the broker and of the messages."""

from __future__ import annotations

import json
from copy import deepcopy
from pathlib import Path
from typing import Any, Final

import pytest
from jsonschema import Draft7Validator

from message_schemas import problems
from otpost.schemas import document

DOCUMENT: Final = document("asyncapi")
OFFICIAL: Final = Path(__file__).parents[1] / "fixtures" / "asyncapi" / "3.0.0.json"


@pytest.fixture(scope="module")
def official() -> Draft7Validator:
    return Draft7Validator(json.loads(OFFICIAL.read_text(encoding="utf-8")))


def resolved(reference: dict[str, str], within: dict[str, Any]) -> Any:  # noqa: ANN401 - JSON
    node: Any = within
    for step in reference["$ref"].removeprefix("#/").split("/"):
        node = node[step]
    return resolved(node, within) if set(node) == {"$ref"} else node


def references(node: Any) -> list[dict[str, str]]:  # noqa: ANN401 - JSON
    if isinstance(node, list):
        return [found for one in node for found in references(one)]
    if not isinstance(node, dict):
        return []
    if "$ref" in node:
        return [node]
    return [found for one in node.values() for found in references(one)]


def test_it_is_valid_asyncapi(official: Draft7Validator) -> None:
    assert DOCUMENT["asyncapi"] == "3.0.0"
    assert [f"{error.json_path}: {error.message}" for error in official.iter_errors(DOCUMENT)] == []


@pytest.mark.parametrize(
    ("path", "value"),
    [
        (("servers", "rabbitmq", "protokol"), "amqp"),
        (("channels", "jobs", "bindings", "amqp", "exchange", "type"), "quorum"),
        (("channels", "stream", "bindings", "amqp", "is"), "stream"),
        (("operations", "receiveJob", "action"), "publish"),
        (("operations", "sendResult", "bindings", "amqp", "deliveryMode"), 3),
        (("components", "schemas", "job", "type"), "text"),
    ],
)
def test_the_validator_finds_what_is_wrong_with_it(
    official: Draft7Validator, path: tuple[str, ...], value: str
) -> None:
    broken = deepcopy(DOCUMENT)
    node = broken
    for step in path[:-1]:
        node = node[step]
    node[path[-1]] = value
    assert not official.is_valid(broken)


def test_every_reference_leads_somewhere() -> None:
    found = references(DOCUMENT)
    assert len(found) > 15
    assert all(resolved(reference, DOCUMENT) for reference in found)


def test_every_operation_names_messages_of_its_own_channel() -> None:
    for name, operation in DOCUMENT["operations"].items():
        prefix = operation["channel"]["$ref"] + "/messages/"
        assert operation["messages"], name
        assert all(message["$ref"].startswith(prefix) for message in operation["messages"]), name


@pytest.mark.parametrize("message", ["job", "result", "event"])
def test_every_example_is_what_its_schema_says(message: str) -> None:
    examples = DOCUMENT["components"]["messages"][message]["examples"]
    assert examples
    for example in examples:
        assert problems(message, example["payload"]) == [], example["name"]


@pytest.mark.parametrize(
    ("channel", "exchange", "kind", "address"),
    [
        ("jobs", "otpost.jobs", "direct", "{sender}"),
        ("results", "otpost.results", "topic", "{sender}.{status}"),
        ("events", "otpost.results", "topic", "{sender}.event.{name}"),
    ],
)
def test_exchanges_and_keys_are_the_contracts(channel: str, exchange: str, kind: str, address: str) -> None:
    described = DOCUMENT["channels"][channel]
    assert described["address"] == address
    assert described["bindings"]["amqp"]["exchange"] == {
        "name": exchange,
        "type": kind,
        "durable": True,
        "autoDelete": False,
    }


def test_the_stream_is_a_queue() -> None:
    binding = DOCUMENT["channels"]["stream"]["bindings"]["amqp"]
    assert (binding["is"], binding["queue"]["name"]) == ("queue", "otpost.results")


@pytest.mark.parametrize("message", ["job", "result", "event"])
def test_messages_carry_the_contracts_type(message: str) -> None:
    described = DOCUMENT["components"]["messages"][message]
    kind = f"otpost.{message}.v1"
    assert (described["name"], described["bindings"]["amqp"]["messageType"]) == (kind, kind)
    assert described["x-amqp-properties"]["type"] == kind
    assert (described["contentType"], described["x-amqp-properties"]["delivery_mode"]) == ("application/json", 2)
