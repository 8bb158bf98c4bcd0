"""How the keys are called: all under one prefix, whose braces keep them together on one node of a cluster [pure]."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from otpost_worker.ledger.coding import pseudonym

if TYPE_CHECKING:
    from otpost_worker.pacing import Lane

PREFIX: Final = "{otpost}:"
IDENTITY: Final = f"{PREFIX}identity"
SCHEMA: Final = f"{PREFIX}schema"
# Nobody ever makes this one.
CHECK: Final = f"{PREFIX}check"


def job_key(job_id: str) -> str:
    """Name what is known of a job."""
    return f"{PREFIX}job:{job_id}"


def kept_key(job_id: str, run: int) -> str:
    """Name the body that is kept until the deadline of a run that was accepted."""
    return f"{PREFIX}kept:{run}:{job_id}"


def message_key(message_id: str, identity: str) -> str:
    """Name what tells whose message this is; *identity* keeps the number out of it that such an id holds."""
    return f"{PREFIX}message:{pseudonym(message_id, identity.encode()).hex()}"


def turns_key(job_id: str) -> str:
    """Name the turns that a job has booked with its recipient."""
    return f"{PREFIX}turns:{job_id}"


def sender_key(name: str) -> str:
    """Name the pace of a sender."""
    return f"{PREFIX}sender:{name}"


def quota_key(name: str) -> str:
    """Name the state of a quota."""
    return f"{PREFIX}quota:{name}"


def holds_key(sender: str) -> str:
    """Name what is held of a sender."""
    return f"{PREFIX}holds:{sender}"


def words_key(sender: str) -> str:
    """Name what was said last by webhook of a sender and of its templates."""
    return f"{PREFIX}words:{sender}"


def lane_keys(job_id: str, lane: Lane, identity: str) -> tuple[str, ...]:
    """Name what a claim, or an outcome, reads and writes beside its job; *identity* keeps the number out of its key."""
    pair = f"{PREFIX}pair:{lane.sender}:{pseudonym(lane.recipient, identity.encode()).hex()}"
    return turns_key(job_id), sender_key(lane.sender), pair, quota_key(lane.quota), holds_key(lane.sender)
