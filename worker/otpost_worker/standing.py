"""What an answer says about the sender and not about one job: holds, a slower pace, a quota's pause [pure].

A hold stops a sender, or one template in one language, until an answer shows that it works again; probes find that
out (contract, section 4.5). All times are Unix seconds by the ledger's clock.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import StrEnum
from typing import TYPE_CHECKING, Final, assert_never

from otpost_worker.backoff import delay_s
from otpost_worker.outcome import Accepted, Error, Kind, Outcome, Refused, Unknown
from otpost_worker.pacing import Cut, Hold, begin_hold, current_rate, cut_rate, refuse_again, speak_against

if TYPE_CHECKING:
    from otpost_worker.pacing import Lane

# So many requests in a row without an answer, and the provider counts as unreachable for all.
MAX_UNANSWERED: Final = 20
# What the provider does not say how long its quota stays used up (contract, section 6), in seconds.
QUOTA_PAUSE_S: Final = 60.0
MAX_QUOTA_PAUSE_S: Final = 900.0
# How long a ledger keeps what was said by webhook: the provider repeats one for up to seven days (whatsapp.md, 4).
WORD_KEPT_S: Final = 8 * 24 * 3600.0


class Signal(StrEnum):
    """What an outcome says about the sender."""

    ACCEPTED = "accepted"  # the sender and this template work
    ANSWERED = "answered"  # the sender works; of the template nothing is known
    PAIR_LIMITED = "pair_limited"  # as that; and this recipient has to wait
    THROTTLED = "throttled"
    QUOTA = "quota"
    SENDER_REFUSED = "sender_refused"
    TEMPLATE_REFUSED = "template_refused"
    UNANSWERED = "unanswered"  # nobody was there, or no answer came
    # By webhook, which says nothing of whether the sender itself works:
    TEMPLATE_CLOSED = "template_closed"
    TEMPLATE_OPENED = "template_opened"
    NOTED = "noted"  # something that an operator should know, and that stops nothing yet
    NOTHING = "nothing"


class Topic(StrEnum):
    """What a word said by webhook is about; on each topic the newest one counts."""

    STATUS = "status"  # whether it may be sent at all
    CATEGORY = "category"
    QUALITY = "quality"
    NUMBER = "number"
    ACCOUNT = "account"


@dataclass(frozen=True, slots=True)
class Said:
    """When something was said, by the provider's clock.

    *topic*: one of ``Topic``, or that and ":" and of what in particular.
    *notice*: what an operator should know of it for as long as nothing newer is said; None where all is well.
    """

    topic: str
    at: float
    notice: str | None = None


@dataclass(frozen=True, slots=True)
class Heard:
    """A signal, from the answer to a request on *lane*.

    *begun_at*: when the request began; for ``THROTTLED``, when its start was booked. *pause_s*: how long the
    provider says that its quota stays used up. *error*: what it said of the refusal; *remedy*: what an operator has
    to do about it. *pair_until*: for ``PAIR_LIMITED``, until when the recipient waits. *said*: for what comes by
    webhook alone. *by_report*: it came by webhook, and the answer to the request itself had been another one.
    """

    lane: Lane
    signal: Signal
    begun_at: float
    pause_s: float | None = None
    error: Error | None = None
    remedy: str | None = None
    pair_until: float | None = None
    said: Said | None = None
    by_report: bool = False


@dataclass(frozen=True, slots=True)
class Standing:
    """What the ledger keeps of a sender, and of one of its templates.

    *unanswered*: how many requests in a row had no answer. *quota_pauses*: how many pauses without a break.
    """

    cut: Cut | None = None
    quota_until: float = 0.0
    quota_pauses: int = 0
    unanswered: int = 0
    sender_hold: Hold | None = None
    template_hold: Hold | None = None


class Change(StrEnum):
    """What is new about a sender."""

    HALTED = "halted"
    RESUMED = "resumed"
    SLOWED = "slowed"
    PAUSED = "paused"


@dataclass(frozen=True, slots=True)
class News:
    """A change of the sender, or of one template where *template* is set; told once, by whoever brought it about.

    *rate*: the new rate in messages a second. *until*: the end of a pause, in Unix seconds.
    """

    change: Change
    sender: str
    at: float
    template: str | None = None
    language: str | None = None
    error: Error | None = None
    rate: float | None = None
    until: float | None = None


@dataclass(frozen=True, slots=True)
class Word:
    """What was said last on a topic, of a sender or of one template: *news* is what was new with it."""

    said: Said
    signal: Signal
    news: tuple[News, ...]


def heed(heard: Heard, last: Word | None) -> tuple[News, ...] | None:
    """Tell what follows from a word that is not the newest; None where it is, and has to be heard.

    The same once more, after a crash or from a second POST, is the same news. What comes late, behind a newer one,
    says nothing any more.
    """
    if heard.said is None or last is None or heard.said.at > last.said.at:
        return None
    if heard.said.at < last.said.at:
        return ()
    return last.news if (heard.said, heard.signal) == (last.said, last.signal) else None


def signal_of(outcome: Outcome) -> Signal:
    """Tell what *outcome* says about its sender."""
    match outcome:
        case Accepted():
            return Signal.ACCEPTED
        case Unknown(error):
            return Signal.UNANSWERED if error.http_status is None else Signal.NOTHING
        case Refused(error):
            return Signal.NOTHING if outcome.outdated else _signal_of_refusal(error)
        case _:  # pragma: no cover
            assert_never(outcome)


def _signal_of_refusal(error: Error) -> Signal:
    match error.kind:
        case Kind.THROUGHPUT:
            return Signal.THROTTLED
        case Kind.QUOTA:
            return Signal.QUOTA
        case Kind.SENDER_HALTED:
            return Signal.SENDER_REFUSED
        case Kind.TEMPLATE:
            return Signal.TEMPLATE_REFUSED
        case Kind.UNAVAILABLE:
            # A code of the provider's own says that somebody is there, though not in good health.
            return Signal.UNANSWERED if error.code is None else Signal.NOTHING
        case Kind.PAIR_LIMIT:
            return Signal.PAIR_LIMITED
        case Kind.USER_LIMIT | Kind.RECIPIENT | Kind.BAD_REQUEST:
            return Signal.ANSWERED
        case _:
            return Signal.NOTHING


def hear_outcome(
    outcome: Outcome, lane: Lane, *, booked_at: float, started_at: float, ended_at: float, pair_failures: int
) -> Heard:
    """Take from *outcome* what concerns the sender; its request started at *started_at*, which was booked before.

    *pair_failures*: how often the job was refused before for its recipient's limit.
    """
    signal = signal_of(outcome)
    # A start that was booked before a cut was booked at the old rate, however long it was waited for.
    begun_at = booked_at if signal is Signal.THROTTLED else started_at
    match outcome:
        case Accepted():
            return Heard(lane, signal, begun_at)
        case Unknown(error):
            return Heard(lane, signal, begun_at, error=error)
        case Refused(error, not_before_s):
            pair_until = None
            if signal is Signal.PAIR_LIMITED:
                # Also where this job has no time left for a retry: other jobs to that recipient wait all the same.
                pair_until = ended_at + delay_s(error.kind, pair_failures, asked_s=not_before_s, random=1.0)
            return Heard(lane, signal, begun_at, not_before_s, error, outcome.remedy, pair_until)
        case _:  # pragma: no cover
            assert_never(outcome)


def hear(heard: Heard, standing: Standing, *, now: float) -> tuple[Standing, tuple[News, ...]]:
    """Apply a signal: returns what is to be kept, and what is news."""
    match heard.signal:
        case Signal.NOTHING | Signal.NOTED:
            return standing, ()
        case Signal.UNANSWERED:
            return _unanswered(heard, standing, now)
        case Signal.TEMPLATE_CLOSED:
            return _template_held(heard, standing, (), now)
        case Signal.TEMPLATE_OPENED:
            return _template_released(heard, standing, (), now)
        case _:
            return _answered(heard, standing, now)


def _answered(heard: Heard, standing: Standing, now: float) -> tuple[Standing, tuple[News, ...]]:
    """Apply what an answer says: somebody is there."""
    answered = replace(standing, unanswered=0)
    match heard.signal:
        case Signal.SENDER_REFUSED:
            return _halted(heard, answered, now)
        case Signal.QUOTA:
            return _paused(heard, *_resumed(heard, answered, now), now)
        case Signal.THROTTLED:
            return _slowed(heard, *_resumed(heard, answered, now), now)
        case Signal.TEMPLATE_REFUSED:
            return _template_held(heard, *_resumed(heard, answered, now), now)
        case Signal.ACCEPTED:
            return _template_released(heard, *_resumed(heard, replace(answered, quota_pauses=0), now), now)
        case Signal.ANSWERED | Signal.PAIR_LIMITED:
            return _resumed(heard, answered, now)
        case _:  # pragma: no cover
            raise AssertionError(f"nobody has said what follows from {heard.signal}")


def _unanswered(heard: Heard, standing: Standing, now: float) -> tuple[Standing, tuple[News, ...]]:
    counted = replace(standing, unanswered=standing.unanswered + 1)
    return _halted(heard, counted, now) if counted.unanswered >= MAX_UNANSWERED else (counted, ())


def _halted(heard: Heard, standing: Standing, now: float) -> tuple[Standing, tuple[News, ...]]:
    hold = standing.sender_hold
    if hold is not None:
        return replace(standing, sender_hold=refuse_again(hold, by_report=heard.by_report)), ()
    news = News(Change.HALTED, heard.lane.sender, now, error=heard.error)
    return replace(standing, sender_hold=begin_hold(now, by_report=heard.by_report)), (news,)


def _resumed(heard: Heard, standing: Standing, now: float) -> tuple[Standing, tuple[News, ...]]:
    hold = standing.sender_hold
    # What was under way when the hold began says nothing about it.
    left = hold and speak_against(hold, heard.begun_at, now, by_report=heard.by_report)
    is_over = hold is not None and left is None
    news = (News(Change.RESUMED, heard.lane.sender, now),) if is_over else ()
    return replace(standing, sender_hold=left), news


def _template_held(
    heard: Heard, standing: Standing, news: tuple[News, ...], now: float
) -> tuple[Standing, tuple[News, ...]]:
    hold, lane = standing.template_hold, heard.lane
    if hold is not None:
        return replace(standing, template_hold=refuse_again(hold, by_report=heard.by_report)), news
    held = News(Change.HALTED, lane.sender, now, lane.template, lane.language, error=heard.error)
    return replace(standing, template_hold=begin_hold(now, by_report=heard.by_report)), (*news, held)


def _template_released(
    heard: Heard, standing: Standing, news: tuple[News, ...], now: float
) -> tuple[Standing, tuple[News, ...]]:
    hold, lane = standing.template_hold, heard.lane
    left = hold and speak_against(hold, heard.begun_at, now, by_report=heard.by_report)
    if hold is None or left is not None:
        return replace(standing, template_hold=left), news
    released = News(Change.RESUMED, lane.sender, now, lane.template, lane.language)
    return replace(standing, template_hold=None), (*news, released)


def _slowed(heard: Heard, standing: Standing, news: tuple[News, ...], now: float) -> tuple[Standing, tuple[News, ...]]:
    full = heard.lane.rate
    cut = cut_rate(full, standing.cut, now=now, begun_at=heard.begun_at)
    if cut is None:
        return standing, news
    slowed = News(Change.SLOWED, heard.lane.sender, now, error=heard.error, rate=current_rate(full, cut, now))
    return replace(standing, cut=cut), (*news, slowed)


def _paused(heard: Heard, standing: Standing, news: tuple[News, ...], now: float) -> tuple[Standing, tuple[News, ...]]:
    pause_s = heard.pause_s or min(QUOTA_PAUSE_S * 2.0 ** min(standing.quota_pauses, 10), MAX_QUOTA_PAUSE_S)
    until = now + pause_s
    if now < standing.quota_until:
        # One more answer to what was under way when the pause began: only a longer one is worth anything.
        later = max(until, standing.quota_until) if heard.pause_s else standing.quota_until
        return replace(standing, quota_until=later), news
    paused = News(Change.PAUSED, heard.lane.sender, now, error=heard.error, until=until)
    return replace(standing, quota_until=until, quota_pauses=standing.quota_pauses + 1), (*news, paused)
