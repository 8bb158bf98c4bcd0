"""What the ledger suites record, and how they read what comes back."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final

from known_states import LEASE_S, claim_request, end_step, retry_step
from otpost_worker.attempts import State
from otpost_worker.outcome import Kind
from otpost_worker.ports import ClaimRequest, Entry, Noted, Recorded
from ports_in_memory import NOW

if TYPE_CHECKING:
    from otpost_worker.envelope import Step

LEASE_END: Final = NOW + LEASE_S
ACCEPTED: Final = Entry(State.SETTLED, None, end_step(1, "accepted"), "wamid.1")
FAILED: Final = Entry(State.SETTLED, Kind.RECIPIENT, end_step(1, "failed"))
REFUSED: Final = Entry(State.REFUSED, Kind.UNAVAILABLE, retry_step(1, NOW + 3))
UNKNOWN: Final = Entry(State.UNKNOWN, Kind.UNKNOWN, retry_step(1, NOW + 15))
EXPIRED: Final = end_step(1, "expired")


def step_of(reply: object) -> Step:
    """What the ledger says to publish."""
    recorded = reply.recorded if isinstance(reply, Noted) else reply
    assert isinstance(recorded, Recorded), recorded
    return recorded.step


def wish(run: int = 1, attempt: int = 1, **changes: Any) -> ClaimRequest:  # noqa: ANN401 - those of Wish
    """A claim by a worker that wants more than to send, or less."""
    request = claim_request(run, attempt)
    return replace(request, wish=replace(request.wish, **changes))
