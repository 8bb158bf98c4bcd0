"""Every error code and every accident of the way, over real HTTP: what the provider makes of it and what follows.

The expected kinds and decisions are written out by hand from the contract's sixth section and from Meta's table.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any, Final

import pytest
import pytest_asyncio

from otpost_worker.decision import Bury, Decision, Halt, History, Policy, RetryIn, decide
from otpost_worker.outcome import Accepted, Outcome, Refused
from otpost_worker.ports import Message
from otpost_worker.providers.cloud_api import CloudApi, CloudApiAccount
from otpost_worker.providers.http import open_session
from otpost_worker.simulator import Simulator, SimulatorOptions

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    import aiohttp

# One server and one pool for all: each test only adds a request.
pytestmark = pytest.mark.asyncio(loop_scope="module")

TOKEN: Final = "EAAtokenQWERT12345"
NOW: Final = 1_000_000.0
# What may follow: the job is a dead letter; the sender halts, probed 5 s later; a retry in so many seconds (no jitter).
DEAD: Final = "dead letter"
HALT: Final = "halt"

# code: kind, what follows
AUTHORIZATION: Final = {
    0: ("sender_halted", HALT),
    3: ("sender_halted", HALT),
    10: ("sender_halted", HALT),
    102: ("sender_halted", HALT),
    104: ("sender_halted", HALT),
    190: ("sender_halted", HALT),
    199: ("bad_request", DEAD),  # no code of Meta's: the end before the range
    200: ("sender_halted", HALT),
    201: ("sender_halted", HALT),
    210: ("sender_halted", HALT),
    250: ("sender_halted", HALT),
    298: ("sender_halted", HALT),
    299: ("sender_halted", HALT),
    300: ("bad_request", DEAD),  # the end behind the range
    131005: ("sender_halted", HALT),
}
THROTTLING: Final = {
    4: ("quota", 60),
    17: ("quota", 60),
    32: ("quota", 60),
    341: ("quota", 60),
    613: ("quota", 60),
    80007: ("quota", 60),
    80008: ("quota", 60),
    130429: ("throughput", 1),
    131048: ("sender_halted", HALT),
    131056: ("pair_limit", 1),
    131064: ("sender_halted", HALT),
    133016: ("bad_request", DEAD),
}
INTEGRITY: Final = {
    368: ("sender_halted", HALT),
    130497: ("recipient", DEAD),
    131031: ("sender_halted", HALT),
    131037: ("sender_halted", HALT),
    131042: ("sender_halted", HALT),
    131045: ("sender_halted", HALT),
    131057: ("unavailable", 15),
    133010: ("sender_halted", HALT),
    2494100: ("unavailable", 15),
}
REQUEST: Final = {
    1: ("unavailable", 1),
    2: ("unavailable", 1),
    33: ("sender_halted", HALT),
    100: ("bad_request", DEAD),
    506: ("bad_request", DEAD),
    130403: ("recipient", DEAD),
    130472: ("user_limit", 30),
    131000: ("unavailable", 1),
    131001: ("bad_request", DEAD),
    131002: ("bad_request", DEAD),
    131006: ("bad_request", DEAD),
    131008: ("bad_request", DEAD),
    131009: ("bad_request", DEAD),
    131016: ("unavailable", 1),
    131020: ("bad_request", DEAD),
    131021: ("bad_request", DEAD),
    131026: ("recipient", DEAD),
    131030: ("recipient", DEAD),
    131041: ("bad_request", DEAD),
    131043: ("recipient", DEAD),
    131047: ("bad_request", DEAD),
    131049: ("user_limit", 30),
    131050: ("recipient", DEAD),
    131051: ("bad_request", DEAD),
    131052: ("bad_request", DEAD),
    131053: ("bad_request", DEAD),
    131055: ("bad_request", DEAD),
    131059: ("bad_request", DEAD),
    131060: ("bad_request", DEAD),
    131062: ("bad_request", DEAD),
    131063: ("template", DEAD),
    131199: ("bad_request", DEAD),  # the end before the range of groups
    131200: ("bad_request", DEAD),
    131299: ("bad_request", DEAD),
    131300: ("bad_request", DEAD),  # the end behind it
    135000: ("unavailable", 1),
    137000: ("recipient", DEAD),
    138000: ("bad_request", DEAD),
    138999: ("bad_request", DEAD),
    139000: ("bad_request", DEAD),
    139999: ("bad_request", DEAD),
    147005: ("bad_request", DEAD),
}
TEMPLATES: Final = {
    132000: ("bad_request", DEAD),
    132001: ("template", DEAD),
    132005: ("bad_request", DEAD),
    132007: ("template", DEAD),
    132012: ("bad_request", DEAD),
    132015: ("template", DEAD),
    132016: ("template", DEAD),
    132018: ("bad_request", DEAD),
    132068: ("bad_request", DEAD),
    132069: ("bad_request", DEAD),
    134011: ("bad_request", DEAD),
    134100: ("bad_request", DEAD),
    134101: ("bad_request", DEAD),
    134102: ("bad_request", DEAD),
    134103: ("bad_request", DEAD),
}
REGISTRATION: Final = {
    133000: ("bad_request", DEAD),
    133001: ("bad_request", DEAD),
    133002: ("bad_request", DEAD),
    133003: ("bad_request", DEAD),
    133004: ("unavailable", 1),
    133005: ("bad_request", DEAD),
    133006: ("bad_request", DEAD),
    133007: ("bad_request", DEAD),
    133008: ("bad_request", DEAD),
    133009: ("bad_request", DEAD),
    133015: ("bad_request", DEAD),
    136024: ("bad_request", DEAD),
    136025: ("bad_request", DEAD),
}
CODES: Final = {**AUTHORIZATION, **THROTTLING, **INTEGRITY, **REQUEST, **TEMPLATES, **REGISTRATION}


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def simulator() -> AsyncIterator[Simulator]:
    async with Simulator(SimulatorOptions(rate=0, pair=False, access_token=TOKEN)) as running:
        yield running


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def session() -> AsyncIterator[aiohttp.ClientSession]:
    """Open a pool with far more patience than loopback needs."""
    async with open_session(connections=10, connect_timeout_s=20, timeout_s=30) as pool:
        yield pool


@pytest.fixture
def provider(simulator: Simulator, session: aiohttp.ClientSession) -> CloudApi:
    return cloud_api(simulator.url, session)


def cloud_api(url: str, session: aiohttp.ClientSession) -> CloudApi:
    return CloudApi(CloudApiAccount("106540352242922", TOKEN, url), session, clock=lambda: NOW)


def message(to: str) -> Message:
    return Message(to, "493817", "verification_code", "en_US", "job-1")


def what_follows(outcome: Outcome) -> Decision:
    return decide(outcome, deadline=NOW + 5000, now=NOW, history=History(), policy=Policy(), random=1.0)


def shown(decision: Decision) -> str | float:
    """The decision in the words of the tables above."""
    match decision:
        case Bury():
            return DEAD
        case Halt(RetryIn(delay_s=5.5)):
            return HALT
        case RetryIn():
            return decision.delay_s
        case _:
            return repr(decision)


async def answered_by_rule(
    simulator: Simulator, session: aiohttp.ClientSession, answer: dict[str, Any], to: str = "+12015553931"
) -> Outcome:
    """Send one message that the simulator gives this answer to, once."""
    rule = {"match": {"to": to}, "times": 1, "answer": answer}
    async with session.post(f"{simulator.url}/_simulator/rules", json=rule) as posted:
        assert posted.status == 201, await posted.text()
    before = simulator.journal.total
    outcome = await cloud_api(simulator.url, session).send(message(to))
    # One request a send: whether there is another one is for others to decide.
    assert simulator.journal.total == before + 1
    return outcome


@pytest.mark.parametrize("code", CODES)
async def test_every_code_of_metas_table_has_its_kind_and_its_consequence(
    code: int, simulator: Simulator, session: aiohttp.ClientSession, provider: CloudApi
) -> None:
    kind, follows = CODES[code]
    if code < 1_000_000:
        before = simulator.journal.total
        outcome = await provider.send(message(f"+999{code:06}0"))
        assert simulator.journal.total == before + 1
    else:
        outcome = await answered_by_rule(simulator, session, {"error": code})
    assert isinstance(outcome, Refused)
    assert (outcome.error.code, outcome.error.kind) == (code, kind)
    assert shown(what_follows(outcome)) == follows
    assert outcome.error.provider_trace_id


@pytest.mark.parametrize(
    ("answer", "kind", "follows", "max_retries"),
    [
        pytest.param({"error": 100, "subcode": 33}, "sender_halted", HALT, None, id="object that is not there"),
        pytest.param({"error": 3, "http_status": 500}, "sender_halted", HALT, None, id="permission with HTTP 500"),
        pytest.param({"error": 133000, "http_status": 500}, "bad_request", DEAD, None, id="bad request with HTTP 500"),
        pytest.param({"error": 131020, "http_status": 500}, "bad_request", DEAD, None, id="groups with HTTP 500"),
        pytest.param({"error": 131041, "http_status": 500}, "bad_request", DEAD, None, id="131041 with HTTP 500"),
        pytest.param({"error": 131250, "http_status": 503}, "bad_request", DEAD, None, id="groups with HTTP 503"),
        pytest.param({"error": 138006, "http_status": 500}, "bad_request", DEAD, None, id="calling with HTTP 500"),
        pytest.param({"error": 139100, "http_status": 500}, "bad_request", DEAD, None, id="calling with HTTP 500, too"),
        pytest.param({"error": 147005, "http_status": 500}, "bad_request", DEAD, None, id="usernames with HTTP 500"),
        pytest.param({"error": 2388019, "http_status": 500}, "bad_request", DEAD, None, id="templates with HTTP 500"),
        pytest.param({"error": 130429, "http_status": 429}, "throughput", 1, None, id="throttled with HTTP 429"),
        pytest.param({"error": 131026, "http_status": 503}, "recipient", DEAD, None, id="recipient with HTTP 503"),
        pytest.param({"error": 4, "minutes": 3}, "quota", 180, None, id="quota for three minutes"),
        pytest.param({"error": 80007, "minutes": 0}, "quota", 60, None, id="quota for no known time"),
        pytest.param({"error": 80007, "retry_after": "7"}, "quota", 7, None, id="quota with Retry-After"),
        pytest.param({"error": 131016, "retry_after": "20"}, "unavailable", 20, None, id="Retry-After"),
        pytest.param({"error": 131016, "retry_after": "soon"}, "unavailable", 1, None, id="Retry-After, unreadable"),
        pytest.param({"error": 131056, "retry_after": "9"}, "pair_limit", 9, None, id="pair limit, Retry-After"),
        pytest.param({"error": 1}, "unavailable", 1, 2, id="code 1"),
        pytest.param({"error": 135000}, "unavailable", 1, 1, id="code 135000"),
        pytest.param({"error": 777777, "http_status": 400}, "bad_request", DEAD, None, id="unknown, HTTP 400"),
        pytest.param({"error": 777777, "http_status": 404}, "bad_request", DEAD, None, id="unknown, HTTP 404"),
        pytest.param({"error": 777777, "http_status": 429}, "unavailable", 1, 2, id="unknown, HTTP 429"),
        pytest.param({"error": 777777, "http_status": 500}, "unavailable", 1, 2, id="unknown, HTTP 500"),
        pytest.param({"error": 777777, "is_transient": True}, "unavailable", 1, 2, id="unknown, transient"),
        pytest.param({"error": 777777, "is_transient": False}, "bad_request", DEAD, None, id="unknown, not transient"),
        pytest.param({"error": 100, "is_transient": True}, "bad_request", DEAD, None, id="known, transient"),
        pytest.param({"status": 401}, "sender_halted", HALT, None, id="HTTP 401 without a code"),
        pytest.param({"status": 404, "body": "<html>"}, "sender_halted", HALT, None, id="HTTP 404 of a proxy"),
        pytest.param({"status": 400, "body": "{}"}, "bad_request", DEAD, None, id="HTTP 400 without a code"),
        pytest.param({"status": 502, "body": "<html>"}, "unavailable", 1, None, id="HTTP 502 of a proxy"),
        pytest.param(
            {"status": 503, "headers": {"Retry-After": "Mon, 12 Jan 1970 13:47:10 GMT"}},
            "unavailable",
            30,  # NOW is 13:46:40 of that day
            None,
            id="Retry-After as a date",
        ),
    ],
)
async def test_the_finer_points_of_an_error_count(
    simulator: Simulator,
    session: aiohttp.ClientSession,
    answer: dict[str, Any],
    kind: str,
    follows: str | float,
    max_retries: int | None,
) -> None:
    outcome = await answered_by_rule(simulator, session, answer)
    assert isinstance(outcome, Refused)
    assert (outcome.error.kind, outcome.max_retries) == (kind, max_retries)
    assert shown(what_follows(outcome)) == follows


async def test_the_request_carries_the_token_and_what_meta_wants(
    simulator: Simulator, session: aiohttp.ClientSession, provider: CloudApi
) -> None:
    outcome = await provider.send(message("+12015553931"))
    entry = simulator.journal.entries()[-1]
    assert outcome == Accepted(entry.wamid or "")
    assert (entry.phone_number_id, entry.token_ok, entry.prepended) == ("106540352242922", True, False)
    assert (entry.to, entry.code, entry.callback) == ("+12015553931", "493817", "job-1")
    assert (entry.template, entry.language) == ("verification_code", "en_US")
    # A slash too many in the settings does no harm.
    assert isinstance(await cloud_api(simulator.url + "/", session).send(message("+12015553931")), Accepted)


async def test_a_wrong_token_halts_the_sender(simulator: Simulator, session: aiohttp.ClientSession) -> None:
    account = CloudApiAccount("106540352242922", "old", simulator.url)
    outcome = await CloudApi(account, session, clock=time.time).send(message("+12015553931"))
    assert isinstance(outcome, Refused)
    assert (outcome.error.code, outcome.error.kind, outcome.error.http_status) == (190, "sender_halted", 401)


async def test_a_refused_token_that_was_replaced_meanwhile_halts_nobody(
    simulator: Simulator, session: aiohttp.ClientSession, tmp_path: Path
) -> None:
    file = tmp_path / "token"
    file.write_text(TOKEN, encoding="utf-8")
    account = CloudApiAccount("106540352242922", "EAAthe-old-one", simulator.url, token_file=file)
    api = CloudApi(account, session, clock=time.time)
    message = Message("+12015553931", "493817", "verification_code", "en_US", "job-1")
    first, second = await api.send(message), await api.send(message)
    assert isinstance(first, Refused)
    assert (first.error.code, first.outdated, first.remedy) == (190, True, None)
    assert isinstance(second, Accepted)
    # Whoever watches a sender that is halted for it is still told, once.
    assert [await api.take_renewal(), await api.take_renewal()] == [True, False]


async def test_a_code_that_an_error_repeats_is_not_told(simulator: Simulator, session: aiohttp.ClientSession) -> None:
    details = "493817 cannot be sent to +12015553931"
    outcome = await answered_by_rule(simulator, session, {"error": 131026, "details": details})
    assert isinstance(outcome, Refused)
    assert outcome.error.detail == "*** cannot be sent to +***"
