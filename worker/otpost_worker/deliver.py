"""The way of a job: claim, send, decide, record, settle. It knows ports only.

When ``deliver`` returns, the job's next home has confirmed it and the delivery may be acknowledged. When it is
cancelled, the delivery must not be: the ledger knows how far the job came, and the next delivery goes on from there.
"""

from __future__ import annotations

import secrets
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final, assert_never

import structlog

from otpost_worker.attempts import Acknowledge, State, Wait, Wish
from otpost_worker.claiming import LEDGER_PAUSE_S, Asked, Claims
from otpost_worker.decision import Bury, Decision, Done, Expire, Halt, Policy, RetryIn, after_unknown, decide
from otpost_worker.envelope import Defaults, Envelope, Parcel, Unreadable, open_envelope
from otpost_worker.outcome import Accepted, Error, Kind, Outcome
from otpost_worker.pacing import HORIZON_S, Lane
from otpost_worker.ports import (
    Claimed,
    ClaimRequest,
    Crowded,
    Entry,
    Lapsed,
    Message,
    MustEnd,
    NoRoom,
    Recorded,
    Ticket,
)
from otpost_worker.recording import Records
from otpost_worker.reporting import Reporter
from otpost_worker.settling import Settler
from otpost_worker.standing import Heard, Signal, hear_outcome
from otpost_worker.steps import (
    MAYBE_SENT,
    buried_only,
    failed,
    invalid,
    sender_event,
    step_of,
    subject_of,
    subject_of_unreadable,
)

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Awaitable, Callable

    from otpost_worker.envelope import Step
    from otpost_worker.observer import Observer
    from otpost_worker.ports import Broker, Clock, Codes, Ledger, Provider
    from otpost_worker.standing import News

Ending = Bury | Expire

# For a job that was readable when it was claimed, whatever defaults its sender has lost since.
_ANY_DEFAULTS: Final = Defaults("unknown", "en")
# A claim outlives the longest request by this much (contract, section 5).
LEASE_MARGIN_S: Final = 5.0
# The shortest wait of a job that stood in line in vain.
_ROUND_S: Final = 1.0
# How often the table is asked again before the job takes a breath on the ladder.
_STARTS: Final = 5

_log = structlog.get_logger("otpost.deliver")


@dataclass(frozen=True, slots=True)
class WatchTimes:
    """In how many seconds a delivery should have been reported; *held_s* where the provider says that it holds it."""

    sent_s: float
    held_s: float

    def after_s(self, outcome: Outcome) -> float:
        """Tell it for what was answered."""
        return self.held_s if isinstance(outcome, Accepted) and outcome.held else self.sent_s


@dataclass(frozen=True, slots=True)
class Sender:
    """Who sends: a business number with what belongs to it.

    *rate*: messages a second. *quota*: names what shares the app's or the account's quota with it. *watch*: when it is
    looked whether what was accepted was delivered; None where no reports come.
    """

    name: str
    provider: Provider
    defaults: Defaults
    policy: Policy
    rate: float
    quota: str
    watch: WatchTimes | None = None


class Deliverer:
    """Takes one sender's jobs along their way; safe to use for many jobs at once.

    *stopping*: once set, nothing new is begun. *background*: keeps a coroutine running that must outlive a job.
    *random* gives numbers between 0 and 1. *tell* hears what is new about the sender.
    """

    def __init__(  # noqa: PLR0913 - what it takes of the world, each by its name
        self,
        sender: Sender,
        *,
        ledger: Ledger,
        broker: Broker,
        codes: Codes,
        observer: Observer,
        clock: Clock,
        random: Callable[[], float],
        stopping: asyncio.Event,
        background: Callable[[Awaitable[None]], None],
        tell: Callable[[News], None],
    ) -> None:
        self._sender = sender
        self._ledger = ledger
        self._broker = broker
        self._codes = codes
        self._observer = observer
        self._clock = clock
        self._random = random
        self._stopping = stopping
        self._background = background
        self._tell = tell
        self._reporter = Reporter(sender.name, observer)
        self._claims = Claims(ledger, clock=clock, stopping=stopping)
        self._records = Records(ledger, background=background, tell=self._hear_news)
        self._settler = Settler(broker, codes, observer, clock, self._records)
        # Until when claims may have been granted without knowing of the latest refusal of the sender.
        self._refused_at = 0.0

    async def deliver(self, envelope: Envelope, *, ending: Ending | None = None) -> None:
        """Take the job as far as it goes now; with *ending* it is not sent any more, but ends like that."""
        opened = open_envelope(envelope, self._sender.defaults, now=self._clock())
        match opened:
            case Parcel():
                await self._advance(opened, ending or self._unsendable(opened))
            case Unreadable():
                await self._refuse(opened)
            case _:  # pragma: no cover
                assert_never(opened)

    def _unsendable(self, parcel: Parcel) -> Bury | None:
        """Look whether the code can be had at all, before anything is claimed for it."""
        code = self._codes.read(parcel.job)
        if isinstance(code, str):
            return None
        self._reporter.unsendable(parcel, code)
        return Bury(code)

    async def _advance(self, parcel: Parcel, ending: Ending | None) -> None:
        late = False
        for _ in range(_STARTS):
            token = secrets.token_hex(8)
            asked = await self._claims.ask(lambda: self._request(parcel, ending, late=late, token=token))  # noqa: B023 - awaited here
            if asked is None:
                await self._broker.hand_back(parcel.envelope)
                return
            if await self._act(asked, parcel, ending):
                return
            late = late or isinstance(asked.reply, NoRoom)
        await self._broker.delay(parcel.envelope, LEDGER_PAUSE_S)

    async def _act(self, asked: Asked, parcel: Parcel, ending: Ending | None) -> bool:
        """Do what the table says; False where it has to be asked again."""
        request = asked.request
        match asked.reply:
            case Claimed() as claimed:
                return await self._attempt(parcel, claimed, asked)
            case Recorded(envelope, step):
                if step.ends_job:
                    # Who asks under an id that has ended is told the end where it wants to hear of it.
                    envelope = replace(envelope, reply=parcel.envelope.reply)
                return await self._publish(Recorded(envelope, step), request.job_id, again=True)
            case Lapsed() as lapsed:
                return await self._lapse(lapsed, request.job_id)
            case MustEnd() as end:
                return await self._end(end, parcel, ending, request)
            case Wait(until):
                await self._broker.delay(parcel.envelope, until - self._clock())
                return True
            case Crowded(until):
                # At a very low rate its deadline may be sooner.
                until = min(max(until, self._clock() + _ROUND_S), parcel.deadline)
                await self._broker.delay(parcel.envelope, until - self._clock())
                return True
            case NoRoom():
                return False
            case Acknowledge():
                return True
            case _:  # pragma: no cover
                assert_never(asked.reply)

    async def _end(self, end: MustEnd, parcel: Parcel, ending: Ending | None, request: ClaimRequest) -> bool:
        step = self._last_step(end, parcel, ending)
        recorded = await self._records.insist(lambda: self._ledger.conclude(request, step))
        if recorded is None:
            return False
        if end.unknown is None and not end.history.failures:
            self._observer.job_begun(self._sender.name)
        return await self._publish(recorded, request.job_id)

    # Claiming and sending

    def _request(self, parcel: Parcel, ending: Ending | None, *, late: bool, token: str) -> ClaimRequest:
        policy, envelope, now = self._sender.policy, parcel.envelope, self._clock()
        wish = Wish(
            run=envelope.run,
            attempt=envelope.attempt,
            late=late or max(now, parcel.hold_until) > policy.latest_start(parcel.deadline),
            hold_until=min(parcel.hold_until, parcel.deadline),
            resend=policy.resend_unknown,
            end=ending is not None,
        )
        lease_s = policy.timeout_s + LEASE_MARGIN_S
        return ClaimRequest(parcel.job.id, wish, envelope, parcel.deadline, lease_s, self._lane(parcel), token=token)

    def _lane(self, parcel: Parcel) -> Lane:
        sender = self._sender
        return Lane(
            sender.name,
            sender.quota,
            parcel.job.to,
            parcel.template,
            parcel.language,
            rate=sender.rate,
            latest_start=sender.policy.latest_start(parcel.deadline),
            deadline=parcel.deadline,
        )

    async def _attempt(self, parcel: Parcel, claimed: Claimed, asked: Asked) -> bool:
        if claimed.probe:
            # Before its start and not at it: also a probe that leaves late would cross a limit that others keep.
            await self._sender.provider.renew()
        # No start is further away than that, unless the clock was set back meanwhile.
        await self._claims.wait_until(min(claimed.start_at, self._clock() + HORIZON_S))
        now = self._clock()
        if not self._may_start(parcel, claimed, asked, now):
            await self._claims.release(claimed.ticket)
            return False
        self._reporter.request_begun(parcel, claimed.ticket, now)
        outcome = await self._sender.provider.send(self._message(parcel, claimed.ticket))
        await self._conclude_attempt(parcel, claimed, asked, outcome, started_at=now)
        return True

    def _may_start(self, parcel: Parcel, claimed: Claimed, asked: Asked, now: float) -> bool:
        """Tell whether a request that starts *now* is in time for everything that depends on it."""
        policy = self._sender.policy
        lease_left = asked.at + policy.timeout_s + LEASE_MARGIN_S - now
        # Many that come late would come together, and cross a limit that each of them has kept.
        punctual = now <= claimed.start_at + policy.start_tolerance_s
        # A refusal that is still to come was met before the clock was set back.
        refused = not claimed.probe and asked.at <= self._refused_at <= now
        in_time = now <= policy.latest_start(parcel.deadline) and lease_left >= policy.timeout_s
        return in_time and punctual and not refused and not self._stopping.is_set()

    async def _conclude_attempt(
        self, parcel: Parcel, claimed: Claimed, asked: Asked, outcome: Outcome, *, started_at: float
    ) -> None:
        now = self._clock()
        decision = decide(
            outcome,
            deadline=parcel.deadline,
            now=now,
            history=claimed.history,
            policy=self._sender.policy,
            random=self._random(),
        )
        subject, watch = subject_of(parcel, provider=self._sender.provider.name), self._sender.watch
        step = step_of(decision, subject, now=now, watch_s=watch.after_s(outcome) if watch else None)
        # Reports may take back what was accepted: then it is sent once more.
        kept = self._codes.cover(parcel.envelope).body if watch and isinstance(outcome, Accepted) else b""
        self._reporter.request_ended(claimed.ticket, outcome, decision, duration_s=now - started_at)
        heard = hear_outcome(
            outcome,
            self._lane(parcel),
            booked_at=asked.at,
            started_at=started_at,
            ended_at=now,
            pair_failures=claimed.history.failures_of(Kind.PAIR_LIMIT),
        )
        if heard.signal is Signal.SENDER_REFUSED:
            # Whatever becomes of this job, the others in hand need not try.
            self._refused_at = self._clock()
        recorded = await self._records.record(asked.request, replace(_entry(outcome, decision, step, heard), kept=kept))
        if heard.signal is Signal.SENDER_REFUSED:
            self._refused_at = self._clock()
        if recorded is not None:
            await self._publish(recorded, parcel.job.id)

    def _message(self, parcel: Parcel, ticket: Ticket) -> Message:
        first = ticket.run == 1 and ticket.attempt == 1
        callback = ticket.job_id if first else f"{ticket.job_id}/{ticket.run}/{ticket.attempt}"
        code = self._codes.read(parcel.job)
        assert isinstance(code, str)  # noqa: S101 - _unsendable lets no other job come this far
        return Message(parcel.job.to, code, parcel.template, parcel.language, callback)

    # Recording

    def _hear_news(self, news: News) -> None:
        self._tell(news)
        self._background(self._broker.publish_sender_event(sender_event(news)))

    async def _lapse(self, lapsed: Lapsed, job_id: str) -> bool:
        now = self._clock()
        # The ledger's job, not the delivery's: of two jobs under one id the first one counts.
        parcel = open_envelope(lapsed.envelope, _ANY_DEFAULTS, now=now)
        assert isinstance(parcel, Parcel)  # noqa: S101 - what could not be read was never claimed
        error = Error(Kind.UNKNOWN, title="No outcome", detail="the worker that sent it did not live to tell")
        decision = after_unknown(
            error, deadline=parcel.deadline, now=now, history=lapsed.history, policy=self._sender.policy
        )
        subject = subject_of(parcel, provider=self._sender.provider.name, attempt=lapsed.ticket.attempt)
        entry = Entry(_state(decision, unknown=True), Kind.UNKNOWN, step_of(decision, subject, now=now))
        recorded = await self._records.insist(lambda: self._ledger.lapse(lapsed.ticket, entry))
        if recorded is None:
            return False
        self._observer.request_lapsed(self._sender.name)
        return await self._publish(recorded, job_id)

    def _last_step(self, end: MustEnd, parcel: Parcel, ending: Ending | None) -> Step:
        now, name = self._clock(), self._sender.provider.name
        ending = _expiry_first(ending, late=now > parcel.deadline)
        # Whoever reads "expired" may rely on it that nothing has arrived.
        in_doubt = isinstance(ending, Expire) and end.history.failures_of(Kind.UNKNOWN) > 0
        if end.unknown is not None or in_doubt:
            return failed(MAYBE_SENT, subject_of(parcel, provider=name, attempt=end.unknown), now=now)
        return step_of(ending, subject_of(parcel, provider=name), now=now)

    async def _refuse(self, unreadable: Unreadable) -> None:
        envelope, now = unreadable.envelope, self._clock()
        error = invalid(unreadable)
        subject = subject_of_unreadable(unreadable, nonce=secrets.token_hex(16))
        step = replace(failed(error, subject, now=now), fingerprint=self._codes.fingerprint(envelope.body))
        _log.warning("job.invalid", job_id=unreadable.job_id, sender=envelope.sender, problems=error.detail)
        recorded: Recorded | None = Recorded(envelope, step)
        again = False
        if unreadable.job_id is not None:
            wish = Wish(envelope.run, envelope.attempt, end=True)
            token = secrets.token_hex(8)
            request = ClaimRequest(unreadable.job_id, wish, envelope, now, LEASE_MARGIN_S, token=token)
            recorded = await self._records.insist(lambda: self._ledger.refuse(request, step))
        if recorded is None:
            recorded = Recorded(envelope, buried_only(error, attempt=envelope.attempt, now=now))
        elif recorded.step == step:
            self._observer.job_begun(self._sender.name)
        else:
            again = True
        await self._publish(recorded, unreadable.job_id, again=again)

    # Settling

    async def _publish(self, recorded: Recorded, job_id: str | None, *, again: bool = False) -> bool:
        await self._settler.publish(recorded, job_id, sender=self._sender.name, again=again)
        return True


def _expiry_first(ending: Ending | None, *, late: bool) -> Ending:
    """A job that is too late is only that; but a sender that nobody knows has to be told in any case."""
    misdirected = isinstance(ending, Bury) and ending.error.kind is Kind.NO_SENDER
    return Expire(None) if ending is None or (late and not misdirected) else ending


def _entry(outcome: Outcome, decision: Decision, step: Step, heard: Heard) -> Entry:
    if isinstance(outcome, Accepted):
        return Entry(State.SETTLED, None, step, outcome.provider_message_id, heard)
    unknown = outcome.error.kind is Kind.UNKNOWN
    return Entry(_state(decision, unknown=unknown), outcome.error.kind, step, heard=heard)


def _state(decision: Decision, *, unknown: bool) -> State:
    match decision:
        case Done() | Bury() | Expire():
            return State.SETTLED
        case RetryIn() | Halt():
            return State.UNKNOWN if unknown else State.REFUSED
        case _:  # pragma: no cover
            assert_never(decision)
