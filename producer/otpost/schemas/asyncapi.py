"""The AsyncAPI 3.0 document: which messages go where on the broker, from the service's point of view."""

from __future__ import annotations

from typing import Any, Final

from otpost.event import EventName
from otpost.job import JOB_TYPE
from otpost.result import EVENT_TYPE, RESULT_TYPE, Status
from otpost.schemas import examples
from otpost.schemas.messages import event_schema, job_schema, result_schema
from otpost.topology import DEFAULT_SENDER, HEADER_TRACEPARENT, JOBS, RESULTS, topology

# Of the contract, not of the package: it rises when a message changes.
_VERSION: Final = "1.0.0"
_BINDING_VERSION: Final = "0.3.0"
_JSON: Final = "application/json"
_PERSISTENT: Final = 2


def asyncapi() -> dict[str, Any]:
    """Write the document."""
    return {
        "asyncapi": "3.0.0",
        "info": {
            "title": "otpost",
            "version": _VERSION,
            "description": (
                "Sends one-time passwords over WhatsApp. The service receives jobs and sends results; "
                "a producer does the opposite. docs/producers.md shows it in several languages."
            ),
            "license": {"name": "MIT"},
        },
        "defaultContentType": _JSON,
        "servers": {"rabbitmq": _server()},
        "channels": _channels(),
        "operations": _operations(),
        "components": {
            "messages": {"job": _job(), "result": _result(), "event": _event()},
            "schemas": {
                "job": _part(job_schema()),
                "result": _part(result_schema()),
                "event": _part(event_schema()),
            },
            "securitySchemes": {"login": {"type": "userPassword", "description": "A RabbitMQ user."}},
        },
    }


def _server() -> dict[str, Any]:
    return {
        "host": "{host}:{port}",
        "pathname": "/{vhost}",
        "protocol": "amqp",
        "protocolVersion": "0-9-1",
        "description": "RabbitMQ 3.10 or later; amqps, on port 5671, where the way to it is not your own.",
        "variables": {
            "host": {"default": "127.0.0.1"},
            "port": {"default": "5672"},
            "vhost": {"default": "%2F", "description": "The virtual host, percent-encoded."},
        },
        "security": [{"$ref": "#/components/securitySchemes/login"}],
    }


def _channels() -> dict[str, Any]:
    sender = {"description": "A sender's name: 1 to 40 of a-z 0-9 _ -", "default": DEFAULT_SENDER}
    return {
        "jobs": {
            "address": "{sender}",
            "title": "Jobs",
            "description": (
                "Publish here, with publisher confirms. A job for a sender that nobody has declared is kept as a "
                "dead letter, with a failed result."
            ),
            "parameters": {"sender": sender},
            "messages": _messages("job"),
            "bindings": _exchange(JOBS),
        },
        "results": {
            "address": "{sender}.{status}",
            "title": "Results",
            "description": "Bind a queue of your own, with a pattern such as default.* or *.failed.",
            "parameters": {
                "sender": sender,
                "status": {"description": "What happened to the job.", "enum": [*map(str, Status)]},
            },
            "messages": _messages("result"),
            "bindings": _exchange(RESULTS),
        },
        "events": {
            "address": "{sender}.event.{name}",
            "title": "Events of senders",
            "description": "The same exchange. No version publishes them yet; readers tell them by their AMQP type.",
            "parameters": {
                "sender": sender,
                "name": {"description": "What happened to the sender.", "enum": [*map(str, EventName)]},
            },
            "messages": _messages("event"),
            "bindings": _exchange(RESULTS),
        },
        "stream": {
            "address": RESULTS,
            "title": "The stream of results and events",
            "description": (
                "A stream queue, kept for 7 days or 1 GiB: consume it with a prefetch and the argument "
                "x-stream-offset (first, last, next, an age such as 1h, an offset, or a timestamp)."
            ),
            "messages": _messages("result", "event"),
            "bindings": _amqp({"is": "queue", "queue": {"name": RESULTS, "durable": True, "autoDelete": False}}),
        },
        "replies": {
            "address": None,
            "title": "A queue of the producer's",
            "description": "Every result of a job also goes to the queue that its reply_to names, at best effort.",
            "messages": _messages("result"),
            "bindings": _amqp({"is": "routingKey", "exchange": {"name": "", "type": "default"}}),
        },
    }


def _operations() -> dict[str, Any]:
    publishing = {"deliveryMode": _PERSISTENT, "mandatory": True, "timestamp": True}
    return {
        "receiveJob": {
            **_operation("receive", "jobs", "job", summary="Take a job and send its code."),
            "bindings": _amqp({**publishing, "ack": True}),
            "reply": {
                "address": {
                    "location": "$message.header#/reply_to",
                    "description": "The AMQP property reply_to; it may not begin with otpost.",
                },
                "channel": _ref("channels", "replies"),
                "messages": [_ref("channels", "replies", "messages", "result")],
            },
        },
        "sendResult": {
            **_operation("send", "results", "result", summary="Tell what became of a job; a copy may come twice."),
            "bindings": _amqp(publishing),
        },
        "sendEvent": {
            **_operation("send", "events", "event", summary="Tell what happened to a sender."),
            "bindings": _amqp(publishing),
        },
        "keepResults": {
            **_operation("send", "stream", "result", "event", summary="Keep everything for whoever reads later."),
            "bindings": _amqp(publishing),
        },
    }


def _job() -> dict[str, Any]:
    return {
        "name": JOB_TYPE,
        "title": "Job",
        "summary": "One one-time password for one recipient.",
        "description": (
            "Only the body is needed. At most 16 KiB of UTF-8. Of the properties the worker reads timestamp (in place "
            "of created_at), reply_to, correlation_id and the header traceparent."
        ),
        "contentType": _JSON,
        "headers": _headers(
            {
                HEADER_TRACEPARENT: {
                    "type": "string",
                    "description": "W3C trace context; anything else counts as not there.",
                }
            }
        ),
        "correlationId": {"location": "$message.header#/correlation_id", "description": "Given back in each reply."},
        "payload": _ref("components", "schemas", "job"),
        "bindings": _amqp({"messageType": JOB_TYPE}),
        "x-amqp-properties": {
            **_properties(JOB_TYPE, "the job's id"),
            "timestamp": "when it was published",
            "reply_to": "optional: a queue of your own",
            "correlation_id": "optional: given back with each reply",
        },
        "examples": [
            {"name": "smallest", "payload": examples.SMALLEST_JOB},
            {"name": "everything", "payload": examples.JOB},
        ],
    }


def _result() -> dict[str, Any]:
    return {
        "name": RESULT_TYPE,
        "title": "Result",
        "summary": "One event in the life of a job.",
        "contentType": _JSON,
        "payload": _ref("components", "schemas", "result"),
        "correlationId": {"location": "$message.header#/correlation_id", "description": "In replies: the job's own."},
        "bindings": _amqp({"messageType": RESULT_TYPE}),
        "x-amqp-properties": _properties(RESULT_TYPE, "the event_id"),
        "examples": [
            {"name": "accepted", "payload": examples.ACCEPTED},
            {"name": "retrying", "payload": examples.RETRYING},
            {"name": "failed", "payload": examples.FAILED},
        ],
    }


def _event() -> dict[str, Any]:
    return {
        "name": EVENT_TYPE,
        "title": "Event",
        "summary": "One event in the life of a sender.",
        "contentType": _JSON,
        "payload": _ref("components", "schemas", "event"),
        "bindings": _amqp({"messageType": EVENT_TYPE}),
        "x-amqp-properties": _properties(EVENT_TYPE, "the event_id"),
        "examples": [{"name": "halted", "payload": examples.HALTED}],
    }


def _properties(kind: str, message_id: str) -> dict[str, Any]:
    return {"content_type": _JSON, "type": kind, "delivery_mode": _PERSISTENT, "message_id": message_id}


def _headers(known: dict[str, Any]) -> dict[str, Any]:
    return {"type": "object", "properties": known}


def _exchange(name: str) -> dict[str, Any]:
    [declared] = [one for one in topology([DEFAULT_SENDER]).exchanges if one.name == name]
    described = {"name": declared.name, "type": declared.kind, "durable": True, "autoDelete": False}
    return _amqp({"is": "routingKey", "exchange": described})


def _operation(action: str, channel: str, *messages: str, summary: str) -> dict[str, Any]:
    return {
        "action": action,
        "summary": summary,
        "channel": _ref("channels", channel),
        "messages": [_ref("channels", channel, "messages", name) for name in messages],
    }


def _messages(*names: str) -> dict[str, Any]:
    return {name: _ref("components", "messages", name) for name in names}


def _amqp(binding: dict[str, Any]) -> dict[str, Any]:
    return {"amqp": {**binding, "bindingVersion": _BINDING_VERSION}}


def _ref(*path: str) -> dict[str, str]:
    return {"$ref": "#/" + "/".join(path)}


def _part(schema: dict[str, Any]) -> dict[str, Any]:
    """Make a schema part of this document, whose dialect is its own."""
    return {name: value for name, value in schema.items() if name not in ("$schema", "$id")}
