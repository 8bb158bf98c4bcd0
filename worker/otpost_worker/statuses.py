"""What follows from a report about a message that the provider took [pure] (contract, sections 3, 5 and 6).

Reports come more than once, out of order, contradicting each other, and before the answer to the request itself. So
each is an event of its own the first time it comes, whatever came before; what is known of a message only moves up:
the first of delivered and read is the delivery, and a failure never overrules one.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final, assert_never

from otpost.result import Status
from otpost_worker.attempts import State
from otpost_worker.decision import Bury, Decision, Done, Expire, Halt, Policy, RetryIn, decide
from otpost_worker.envelope import Step
from otpost_worker.outcome import Error, Kind
from otpost_worker.reported_places import DELIVERIES, Place, place_of
from otpost_worker.steps import Subject, accepted, event_of, letter_of, step_of
from otpost_worker.stories import Amendment, AttemptChange, Hearing, Report

if TYPE_CHECKING:
    from collections.abc import Callable

    from otpost_worker.envelope import Envelope, Event
    from otpost_worker.outcome import Refused
    from otpost_worker.stories import JobStory
    from otpost_worker.updates import Reported

NO_REPORT: Final = Error(
    Kind.NO_REPORT,
    title="No delivery reported",
    detail="the provider took the message, and has not said since that it arrived; offer another channel",
)


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
    """The attempt is not known yet, or its own answer is still on its way: the report has to come again in a while.

    *until*: when nobody need wait for that answer any more (Unix seconds); None where nobody knows.
    """

    until: float | None = None


@dataclass(frozen=True, slots=True)
class Nothing:
    """Nothing follows: *why* in a word that a metric can hold."""

    why: str


@dataclass(frozen=True, slots=True)
class Follow:
    """Write *amendment* down, if there is one, then publish *steps* one after the other.

    *latency_s*: from the user's asking to the first report of a delivery, where this is that. *overruled*: a failure of
    what was delivered, which says nothing of anybody.
    """

    amendment: Amendment | None
    steps: tuple[Step, ...]
    latency_s: float | None = None
    overruled: bool = False


Verdict = Later | Nothing | Follow


def hearing_of(status: Reported) -> Hearing:
    """Name what is heard with a report of *status*."""
    return Hearing(status.value)


def follow(heard: Heard, story: JobStory, run: int, attempt: int, terms: Terms) -> Verdict:
    """Judge a report of *attempt* of *run*."""
    place = place_of(story, run, attempt)
    if place is None:
        return Later()
    known = place.attempt.reports.get(heard.hearing)
    if known is not None:
        if known.token != heard.token:
            return _COPY
        overruled = heard.hearing is Hearing.FAILED and _was_delivered(place)
        return Follow(None, _steps_again(place, heard, known, terms), overruled=overruled)
    lease_until = place.attempt.lease_until or 0.0
    if place.attempt.state is State.CLAIMED and lease_until > terms.now:
        # Its own answer is on its way, and somebody has it in hand perhaps: what it ends with is told by one alone.
        return Later(lease_until)
    until = place.others_in_flight_until(terms.now)
    if heard.hearing is not Hearing.FAILED and place.run.end is None and until is not None:
        # Else the run could end with this one, while somebody tells that it has ended with the other.
        return Later(until)
    return _failed(place, heard, terms) if heard.hearing is Hearing.FAILED else _arrived(place, heard, terms)


def miss(story: JobStory, run: int, attempt: int, token: str, terms: Terms) -> Verdict:
    """Judge that the time is over in which a delivery of *attempt* of *run* should have been reported."""
    place = place_of(story, run, attempt)
    if place is None:
        return Nothing("forgotten")
    known = place.attempt.reports.get(Hearing.UNDELIVERED)
    if known is not None:
        return Follow(None, (_undelivered(place, known, terms),)) if known.token == token else _COPY
    if not place.is_end or place.run.undelivered or place.was_delivered:
        return Nothing("settled")
    report = Report(terms.now, token, NO_REPORT)
    reports = {**place.attempt.reports, Hearing.UNDELIVERED: report}
    amendment = Amendment(run, attempt, reports, delivered=place.run.delivered)
    return Follow(amendment, (_undelivered(place, report, terms),))


_COPY: Final = Nothing("copy")
# Stands for a token: not a report told first that an attempt was taken, but the answer itself.
_ANSWER: Final = "~answer"


def _subject(place: Place, terms: Terms) -> Subject:
    return place.subject(now=terms.now, provider=terms.provider)


# Sent, delivered, read


def _arrived(place: Place, heard: Heard, terms: Terms) -> Follow:
    run, attempt = place.run, place.attempt
    delivery = heard.hearing in DELIVERIES
    reports = {**attempt.reports, heard.hearing: Report(heard.at, heard.token)}
    # What has arrived after all stands accepted again: a replay of its dead letter would be a second code.
    amendment = Amendment(
        run.run,
        attempt.attempt,
        reports,
        heard.message_id,
        undelivered=run.undelivered and not delivery,
        delivered=run.delivered or delivery,
    )
    event = Step(_event(place, heard.hearing, heard.at, heard.message_id, terms))
    latency_s = _latency_s(place, heard, terms) if delivery else None
    if _settles(place, delivery=delivery):
        # That it was tried again is told already, and the run's events are read off that one.
        before = Step(attempt.step.event) if attempt.step else None
        amendment = replace(amendment, change=AttemptChange(State.SETTLED, step=before))
        if run.end is not None:
            return Follow(amendment, (event,), latency_s)
        settled = attempt.reports.get(Hearing.SETTLED) or Report(terms.now, heard.token)
        reports[Hearing.SETTLED] = replace(settled, token=heard.token)
        end = _accepted_again(place, settled, heard.message_id, replace(terms, watch_s=None) if delivery else terms)
        body = b"" if delivery or terms.watch_s is None else terms.cover(run.envelope).body
        return Follow(replace(amendment, end=end, body=body), (*_told_before(place), end, event), latency_s)
    if delivery and run.end is not None:
        if run.undelivered and not run.buried:
            # Whoever was to bury it has died: there is nothing to bury any more.
            amendment = replace(amendment, end=Step(run.end.event))
        if run.end.letter is None or run.undelivered or run.buried:
            # Nothing is sent once more of what has arrived.
            amendment = replace(amendment, body=b"")
    return Follow(amendment, (event,), latency_s)


def _told_before(place: Place) -> tuple[Step, ...]:
    """Tell once more that another attempt was taken back, as that was written down and perhaps told to nobody.

    Else the world would hear of two ends, and not why.
    """
    last = place.run.attempts[-1]
    taken_back = last.state is State.TAKEN_BACK and last.attempt != place.attempt.attempt
    return (Step(last.step.event),) if taken_back and last.step and last.step.event else ()


def _latency_s(place: Place, heard: Heard, terms: Terms) -> float | None:
    """Tell how long the user waited for it, where nothing was known of a delivery before."""
    created_at = _subject(place, terms).created_at
    first = not DELIVERIES & place.attempt.reports.keys()
    return max(0.0, heard.at - created_at) if first and created_at is not None else None


def _settles(place: Place, *, delivery: bool) -> bool:
    """Tell whether the report says for the first time that the attempt was taken."""
    match place.attempt.state:
        case State.CLAIMED | State.UNKNOWN:
            return True
        case State.TAKEN_BACK | State.REFUSED | State.SETTLED:
            # What has arrived needs no further attempt, whatever was said of it before.
            return delivery and place.run.end is None
        case _:  # pragma: no cover
            assert_never(place.attempt.state)


def _accepted_again(place: Place, settled: Report, message_id: str | None, terms: Terms) -> Step:
    """Write the acceptance that *settled* tells of, in the words in which it was told if it was told before."""
    known = place.attempt.provider_message_id or message_id
    written = accepted(_subject(place, terms), known, now=settled.at, watch_s=terms.watch_s)
    if settled.told is None or written.event is None:
        return written
    return replace(written, event=replace(written.event, body=settled.told.encode()))


def _event(place: Place, hearing: Hearing, at: float, message_id: str | None, terms: Terms) -> Event:
    known = place.attempt.provider_message_id or message_id
    return event_of(_subject(place, terms), Status(hearing.value), at, message_id=known)


# Failed


def _failed(place: Place, heard: Heard, terms: Terms) -> Verdict:
    run, attempt = place.run, place.attempt
    assert heard.refused is not None  # noqa: S101 - a failure comes with what it means
    if place.is_end and (until := place.others_in_flight_until(terms.now)) is not None:
        # Whether another attempt stands accepted is known in a moment.
        return Later(until)
    reports = {**attempt.reports, Hearing.FAILED: Report(heard.at, heard.token, heard.refused.error)}
    amendment = Amendment(
        run.run, attempt.attempt, reports, heard.message_id, undelivered=run.undelivered, delivered=run.delivered
    )
    # Behind a later attempt nothing follows from it: that one decides what becomes of the job.
    answers = run.end is None and place.is_highest and attempt.state in (State.CLAIMED, State.UNKNOWN)
    overruled = _was_delivered(place)
    if overruled or place.others_stand or run.undelivered or not (place.is_end or answers):
        return Follow(amendment, (), overruled=overruled)
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
    # Behind a later attempt there is no place for another one: then it is a dead letter, which can be replayed.
    if isinstance(decision, RetryIn | Halt) and run.envelope.body and place.is_highest:
        return _taken_back(place, amendment, decision, heard.refused.error.kind, terms)
    return _given_up(place, amendment, _final_error(decision, heard.refused.error), heard.token, terms)


def _was_delivered(place: Place) -> bool:
    """Tell whether this very attempt was."""
    return bool(DELIVERIES & place.attempt.reports.keys())


def _refused(place: Place, amendment: Amendment, decision: Decision, kind: Kind, terms: Terms) -> Follow:
    """Take the report for the answer that was lost: nothing has arrived, as if it had been refused at once."""
    step = step_of(decision, _subject(place, terms), now=terms.now)
    if step.ends_job:
        body = None if step.letter else b""
        change = AttemptChange(State.SETTLED, kind)
        return Follow(replace(amendment, change=change, end=step, body=body), (step,))
    step = _told_in_the_same_words(place, step)
    return Follow(replace(amendment, change=AttemptChange(State.REFUSED, kind, step)), (step,))


def _told_in_the_same_words(place: Place, step: Step) -> Step:
    """Say that it is tried again as it was said when its answer was lost, if it was: one id stands for one event.

    It may have been written down then, and told to nobody.
    """
    before = place.attempt.step
    if before is None or before.event is None or step.event is None or before.event.id != step.event.id:
        return step
    return replace(step, event=before.event)


def _taken_back(place: Place, amendment: Amendment, decision: Decision, kind: Kind, terms: Terms) -> Follow:
    reports, end = dict(amendment.reports), place.run.end
    if end is not None and end.event is not None:
        # So that the same event can be told once more, should it turn out to have arrived after all.
        settled = reports.get(Hearing.SETTLED) or Report(terms.now, _ANSWER)
        reports[Hearing.SETTLED] = replace(settled, told=end.event.body.decode())
    step = _told_in_the_same_words(place, step_of(decision, _subject(place, terms), now=terms.now))
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


def _given_up(place: Place, amendment: Amendment, error: Error, token: str, terms: Terms) -> Follow:
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


def _undelivered(place: Place, report: Report, terms: Terms) -> Step:
    known = place.attempt.provider_message_id
    return Step(event_of(_subject(place, terms), Status.UNDELIVERED, report.at, error=report.error, message_id=known))


# The same message once more


def _steps_again(place: Place, heard: Heard, known: Report, terms: Terms) -> tuple[Step, ...]:
    """Spell out once more what followed from a report that was written down before a crash."""
    reports, token = place.attempt.reports, heard.token
    settled, end = reports.get(Hearing.SETTLED), place.run.end
    if heard.hearing is not Hearing.FAILED:
        event = Step(_event(place, heard.hearing, known.at, heard.message_id, terms))
        if settled is None or settled.token != token:
            return (event,)
        own = end if end is not None and place.is_end else None
        told = own or _accepted_again(place, settled, heard.message_id, replace(terms, watch_s=None))
        return (*_told_before(place), told, event)
    if place.attempt.state in (State.TAKEN_BACK, State.REFUSED) and place.attempt.step is not None:
        if end is not None:
            # It is over: whoever heard of a retry only now would wait for one.
            return ()
        # Behind a later attempt the retry has come: it is not begun once more.
        return (place.attempt.step if place.is_highest else replace(place.attempt.step, next=None),)
    letter = None if end is None or place.run.buried else end.letter
    given_up = reports.get(Hearing.UNDELIVERED)
    if place.run.undelivered and given_up is not None:
        event = _undelivered(place, given_up, terms) if given_up.token == token else Step(None)
        return (replace(event, letter=letter),)
    # Where it was taken for the answer that was lost, the end of the run is what followed from it.
    of_this = end is not None and end.event is not None and not place.is_end and _is_of(end.event.id, place)
    return (replace(end, letter=letter),) if of_this and end is not None else ()


def _is_of(event_id: str, place: Place) -> bool:
    return f"/{place.run.run}/{place.attempt.attempt}/" in event_id
