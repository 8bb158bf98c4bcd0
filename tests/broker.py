"""Test tools on a RabbitMQ node: a fresh virtual host per test, and the management API to look into it.

How fresh what you see is: `Vhost.ready_count` asks the queue itself and is exact. Everything else in
`QueueState` comes from the management plugin's statistics, which lag by up to about a second on the
nodes of these tests; wait for a state with `Vhost.wait_for_queue` instead of asserting it at once.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import http.client
import json
import secrets
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeVar
from urllib.parse import quote

import pika

from message_schemas import assert_job_agrees, problems_of
from private_rabbitmq import HOST, PASSWORD, USER, PrivateRabbitMQ

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

REQUEST_TIMEOUT_S = 30.0
WAIT_TIMEOUT_S = 10.0
POLL_INTERVAL_S = 0.05
DELETE_TIMEOUT_S = 30.0

T = TypeVar("T")


class ManagementError(Exception):
    """The management API refused a request, or a state did not come about in time."""

    def __init__(self, message: str, status: int | None = None) -> None:
        super().__init__(message)
        self.status = status


@dataclass(frozen=True)
class ManagementAPI:
    """The management plugin's HTTP API of one node."""

    port: int
    user: str = USER
    password: str = PASSWORD

    def request(self, method: str, path: str, body: object = None, headers: Mapping[str, str] | None = None) -> Any:  # noqa: ANN401 - JSON
        """Send one request to ``/api`` + `path` and return its parsed answer (None when it is empty)."""
        token = base64.b64encode(f"{self.user}:{self.password}".encode()).decode()
        all_headers = {
            "Authorization": f"Basic {token}",
            "Content-Type": "application/json",
            **(headers or {}),
        }
        payload = None if body is None else json.dumps(body)
        # One connection per request, so that tests may call from whichever thread.
        connection = http.client.HTTPConnection(HOST, self.port, timeout=REQUEST_TIMEOUT_S)
        with contextlib.closing(connection):
            connection.request(method, f"/api{path}", body=payload, headers=all_headers)
            response = connection.getresponse()
            answer = response.read()
        if response.status >= http.HTTPStatus.BAD_REQUEST:
            message = f"{method} /api{path} was answered {response.status}: {answer.decode(errors='replace')[:500]}"
            raise ManagementError(message, response.status)
        return json.loads(answer) if answer else None


@dataclass(frozen=True)
class QueueState:
    """What the management statistics say about a queue; the counts lag (see the module's docstring)."""

    name: str
    type: str
    ready: int
    unacked: int
    consumers: int
    durable: bool
    arguments: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class FetchedMessage:
    """A message taken from a queue through the management API."""

    body: bytes
    properties: Mapping[str, Any]
    exchange: str
    routing_key: str
    redelivered: bool

    @property
    def headers(self) -> Mapping[str, Any]:
        """The message's AMQP headers."""
        headers = self.properties.get("headers", {})
        return headers if isinstance(headers, dict) else {}


def _queue_state(answer: Mapping[str, Any]) -> QueueState:
    # Right after its declaration a queue has no statistics yet, and the counts are absent.
    return QueueState(
        name=answer["name"],
        type=answer.get("type", "classic"),
        ready=answer.get("messages_ready", 0),
        unacked=answer.get("messages_unacknowledged", 0),
        consumers=answer.get("consumers", 0),
        durable=answer["durable"],
        arguments=answer.get("arguments", {}),
    )


def _fetched_message(answer: Mapping[str, Any]) -> FetchedMessage:
    # An empty table arrives as `[]`, as Erlang cannot tell it from an empty list.
    return FetchedMessage(
        body=base64.b64decode(answer["payload"]),
        properties=answer["properties"] or {},
        exchange=answer["exchange"],
        routing_key=answer["routing_key"],
        redelivered=answer["redelivered"],
    )


class Vhost:
    """One virtual host of a private node, and what tests do to it.

    All methods block for milliseconds unless they say otherwise.
    """

    def __init__(self, node: PrivateRabbitMQ, name: str) -> None:
        self.node = node
        self.name = name
        self.api = ManagementAPI(node.management_port)

    @property
    def url(self) -> str:
        """AMQP URL of this virtual host."""
        return self.node.amqp_url_of(self.name)

    # -- looking -----------------------------------------------------------------------------------

    def queues(self) -> dict[str, QueueState]:
        """Return all queues by name; the counts lag."""
        answer = self.api.request("GET", f"/queues/{self._id}")
        return {queue["name"]: _queue_state(queue) for queue in answer}

    def queue(self, name: str) -> QueueState | None:
        """Return one queue, None when there is none of that name; the counts lag."""
        try:
            return _queue_state(self.api.request("GET", f"/queues/{self._id}/{quote(name, safe='')}"))
        except ManagementError as error:
            if error.status == http.HTTPStatus.NOT_FOUND:
                return None
            raise

    def ready_count(self, queue: str) -> int:
        """Return the exact number of messages ready for delivery, from the queue itself."""
        with contextlib.closing(pika.BlockingConnection(pika.URLParameters(self.url))) as connection:
            declared = connection.channel().queue_declare(queue, passive=True)
            return int(declared.method.message_count)

    def bindings(self) -> set[tuple[str, str, str]]:
        """Return (exchange, routing key, queue or exchange) of all bindings but the default exchange's."""
        answer = self.api.request("GET", f"/bindings/{self._id}")
        return {(b["source"], b["routing_key"], b["destination"]) for b in answer if b["source"]}

    def exchanges(self) -> dict[str, str]:
        """Return the type of each exchange that was declared here, by name."""
        answer = self.api.request("GET", f"/exchanges/{self._id}")
        return {e["name"]: e["type"] for e in answer if e["name"] and not e["name"].startswith("amq.")}

    def connection_names(self) -> list[str]:
        """Return the client-given names of the open connections, "" for each that gave none; it lags."""
        return [_client_name(connection) for connection in self._connections()]

    async def wait_for_queue(
        self,
        name: str,
        *,
        ready: int | None = None,
        unacked: int | None = None,
        consumers: int | None = None,
        timeout_s: float = WAIT_TIMEOUT_S,
    ) -> QueueState:
        """Wait until the queue exists with the given counts, without blocking the event loop."""
        wanted = {"ready": ready, "unacked": unacked, "consumers": consumers}
        wanted = {key: count for key, count in wanted.items() if count is not None}

        def is_so(state: QueueState | None) -> bool:
            return state is not None and all(getattr(state, key) == count for key, count in wanted.items())

        state = await _poll(lambda: self.queue(name), is_so, f"queue {name!r} with {wanted}", timeout_s)
        assert state is not None
        return state

    async def wait_for_ready(self, queue: str, count: int, timeout_s: float = WAIT_TIMEOUT_S) -> None:
        """Wait until exactly `count` messages are ready, by asking the queue itself."""
        await _poll(
            lambda: self.ready_count(queue),
            lambda seen: seen == count,
            f"{count} ready messages in queue {queue!r}",
            timeout_s,
        )

    async def wait_for_acknowledged(self, queue: str, count: int, timeout_s: float = WAIT_TIMEOUT_S) -> None:
        """Wait until consumers have acknowledged `count` of the queue's messages in all."""

        def acknowledged() -> int:
            answer = self.api.request("GET", f"/queues/{self._id}/{quote(queue, safe='')}")
            return int(answer.get("message_stats", {}).get("ack", 0))

        what = f"{count} acknowledged messages of {queue!r}"
        await _poll(acknowledged, lambda seen: seen == count, what, timeout_s)

    async def wait_for_policies(self, *queues: str, timeout_s: float = WAIT_TIMEOUT_S) -> None:
        """Wait until a policy is known to be in force on each of these queues."""

        def without() -> set[str]:
            answer = self.api.request("GET", f"/queues/{self._id}")
            return {*queues} - {queue["name"] for queue in answer if queue.get("effective_policy_definition")}

        await _poll(without, lambda names: not names, f"a policy on each of {queues}", timeout_s)

    async def wait_for_binding(self, exchange: str, key: str, queue: str, timeout_s: float = WAIT_TIMEOUT_S) -> None:
        """Wait until the queue is bound to the exchange with that routing key."""
        wanted = (exchange, key, queue)
        await _poll(self.bindings, lambda bindings: wanted in bindings, f"the binding {wanted}", timeout_s)

    async def wait_for_connections(self, count: int, name_filter: str = "", timeout_s: float = WAIT_TIMEOUT_S) -> None:
        """Wait until `count` connections whose client-given name contains `name_filter` are open."""

        def matching() -> list[str]:
            return [name for name in self.connection_names() if name_filter in name]

        what = f"{count} connections with {name_filter!r} in their names"
        await _poll(matching, lambda names: len(names) == count, what, timeout_s)

    # -- doing -------------------------------------------------------------------------------------

    def publish(
        self,
        routing_key: str,
        body: bytes,
        *,
        exchange: str = "",
        properties: Mapping[str, Any] | None = None,
    ) -> bool:
        """Publish one message as somebody else would, and tell whether it reached a queue.

        `properties` has the AMQP names (``message_id``, ``delivery_mode``, ``expiration``, ``headers``).
        """
        if exchange == "otpost.jobs":
            assert_job_agrees(body)
        message = {
            "properties": dict(properties or {}),
            "routing_key": routing_key,
            "payload": base64.b64encode(body).decode(),
            "payload_encoding": "base64",
        }
        exchange_id = quote(exchange or "amq.default", safe="")
        return bool(self.api.request("POST", f"/exchanges/{self._id}/{exchange_id}/publish", message)["routed"])

    def get(self, queue: str, n: int = 1, *, requeue: bool = False) -> list[FetchedMessage]:
        """Take up to `n` ready messages out of a queue; with `requeue`, put them back after the look."""
        order = {
            "count": n,
            "ackmode": "ack_requeue_true" if requeue else "ack_requeue_false",
            "encoding": "base64",
        }
        answer = self.api.request("POST", f"/queues/{self._id}/{quote(queue, safe='')}/get", order)
        fetched = [_fetched_message(message) for message in answer]
        refused = [problem for one in fetched for problem in problems_of(one.properties.get("type"), one.body)]
        assert not refused, f"the schemas refuse what was fetched: {refused}"
        return fetched

    def declare_queue(self, name: str, arguments: Mapping[str, Any] | None = None, *, durable: bool = True) -> None:
        """Declare a queue."""
        order = {"durable": durable, "auto_delete": False, "arguments": dict(arguments or {})}
        self.api.request("PUT", f"/queues/{self._id}/{quote(name, safe='')}", order)

    def delete_queue(self, name: str) -> None:
        """Delete a queue with all that is in it; consumers are told so by the broker (basic.cancel)."""
        self.api.request("DELETE", f"/queues/{self._id}/{quote(name, safe='')}")

    def purge_queue(self, name: str) -> None:
        """Remove all ready messages of a queue."""
        self.api.request("DELETE", f"/queues/{self._id}/{quote(name, safe='')}/contents")

    def close_connections(self, name_filter: str = "") -> int:
        """Have the broker close the connections with `name_filter` in their client-given names.

        Returns how many it closed. A connection of the last second may not be listed yet; see
        `wait_for_connections`.
        """
        closed = 0
        for connection in self._connections():
            if name_filter in _client_name(connection) and self._close_connection(connection["name"]):
                closed += 1
        return closed

    def set_permissions(self, *, user: str = USER, configure: str = ".*", write: str = ".*", read: str = ".*") -> None:
        """Set what `user` may do here, as regular expressions of resource names ("" forbids all)."""
        rights = {"configure": configure, "write": write, "read": read}
        self.api.request("PUT", f"/permissions/{self._id}/{quote(user, safe='')}", rights)

    def set_policy(self, name: str, pattern: str, definition: Mapping[str, Any]) -> None:
        """Set a policy on the queues whose names match `pattern`, for example ``{"max-length": 1}``."""
        order = {"pattern": pattern, "definition": dict(definition), "apply-to": "queues", "priority": 10}
        self.api.request("PUT", f"/policies/{self._id}/{quote(name, safe='')}", order)

    def delete(self) -> None:
        """Delete the virtual host with all that is in it.

        A node that has just been restarted may answer 500 while it still brings up the queues; it is asked again then.
        """
        deadline = time.monotonic() + DELETE_TIMEOUT_S
        while True:
            try:
                self.api.request("DELETE", f"/vhosts/{self._id}")
            except ManagementError as error:
                if error.status == http.HTTPStatus.NOT_FOUND:
                    return
                if error.status != http.HTTPStatus.INTERNAL_SERVER_ERROR or time.monotonic() >= deadline:
                    raise
                time.sleep(POLL_INTERVAL_S)
            else:
                return

    # -- inside ------------------------------------------------------------------------------------

    @property
    def _id(self) -> str:
        return quote(self.name, safe="")

    def _connections(self) -> list[dict[str, Any]]:
        answer: list[dict[str, Any]] = self.api.request("GET", f"/vhosts/{self._id}/connections")
        return answer

    def _close_connection(self, name: str) -> bool:
        try:
            self.api.request("DELETE", f"/connections/{quote(name, safe='')}", headers={"X-Reason": "closed by a test"})
        except ManagementError as error:
            # It went by itself in the meantime.
            if error.status == http.HTTPStatus.NOT_FOUND:
                return False
            raise
        return True


def _client_name(connection: Mapping[str, Any]) -> str:
    # A connection that is just being opened or closed is listed without its properties.
    properties = connection.get("client_properties") or {}
    return str(properties.get("connection_name", ""))


async def _poll(look: Callable[[], T], is_so: Callable[[T], bool], what: str, timeout_s: float) -> T:
    deadline = time.monotonic() + timeout_s
    while True:
        seen = await asyncio.to_thread(look)
        if is_so(seen):
            return seen
        if time.monotonic() >= deadline:
            message = f"waited {timeout_s} s for {what}, last seen: {seen}"
            raise ManagementError(message)
        await asyncio.sleep(POLL_INTERVAL_S)


@contextlib.contextmanager
def fresh_vhost(node: PrivateRabbitMQ, *, to_delete: bool = True) -> Iterator[Vhost]:
    """Make a virtual host of a new name on `node`, and delete it in the end.

    Args:
        node: where.
        to_delete: False where the node goes next, and all that it has with it.

    """
    vhost = Vhost(node, f"test-{secrets.token_hex(6)}")
    vhost.api.request("PUT", f"/vhosts/{quote(vhost.name, safe='')}")
    try:
        vhost.set_permissions()
        yield vhost
    finally:
        # A test may have left its node dead on purpose; then there is nothing to delete.
        if to_delete and node.is_running:
            vhost.delete()
