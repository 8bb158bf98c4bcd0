"""What a ledger can know of a job, written into a real one: run 1 whose highest attempt is 2, in each state."""

from __future__ import annotations

import secrets
from typing import TYPE_CHECKING, Final

import orjson

from ledger_implementations import ledger_at
from otpost_worker.attempts import State, Wish
from otpost_worker.envelope import Event, Letter, Next, Step
from otpost_worker.outcome import Kind
from otpost_worker.ports import Claimed, ClaimRequest, Entry, Ticket
from ports_in_memory import NOW, envelope

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from pathlib import Path

    from ledger_implementations import Implementation
    from otpost_worker.envelope import Envelope
    from otpost_worker.ports import Ledger
    from ports_in_memory import Clock

DEADLINE: Final = NOW + 300
LEASE_S: Final = 10.0
# The first attempt is refused at once and its retry is due in a second, when the second one is claimed.
FIRST_DUE: Final = NOW + 1
SECOND_DUE: Final = NOW + 6


def event(event_id: str) -> Event:
    """Write an event as a worker does; only its id is looked at."""
    job_id, run, attempt, status = event_id.split("/")
    told = {"event_id": event_id, "job_id": job_id, "status": status, "run": int(run), "attempt": int(attempt)}
    where = {"sender": "default", "at": "2026-11-23T20:00:01.000Z", "provider": "in memory", "to": "12*******31"}
    rest = dict.fromkeys(["provider_message_id", "ref", "error", "retry_in_s", "latency_ms"])
    return Event(event_id, status, orjson.dumps(told | where | rest))


def retry_step(attempt: int, due_at: float, *, run: int = 1) -> Step:
    """An attempt that failed, with what follows."""
    return Step(event(f"job-1/{run}/{attempt}/retrying"), Next(attempt + 1, attempt, due_at))


def end_step(attempt: int, status: str, *, run: int = 1) -> Step:
    """An end of the run; a failed one has its dead letter."""
    letter = Letter("recipient", "{}", attempt, "2026-11-23T20:00:01.000Z") if status == "failed" else None
    return Step(event(f"job-1/{run}/{attempt}/{status}"), letter=letter)


def claim_request(run: int = 1, attempt: int = 1, *, of: Envelope | None = None, job_id: str = "job-1") -> ClaimRequest:
    delivered = of or envelope(run=run, attempt=attempt)
    return ClaimRequest(job_id, Wish(run, attempt), delivered, DEADLINE, LEASE_S, token=secrets.token_hex(8))


async def claimed(ledger: Ledger, run: int = 1, attempt: int = 1, *, of: Envelope | None = None) -> Ticket:
    reply = await ledger.claim(claim_request(run, attempt, of=of))
    assert isinstance(reply, Claimed), reply
    return reply.ticket


async def end_run(ledger: Ledger, status: str, *, run: int = 1, attempt: int = 1) -> None:
    entry = Entry(State.SETTLED, None, end_step(attempt, status, run=run), "wamid.1" if status == "accepted" else None)
    assert (await ledger.record(await claimed(ledger, run, attempt), entry)).recorded


async def prepare(place: Path | Implementation, clock: Clock, state: str, *, of: Envelope | None = None) -> None:
    """Bring a new ledger to `state`, as a worker that handled the job did before; see `STATES`."""
    if state == "no row":
        return
    implementation = ledger_at(place)
    async with implementation.open(clock) as ledger:
        first = await claimed(ledger, of=of)
        await ledger.record(first, Entry(State.REFUSED, Kind.UNAVAILABLE, retry_step(1, FIRST_DUE)))
        clock.reach(FIRST_DUE)
        await STATES[state](ledger, await claimed(ledger, 1, 2, of=of))
    if state.startswith("taken back"):
        implementation.take_back("job-1", 1, 2)


def _retry(state: State, kind: Kind) -> Callable[[Ledger, Ticket], Awaitable[object]]:
    return lambda ledger, ticket: ledger.record(ticket, Entry(state, kind, retry_step(2, SECOND_DUE)))


def _ended(status: str) -> Callable[[Ledger, Ticket], Awaitable[object]]:
    wamid = "wamid.2" if status == "accepted" else None
    kind = None if status == "accepted" else Kind.RECIPIENT
    return lambda ledger, ticket: ledger.record(ticket, Entry(State.SETTLED, kind, end_step(2, status), wamid))


async def _buried(ledger: Ledger, ticket: Ticket) -> None:
    await ledger.record(ticket, Entry(State.SETTLED, Kind.RECIPIENT, end_step(2, "failed")))
    await ledger.note_buried("job-1", 1)


async def _left(ledger: Ledger, ticket: Ticket) -> None:
    """A claim as a worker leaves it that dies with it."""


STATES: Final[dict[str, Callable[[Ledger, Ticket], Awaitable[object]]]] = {
    "ended accepted": _ended("accepted"),
    "ended expired": _ended("expired"),
    "ended failed": _ended("failed"),
    "ended failed, buried": _buried,
    "claimed": _left,
    "unknown": _retry(State.UNKNOWN, Kind.UNKNOWN),
    "refused": _retry(State.REFUSED, Kind.UNAVAILABLE),
    "taken back": _retry(State.REFUSED, Kind.UNAVAILABLE),
}
