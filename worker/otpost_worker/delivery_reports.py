"""The way of a report: look up, judge, write down, publish. It knows ports only.

When ``take`` or ``check`` returns, whatever follows has been confirmed, and the message may be acknowledged. When it is
cancelled, the same message comes once more: what was written down by then is published again, and nothing twice over.
"""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final, assert_never

import structlog

from otpost.event import EventName, SenderEvent
from otpost_worker.ports import Recorded
from otpost_worker.sender_reports import (
    category_changed,
    concerns_nobody,
    consequences,
    hear_failure,
    hear_success,
    note_category,
)
from otpost_worker.statuses import Follow, Heard, Later, Nothing, Terms, Verdict, follow, hearing_of, miss
from otpost_worker.steps import sender_event
from otpost_worker.updates import Ignored, MessageReport, NotRequested, Posted, Preference, ProviderError, Reported
from otpost_worker.webhook_updates import WebhookUpdates

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from otpost_worker.decision import Policy
    from otpost_worker.observer import Observer
    from otpost_worker.outcome import Refused
    from otpost_worker.ports import Broker, Clock, Codes, Reports
    from otpost_worker.recording import Records
    from otpost_worker.sender_reports import Account, Consequence
    from otpost_worker.settling import Settler
    from otpost_worker.standing import Heard as SenderHeard
    from otpost_worker.standing import News
    from otpost_worker.stories import JobStory
    from otpost_worker.updates import OfAccount, Update

# A report may overtake the record of what it is about, and ours may be held up by a ledger that is away: in all it is
# tried for about four minutes, which is longer than any of that takes.
PAUSES_S: Final = (1.0, 2.0, 4.0, 8.0, 15.0, 30.0, 60.0, 120.0)
# No request leaves before its attempt is in the ledger. So what is not known there is somebody else's, who sends with
# the same number, perhaps as much as we do; or it lacks our word, and the answer that names it is not recorded yet.
PAUSES_OF_STRANGERS_S: Final = (1.0, 4.0, 15.0, 40.0)

_BEHIND_LEASE_S: Final = 0.1
# A kind's name is the sender's to choose, so that there is no end to them.
_MAX_IGNORED_KINDS: Final = 100
_MAX_STRANGERS: Final = 100
_NAME_THE_ACCOUNT: Final = (
    "if it is the WhatsApp Business Account of one of our senders, say so: OTPOST_WABA_ID, or waba_id of each sender "
    "in the senders file"
)
_NO_ERROR: Final = ProviderError(None)

_log = structlog.get_logger("otpost.reports")


class DeliveryReports:
    """Takes what the provider reports; safe to use for many reports at once.

    *read*: reads a webhook's body. *write*: makes a body of one update. *place_of*: reads our own word for an attempt.
    *refusal_of*: what a failure means by the provider's table. *watch_s_of*: that of a sender, by its name; it
    gives None where no deliveries are watched. *provider*: what results call it. *accounts*: the
    senders by the provider's names. *marketing_only*: whether only templates of another category can meet an error's
    code. *tell* hears what is new about a sender.
    """

    def __init__(  # noqa: PLR0913 - what it takes of the world, each by its name
        self,
        *,
        ledger: Reports,
        broker: Broker,
        codes: Codes,
        records: Records,
        settler: Settler,
        observer: Observer,
        clock: Clock,
        random: Callable[[], float],
        read: Callable[[bytes], Iterable[Update]],
        write: Callable[[MessageReport | NotRequested], bytes],
        place_of: Callable[[str], tuple[str, int, int] | None],
        refusal_of: Callable[[ProviderError], Refused],
        policy: Policy,
        watch_s_of: Callable[[str], float | None],
        provider: str,
        accounts: Sequence[Account],
        marketing_only: Callable[[int | None], bool],
        tell: Callable[[News], None],
    ) -> None:
        self._ledger = ledger
        self._broker = broker
        self._codes = codes
        self._records = records
        self._settler = settler
        self._observer = observer
        self._clock = clock
        self._random = random
        self._write = write
        self._place_of = place_of
        self._refusal_of = refusal_of
        self._policy = policy
        self._watch_s_of = watch_s_of
        self._provider = provider
        self._accounts = accounts
        self._marketing_only = marketing_only
        self._tell = tell
        self._ignored_kinds: set[str] = set()
        self._updates = WebhookUpdates(
            read=read, write=write, job_of=self._job_of, hear=self._take_one, broker=broker, observer=observer
        )
        self._strangers: set[str | None] = set()

    async def take(self, posted: Posted) -> None:
        """Take everything that a webhook says."""
        await self._updates.take(posted)

    async def _take_one(self, update: Update, posted: Posted) -> None:
        match update:
            case MessageReport():
                await self._report(update, posted)
            case Ignored(what):
                self._ignored(what)
            case NotRequested():
                await self._not_requested(update, posted)
            case Preference():
                self._observer.report_heard("preference")
            case _:
                await self._concern(update)

    def _job_of(self, report: MessageReport) -> str | None:
        place = self._place_of(report.callback) if report.callback else None
        return None if place is None else place[0]

    def _ignored(self, what: str) -> None:
        self._observer.report_heard("ignored")
        # Once each: every text that somebody writes to the number is one.
        if what not in self._ignored_kinds and len(self._ignored_kinds) < _MAX_IGNORED_KINDS:
            self._ignored_kinds.add(what)
            _log.info("webhook.ignored", what=what)

    async def _concern(self, update: OfAccount) -> None:
        """See to what is said of senders."""
        self._observer.report_heard("sender")
        if concerns_nobody(update, self._accounts):
            self._warn_of_stranger(update.account_id)
        for one in consequences(update, self._accounts, now=self._clock(), refusal_of=self._refusal_of):
            await self._see_to(one)

    async def _see_to(self, one: Consequence) -> None:
        event = one.event
        if event is None:
            if one.heard is not None:
                await self._hear_and_tell(one.heard)
            return
        news = await self._hear(one.heard) if one.heard else ()
        if news or not one.holds_or_releases:
            await self._broker.publish_sender_event(event)
        if not one.holds_or_releases:
            _say(event, grave=one.is_grave)
        for new in news:
            self._tell(new)

    def _warn_of_stranger(self, account_id: str | None) -> None:
        if account_id not in self._strangers and len(self._strangers) < _MAX_STRANGERS:
            self._strangers.add(account_id)
            _log.warning("webhook.concerns_nobody", account_id=account_id, remedy=_NAME_THE_ACCOUNT)

    async def _not_requested(self, update: NotRequested, posted: Posted) -> None:
        """Tell whose code somebody got who had not asked for one."""
        place = await self._records.insist(lambda: self._ledger.find(update.message_id))
        story = None if place is None else await self._records.insist(lambda: self._ledger.look_up(place[0]))
        if place is None or story is None:
            # The answer that names the message may be lost; then a report will name it.
            await self._postpone(update, posted, PAUSES_OF_STRANGERS_S)
            return
        self._observer.report_heard("not_requested")
        job_id, run, attempt = place
        sender = _sender_of(story, run)
        at = update.at if update.at is not None else self._clock()
        event = SenderEvent(
            event_id=f"{job_id}/{run}/{attempt}/{EventName.CODE_NOT_REQUESTED}",
            sender=sender,
            name=EventName.CODE_NOT_REQUESTED,
            at=datetime.fromtimestamp(at, UTC),
            job_id=job_id,
            detail="the recipient says that they did not ask for this code: let it expire",
        )
        await self._broker.publish_sender_event(event)
        _say(event, grave=True)

    async def check(self, job_id: str, run: int, attempt: int, token: str) -> None:
        """See to an attempt whose delivery should have been reported by now."""

        def judge(story: JobStory) -> Verdict:
            return miss(story, run, attempt, token, self._terms(story, run))

        if isinstance(await self._judged(job_id, run, judge), Follow):
            self._observer.report_heard("silence")

    async def _report(self, report: MessageReport, posted: Posted) -> None:
        place = self._place_of(report.callback) if report.callback else None
        if place is None and report.message_id is not None:
            message_id = report.message_id
            place = await self._records.insist(lambda: self._ledger.find(message_id))
        if place is None:
            await self._postpone(report, posted, PAUSES_OF_STRANGERS_S)
            return
        job_id, run, attempt = place
        heard = Heard(
            hearing_of(report.status),
            report.at if report.at is not None else self._clock(),
            posted.token,
            report.message_id,
            self._refusal(report),
        )
        before: list[JobStory] = []

        def judge(story: JobStory) -> Verdict:
            # With its body, which goes with what follows.
            before[:] = [story]
            return follow(heard, story, run, attempt, self._terms(story, run))

        verdict = await self._judged(job_id, run, judge)
        match verdict:
            case None:
                await self._postpone(report, posted, PAUSES_OF_STRANGERS_S)
            case Later(until):
                await self._postpone(report, posted, PAUSES_S, until=until)
            case Nothing(why):
                self._observer.report_heard(why)
            case Follow():
                self._observer.report_heard(heard.hearing)
                # Also where it is the same message once more: whoever took it first may have died before this.
                if heard.refused is None:
                    await self._release(before[0], run, attempt)
                elif not verdict.overruled:
                    await self._see_sender(heard.refused, heard.at, before[0], run, attempt)
            case _:  # pragma: no cover
                assert_never(verdict)

    async def _see_sender(self, refused: Refused, at: float, story: JobStory, run: int, attempt: int) -> None:
        """See to what a failure says of its sender, as it would in an answer."""
        of_run = next(one for one in story.runs if one.run == run)
        sender, now = of_run.envelope.sender, self._clock()
        self._observer.failure_reported(sender, refused)
        _log.info(
            "message.failed",
            job_id=story.job_id,
            run=run,
            attempt=attempt,
            sender=sender,
            kind=refused.error.kind.value,
            code=refused.error.code,
        )
        account = self._account_of(sender)
        if self._marketing_only(refused.error.code):
            event = category_changed(sender, refused.error, key=f"{story.job_id}/{run}/{attempt}", at=at)
            await self._broker.publish_sender_event(event)
            _say(event, grave=True)
            noted = account and note_category(refused.error, account, of_run.envelope, at=at, now=now)
            if noted:
                await self._hear(noted)
        claimed_at = next((one.claimed_at for one in of_run.attempts if one.attempt == attempt), now)
        if account is None:
            return
        heard = hear_failure(refused, account, of_run.envelope, claimed_at=claimed_at, at=at, now=now)
        if heard is not None:
            await self._hear_and_tell(heard)

    async def _release(self, story: JobStory, run: int, attempt: int) -> None:
        """Let a sender go on whose probe went out: where refusals come by report, the answer had not proved that."""
        of_run = next(one for one in story.runs if one.run == run)
        probe = next((one for one in of_run.attempts if one.attempt == attempt and one.probe), None)
        account = self._account_of(of_run.envelope.sender)
        if probe is not None and account is not None:
            now = self._clock()
            await self._hear_and_tell(hear_success(account, of_run.envelope, claimed_at=probe.claimed_at, now=now))

    def _account_of(self, sender: str) -> Account | None:
        return next((one for one in self._accounts if one.sender == sender), None)

    async def _hear_and_tell(self, heard: SenderHeard) -> None:
        for news in await self._hear(heard):
            await self._broker.publish_sender_event(sender_event(news))
            self._tell(news)

    async def _hear(self, heard: SenderHeard) -> tuple[News, ...]:
        return await self._records.insist(lambda: self._ledger.hear(heard))

    def _refusal(self, report: MessageReport) -> Refused | None:
        if report.status is not Reported.FAILED:
            return None
        return self._refusal_of(report.error or _NO_ERROR)

    async def _judged(self, job_id: str, run: int, judge: Callable[[JobStory], Verdict]) -> Verdict | None:
        """Judge by what the ledger knows, and do what follows; None where it does not know the job."""
        while True:
            story = await self._records.insist(lambda: self._ledger.look_up(job_id))
            if story is None:
                return None
            verdict = judge(story)
            if not isinstance(verdict, Follow):
                return verdict
            if verdict.amendment is None:
                await self._publish(verdict, story, run, again=True)
                return verdict
            amendment = verdict.amendment
            # Somebody may have written to the job meanwhile: then it is another story.
            if await self._records.insist(lambda: self._ledger.amend(story, amendment)):  # noqa: B023 - awaited here
                await self._publish(verdict, story, run)
                if amendment.reopened:
                    self._observer.taken_back(_sender_of(story, run))
                return verdict

    async def _publish(self, follow_up: Follow, story: JobStory, run: int, *, again: bool = False) -> None:
        envelope = next(one.envelope for one in story.runs if one.run == run)
        for step in follow_up.steps:
            recorded = Recorded(replace(envelope, run=run), step)
            await self._settler.publish(recorded, story.job_id, sender=envelope.sender, again=again)
        if follow_up.latency_s is not None:
            self._observer.delivery_reported(envelope.sender, latency_s=follow_up.latency_s)

    async def _postpone(
        self,
        report: MessageReport | NotRequested,
        posted: Posted,
        pauses_s: Sequence[float],
        *,
        until: float | None = None,
    ) -> None:
        if posted.tries >= len(pauses_s):
            # Of a job that was forgotten, or of somebody else who sends with the same number.
            self._observer.report_heard("stranger")
            status = report.status.value if isinstance(report, MessageReport) else "not_requested"
            _log.info("report.of_no_job", status=status)
            return
        self._observer.report_heard("early")
        later = Posted(self._write(report), posted.token, posted.tries + 1)
        pause_s = pauses_s[posted.tries]
        if until is not None:
            # Not long behind a lease that ends: whoever gets the job then would send it once more.
            pause_s = min(pause_s, max(0.0, until - self._clock()) + _BEHIND_LEASE_S)
        await self._broker.postpone_report(later, pause_s)

    def _terms(self, story: JobStory, run: int) -> Terms:
        return Terms(
            now=self._clock(),
            random=self._random(),
            policy=self._policy,
            provider=self._provider,
            watch_s=self._watch_s_of(_sender_of(story, run)),
            cover=self._codes.cover,
        )


def _sender_of(story: JobStory, run: int) -> str:
    """Name the sender of *run*; "" where there is no such run."""
    return next((one.envelope.sender for one in story.runs if one.run == run), "")


def _say(event: SenderEvent, *, grave: bool) -> None:
    """Log what was said of a sender, and begins or ends no hold."""
    told = {
        "sender": event.sender,
        "name": event.name.value,
        "template": event.template,
        "language": event.language,
        "job_id": event.job_id,
        "detail": event.detail,
        "code": event.error.code if event.error else None,
    }
    if grave:
        _log.warning("sender.told", **told)
    else:
        _log.info("sender.told", **told)
