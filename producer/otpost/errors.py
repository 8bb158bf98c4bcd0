"""Everything the client raises, by whose fault it is.

OtpostError
├── InvalidJob          the caller: the job breaks the contract; nothing was published
├── UnknownSender       the caller: no worker has declared that sender's queue
├── ProducerClosed      the caller: the producer is used after its end
├── InsideEventLoop     the caller: a blocking call where it would stop an event loop
├── InvalidKey          the caller: what should be a key for sealing codes is none
├── SealingUnavailable  the caller: codes are to be sealed, but PyNaCl is not installed
├── QueueRefused        the caller: a queue that should be read is missing, or not ours to read
├── BrokerUnreachable   the broker: no connection, wrong address or credentials; nothing was published
│   └── AccessRefused   the broker: its user lacks a right; nothing was published
├── NotConfirmed        the broker: the job may or may not be stored; the same id may safely be sent again
└── NoResult            the workers: the job is stored, but its end was not told in time (also a TimeoutError)
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable


class OtpostError(Exception):
    """Base of every error that this package raises; each can be pickled, as process pools and Celery do."""

    def __reduce__(self) -> tuple[Callable[..., OtpostError], tuple[object, ...]]:
        # The usual way calls the constructor with the message, but ours take what the message is made of.
        return _restored, (type(self), self.args, self.__dict__)


def _restored(kind: type[OtpostError], args: tuple[object, ...], state: dict[str, object]) -> OtpostError:
    error = kind.__new__(kind)
    error.args = args
    error.__dict__.update(state)
    return error


@dataclass(frozen=True, slots=True)
class Problem:
    """One broken rule: the *field* it concerns (empty for the whole job) and what the rule asks for.

    Neither ever holds a value that was given: a value may be the code.
    """

    field: str
    rule: str

    def __str__(self) -> str:
        """``field: rule``."""
        return f"{self.field}: {self.rule}" if self.field else self.rule


class InvalidJob(OtpostError):
    """The job breaks the contract; *problems* lists every broken rule, not only the first."""

    def __init__(self, problems: Iterable[Problem]) -> None:
        self.problems = tuple(problems)
        super().__init__("invalid job: " + "; ".join(map(str, self.problems)))


class UnknownSender(OtpostError):
    """No queue exists for this sender; jobs for it would end as dead letters."""

    def __init__(self, sender: str) -> None:
        self.sender = sender
        super().__init__(
            f"unknown sender {sender!r}: the broker has no queue otpost.jobs.{sender}; "
            "check the name, start a worker that is configured for it, or run 'otpost topology declare'"
        )


class ProducerClosed(OtpostError):
    """The producer was closed before the call, or while it waited for a job's end."""

    def __init__(self) -> None:
        super().__init__("this producer was closed; make a new one, or close it only when nobody uses it any more")


class InsideEventLoop(OtpostError):
    """A blocking call from a thread whose event loop would stand still until it returns."""

    def __init__(self) -> None:
        super().__init__(
            "a BlockingProducer would stop the event loop that runs in this thread: "
            "use 'await' with a Producer here, or asyncio.to_thread"
        )


class InvalidKey(OtpostError):
    """What should be a key for sealing codes is none; what was given is never shown.

    *kind* is ``public`` or ``private``; *place*, counted from 1, tells which of several keys it is.
    """

    def __init__(self, kind: str, reason: str, *, place: int | None = None) -> None:
        self.kind = kind
        self.reason = reason
        self.place = place
        which = f" number {place}" if place is not None else ""
        super().__init__(f"not a {kind} key{which}: {reason}")


class SealingUnavailable(OtpostError):
    """PyNaCl is not installed, or cannot be loaded."""

    def __init__(self) -> None:
        super().__init__('sealing codes needs the package PyNaCl: pip install "otpost[sealed]"')


class QueueRefused(OtpostError):
    """A queue that should be read is missing, or not ours to read."""


class BrokerUnreachable(OtpostError):
    """No usable connection to the broker; nothing was published.

    *permanent* where waiting will not mend it: a wrong URL, login or virtual host.
    """

    def __init__(self, message: str, *, permanent: bool = False) -> None:
        self.permanent = permanent
        super().__init__(message)


class AccessRefused(BrokerUnreachable):
    """The broker's user lacks the right to do this; nothing was published, and waiting does not mend it."""

    def __init__(self, message: str) -> None:
        super().__init__(message, permanent=True)


class NotConfirmed(OtpostError):
    """The broker did not confirm these jobs in time: they may or may not be stored.

    Sending the same job (the same *id*) again is safe: a job is sent to its recipient once an id. *reason* tells why
    the last of them was not confirmed; *permanent* where sending again will not help until that is mended.
    """

    def __init__(self, job_ids: Iterable[str], reason: str, *, permanent: bool = False) -> None:
        self.job_ids = tuple(job_ids)
        self.reason = reason
        self.permanent = permanent
        when = "once that is mended, " if permanent else ""
        shown = ", ".join(self.job_ids[:3]) + (", …" if len(self.job_ids) > 3 else "")
        super().__init__(
            f"the broker did not confirm {len(self.job_ids)} job(s) ({shown}): {reason}; "
            f"{when}the same ids may safely be sent again"
        )

    @classmethod
    def because(cls, job_ids: Iterable[str], error: OtpostError) -> NotConfirmed:
        """Tell of these jobs what *error* told of one of them."""
        if isinstance(error, NotConfirmed):
            return cls(job_ids, error.reason, permanent=error.permanent)
        return cls(job_ids, str(error), permanent=isinstance(error, BrokerUnreachable) and error.permanent)


class NoResult(OtpostError, TimeoutError):
    """The job is published, but its end did not come within the time-out; *job_id* tells which.

    It goes on all the same. Asking again with the same job costs no second message: a job that has ended
    meanwhile has its recorded end told again.
    """

    def __init__(self, job_id: str, timeout_s: float) -> None:
        self.job_id = job_id
        super().__init__(
            f"no end of job {job_id} within {timeout_s:g} s: it is published under that id and goes on; "
            "ask again with the same id, or see 'otpost results'; does a worker run?"
        )
