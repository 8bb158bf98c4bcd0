"""The ports of the way of a job, written by hand in memory, and a world in which a worker can die at any point.

`World` is one sender's queue with the delay ladder behind it, a provider that answers as a test says, and a real
ledger that outlives its workers, in the file that is given or wherever else:

    world = World(tmp_path / "ledger.db", answers=[ACCEPTED])
    world.put(envelope())
    world.crash_at = ("after", "request")
    await world.run()
"""

from __future__ import annotations

import asyncio
from collections import Counter
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Final

import orjson

from fateful_ledger import FatefulLedger
from ledger_implementations import ledger_at
from message_schemas import assert_job_agrees, assert_result, problems_of
from otpost.sealing import PrivateKey
from otpost_worker.decision import Policy
from otpost_worker.deliver import Deliverer, Sender, WatchTimes
from otpost_worker.envelope import Defaults, Envelope
from otpost_worker.keyring import Keyring
from otpost_worker.metrics import Metrics
from otpost_worker.outcome import Accepted, Error, Kind, Outcome, Refused, Unknown

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence
    from contextlib import AbstractAsyncContextManager
    from pathlib import Path

    from ledger_implementations import Implementation, OpenLedger
    from otpost.event import SenderEvent
    from otpost_worker.envelope import Event, Letter, Watch
    from otpost_worker.ports import Message
    from otpost_worker.standing import News
    from otpost_worker.updates import Posted

# 2026-11-23T20:00:00Z, when every test begins.
NOW: Final = 1_795_464_000.0
CODE: Final = "493817"
KEY: Final = PrivateKey(b"a worker's key has thirty-two by")
ACCEPTED: Final = Accepted("wamid.one")
ACCEPTED_LATER: Final = Accepted("wamid.two")
UNAVAILABLE: Final = Refused(Error(Kind.UNAVAILABLE, code=131000))
NO_SUCH_NUMBER: Final = Refused(Error(Kind.RECIPIENT, code=131026))
TOKEN_REFUSED: Final = Refused(Error(Kind.SENDER_HALTED, code=190))
LOST: Final = Unknown(Error(Kind.UNKNOWN, title="Answer lost"))

# The arrows of the contract's order; a crash may come ("before", arrow) or ("after", arrow).
Point = tuple[str, str]
MAX_PASSES: Final = 60


class Crash(BaseException):
    """The worker's process ended here, as by SIGKILL: no handler of the code under test may stop it."""


class Clock:
    """The time of day, moved by hand."""

    def __init__(self, now: float = NOW) -> None:
        self.now = now

    def __call__(self) -> float:
        return self.now

    def reach(self, moment: float) -> None:
        """Go on to `moment`, never back."""
        self.now = max(self.now, moment)


def job_body(**fields: object) -> bytes:
    """Write a job that was made when the test began; a field given as None is left out."""
    job = {"id": "job-1", "to": "+12015553931", "code": CODE, "created_at": "2026-11-23T20:00:00Z", "ttl_s": 300}
    return orjson.dumps({name: value for name, value in (job | fields).items() if value is not None})


def envelope(body: bytes | None = None, **fields: Any) -> Envelope:  # noqa: ANN401 - those of Envelope
    return Envelope(job_body() if body is None else body, "default", **fields)


@dataclass
class Fate:
    """Where the worker dies; `passed` is every point that it has come by.

    Either at the first `crash_at`, or at point number `crash_at_number` and, if wanted, again so many points later.
    """

    crash_at: Point | None = None
    crash_at_number: int | None = None
    crash_again_after: int | None = None
    passed: list[Point] = field(default_factory=list)
    crashes: int = 0

    def meet(self, when: str, arrow: str) -> None:
        point = (when, arrow)
        self.passed.append(point)
        if point == self.crash_at:
            self.crash_at = None
        elif len(self.passed) == self.crash_at_number:
            again, self.crash_again_after = self.crash_again_after, None
            self.crash_at_number = len(self.passed) + again if again else None
        else:
            return
        self.crashes += 1
        raise Crash(point)


class RecordingProvider:
    """Answers as it is told, one answer a request; the last one again once they are used up."""

    name = "in memory"

    def __init__(self, answers: Sequence[Outcome], fate: Fate) -> None:
        self.answers = list(answers)
        self.requests: list[Message] = []
        self.renewals = 0
        # Whether what may be replaced has been, and nobody was told yet.
        self.news = False
        self.on_request: Callable[[], Awaitable[None]] | None = None
        self._fate = fate

    async def send(self, message: Message) -> Outcome:
        self._fate.meet("before", "request")
        self.requests.append(message)
        if self.on_request is not None:
            await self.on_request()
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        self._fate.meet("after", "request")
        return answer

    async def renew(self) -> None:
        self.renewals += 1

    async def take_renewal(self) -> bool:
        await self.renew()
        news, self.news = self.news, False
        return news

    @property
    def callbacks(self) -> list[str]:
        """Which attempts were requested, in order."""
        return [message.callback for message in self.requests]


class RecordingBroker:
    """Keeps what was published; a job that gets a new home is given to `put` with the seconds until it comes."""

    def __init__(self, fate: Fate, put: Callable[[Envelope, float], None]) -> None:
        self.events: list[Event] = []
        self.letters: list[tuple[Envelope, Letter]] = []
        self.delays: list[tuple[Envelope, float]] = []
        self.handed_back: list[Envelope] = []
        self.sender_events: list[SenderEvent] = []
        self.watches: list[tuple[str, Watch, float]] = []
        self.postponed: list[tuple[Posted, float]] = []
        self._fate = fate
        self._put = put

    async def publish_event(self, event: Event, envelope: Envelope) -> None:  # noqa: ARG002 - the port's
        self._fate.meet("before", "event")
        assert_result(event.body)
        self.events.append(event)
        self._fate.meet("after", "event")

    async def publish_sender_event(self, event: SenderEvent) -> None:
        refused = problems_of("otpost.event.v1", event.to_json())
        assert not refused, refused
        self._fate.meet("before", "sender event")
        self.sender_events.append(event)
        self._fate.meet("after", "sender event")

    async def delay(self, envelope: Envelope, delay_s: float) -> None:
        self._fate.meet("before", "next home")
        self.delays.append((envelope, delay_s))
        self._put(envelope, max(delay_s, 0.25))
        self._fate.meet("after", "next home")

    async def hand_back(self, envelope: Envelope) -> None:
        self._fate.meet("before", "next home")
        self.handed_back.append(envelope)
        self._put(envelope, 0.0)
        self._fate.meet("after", "next home")

    async def watch(self, job_id: str, watch: Watch, delay_s: float) -> None:
        self._fate.meet("before", "watch")
        self.watches.append((job_id, watch, delay_s))
        self._fate.meet("after", "watch")

    async def postpone_report(self, report: Posted, delay_s: float) -> None:
        self._fate.meet("before", "postpone")
        self.postponed.append((report, delay_s))
        self._fate.meet("after", "postpone")

    async def bury(self, envelope: Envelope, letter: Letter) -> None:
        self._fate.meet("before", "next home")
        self.letters.append((envelope, letter))
        self._fate.meet("after", "next home")

    @property
    def event_ids(self) -> list[str]:
        """What the world heard, in order."""
        return [event.id for event in self.events]


@dataclass(frozen=True, order=True)
class Waiting:
    """A copy of the job in the queue or on the ladder, and when it comes."""

    due_at: float
    number: int
    envelope: Envelope = field(compare=False)


class World:
    """Everything around the workers of one sender; it outlives each of them."""

    def __init__(
        self, place: Path | Implementation, *, answers: Sequence[Outcome] = (ACCEPTED,), policy: Policy | None = None
    ) -> None:
        self.place = ledger_at(place)
        self.clock = Clock()
        self.fate = Fate()
        self.provider = RecordingProvider(answers, self.fate)
        self.broker = RecordingBroker(self.fate, self.put)
        self.policy = policy or Policy()
        self.rate = 80.0
        self.watch: WatchTimes | None = None
        self.news: list[News] = []
        self.metrics = Metrics(["default"])
        self.defaults = Defaults("verification_code", "en_US")
        self.stopping = asyncio.Event()
        self.unavailable: Counter[str] = Counter()
        self.refused = asyncio.Event()
        self.after_claim: Callable[[], None] | None = None
        self.backgrounds: list[asyncio.Task[None]] = []
        self._queue: list[Waiting] = []
        self._number = 0

    def put(self, envelope: Envelope, delay_s: float = 0.0) -> None:
        """Let a copy of the job come to the sender's queue."""
        assert_job_agrees(envelope.body)
        self._number += 1
        self._queue.append(Waiting(self.clock.now + delay_s, self._number, envelope))

    def take_first(self) -> None:
        """Let nobody else take the copy that comes first: whoever asks has it in hand."""
        self._queue.remove(min(self._queue))

    def ledger(self) -> AbstractAsyncContextManager[OpenLedger]:
        """Open the ledger once more, as a new worker does."""
        return self.place.open(self.clock)

    async def deliver(self, envelope: Envelope) -> None:
        """Let a new worker take one delivery; when this returns, it may be acknowledged."""
        async with self.ledger() as ledger:
            await self.deliverer(ledger).deliver(envelope)
            # A worker that dies in one of these leaves none of them to the next.
            works, self.backgrounds = self.backgrounds, []
            await asyncio.gather(*works)

    def acknowledge(self, envelope: Envelope) -> None:
        """Let the broker forget a copy that was delivered."""
        self._queue.remove(next(one for one in sorted(self._queue) if one.envelope is envelope))

    async def run(self) -> None:
        """Let one worker after the other take what comes, until nothing comes any more.

        A worker that dies leaves its delivery to the next one, at once; only the time that a copy spends on the
        ladder goes by.
        """
        for _ in range(MAX_PASSES):
            if not self._queue:
                return
            waiting = min(self._queue)
            self.clock.reach(waiting.due_at)
            try:
                await self.deliver(waiting.envelope)
                self.fate.meet("before", "acknowledge")
                self._queue.remove(waiting)
                self.fate.meet("after", "acknowledge")
            except Crash:
                continue
        raise AssertionError(f"the job goes round: {self.fate.passed[-20:]}")

    def deliverer(self, ledger: OpenLedger) -> Deliverer:
        """Make the way of a job as a new worker would."""
        fateful = FatefulLedger(ledger, self.fate, self.unavailable)
        fateful.after_claim, fateful.refused = self.after_claim, self.refused
        return Deliverer(
            Sender("default", self.provider, self.defaults, self.policy, self.rate, "default", self.watch),
            ledger=fateful,
            broker=self.broker,
            codes=Keyring((KEY,)),
            observer=self.metrics,
            clock=self.clock,
            random=lambda: 1.0,
            stopping=self.stopping,
            background=self.keep,
            tell=self.news.append,
        )

    @property
    def waiting(self) -> list[tuple[Envelope, float]]:
        """The copies that are still to come, and in how many seconds."""
        return [(one.envelope, one.due_at - self.clock.now) for one in sorted(self._queue)]

    @property
    def heard(self) -> list[str]:
        """What the world heard, in order, copies left out: an event that comes again has to be the same one."""
        told: dict[str, bytes] = {}
        for event in self.broker.events:
            assert told.setdefault(event.id, event.body) == event.body, f"two different events {event.id}"
        return list(told)

    @property
    def ends(self) -> list[str]:
        """The events of `heard` that end a run."""
        return [one for one in self.heard if one.rsplit("/", 1)[1] in ("accepted", "failed", "expired")]

    @property
    def letters(self) -> list[str]:
        """The reasons of the dead letters, two of one run counted as one."""
        return [reason for _, reason in dict.fromkeys((e.run, letter.reason) for e, letter in self.broker.letters)]

    def keep(self, work: Awaitable[None]) -> None:
        """Let it run on behind the jobs."""
        self.backgrounds.append(asyncio.ensure_future(work))


def copy_of(envelope: Envelope, attempt: int, counted: int | None = None) -> Envelope:
    """Make the copy that is to become `attempt`."""
    return replace(envelope, attempt=attempt, counted=envelope.counted if counted is None else counted)
