"""What follows from a report about a message that the provider took [pure] (contract, sections 3, 5 and 6).

Reports come more than once, out of order, contradicting each other, and before the answer to the request itself. So
each is an event of its own the first time it comes, whatever came before; what is known of a message only moves up:
the first of delivered and read is the delivery, and a failure never overrules one.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Final, assert_never

import orjson

from otpost.errors import InvalidJob
from otpost.job import OtpJob
from otpost.result import Status, mask_number
from otpost.times import parse_rfc3339
from otpost_worker.attempts import State
from otpost_worker.decision import Bury, Decision, Done, Expire, Halt, History, Policy, RetryIn, decide
from otpost_worker.envelope import Step
from otpost_worker.outcome import Error, Kind
from otpost_worker.ports import REMEMBERED_AFTER_DEADLINE_S
from otpost_worker.steps import Subject, accepted, event_of, letter_of, step_of
from otpost_worker.stories import Amendment, AttemptChange, Hearing, Report

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from otpost_worker.envelope import Envelope, Event
    from otpost_worker.outcome import Refused
    from otpost_worker.stories import AttemptStory, JobStory, RunStory
    from otpost_worker.updates import Reported

NO_REPORT: Final = Error(
    Kind.NO_REPORT,
    title="No delivery reported",
    detail="the provider took the message, and has not said since that it arrived; offer another channel",
)
_DELIVERIES: Final = frozenset({Hearing.DELIVERED, Hearing.READ})


@dataclass(frozen=True, slots=True)
class Heard:
    """One report of an attempt, as it came.

    *at*: when it happened by the provider's clock, or came, where the provider does not say (Unix seconds). *token*:
    of the message that brought it. *refused*: what a failure means by the provider's table.
    """

    hearing: Hearing
    at: float
    token: str
    message_id: str | None = None
    refused: Refused | None = None


@dataclass(frozen=True, slots=True)
class Terms:
    """What the rules depend on beside the report and the ledger: *now* in Unix seconds, *random* between 0 and 1.

    *provider*: what results call it. *watch_s*: see ``steps.step_of``. *cover*: makes the copy of a job that may lie in
    the ledger after it was accepted.
    """

    now: float
    random: float
    policy: Policy
    provider: str | None
    watch_s: float | None
    cover: Callable[[Envelope], Envelope]


@dataclass(frozen=True, slots=True)
class Later:
    """The attempt is not known yet, or its own answer is still on its way: the report has to come again in a while."""


@dataclass(frozen=True, slots=True)
class Nothing:
    """Nothing follows: *why* in a word that a metric can hold."""

    why: str


@dataclass(frozen=True, slots=True)
class Follow:
    """Write *amendment* down, if there is one, then publish *steps* one after the other.

    *latency_s*: from the user's asking to the first report of a delivery, where this is that.
    """

    amendment: Amendment | None
    steps: tuple[Step, ...]
    latency_s: float | None = None


Verdict = Later | Nothing | Follow


def hearing_of(status: Reported) -> Hearing:
    """Name what is heard with a report of *status*."""
    return Hearing(status.value)


def follow(heard: Heard, story: JobStory, run: int, attempt: int, terms: Terms) -> Verdict:
    """Judge a report of *attempt* of *run*."""
    place = _place(story, run, attempt)
    if place is None:
        return Later()
    known = place.attempt.reports.get(heard.hearing)
    if known is not None:
        return Follow(None, _steps_again(place, heard, known, terms)) if known.token == heard.token else _COPY
    return _failed(place, heard, terms) if heard.hearing is Hearing.FAILED else _arrived(place, heard, terms)


def miss(story: JobStory, run: int, attempt: int, token: str, terms: Terms) -> Verdict:
    """Judge that the time is over in which a delivery of *attempt* of *run* should have been reported."""
    place = _place(story, run, attempt)
    if place is None:
        return Nothing("forgotten")
    known = place.attempt.reports.get(Hearing.UNDELIVERED)
    if known is not None:
        return Follow(None, (_undelivered(place, known, terms),)) if known.token == token else _COPY
    if not place.is_end or place.run.undelivered or place.was_delivered:
        return Nothing("settled")
    report = Report(terms.now, token, NO_REPORT)
    reports = {**place.attempt.reports, Hearing.UNDELIVERED: report}
    return Follow(Amendment(run, attempt, reports), (_undelivered(place, report, terms),))


_COPY: Final = Nothing("copy")
# Stands for a token: not a report told first that an attempt was taken, but the answer itself.
_ANSWER: Final = "~answer"


@dataclass(frozen=True, slots=True)
class _Place:
    """An attempt of a run of a job."""

    story: JobStory
    run: RunStory
    attempt: AttemptStory

    @property
    def is_end(self) -> bool:
        """Whether it is this attempt's acceptance that the run has ended with."""
        end = self.run.end.event if self.run.end else None
        return end is not None and end.id.endswith(f"/{self.run.run}/{self.attempt.attempt}/{Status.ACCEPTED}")

    @property
    def was_delivered(self) -> bool:
        """Whether any attempt of the run was."""
        return any(_DELIVERIES & one.reports.keys() for one in self.run.attempts)

    @property
    def others_stand(self) -> bool:
        """Whether another attempt stands accepted, or was delivered, in this run or in another."""
        others = [one for one in self.run.attempts if one.attempt != self.attempt.attempt]
        taken = any(one.state is State.SETTLED and one.provider_message_id is not None for one in others)
        delivered = any(_DELIVERIES & one.reports.keys() for one in others)
        runs = [one for one in self.story.runs if one.run != self.run.run]
        return taken or delivered or any(_stands_accepted(one) for one in runs)

    @property
    def history(self) -> History:
        """What came before this attempt."""
        before = [one for one in self.run.attempts if one.attempt < self.attempt.attempt]
        last = before[-1].step if before else None
        counted = last.next.counted if last and last.next else self.run.envelope.counted
        return History(counted, dict(Counter(one.kind for one in before if one.kind is not None)))

    @property
    def deadline(self) -> float:
        """In Unix seconds."""
        return self.run.forget_at - REMEMBERED_AFTER_DEADLINE_S

    def subject(self, terms: Terms) -> Subject:
        """Whom its events speak of."""
        steps = [self.run.end, *(one.step for one in self.run.attempts)]
        told = next((step.event.body for step in steps if step and step.event), None)
        if told is not None:
            return _subject_of_event(orjson.loads(told), self)
        return _subject_of_body(self, terms)


def _place(story: JobStory, run: int, attempt: int) -> _Place | None:
    for one in story.runs:
        for of_run in one.attempts:
            if (one.run, of_run.attempt) == (run, attempt):
                return _Place(story, one, of_run)
    return None


def _stands_accepted(run: RunStory) -> bool:
    ended = run.end.event.status if run.end and run.end.event else None
    return ended == Status.ACCEPTED and not run.undelivered


def _subject_of_event(told: Mapping[str, Any], place: _Place) -> Subject:
    """Read it off an event of the same run, which says all there is to say when the job itself is gone."""
    at, latency_ms = parse_rfc3339(told["at"]), told["latency_ms"]
    created_at = None if at is None or latency_ms is None else at - latency_ms / 1000
    job_id = place.story.job_id
    return Subject(
        key=job_id,
        job_id=job_id,
        sender=place.run.envelope.sender,
        run=place.run.run,
        attempt=place.attempt.attempt,
        to=told["to"],
        ref=told["ref"],
        created_at=created_at,
        provider=told["provider"],
    )


def _subject_of_body(place: _Place, terms: Terms) -> Subject:
    envelope, job_id = place.run.envelope, place.story.job_id
    try:
        job = OtpJob.parse(envelope.body, now=terms.now, published_at=envelope.published_at)
    except InvalidJob:  # its clock was set, or its body is gone: less is said of it
        job = None
    return Subject(
        key=job_id,
        job_id=job_id,
        sender=envelope.sender,
        run=place.run.run,
        attempt=place.attempt.attempt,
        to=mask_number(job.to) if job else None,
        ref=job.ref if job else None,
        created_at=job.created_at.timestamp() if job and job.created_at else None,
        provider=terms.provider,
    )


# Sent, delivered, read


def _arrived(place: _Place, heard: Heard, terms: Terms) -> Follow:
    run, attempt = place.run, place.attempt
    delivery = heard.hearing in _DELIVERIES
    reports = {**attempt.reports, heard.hearing: Report(heard.at, heard.token)}
    # What has arrived after all stands accepted again: a replay of its dead letter would be a second code.
    amendment = Amendment(
        run.run, attempt.attempt, reports, heard.message_id, undelivered=run.undelivered and not delivery
    )
    event = Step(_event(place, heard.hearing, heard.at, heard.message_id, terms))
    latency_s = _latency_s(place, heard, terms) if delivery else None
    if _settles(place, delivery=delivery):
        settled = attempt.reports.get(Hearing.SETTLED)
        reports[Hearing.SETTLED] = Report(settled.at if settled else terms.now, heard.token)
        amendment = replace(amendment, change=AttemptChange(State.SETTLED))
        if run.end is not None:
            return Follow(amendment, (event,), latency_s)
        told_at = reports[Hearing.SETTLED].at
        end = _accepted(place, heard.message_id, told_at, replace(terms, watch_s=None) if delivery else terms)
        body = b"" if delivery or terms.watch_s is None else terms.cover(run.envelope).body
        return Follow(replace(amendment, end=end, body=body), (end, event), latency_s)
    if delivery and run.end is not None and (run.end.letter is None or run.buried):
        # Nothing is sent once more of what has arrived.
        amendment = replace(amendment, body=b"")
    return Follow(amendment, (event,), latency_s)


def _latency_s(place: _Place, heard: Heard, terms: Terms) -> float | None:
    """Tell how long the user waited for it, where nothing was known of a delivery before."""
    created_at = place.subject(terms).created_at
    first = not _DELIVERIES & place.attempt.reports.keys()
    return max(0.0, heard.at - created_at) if first and created_at is not None else None


def _settles(place: _Place, *, delivery: bool) -> bool:
    """Tell whether the report says for the first time that the attempt was taken."""
    match place.attempt.state:
        case State.CLAIMED | State.UNKNOWN:
            return True
        case State.TAKEN_BACK | State.REFUSED:
            # What has arrived needs no further attempt, whatever was said of it before.
            return delivery and place.run.end is None
        case State.SETTLED:
            return False
        case _:  # pragma: no cover
            assert_never(place.attempt.state)


def _accepted(place: _Place, message_id: str | None, at: float, terms: Terms) -> Step:
    known = place.attempt.provider_message_id or message_id
    return accepted(place.subject(terms), known, now=at, watch_s=terms.watch_s)


def _event(place: _Place, hearing: Hearing, at: float, message_id: str | None, terms: Terms) -> Event:
    known = place.attempt.provider_message_id or message_id
    return event_of(place.subject(terms), Status(hearing.value), at, message_id=known)


# Failed


def _failed(place: _Place, heard: Heard, terms: Terms) -> Verdict:
    run, attempt = place.run, place.attempt
    assert heard.refused is not None  # noqa: S101 - a failure comes with what it means
    if attempt.state is State.CLAIMED and (attempt.lease_until or 0.0) > terms.now:
        # Its own answer is on its way, and has to be recorded first.
        return Later()
    reports = {**attempt.reports, Hearing.FAILED: Report(heard.at, heard.token, heard.refused.error)}
    amendment = Amendment(run.run, attempt.attempt, reports, heard.message_id, undelivered=run.undelivered)
    answers = run.end is None and attempt.state in (State.CLAIMED, State.UNKNOWN)
    overruled = bool(_DELIVERIES & attempt.reports.keys()) or place.others_stand
    if overruled or run.undelivered or not (place.is_end or answers):
        return Follow(amendment, ())
    decision = decide(
        heard.refused,
        deadline=place.deadline,
        now=terms.now,
        history=place.history,
        policy=terms.policy,
        random=terms.random,
    )
    if answers:
        return _refused(place, amendment, decision, heard.refused.error.kind, terms)
    if isinstance(decision, RetryIn | Halt) and run.envelope.body:
        return _taken_back(place, amendment, decision, heard.refused.error.kind, terms)
    return _given_up(place, amendment, _final_error(decision, heard.refused.error), heard.token, terms)


def _refused(place: _Place, amendment: Amendment, decision: Decision, kind: Kind, terms: Terms) -> Follow:
    """Take the report for the answer that was lost: nothing has arrived, as if it had been refused at once."""
    step = step_of(decision, place.subject(terms), now=terms.now)
    if step.ends_job:
        body = None if step.letter else b""
        change = AttemptChange(State.SETTLED, kind)
        return Follow(replace(amendment, change=change, end=step, body=body), (step,))
    before = place.attempt.step
    if before is not None and before.event is not None:
        # The world has heard already that it is tried again.
        step = replace(step, event=None)
    return Follow(replace(amendment, change=AttemptChange(State.REFUSED, kind, step)), (step,))


def _taken_back(place: _Place, amendment: Amendment, decision: Decision, kind: Kind, terms: Terms) -> Follow:
    reports, end = dict(amendment.reports), place.run.end
    if end is not None and end.event is not None and Hearing.SETTLED not in reports:
        # So that the same event can be told once more, should it turn out to have arrived after all.
        accepted_at = parse_rfc3339(orjson.loads(end.event.body)["at"])
        reports[Hearing.SETTLED] = Report(accepted_at or terms.now, _ANSWER)
    step = step_of(decision, place.subject(terms), now=terms.now)
    change = AttemptChange(State.TAKEN_BACK, kind, step)
    return Follow(replace(amendment, reports=reports, change=change, reopened=True), (step,))


def _final_error(decision: Decision, failure: Error) -> Error:
    match decision:
        case Bury(error):
            return error
        case RetryIn() | Halt() | Expire():
            # It would be too late, or there is nothing left to send: the failure itself is the reason.
            return failure
        case Done():  # pragma: no cover - nothing was accepted
            raise AssertionError("a failure is no acceptance")
        case _:  # pragma: no cover
            assert_never(decision)


def _given_up(place: _Place, amendment: Amendment, error: Error, token: str, terms: Terms) -> Follow:
    run, attempt = place.run, place.attempt
    assert run.end is not None  # noqa: S101 - it is this attempt's acceptance that is given up
    letter = letter_of(error, attempt=attempt.attempt, now=terms.now) if run.envelope.body else None
    told = attempt.reports.get(Hearing.UNDELIVERED)
    report = told or Report(terms.now, token, error)
    amendment = replace(
        amendment,
        reports={**amendment.reports, Hearing.UNDELIVERED: report},
        change=AttemptChange(State.SETTLED, error.kind),
        end=Step(run.end.event, letter=letter),
        undelivered=True,
    )
    # That no delivery was reported in time is told already, in the same words: it did not arrive.
    event = None if told else _undelivered(place, report, terms).event
    return Follow(amendment, (Step(event, letter=letter),))


def _undelivered(place: _Place, report: Report, terms: Terms) -> Step:
    known = place.attempt.provider_message_id
    return Step(event_of(place.subject(terms), Status.UNDELIVERED, report.at, error=report.error, message_id=known))


# The same message once more


def _steps_again(place: _Place, heard: Heard, known: Report, terms: Terms) -> tuple[Step, ...]:
    """Spell out once more what followed from a report that was written down before a crash."""
    reports, token = place.attempt.reports, heard.token
    settled, end = reports.get(Hearing.SETTLED), place.run.end
    if heard.hearing is not Hearing.FAILED:
        event = Step(_event(place, heard.hearing, known.at, heard.message_id, terms))
        if settled is None or settled.token != token:
            return (event,)
        own = end if end is not None and place.is_end else None
        return (own or _accepted(place, heard.message_id, settled.at, replace(terms, watch_s=None)), event)
    if place.attempt.state in (State.TAKEN_BACK, State.REFUSED) and place.attempt.step is not None:
        return (place.attempt.step,)
    letter = None if end is None or place.run.buried else end.letter
    given_up = reports.get(Hearing.UNDELIVERED)
    if place.run.undelivered and given_up is not None:
        event = _undelivered(place, given_up, terms) if given_up.token == token else Step(None)
        return (replace(event, letter=letter),)
    # Where it was taken for the answer that was lost, the end of the run is what followed from it.
    of_this = end is not None and end.event is not None and not place.is_end and _is_of(end.event.id, place)
    return (replace(end, letter=letter),) if of_this and end is not None else ()


def _is_of(event_id: str, place: _Place) -> bool:
    return f"/{place.run.run}/{place.attempt.attempt}/" in event_id
