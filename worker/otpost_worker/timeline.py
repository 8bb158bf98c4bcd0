"""One job's life as a list of moments, from what the ledger and the results know of it [pure].

The ledger knows the claims and what was decided; the results know what the world was told, and when the job was made.
What both know is one moment.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from datetime import timedelta
from enum import StrEnum
from typing import TYPE_CHECKING, Final, assert_never

from otpost.result import OtpResult, Status
from otpost.times import parse_rfc3339
from otpost_worker.attempts import State
from otpost_worker.stories import Hearing

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from otpost.event import SenderEvent
    from otpost.result import ResultError
    from otpost_worker.envelope import Step
    from otpost_worker.outcome import Error
    from otpost_worker.stories import AttemptStory, RunStory

# How much of a message's id may be seen: its beginning holds the recipient's number.
_ID_ENDS: Final = 8
_REPORTS: Final = {
    Hearing.SENT: "the provider reports that it sent the message",
    Hearing.DELIVERED: "the provider reports that it was delivered",
    Hearing.READ: "the provider reports that it was read",
    Hearing.FAILED: "the provider reports that it failed",
    Hearing.UNDELIVERED: "it counts as undelivered",
}
_BY_THE_PROVIDERS_CLOCK: Final = frozenset({Status.SENT, Status.DELIVERED, Status.READ})
_PLACE_OF_EVENT: Final = re.compile(r"[^/]+/([0-9]{1,9})/([0-9]{1,9})/[a-z_]+")
# The provider tells when something happened in whole seconds, rounded down.
_PROVIDERS_SECOND_S: Final = 1.0


class What(StrEnum):
    """What happened at a moment."""

    MADE = "made"
    PUBLISHED = "published"
    CLAIMED = "claimed"
    OUTCOME = "outcome"
    DUE = "due"
    REPORTED = "reported"
    ENDED = "ended"
    DEAD_LETTER = "dead_letter"
    RESULT = "result"
    EVENT = "event"


@dataclass(frozen=True, slots=True)
class Moment:
    """Something that happened, or will, at *at* (Unix seconds), in words; *run* and *attempt* where it is about one.

    *behind*: the time of what it came after for certain, whatever another clock says of *at*.
    """

    at: float
    what: What
    text: str
    run: int | None = None
    attempt: int | None = None
    behind: float = 0.0


def timeline(
    runs: Sequence[RunStory], results: Iterable[OtpResult] | None, events: Iterable[SenderEvent] = ()
) -> list[Moment]:
    """Put everything in order; *results*: None where they could not be read. *events* of its sender that it led to."""
    told = None if results is None else {result.event_id: result for result in results}
    moments = [moment for run in runs for moment in _run(run, told)]
    begin = _made((told or {}).values()) or _published(runs)
    moments += begin
    recorded = {step.event.id for run in runs for step in _steps(run) if step.event is not None}
    reported = tuple(_ends_of_reports(runs))
    for event_id, result in (told or {}).items():
        if event_id not in recorded and not event_id.endswith(reported):
            # Nothing is told of a job before there is one.
            moments.append(replace(_result(result), behind=begin[0].at if begin else 0.0))
    # Behind the reports: an attempt was delivered before its recipient could say anything of it.
    for event in {event.event_id: event for event in events}.values():
        moments.append(_event(event, runs, behind=begin[0].at if begin else 0.0))
    # Python's sort keeps the order of what happened at the same moment.
    return sorted(moments, key=lambda moment: max(moment.at, moment.behind))


def _ends_of_reports(runs: Iterable[RunStory]) -> Iterator[str]:
    """Tell how the ids end of the events that reports became."""
    for run in runs:
        for attempt in run.attempts:
            yield from (f"/{run.run}/{attempt.attempt}/{hearing}" for hearing in attempt.reports)


def _steps(run: RunStory) -> Iterator[Step]:
    yield from (attempt.step for attempt in run.attempts if attempt.step is not None)
    if run.end is not None:
        yield run.end


def _made(results: Iterable[OtpResult]) -> list[Moment]:
    """Tell when the user asked: results count from there."""
    counted = [one for one in results if one.latency_ms is not None]
    # The provider tells whole seconds of another clock, and nothing is told to have come before the job.
    ours = [one for one in counted if one.status not in _BY_THE_PROVIDERS_CLOCK and one.latency_ms] or counted
    made = [one.at - timedelta(milliseconds=one.latency_ms or 0) for one in ours]
    return [Moment(min(made).timestamp(), What.MADE, "the job is made (created_at)")] if made else []


def _published(runs: Sequence[RunStory]) -> list[Moment]:
    """The next best: when it was published, in whole seconds."""
    published_at = runs[0].envelope.published_at if runs else None
    return [Moment(published_at.timestamp(), What.PUBLISHED, "it is published")] if published_at is not None else []


def _run(run: RunStory, told: dict[str, OtpResult] | None) -> Iterator[Moment]:
    for attempt in run.attempts:
        yield from _attempt(run.run, attempt, told)
    if run.end is not None and run.ended_at is not None:
        yield _end(run, run.ended_at, run.end, told)
        if run.end.letter is not None:
            yield _letter(run, run.end)


def _attempt(run: int, attempt: AttemptStory, told: dict[str, OtpResult] | None) -> Iterator[Moment]:
    number = attempt.attempt
    yield Moment(attempt.claimed_at, What.CLAIMED, "a worker claims it for a request", run, number)
    if attempt.recorded_at is not None:
        yield Moment(attempt.recorded_at, What.OUTCOME, _outcome(attempt, told), run, number)
    if attempt.due_at is not None:
        yield Moment(attempt.due_at, What.DUE, "the next attempt is due", run, number + 1)
    for hearing, report in attempt.reports.items():
        if hearing is not Hearing.SETTLED:
            text = _REPORTS[hearing] + (f": {_error(report.error)}" if report.error else "")
            said = text + _told(run, number, hearing, told)
            yield Moment(report.at, What.REPORTED, said, run, number, _behind(attempt, report.at))


def _behind(attempt: AttemptStory, at: float) -> float:
    """Tell what a report of *attempt* comes after: its claim, and its answer too where their seconds are the same."""
    answered_at = attempt.recorded_at or 0.0
    return max(attempt.claimed_at, answered_at if answered_at < at + _PROVIDERS_SECOND_S else 0.0)


def _told(run: int, attempt: int, hearing: Hearing, told: dict[str, OtpResult] | None) -> str:
    """Say whether the world has heard of a report; of a failure it hears what follows from that."""
    if told is None or hearing is Hearing.FAILED:
        return ""
    is_told = any(event_id.endswith(f"/{run}/{attempt}/{hearing}") for event_id in told)
    return f"; result {hearing.value!r} published" if is_told else f"; no result {hearing.value!r} was found"


def _outcome(attempt: AttemptStory, told: dict[str, OtpResult] | None) -> str:
    step = attempt.step
    reason = _reason(step)
    match attempt.state:
        case State.CLAIMED:
            text = "its outcome is recorded"
        case State.UNKNOWN:
            text = "nobody can tell whether the provider took it" + reason
        case State.REFUSED:
            text = "the provider did not take it" + reason
        case State.TAKEN_BACK:
            text = "the provider took it, and took that back by webhook" + reason
        case State.SETTLED if attempt.provider_message_id is not None:
            text = f"the provider took it, message id …{attempt.provider_message_id[-_ID_ENDS:]}"
        case State.SETTLED:
            text = "the provider did not take it" + (reason or f": {attempt.kind}" if attempt.kind else "")
        case _:  # pragma: no cover
            assert_never(attempt.state)
    # What ends the run is told with the end.
    return text if step is None or step.ends_job else text + _heard(step, told)


def _reason(step: Step | None) -> str:
    if step is None or step.event is None:
        return ""
    return _because(OtpResult.parse(step.event.body))


def _held(end: Step) -> str:
    """Say that the provider, which took it, has not passed it on."""
    status = OtpResult.parse(end.event.body).message_status if end.event is not None else None
    return f", held by the provider ({status})" if status is not None else ""


def _because(result: OtpResult) -> str:
    return "" if result.error is None else f": {_error(result.error)}"


def _error(error: ResultError | Error) -> str:
    code = f" {error.code}" if error.code is not None else ""
    said = ", ".join(text for text in (error.title, error.detail) if text)
    return f"{error.kind}{code}" + (f" ({said})" if said else "")


def _heard(step: Step, told: dict[str, OtpResult] | None) -> str:
    """Say whether the world has heard of it."""
    if step.event is None or told is None:
        return ""
    status = step.event.status
    return f"; result {status!r} published" if step.event.id in told else f"; no result {status!r} was found"


def _end(run: RunStory, at: float, end: Step, told: dict[str, OtpResult] | None) -> Moment:
    status = end.event.status if end.event is not None else "dead letter"
    # Of an attempt that ended it the reason is told already.
    reason = "" if any(one.step == end for one in run.attempts) else _reason(end) + _held(end)
    return Moment(at, What.ENDED, f"the run ends as {status}{reason}{_heard(end, told)}", run.run)


def _letter(run: RunStory, end: Step) -> Moment:
    assert end.letter is not None  # noqa: S101 - asked before
    # It died when that was decided, a moment before it was recorded.
    at = max(parse_rfc3339(end.letter.died_at) or 0.0, run.ended_at or 0.0)
    where = "among the dead letters" if run.buried else "not yet confirmed among the dead letters"
    return Moment(at, What.DEAD_LETTER, f"the job is {where}: {end.letter.reason}", run.run, end.letter.attempt)


def _result(result: OtpResult) -> Moment:
    """A result of which the ledger knows nothing, or nothing any more."""
    text = f"result {result.status.value!r} published{_because(result)}"
    if result.status is Status.RETRYING and result.retry_in_s is not None:
        text += f"; again in {result.retry_in_s:g} s"
    if result.provider_message_id is not None:
        text += f", message id …{result.provider_message_id[-_ID_ENDS:]}"
    return Moment(result.at.timestamp(), What.RESULT, text, result.run, result.attempt)


def _event(event: SenderEvent, runs: Iterable[RunStory], *, behind: float) -> Moment:
    """What the job led to for its sender, of which the ledger keeps nothing with the job.

    Its id, ``<job_id>/<run>/<attempt>/<name>``, tells the attempt; its time is the provider's, as a report's is.
    """
    at, place = event.at.timestamp(), _PLACE_OF_EVENT.fullmatch(event.event_id)
    run, attempt = map(int, place.groups()) if place is not None else (None, None)
    for one in (one for story in runs if story.run == run for one in story.attempts if one.attempt == attempt):
        behind = max(behind, _behind(one, at))
    said = event.detail or (_error(event.error) if event.error else "")
    published = f"event {event.name.value!r} published"
    return Moment(at, What.EVENT, f"{said}; {published}" if said else published, run, attempt, behind)
