"""What the broker gave up on: told apart by how it got here, and ended properly."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from enum import Enum
from typing import TYPE_CHECKING, Any, Final

import structlog

from otpost.job import is_sender_name
from otpost.topology import JOBS, destination_of
from otpost_worker.brokers.rabbitmq.messages import text_of
from otpost_worker.decision import Bury, Expire, Policy
from otpost_worker.deliver import Sender
from otpost_worker.envelope import Defaults
from otpost_worker.outcome import Error, Kind, Outcome, Refused
from otpost_worker.ports import LedgerUnavailable

if TYPE_CHECKING:
    from collections.abc import Callable

    from otpost_worker.deliver import Deliverer
    from otpost_worker.envelope import Envelope
    from otpost_worker.last_resort import LastResort
    from otpost_worker.ports import Broker, Message

# Its neighbours in a dying worker's buffer lose deliveries too, so the first drops say nothing about the job itself.
MAX_DROPS: Final = 2
UNNAMEABLE: Final = "~unknown"
# What is as long as a phone number, also as people write them, may be one that was published as the key by mistake.
_NUMBER = re.compile(r"(?:[0-9][-_]?){7}")

_log = structlog.get_logger("otpost.dropped")


class Cause(Enum):
    """Why the broker gave a message up."""

    NO_SENDER = "no queue for its sender"
    EXPIRED = "its time in the queue was over"
    RETURNED = "it came back too often"


@dataclass(frozen=True, slots=True)
class Drop:
    """Where a dropped message was going, and why it did not get there.

    *sender* is a sender's name, or "~unknown" in place of a key that is none, or that may hold a number.
    """

    sender: str
    cause: Cause


def read_drop(routing_key: str, headers: dict[str, Any]) -> Drop:
    """Tell from a dropped message's routing key and its ``x-death`` header where it comes from.

    A message that was in a job queue has that queue as its latest death; one without a queue came from an
    alternate exchange, at once or behind the delay ladder.
    """
    deaths = headers.get("x-death")
    latest = deaths[0] if isinstance(deaths, list) and deaths and isinstance(deaths[0], dict) else {}
    queue, reason = text_of(latest.get("queue")) or "", text_of(latest.get("reason"))
    if not queue.startswith(f"{JOBS}."):
        key = destination_of(routing_key)
        return Drop(key if is_sender_name(key) and not _NUMBER.search(key) else UNNAMEABLE, Cause.NO_SENDER)
    sender = queue.removeprefix(f"{JOBS}.")
    return Drop(
        sender if is_sender_name(sender) else UNNAMEABLE, Cause.EXPIRED if reason == "expired" else Cause.RETURNED
    )


class NobodySends:
    """The provider of a sender that this worker does not serve."""

    name = None

    async def send(self, message: Message) -> Outcome:
        """Refuse: what the broker dropped is never sent from here."""
        return Refused(Error(Kind.NO_SENDER, title="No such sender", detail=message.callback))

    async def renew(self) -> None:
        """Find nothing new."""

    async def take_renewal(self) -> bool:
        """Tell of nothing new."""
        return False


def foreign_sender(name: str) -> Sender:
    """Describe a sender that this worker can end jobs for, but not send for."""
    return Sender(name, NobodySends(), Defaults("unknown", "en"), Policy(), rate=1.0, quota=name)


class DroppedReader:
    """Ends what the broker dropped. *deliverer* gives the way of a job for a sender's name.

    There is nobody behind it: what crashes here would come again and again. *last_resort* ends that too.
    """

    def __init__(self, broker: Broker, deliverer: Callable[[str], Deliverer], *, last_resort: LastResort) -> None:
        self._broker = broker
        self._deliverer = deliverer
        self._last_resort = last_resort

    async def end(self, envelope: Envelope, drop: Drop) -> None:
        """Give the job another chance, or end it; when this returns, it may be acknowledged."""
        _log.warning(
            "job.dropped",
            sender=drop.sender,
            cause=drop.cause.name.lower(),
            drops=envelope.drops,
        )
        named = replace(envelope, sender=drop.sender)
        try:
            await self._end(named, drop)
        except LedgerUnavailable:
            raise
        except Exception as crash:
            if not await self._last_resort.end(named, _stumbled(drop, crash)):
                raise
            _log.error("job.crashed", error=type(crash).__name__, exc_info=crash)

    async def _end(self, named: Envelope, drop: Drop) -> None:
        if drop.cause is Cause.RETURNED and named.drops < MAX_DROPS:
            await self._broker.hand_back(replace(named, drops=named.drops + 1))
            return
        await self._deliverer(named.sender).deliver(named, ending=_ending(drop))


def _ending(drop: Drop) -> Bury | Expire:
    if drop.cause is Cause.EXPIRED:
        return Expire(None)
    if drop.cause is Cause.RETURNED:
        detail = "workers gave it back or died of it more often than the queue's delivery limit allows, three times"
        return Bury(Error(Kind.DELIVERY_LIMIT, title="Delivery limit", detail=detail))
    if drop.sender == UNNAMEABLE:
        detail = "the key that it was published with, which is not shown, is no sender's; is it a phone number?"
    else:
        detail = f"there is no queue {JOBS}.{drop.sender}: no worker is configured for this sender"
    return Bury(Error(Kind.NO_SENDER, title="No such sender", detail=detail))


def _stumbled(drop: Drop, crash: Exception) -> Error:
    """Say why a job is over that could not even be ended in the ordinary way."""
    ending = _ending(drop)
    error = ending.error if isinstance(ending, Bury) else Error(Kind.INVALID_JOB, title="The job cannot be processed")
    why = f"the worker fails on it ({type(crash).__name__}; its log says where)"
    return replace(error, detail=f"{error.detail}; {why}" if error.detail else why)
