"""What the way of a job needs of the world, as narrow protocols; the adapters implement them."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, Protocol

from otpost.errors import OtpostError
from otpost_worker.attempts import Acknowledge, Wait

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from datetime import datetime

    from otpost.event import SenderEvent
    from otpost.job import OtpJob
    from otpost_worker.attempts import State, Wish
    from otpost_worker.decision import History
    from otpost_worker.envelope import Envelope, Event, Letter, Step, Watch
    from otpost_worker.outcome import Error, Kind, Outcome
    from otpost_worker.pacing import Hold, Lane
    from otpost_worker.standing import Heard, News
    from otpost_worker.stories import Amendment, JobStory, RunStory
    from otpost_worker.updates import Posted


# Copies of a job come late, and somebody may ask what became of it (contract, section 5).
REMEMBERED_AFTER_DEADLINE_S: Final = 24 * 3600.0


class LedgerUnavailable(Exception):
    """The ledger cannot be read or written now. Nothing is sent without it."""


class NoLedger(LedgerUnavailable):
    """There is no ledger yet where it should be."""


@dataclass(frozen=True, slots=True)
class Message:
    """One authentication message: to whom, what, and our own word for it. The ``repr`` hides all of it."""

    to: str
    code: str
    template: str
    language: str
    callback: str

    def __repr__(self) -> str:
        """Only our own word for it."""
        return f"Message(callback={self.callback!r})"


class Provider(Protocol):
    """Who carries messages for one sender."""

    @property
    def name(self) -> str | None:
        """What results call it; None where there is none."""

    async def send(self, message: Message) -> Outcome:
        """Make one request; within its total timeout there is an outcome, whatever happens."""

    async def renew(self) -> None:
        """Read again what may be replaced (the token's file).

        Probes wait for it, which have a start to keep: what takes longer than a quarter of a second is found next time.
        """

    async def take_renewal(self) -> bool:
        """Read it again too, and tell whether it was replaced since this was asked last, whoever found that."""


@dataclass(frozen=True, slots=True)
class ClaimRequest:
    """A delivery, as the ledger needs to know it.

    *lease_s*: how long a claim lasts, by the ledger's clock. *deadline* (Unix seconds) tells how long the ledger
    has to remember the job. *lane*: what the request would use of the limits; None where it is not to be paced.
    *token* becomes that of the ticket: asked again after an answer that was lost, the ledger tells the asker's own
    claim by it from anybody else's.
    """

    job_id: str
    wish: Wish
    envelope: Envelope
    deadline: float
    lease_s: float
    lane: Lane | None = None
    token: str = field(kw_only=True)

    @property
    def forget_at(self) -> float:
        """When the ledger may forget the job, in Unix seconds."""
        return self.deadline + REMEMBERED_AFTER_DEADLINE_S


@dataclass(frozen=True, slots=True)
class Ticket:
    """A claim that was granted: *token*, the asker's, tells it from any other claim of the same attempt."""

    job_id: str
    run: int
    attempt: int
    token: str


@dataclass(frozen=True, slots=True)
class Claimed:
    """The attempt is ours until the lease ends; its request starts at *start_at* (Unix seconds), not before.

    *probe*: the sender or its template is held, and this request finds out whether that can end.
    """

    ticket: Ticket
    history: History
    start_at: float = 0.0
    probe: bool = False


@dataclass(frozen=True, slots=True)
class Recorded:
    """What was recorded to follow, to be published again with the envelope of the ledger, not the delivery's.

    *envelope.body* is empty where the ledger no longer holds the job: nothing of *step* needs it then.
    """

    envelope: Envelope
    step: Step


@dataclass(frozen=True, slots=True)
class Lapsed:
    """The claim *ticket* ended without an outcome; *history* is what came before it."""

    ticket: Ticket
    history: History
    envelope: Envelope


@dataclass(frozen=True, slots=True)
class MustEnd:
    """Nothing may be sent any more. *unknown* is the attempt that may have arrived, if there is one."""

    history: History
    unknown: int | None


@dataclass(frozen=True, slots=True)
class Crowded:
    """The sender is at its limit: ask again at *until* (Unix seconds), with the job in hand. Nothing is booked."""

    until: float


@dataclass(frozen=True, slots=True)
class NoRoom:
    """The recipient's turn would come too late for the job. Nothing is booked."""


ClaimReply = Claimed | Recorded | Lapsed | MustEnd | Acknowledge | Wait | Crowded | NoRoom


@dataclass(frozen=True, slots=True)
class Entry:
    """An attempt's outcome as the ledger keeps it, together with the step that follows.

    *heard*: what the outcome says about the sender, which counts whatever becomes of the job. *kept*: the body as it
    may lie there, no code readable in it, until the deadline: for where the provider takes back what it has accepted.
    """

    state: State
    kind: Kind | None
    step: Step
    provider_message_id: str | None = None
    heard: Heard | None = None
    kept: bytes = b""

    def retry_of(self, ticket: Ticket) -> tuple[str, int, int] | None:
        """Name the attempt that follows that of *ticket*, by job, run and number; None where none does."""
        return (ticket.job_id, ticket.run, self.step.next.attempt) if self.step.next else None


@dataclass(frozen=True, slots=True)
class Noted:
    """An outcome is kept. *recorded* is the step to publish; None where somebody else's stands.

    *news*: what changed about the sender with it; the same once more to who records the same once more. Not
    *known*: the ledger knows of no such claim, and nothing of it is kept; one that dies may lose what it was told last.
    """

    recorded: Recorded | None
    news: tuple[News, ...] = ()
    known: bool = True


class Ledger(Protocol):
    """What is known of every job, shared by all workers of one broker.

    Every method may raise ``LedgerUnavailable``, and may be called again then.
    """

    async def claim(self, request: ClaimRequest) -> ClaimReply:
        """Look the delivery up in the table and, where it may be sent, claim its attempt: one operation.

        Asked again with the token of an open claim, the claim is granted once more, with a lease that begins anew.
        """

    async def record(self, ticket: Ticket, entry: Entry) -> Noted:
        """Record the outcome of a claim, and what it says about the sender.

        There is no step to publish where the claim was no longer ours and somebody else's step stands.
        """

    async def lapse(self, ticket: Ticket, entry: Entry) -> Recorded | None:
        """Record a lapsed claim as unknown; None where it is not, or no longer, a lapsed claim."""

    async def conclude(self, request: ClaimRequest, step: Step) -> Recorded | None:
        """End a run without a request; None where the table now says something else."""

    async def refuse(self, request: ClaimRequest, step: Step) -> Recorded | None:
        """End the run of a body that is no job; None where its id belongs to another one, which is left alone.

        Asked again with the very same body, that end is given again: it is told by the body, as long as that is kept,
        or by the step's fingerprint.
        """

    async def release(self, ticket: Ticket) -> None:
        """Take back a claim whose request never left, as if it had not been."""

    async def note_buried(self, job_id: str, run: int) -> None:
        """Note that the run's dead letter is confirmed, so that it is not published again."""

    async def check(self) -> None:
        """Find out whether the ledger can be written now, without changing anything."""


@dataclass(frozen=True, slots=True)
class HoldReport:
    """A hold as an operator sees it; of one template where *template* is set.

    *error*: what began it. *remedy*: what to do about it.
    """

    hold: Hold
    template: str | None
    language: str | None
    error: Error | None
    remedy: str | None

    def is_met_by(self, template: str | None, language: str | None) -> bool:
        """Tell whether jobs of a sender with this default template meet it, as far as anybody knows.

        An account may have other templates, of which a webhook speaks and no job.
        """
        by_an_answer = self.error is not None and self.error.code is not None
        is_default = template in (None, self.template) and language in (None, self.language)
        return self.template is None or by_an_answer or is_default


@dataclass(frozen=True, slots=True)
class Notice:
    """What the provider has said by webhook, and stops nothing yet; of one template where *template* is set.

    *at*: when it was said, by the provider's clock, in Unix seconds.
    """

    topic: str
    template: str | None
    language: str | None
    text: str
    at: float


@dataclass(frozen=True, slots=True)
class SenderReport:
    """How a sender is doing. *rate*: messages a second now; *quota_until*: the end of a pause, in Unix seconds."""

    rate: float
    quota_until: float | None
    holds: tuple[HoldReport, ...]
    notices: tuple[Notice, ...] = ()


class Standings(Protocol):
    """What the ledger keeps of senders, for whoever watches them. Every method may raise ``LedgerUnavailable``."""

    async def report(self, rates: Mapping[str, float], quotas: Mapping[str, str]) -> Mapping[str, SenderReport]:
        """Tell how the senders are doing; *rates* and *quotas* give each one's full rate and quota."""

    async def probe_soon(self, senders: Iterable[str]) -> None:
        """Let the next job of each of these senders be a probe, where they are held."""


class Archive(Protocol):
    """The ledger, for whoever wants to know what became of a job. May raise ``LedgerUnavailable``."""

    @property
    def identity(self) -> str:
        """What tells this ledger from every other one, for as long as it exists."""

    async def story(self, job_id: str) -> tuple[RunStory, ...]:
        """Tell everything that is known of a job, the first run first; nothing where it is not known."""


class Reports(Protocol):
    """The ledger, for whoever hears from the provider after its answer. May raise ``LedgerUnavailable``."""

    async def find(self, message_id: str) -> tuple[str, int, int] | None:
        """Find the job, run and attempt that the provider took under *message_id*."""

    async def look_up(self, job_id: str) -> JobStory | None:
        """Tell everything that is known of a job, with the bodies that are kept; None where it is not known."""

    async def amend(self, story: JobStory, amendment: Amendment) -> bool:
        """Write it down, if nothing was written to that job since *story* was told; else nothing, and False.

        False too where it needs the body and the time is over since then for which that was kept.
        """

    async def hear(self, heard: Heard) -> tuple[News, ...]:
        """Keep what was said about a sender that is no answer to a request; returns what is new with it."""


class Codes(Protocol):
    """How codes are kept from whoever can read queues, dead letters and what is left of them."""

    def read(self, job: OtpJob) -> str | Error:
        """Give the job's code as it goes to the provider; or why there is none to send."""

    def cover(self, envelope: Envelope) -> Envelope:
        """Give the copy of a job that may lie among the dead letters: no code can be read in it."""

    def cover_whole(self, envelope: Envelope) -> Envelope:
        """Give such a copy without a look at what is in it: nothing but its id can be read."""

    def fingerprint(self, body: bytes) -> str:
        """Tell a body from others, by what may be kept of it: whoever lacks the key cannot try codes on it."""


class Broker(Protocol):
    """Where what follows from a job goes. Each call returns once the broker has confirmed it, however long it takes."""

    async def publish_event(self, event: Event, envelope: Envelope) -> None:
        """Publish a result of the job in *envelope*, to everybody and to who asked for it."""

    async def publish_sender_event(self, event: SenderEvent) -> None:
        """Publish what happened to a sender."""

    async def delay(self, envelope: Envelope, delay_s: float) -> None:
        """Bring the job back to its sender's queue after *delay_s*; never earlier."""

    async def hand_back(self, envelope: Envelope) -> None:
        """Put the job back into its sender's queue, unchanged."""

    async def bury(self, envelope: Envelope, letter: Letter) -> None:
        """Leave the job, covered, among the dead letters."""

    async def watch(self, job_id: str, watch: Watch, delay_s: float) -> None:
        """Have somebody look after *delay_s* whether the attempt was delivered; never earlier."""

    async def postpone_report(self, report: Posted, delay_s: float) -> None:
        """Bring a report back after *delay_s*; never earlier."""


class NotStored(OtpostError):
    """What came by webhook could not be stored in time; it may be stored all the same. The message says why."""


class RawWebhooks(Protocol):
    """Where the bodies of webhooks wait for a worker."""

    async def put(self, body: bytes, came_at: datetime) -> None:
        """Store one as it came; returns once the broker has confirmed it, within a few seconds.

        :raises NotStored: it has not.
        """


class Clock(Protocol):
    """The time of day in Unix seconds."""

    def __call__(self) -> float:
        """Tell the time."""
