"""What the simulated number says of itself: `health_status`, over real HTTP."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import aiohttp
import orjson
import pytest

from otpost_worker.simulator import Simulator, SimulatorOptions
from simulator_caller import PATIENCE, TOKEN, Caller

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

NUMBER: Final = "106540352242922"
HEALTH: Final = f"/v25.0/{NUMBER}?fields=health_status"
CARD: Final = {
    "error_code": 141006,
    "error_description": "There is an error with the payment method.",
    "possible_solution": "Add a new payment method to the account.",
}


@pytest.fixture
async def session() -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession(timeout=PATIENCE, json_serialize=lambda body: orjson.dumps(body).decode()) as one:
        yield one


@pytest.fixture
async def simulator() -> AsyncIterator[Simulator]:
    async with Simulator(SimulatorOptions(rate=0)) as running:
        yield running


async def ask(
    simulator: Simulator, session: aiohttp.ClientSession, path: str = HEALTH, headers: dict[str, str] | None = None
) -> tuple[int, Any]:
    async with session.get(simulator.url + path, headers=TOKEN if headers is None else headers) as answer:
        return answer.status, orjson.loads(await answer.read())


async def test_a_number_is_healthy_until_it_is_said_not_to_be(
    simulator: Simulator, session: aiohttp.ClientSession
) -> None:
    status, body = await ask(simulator, session)
    assert status == 200
    assert body == {
        "health_status": {
            "can_send_message": "AVAILABLE",
            "entities": [
                {"entity_type": "PHONE_NUMBER", "id": NUMBER, "can_send_message": "AVAILABLE"},
                {"entity_type": "WABA", "id": "102290129340398", "can_send_message": "AVAILABLE"},
                {"entity_type": "BUSINESS", "id": "506914307656634", "can_send_message": "AVAILABLE"},
                {"entity_type": "APP", "id": "634974688087057", "can_send_message": "AVAILABLE"},
            ],
        },
        "id": NUMBER,
    }
    # Asking is not sending.
    assert simulator.journal.total == 0


async def test_the_worst_entity_decides_and_tells_why(simulator: Simulator, session: aiohttp.ClientSession) -> None:
    caller = Caller(simulator, session)
    impaired = [
        {"entity_type": "WABA", "can_send_message": "BLOCKED", "errors": [CARD]},
        {
            "entity_type": "BUSINESS",
            "can_send_message": "LIMITED",
            "additional_info": ["The business is not verified."],
        },
    ]
    assert (await caller.control("PUT number", {"entities": impaired}))[0] == 200
    _, body = await ask(simulator, session)
    health = body["health_status"]
    assert health["can_send_message"] == "BLOCKED"
    assert [entity["can_send_message"] for entity in health["entities"]] == [
        "AVAILABLE", "BLOCKED", "LIMITED", "AVAILABLE",
    ]  # fmt: skip
    assert health["entities"][1]["errors"] == [CARD]
    assert health["entities"][2]["additional_info"] == ["The business is not verified."]
    await caller.control("PUT number", {"entities": impaired[1:]})
    assert (await ask(simulator, session))[1]["health_status"]["can_send_message"] == "LIMITED"
    await caller.control("PUT number", {})
    assert (await ask(simulator, session))[1]["health_status"]["can_send_message"] == "AVAILABLE"


async def test_only_what_is_asked_for_is_told(simulator: Simulator, session: aiohttp.ClientSession) -> None:
    assert await ask(simulator, session, f"/v25.0/{NUMBER}") == (200, {"id": NUMBER})
    status, body = await ask(simulator, session, f"/v25.0/{NUMBER}?fields=health_status,shoe_size")
    assert (status, body["error"]["code"]) == (400, 100)
    assert "nonexisting field (shoe_size)" in body["error"]["message"]


async def test_token_quota_and_address_are_judged_as_for_a_message(session: aiohttp.ClientSession) -> None:
    async with Simulator(SimulatorOptions(rate=0, access_token="right")) as simulator:
        assert (await ask(simulator, session, headers={}))[1]["error"]["code"] == 104
        status, body = await ask(simulator, session)
        assert (status, body["error"]["code"], body["error"]["error_subcode"]) == (401, 190, 463)
        right = {"Authorization": "Bearer right"}
        assert (await ask(simulator, session, headers=right))[0] == 200
        assert (await ask(simulator, session, "/v25.0/me", headers=right))[1]["error"]["error_subcode"] == 33
        assert (await ask(simulator, session, f"/x/{NUMBER}", headers=right))[1]["error"]["code"] == 2500
        await Caller(simulator, session).control("PUT quota", {"seconds": 60})
        assert (await ask(simulator, session, headers=right))[1]["error"]["code"] == 4


@pytest.mark.parametrize(
    ("body", "told"),
    [
        ([], "number must be a JSON object"),
        ({"entities": [{"entity_type": "PHONE"}]}, "entity_type must be one of PHONE_NUMBER, WABA, BUSINESS, APP"),
        ({"entities": [{"entity_type": "APP", "can_send_message": "NO"}]}, "can_send_message must be one of AVAILABLE"),
        (
            {"entities": [{"entity_type": "APP", "can_send_message": "LIMITED", "errors": [{"code": 1}]}]},
            "entities[0].errors[0] has no field 'code'",
        ),
        (
            {"entities": [{"entity_type": "APP", "can_send_message": "LIMITED", "additional_info": [1]}]},
            "additional_info must be an array of strings",
        ),
    ],
)
async def test_what_makes_no_sense_is_refused_with_what_to_write_instead(
    simulator: Simulator, session: aiohttp.ClientSession, body: object, told: str
) -> None:
    status, answer = await Caller(simulator, session).control("PUT number", body)
    assert status == 400
    assert told in answer["error"]
