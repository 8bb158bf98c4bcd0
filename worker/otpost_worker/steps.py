"""From a decision to what the world hears of it: events, dead letters, the next attempt."""

from __future__ import annotations

import hashlib
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final, assert_never

import orjson

from otpost.event import EventName, SenderEvent
from otpost.result import ResultError, Status, mask_number
from otpost.times import rfc3339
from otpost_worker.decision import Bury, Decision, Done, Expire, Halt, RetryIn
from otpost_worker.envelope import Event, Letter, Next, Step, Watch
from otpost_worker.outcome import Error, Kind
from otpost_worker.standing import Change, News

if TYPE_CHECKING:
    from otpost_worker.envelope import Parcel, Unreadable


# Why a run ends as ``failed`` of which an attempt may have arrived.
MAYBE_SENT: Final = Error(Kind.UNKNOWN, title="Answer lost", detail="it may have arrived; it is not sent again")
_MAX_CONCERNED: Final = 180
# A pause is the slowest pace of all.
_EVENT_NAMES: Final = {
    Change.HALTED: EventName.HALTED,
    Change.RESUMED: EventName.RESUMED,
    Change.SLOWED: EventName.SLOWED,
    Change.PAUSED: EventName.SLOWED,
}


@dataclass(frozen=True, slots=True)
class Subject:
    """Whom an event speaks of.

    *job_id* is None only for a body that gives itself no readable id; *key* then tells its event from others.
    """

    key: str
    job_id: str | None
    sender: str
    run: int
    attempt: int
    to: str | None = None
    ref: dict[str, Any] | None = None
    created_at: float | None = None
    provider: str | None = None


def subject_of(parcel: Parcel, *, provider: str | None, attempt: int | None = None) -> Subject:
    """Name the subject of this job's events; *attempt* where it is not the delivery's own."""
    job = parcel.job
    return Subject(
        key=job.id,
        job_id=job.id,
        sender=parcel.envelope.sender,
        run=parcel.envelope.run,
        attempt=attempt or parcel.envelope.attempt,
        to=mask_number(job.to),
        ref=job.ref,
        created_at=job.created_at.timestamp() if job.created_at else None,
        provider=provider,
    )


def subject_of_unreadable(unreadable: Unreadable, *, nonce: str) -> Subject:
    """Name the subject of the events of a body that is no job; *nonce* stands in for an id that it lacks.

    A digest of the body would be the same after a crash, but whoever knows the rest could try all codes on it.
    """
    envelope = unreadable.envelope
    key = unreadable.job_id or f"~{nonce}"
    return Subject(key, unreadable.job_id, envelope.sender, envelope.run, envelope.attempt)


def step_of(decision: Decision, subject: Subject, *, now: float, watch_s: float | None = None) -> Step:
    """Spell out what follows from *decision*, made at *now* (Unix seconds).

    *watch_s*: in how many seconds it is looked whether what was accepted was delivered; None: never.
    """
    match decision:
        case Done(message):
            return accepted(
                subject, message.provider_message_id, now=now, watch_s=watch_s, message_status=message.message_status
            )
        case Halt(retry):
            return _retry(retry, subject, now)
        case RetryIn():
            return _retry(decision, subject, now)
        case Expire(error):
            return Step(event_of(subject, Status.EXPIRED, now, error=error))
        case Bury(error):
            return failed(error, subject, now=now)
        case _:  # pragma: no cover
            assert_never(decision)


def accepted(
    subject: Subject,
    message_id: str | None,
    *,
    now: float,
    watch_s: float | None = None,
    message_status: str | None = None,
) -> Step:
    """End the run as ``accepted``; see ``step_of``."""
    watch = None if watch_s is None else Watch(subject.run, subject.attempt, now + watch_s)
    event = event_of(subject, Status.ACCEPTED, now, message_id=message_id, message_status=message_status)
    return Step(event, watch=watch)


def failed(error: Error, subject: Subject, *, now: float) -> Step:
    """End the run as ``failed``, with its dead letter."""
    letter = letter_of(error, attempt=subject.attempt, now=now)
    return Step(event_of(subject, Status.FAILED, now, error=error), letter=letter)


def letter_of(error: Error, *, attempt: int, now: float) -> Letter:
    """Write what the dead letter says that *error* made of *attempt*."""
    return Letter(error.kind.value, orjson.dumps(error).decode(), attempt, rfc3339(now))


def buried_only(error: Error, *, attempt: int, now: float) -> Step:
    """Bury a copy that concerns no run: its id belongs to another job, whose results are not its own."""
    return Step(None, letter=letter_of(error, attempt=attempt, now=now), is_of_a_stranger=True)


def invalid(unreadable: Unreadable) -> Error:
    """Say why a body is no job; every problem at once, no value shown."""
    detail = "; ".join(map(str, unreadable.problems))
    return Error(Kind.INVALID_JOB, title="The job breaks the contract", detail=detail[:1000])


def name_concerned(sender: str, template: str | None, language: str | None) -> str:
    """Name what an event about a sender is about, in its id."""
    concerned = "/".join(part for part in (sender, template, language) if part)
    if len(concerned) > _MAX_CONCERNED:
        # A template's name may be longer than AMQP lets any id of a message be.
        concerned = f"{concerned[:_MAX_CONCERNED]}~{hashlib.sha256(concerned.encode()).hexdigest()[:16]}"
    return concerned


def sender_event(news: News) -> SenderEvent:
    """Spell out for the world what is new about a sender."""
    concerned = name_concerned(news.sender, news.template, news.language)
    return SenderEvent(
        event_id=f"{concerned}/{news.change}/{round(news.at * 1000)}",
        sender=news.sender,
        name=_EVENT_NAMES[news.change],
        at=datetime.fromtimestamp(news.at, UTC),
        template=news.template,
        language=news.language,
        detail=_detail(news),
        error=result_error(news.error) if news.error else None,
    )


def result_error(error: Error) -> ResultError:
    """Write *error* as results and events have it."""
    return ResultError(**asdict(error))


def _detail(news: News) -> str | None:
    if news.rate is not None:
        return f"{news.rate:g} messages a second from now on, growing back step by step"
    if news.until is not None:
        return f"the quota is used up: nothing is sent until {rfc3339(news.until)}"
    return None


def _retry(retry: RetryIn, subject: Subject, now: float) -> Step:
    event = (
        event_of(subject, Status.RETRYING, now, error=retry.error, retry_in_s=retry.delay_s)
        if retry.announced
        else None
    )
    return Step(event, Next(subject.attempt + 1, retry.counted, now + retry.delay_s))


def event_of(
    subject: Subject,
    status: Status,
    now: float,
    *,
    error: Error | None = None,
    message_id: str | None = None,
    retry_in_s: float | None = None,
    message_status: str | None = None,
) -> Event:
    """Write the event that *subject* came to *status* at *now* (Unix seconds)."""
    event_id = f"{subject.key}/{subject.run}/{subject.attempt}/{status}"
    created_at = subject.created_at
    body = {
        "event_id": event_id,
        "job_id": subject.job_id,
        "sender": subject.sender,
        "status": status,
        "run": subject.run,
        "attempt": subject.attempt,
        "at": rfc3339(now),
        "provider": subject.provider,
        "provider_message_id": message_id,
        "to": subject.to,
        "ref": subject.ref,
        "error": error,
        "retry_in_s": None if retry_in_s is None else round(retry_in_s, 3),
        # By whole milliseconds, so that any event of a job tells when it was made, to the millisecond.
        "latency_ms": None if created_at is None else max(0, _ms(now) - _ms(created_at)),
    }
    if message_status is not None:
        body["message_status"] = message_status
    return Event(event_id, status.value, orjson.dumps(body))


def _ms(moment: float) -> int:
    """Tell a moment in whole milliseconds, as ``rfc3339`` writes it."""
    return round(moment * 1_000_000) // 1000
