"""A client of the simulator for its tests, which holds every answer against Meta's OpenAPI."""

from __future__ import annotations

import io
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import aiohttp
import orjson

from otpost_worker.simulator import Simulator, SimulatorOptions, WebhookSettings
from send_requests import send_request
from webhook_receiver import PATIENCE_S, SECRET

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from otpost_worker.simulator import Entry
    from webhook_receiver import WebhookReceiver

SEND = "/v25.0/106540352242922/messages"
OPENAPI = Path(__file__).parent / "fixtures/meta-openapi/business-messaging-v23.0-subset.json"
SCHEMAS: dict[str, Any] = orjson.loads(OPENAPI.read_bytes())["components"]["schemas"]
JSON_TYPES: dict[str, type] = {"object": dict, "array": list, "string": str, "integer": int, "boolean": bool}
TOKEN = {"Authorization": "Bearer t"}
# More than any answer on loopback needs; a test that meets it has failed.
PATIENCE = aiohttp.ClientTimeout(total=20)
# For a simulator that reports: soon again, and a plan that is over at once.
QUICK_RETRY = {"first_s": 0.02, "ceiling_s": 0.1, "for_s": 20}
AT_ONCE = {"steps": [{"status": "sent"}]}


def conforms(value: object, schema: dict[str, Any], where: str = "body") -> None:
    """Hold a value against a schema: the few words of JSON Schema that Meta's answers are described in."""
    if "$ref" in schema:
        conforms(value, SCHEMAS[schema["$ref"].rsplit("/", 1)[1]], where)
        return
    if "type" in schema:
        assert isinstance(value, JSON_TYPES[schema["type"]]), where
    if "enum" in schema:
        assert value in schema["enum"], where
    if isinstance(value, dict):
        assert value.keys() >= set(schema.get("required", ())), where
        for name, inner in schema.get("properties", {}).items():
            if name in value:
                conforms(value[name], inner, f"{where}.{name}")
    if isinstance(value, list):
        for position, item in enumerate(value):
            conforms(item, schema["items"], f"{where}[{position}]")


class Caller:
    """A client of one simulator that checks every answer body that Meta's OpenAPI describes."""

    def __init__(self, simulator: Simulator, session: aiohttp.ClientSession) -> None:
        self.simulator = simulator
        self._session = session

    async def send(
        self, message: object, path: str = SEND, headers: dict[str, str] | None = None
    ) -> tuple[int, dict[str, str], Any]:
        headers = TOKEN if headers is None else headers
        async with self._session.post(self.simulator.url + path, json=message, headers=headers) as answer:
            body = orjson.loads(await answer.read())
            if answer.status == 200:
                conforms(body, SCHEMAS["MessageResponsePayload"])
            else:
                conforms(body["error"], SCHEMAS["ErrorObject"])
            return answer.status, dict(answer.headers), body

    async def raw_send(self, to: str, *, allow_redirects: bool = True) -> tuple[int, dict[str, str], bytes]:
        async with self._session.post(
            self.simulator.url + SEND, json=send_request(to), headers=TOKEN, allow_redirects=allow_redirects
        ) as answer:
            return answer.status, dict(answer.headers), await answer.read()

    async def post(self, path: str, body: bytes) -> tuple[int, Any]:
        headers = {**TOKEN, "Content-Type": "application/json"}
        url = self.simulator.url + path
        async with self._session.post(url, data=io.BytesIO(body), headers=headers) as answer:
            return answer.status, orjson.loads(await answer.read())

    async def control(self, line: str, body: object = None) -> tuple[int, Any]:
        """Ask a control endpoint; `line` is like `GET requests?since=3`."""
        method, name = line.split()
        url = f"{self.simulator.url}/_simulator/{name}"
        async with self._session.request(method, url, json=body) as answer:
            return answer.status, orjson.loads(await answer.read())

    def last(self) -> Entry:
        return self.simulator.journal.entries()[-1]


@asynccontextmanager
async def calling_and_reporting_to(receiver: WebhookReceiver) -> AsyncIterator[Caller]:
    """Run a simulator that reports to *receiver*, and give a client of it."""
    webhooks = WebhookSettings(url=receiver.url, secret=SECRET)
    async with (
        Simulator(SimulatorOptions(rate=0, webhooks=webhooks)) as simulator,
        aiohttp.ClientSession(timeout=PATIENCE, json_serialize=lambda body: orjson.dumps(body).decode()) as session,
    ):
        yield Caller(simulator, session)


async def settled(caller: Caller) -> None:
    """Wait until nothing is left to be reported."""
    assert await caller.simulator.webhooks.wait(settled=True, timeout_s=PATIENCE_S)
