"""Jobs of a sender at its limit stand in line: in order, a few asking at a time, and none for ever."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import TYPE_CHECKING, Final

import pytest

from known_states import claim_request
from otpost_worker.claiming import ASKING, MAX_IN_LINE_S, Claims
from otpost_worker.decision import History
from otpost_worker.ports import Claimed, Crowded, LedgerUnavailable, MustEnd, Ticket
from ports_in_memory import NOW

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from otpost_worker.ports import ClaimReply, ClaimRequest, Ledger

PATIENCE_S: Final = 20.0


class Script:
    """A ledger that answers claims as it is told, in order; the last answer again once they are used up."""

    def __init__(self, *answers: ClaimReply | LedgerUnavailable) -> None:
        self.answers = list(answers)
        self.asked: list[str] = []
        self.released: list[Ticket] = []
        self.at_once = 0
        self.most_at_once = 0

    async def claim(self, request: ClaimRequest) -> ClaimReply:
        self.asked.append(request.job_id)
        self.at_once += 1
        self.most_at_once = max(self.most_at_once, self.at_once)
        await asyncio.sleep(0)
        self.at_once -= 1
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        if isinstance(answer, LedgerUnavailable):
            raise answer
        return answer

    async def release(self, ticket: Ticket) -> None:
        self.released.append(ticket)


class Packed(Script):
    """A ledger whose sender is at its limit for an hour: nobody but who has to end gets further."""

    def __init__(self) -> None:
        super().__init__(Crowded(NOW + 3600))

    async def claim(self, request: ClaimRequest) -> ClaimReply:
        crowded = await super().claim(request)
        return MustEnd(History(), None) if request.wish.late or request.wish.end else crowded


class Moving:
    """A clock that moves on by itself each time it is read: nobody has to wait in truth."""

    def __init__(self, step_s: float) -> None:
        self.now = NOW
        self.step_s = step_s

    def __call__(self) -> float:
        self.now += self.step_s
        return self.now


def granted(start_at: float) -> Claimed:
    return Claimed(Ticket("job-1", 1, 1, "token"), History(), start_at)


def claims(ledger: Script, *, step_s: float = 0.0, stopping: asyncio.Event | None = None) -> Claims:
    port: Ledger = ledger  # type: ignore[assignment] # nothing but claims is asked of it
    return Claims(port, clock=Moving(step_s), stopping=stopping or asyncio.Event())


async def reply(line: Claims, job_id: str = "job-1") -> ClaimReply | None:
    async with asyncio.timeout(PATIENCE_S):
        asked = await line.ask(lambda: claim_request(job_id=job_id))
    return asked.reply if asked else None


async def test_a_reply_comes_back_with_what_was_asked_and_when() -> None:
    request = claim_request()
    asked = await claims(Script(granted(NOW))).ask(lambda: request)
    assert asked is not None
    assert (asked.reply, asked.request, asked.at) == (granted(NOW), request, NOW)


async def test_a_crowd_is_waited_out_in_line() -> None:
    ledger = Script(Crowded(NOW + 0.01), Crowded(NOW + 0.02), granted(NOW + 0.5))
    assert await reply(claims(ledger)) == granted(NOW + 0.5)
    assert ledger.asked == ["job-1"] * 3


async def test_those_in_line_ask_a_few_at_a_time_and_in_order() -> None:
    ledger = Script(Crowded(NOW), granted(NOW + 0.5))
    line = claims(ledger)
    await reply(line, "first")
    ledger.most_at_once = 0
    async with asyncio.timeout(PATIENCE_S):
        await asyncio.gather(*(reply(line, f"job-{number}") for number in range(30)))
    assert ledger.asked[2:] == [f"job-{number}" for number in range(30)]
    assert ledger.most_at_once == ASKING


@pytest.fixture
async def full_line() -> AsyncIterator[Claims]:
    """A line for an hour, with more in it than ask at a time."""
    line = claims(Packed())
    waiting = [asyncio.ensure_future(reply(line, f"job-{number}")) for number in range(ASKING + 5)]
    await asyncio.sleep(0)
    yield line
    for one in waiting:
        one.cancel()
    await asyncio.gather(*waiting, return_exceptions=True)


@pytest.mark.parametrize("over", [{"late": True}, {"end": True}])
async def test_who_is_not_to_be_sent_any_more_does_not_stand_in_line(full_line: Claims, over: dict[str, bool]) -> None:
    request = claim_request()
    async with asyncio.timeout(MAX_IN_LINE_S / 2):
        asked = await full_line.ask(lambda: replace(request, wish=replace(request.wish, **over)))
    assert asked is not None
    assert asked.reply == MustEnd(History(), None)


@pytest.mark.parametrize("first", [True, False])
async def test_who_stands_in_line_leaves_it_at_the_deadline_and_ends(full_line: Claims, first: bool) -> None:  # noqa: FBT001 - a parameter of the test
    line = claims(Packed()) if first else full_line
    waited = asyncio.get_running_loop().time() + 0.05

    def request() -> ClaimRequest:
        made, late = claim_request(), asyncio.get_running_loop().time() >= waited
        return replace(made, wish=replace(made.wish, late=late), deadline=NOW + 0.06)

    async with asyncio.timeout(MAX_IN_LINE_S / 2):
        asked = await line.ask(request)
    assert asked is not None
    assert asked.reply == MustEnd(History(), None)


async def test_a_start_that_is_near_ends_the_line() -> None:
    ledger = Script(Crowded(NOW), granted(NOW))
    line = claims(ledger)
    await reply(line)
    ledger.most_at_once = 0
    async with asyncio.timeout(PATIENCE_S):
        await asyncio.gather(*(reply(line) for _ in range(ASKING + 5)))
    assert ledger.most_at_once == ASKING + 5


async def test_nobody_stands_in_line_for_ever() -> None:
    # Each reading of the clock is 3 s later than the one before, so that 10 s are over after a few.
    ledger = Script(Crowded(NOW))
    assert isinstance(await reply(claims(ledger, step_s=3.0)), Crowded)
    assert 2 <= len(ledger.asked) <= 5


@pytest.mark.parametrize("answer", [Crowded(NOW + 3600), LedgerUnavailable("gone")])
async def test_who_waits_is_told_when_the_worker_stops(answer: Crowded | LedgerUnavailable) -> None:
    stopping = asyncio.Event()
    waiting = asyncio.ensure_future(reply(claims(Script(answer), stopping=stopping)))
    others = asyncio.ensure_future(reply(claims(Script(answer), stopping=stopping)))
    await asyncio.sleep(0)
    stopping.set()
    async with asyncio.timeout(PATIENCE_S):
        assert list(await asyncio.gather(waiting, others)) == [None, None]


async def test_what_may_have_been_claimed_unheard_is_released_when_the_worker_stops() -> None:
    stopping, ledger, request = asyncio.Event(), Script(LedgerUnavailable("no answer")), claim_request()
    waiting = asyncio.ensure_future(claims(ledger, stopping=stopping).ask(lambda: request))
    await asyncio.sleep(0)
    stopping.set()
    async with asyncio.timeout(PATIENCE_S):
        assert await waiting is None
    assert ledger.released == [Ticket("job-1", 1, 1, request.token)]


async def test_nothing_is_asked_once_the_worker_stops() -> None:
    stopping = asyncio.Event()
    stopping.set()
    ledger = Script(granted(NOW))
    assert await reply(claims(ledger, stopping=stopping)) is None
    assert ledger.asked == []
