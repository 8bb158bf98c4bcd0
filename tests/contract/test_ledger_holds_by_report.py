"""What every ledger keeps of a hold that a report has begun, behind the acceptance of what it is about."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from known_states import DEADLINE, claim_request
from otpost_worker.outcome import Error, Kind
from otpost_worker.pacing import Lane
from otpost_worker.ports import Claimed, SenderReport
from otpost_worker.standing import Heard, Signal
from ports_in_memory import NOW, Clock

if TYPE_CHECKING:
    from ledger_implementations import OpenLedger


async def hold_of(ledger: OpenLedger) -> tuple[float, bool, float | None, str | None]:
    (one,) = (await ledger.report({"default": 80.0}, {"default": "default"}))["default"].holds
    title = one.error.title if one.error else None
    return one.hold.since, one.hold.by_report, one.hold.cleared_at, title


def answered(signal: Signal, begun_at: float) -> Heard:
    """A word about the sender from an answer; no template is known."""
    return Heard(Lane("default", "default", "", "", "", 80.0, 0.0, 0.0), signal, begun_at)


def told_later(signal: Signal, begun_at: float = NOW) -> Heard:
    """The same from a report, behind an answer that was another one."""
    return replace(answered(signal, begun_at), by_report=True, error=Error(Kind.SENDER_HALTED, title="paused"))


async def test_a_hold_that_came_by_report_remembers_what_was_taken_since_and_why_it_began(
    ledger: OpenLedger, clock: Clock
) -> None:
    await ledger.hear(told_later(Signal.SENDER_REFUSED))
    assert await hold_of(ledger) == (NOW, True, None, "paused")
    clock.reach(NOW + 5)
    taken = answered(Signal.ANSWERED, NOW + 5)
    assert await ledger.hear(taken) == ()
    assert await hold_of(ledger) == (NOW, True, NOW + 5, "paused")
    await ledger.hear(replace(told_later(Signal.SENDER_REFUSED), error=None))
    assert await hold_of(ledger) == (NOW, True, None, "paused")
    await ledger.hear(taken)
    clock.reach(NOW + 35)
    (news,) = await ledger.hear(taken)
    assert news.change.value == "resumed"


async def test_a_hold_that_came_by_report_ends_with_a_report(ledger: OpenLedger, clock: Clock) -> None:
    await ledger.hear(told_later(Signal.SENDER_REFUSED))
    clock.reach(NOW + 6)
    (news,) = await ledger.hear(told_later(Signal.ANSWERED, NOW + 5))
    assert (news.change.value, await ledger.report({"default": 80.0}, {"default": "default"})) == (
        "resumed", {"default": SenderReport(80.0, None, ())}
    )  # fmt: skip


async def test_a_probe_keeps_what_is_known_of_the_hold_and_is_told_as_one(ledger: OpenLedger, clock: Clock) -> None:
    lane = Lane("default", "default", "12015553931", "login", "en_US", 80.0, DEADLINE - 5, DEADLINE)
    await ledger.hear(told_later(Signal.SENDER_REFUSED))
    clock.reach(NOW + 5)
    reply = await ledger.claim(replace(claim_request(), lane=lane))
    assert isinstance(reply, Claimed)
    assert await hold_of(ledger) == (NOW, True, None, "paused")
    assert (await ledger.story("job-1"))[0].attempts[0].probe
