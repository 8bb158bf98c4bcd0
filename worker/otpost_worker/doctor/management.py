"""Asking RabbitMQ's management API for what AMQP does not tell."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final
from urllib.parse import quote, unquote, urlsplit

import aiohttp
import orjson
from yarl import URL

from otpost.topology import Binding
from otpost_worker.doctor.facts import Effects, ManagementFacts, NotAsked

if TYPE_CHECKING:
    from collections.abc import Mapping

_TIMEOUT: Final = aiohttp.ClientTimeout(total=8, connect=3)
_PORTS: Final = {"amqp": ("http", 15672), "amqps": ("https", 15671)}
_MAX_BYTES: Final = 16 * 1024 * 1024
_COLUMNS: Final = (
    "name,policy,operator_policy,effective_policy_definition,source,destination,destination_type,routing_key"
)


class _Refused(Exception):
    """The API did not answer as it should."""


def management_url(broker_url: str, given: str | None) -> str:
    """Tell where the management API is: as *given*, or at its usual port on the broker's host."""
    if given is not None:
        return given.rstrip("/")
    parsed = urlsplit(broker_url)
    scheme, port = _PORTS.get(parsed.scheme, _PORTS["amqp"])
    host = parsed.hostname or "127.0.0.1"
    return f"{scheme}://[{host}]:{port}" if ":" in host else f"{scheme}://{host}:{port}"


async def ask_management(broker_url: str, url: str) -> ManagementFacts | NotAsked:
    """Ask for policies and bindings, with the broker's own user."""
    parsed = urlsplit(broker_url)
    user, vhost = unquote(parsed.username or "guest"), unquote(parsed.path[1:]) or "/"
    auth = aiohttp.BasicAuth(user, unquote(parsed.password or "guest"), encoding="utf-8")
    try:
        async with aiohttp.ClientSession(auth=auth, timeout=_TIMEOUT, trust_env=False) as session:
            queues = await _get(session, url, "queues", vhost)
            bindings = await _get(session, url, "bindings", vhost)
    except _Refused as error:
        return NotAsked(str(error))
    except (aiohttp.ClientError, OSError, TimeoutError, ValueError) as error:
        reason = getattr(error, "strerror", None) or type(error).__name__
        return NotAsked(
            f"the management API does not answer at {url} ({reason}); "
            "'rabbitmq-plugins enable rabbitmq_management' turns it on, --management-url says where it is"
        )
    return ManagementFacts(
        url,
        {str(queue.get("name")): _effects(queue) for queue in queues},
        frozenset(map(_binding, bindings)),
    )


async def _get(session: aiohttp.ClientSession, url: str, what: str, vhost: str) -> list[Mapping[str, Any]]:
    async with session.get(
        URL(f"{url}/api/{what}/{quote(vhost, safe='')}?columns={_COLUMNS}", encoded=True), allow_redirects=False
    ) as response:
        if response.status in (401, 403):
            raise _Refused(
                f"the management API at {url} does not let this user in (HTTP status {response.status}); "
                "give it the tag: 'rabbitmqctl set_user_tags USER management'"
            )
        answer = _list(await _bounded_body(response)) if response.status == 200 else None
    if answer is None:
        raise _Refused(
            f"what answers at {url} is not the management API (HTTP status {response.status}); name it with "
            "--management-url"
        )
    return [row for row in answer if isinstance(row, dict)]


async def _bounded_body(response: aiohttp.ClientResponse) -> bytes:
    body = bytearray()
    async for chunk in response.content.iter_any():
        body += chunk
        if len(body) > _MAX_BYTES:
            raise _Refused(f"the management API tells more than {_MAX_BYTES} bytes; look at the policies yourself")
    return bytes(body)


def _list(body: bytes) -> list[Any] | None:
    try:
        answer = orjson.loads(body)
    except orjson.JSONDecodeError:
        return None
    return answer if isinstance(answer, list) else None


def _effects(queue: Mapping[str, Any]) -> Effects:
    definition = queue.get("effective_policy_definition")
    # An empty table comes as a list, which Erlang cannot tell from it.
    return Effects(
        _name(queue.get("policy")),
        _name(queue.get("operator_policy")),
        definition if isinstance(definition, dict) else {},
    )


def _name(value: object) -> str | None:
    return value if isinstance(value, str) and value else None


def _binding(row: Mapping[str, Any]) -> Binding:
    return Binding(
        str(row.get("source")),
        str(row.get("destination")),
        str(row.get("routing_key")),
        to_exchange=row.get("destination_type") == "exchange",
    )
