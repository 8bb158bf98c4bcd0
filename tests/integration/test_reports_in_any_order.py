"""A job, its reports, its checks and its replays in any order, with workers that die anywhere: what always holds."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field, replace
from random import Random
from typing import TYPE_CHECKING, Final

import pytest

from ledger_implementations import Memory
from otpost_worker.outcome import Accepted
from otpost_worker.updates import MessageReport, Posted, Reported
from ports_in_memory import LOST, NOW, UNAVAILABLE, Crash, World, envelope
from reports_in_memory import Reporting, new_world, report

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ledger_implementations import Implementation
    from otpost_worker.envelope import Watch
    from otpost_worker.outcome import Outcome

# What the provider says of a message that it took, and after how many seconds by its clock.
PLANS: Final[Sequence[Sequence[tuple[str, int | None, float]]]] = (
    (("sent", None, 1), ("delivered", None, 2), ("read", None, 9)),
    (("sent", None, 1), ("delivered", None, 2)),
    (("read", None, 3),),
    (("sent", None, 1), ("failed", 131049, 2)),
    (("failed", 131049, 1),),
    (("failed", 131016, 1),),
    (("failed", 131026, 1),),
    # A contradiction.
    (("failed", 131026, 1), ("delivered", None, 2)),
    (("failed", 131049, 1), ("delivered", None, 40)),
    (("sent", None, 1),),
    (),
)
ENDS: Final = ("accepted", "failed", "expired")


@dataclass
class Course:
    """One job's course, as the dice decide it."""

    place: Implementation
    dice: Random
    world: World = field(init=False)
    reporting: Reporting = field(init=False)
    # What is still to come: what the provider posts, and checks that were not taken yet.
    posts: list[Posted] = field(default_factory=list)
    checks: list[tuple[Watch, str]] = field(default_factory=list)
    posted: list[MessageReport] = field(default_factory=list)
    taken: list[str] = field(default_factory=list)
    log: list[str] = field(default_factory=list)
    seen_watches: int = 0
    seen_postponed: int = 0

    def __post_init__(self) -> None:
        self.world = new_world(self.place)
        self.reporting = Reporting(self.world)
        self.world.provider.on_request = self._on_request

    async def _on_request(self) -> None:
        callback = self.world.provider.callbacks[-1]
        self.log.append(f"request {callback}")
        run = int(callback.split("/")[1]) if "/" in callback else 1
        delivered = [event for event in self.world.heard if event.endswith(("/delivered", "/read"))]
        assert not delivered, f"run {run} is sent although it was heard: {delivered}"
        answer: Outcome = self.dice.choices((Accepted(_wamid(callback)), LOST, UNAVAILABLE), weights=(6, 4, 1))[0]
        self.world.provider.answers = [answer]
        if answer is not UNAVAILABLE and (answer is not LOST or self.dice.random() < 0.7):
            self._take(callback)
        if self.posts and self.dice.random() < 0.2:
            await self._hear_one()

    def _take(self, callback: str) -> None:
        """Let the provider take a message, and decide what it will say of it."""
        self.taken.append(callback)
        for status, code, after_s in self.dice.choice(PLANS):
            told = report(status, self.world.clock.now + after_s, callback=callback, code=code)
            told = replace(told, message_id=_wamid(callback))
            self.posted.append(told)
            for _ in range(self.dice.choice((1, 1, 2))):
                token = f"post-{len(self.posted)}-{self.dice.random()}"
                self.posts.append(Posted(self.reporting.body_of((told,)), token))
        self.dice.shuffle(self.posts)

    async def go(self) -> None:
        """Let everything come, until nothing comes any more."""
        for _ in range(400):
            self._look_around()
            moves = [self._work] * (3 * bool(self.world.waiting)) + [self._hear_one] * (2 * bool(self.posts))
            moves += [self._check] * bool(self.checks and not self.world.waiting and not self.posts)
            if not moves:
                return
            if self.dice.random() < 0.4:
                fate = self.world.fate
                fate.crash_at_number = len(fate.passed) + self.dice.randint(1, 7)
            await self.dice.choice(moves)()
            self.world.fate.crash_at_number = None
        raise AssertionError("it never ends")

    def _look_around(self) -> None:
        broker = self.world.broker
        for _, watch, _ in broker.watches[self.seen_watches :]:
            self.checks.append((watch, f"check-{self.dice.random()}"))
        self.posts += [later for later, _ in broker.postponed[self.seen_postponed :]]
        self.seen_watches, self.seen_postponed = len(broker.watches), len(broker.postponed)

    async def _work(self) -> None:
        copy, wait_s = self.dice.choice(self.world.waiting[:2])
        self.world.clock.reach(self.world.clock.now + wait_s)
        self.log.append(f"deliver {copy.run}/{copy.attempt}")
        try:
            await self.world.deliver(copy)
        except Crash as crash:
            self.log.append(f"crash {crash}")
        else:
            self.world.acknowledge(copy)

    async def _hear_one(self) -> None:
        posted = self.posts.pop(self.dice.randrange(len(self.posts)))
        (told,) = self.reporting.posts[posted.body]
        assert isinstance(told, MessageReport)
        self.log.append(f"{told.status} of {told.callback}, try {posted.tries}")
        # Time goes by, or a report of an attempt whose answer is lost would wait for its lease for ever.
        self.world.clock.reach(self.world.clock.now + self.dice.choice((0.0, 0.1, 4.0)) + posted.tries)
        try:
            async with self.world.ledger() as ledger:
                await self.reporting.reports(ledger).take(posted)
        except Crash as crash:
            self.log.append(f"crash {crash}")
            self.posts.append(posted)

    async def _check(self) -> None:
        watch, token = self.checks.pop()
        self.world.clock.reach(self.world.clock.now + 1)
        self.log.append(f"check {watch.run}/{watch.attempt}")
        try:
            async with self.world.ledger() as ledger:
                await self.reporting.reports(ledger).check("job-1", watch.run, watch.attempt, token)
        except Crash as crash:
            self.log.append(f"crash {crash}")
            self.checks.append((watch, token))

    # What holds

    async def judge(self) -> None:
        """Judge what the world has heard, what was sent, and what is left behind."""
        heard = self.world.heard
        async with self.world.ledger() as ledger:
            story = await ledger.look_up("job-1")
        assert story is not None
        for run in story.runs:
            self._judge_ends(run.run, heard)
            if run.end is not None and run.end.event is not None:
                assert run.end.event.id in heard
        for told in self.posted:
            if told.status is not Reported.FAILED:
                job_id, *rest = (told.callback or "").split("/")
                run_, attempt = rest or ("1", "1")
                assert f"{job_id}/{run_}/{attempt}/{told.status.value}" in heard
        self._judge_overruled(heard)
        failed = {told.callback for told in self.posted if told.status is Reported.FAILED}
        for run_number, messages in Counter(self._run_of(one) for one in self.taken if one not in failed).items():
            assert messages <= 2, f"run {run_number} was sent {messages} times"
        # Whatever has failed for good can be replayed; and nothing else, but what was delivered before that was told.
        gone = [event for event in heard if event.endswith("/failed")]
        assert not gone or self.world.letters
        if not gone and not any(event.endswith(("/undelivered", "/delivered", "/read")) for event in heard):
            assert self.world.letters == [], self.world.letters

    def _judge_ends(self, run: int, heard: Sequence[str]) -> None:
        of_run = [event for event in heard if event.startswith(f"job-1/{run}/")]
        ends = [event for event in of_run if event.rsplit("/", 1)[1] in ENDS]
        failed = {told.callback for told in self.posted if told.status is Reported.FAILED}
        taken_back = [
            event for event in of_run
            if event.endswith("/retrying") and self._callback_of(event) in failed
        ]  # fmt: skip
        replay_of_what_stands = run > 1 and not of_run
        if not replay_of_what_stands and not self._overtaken(run, of_run, heard):
            assert 1 <= len(ends) <= 1 + len(taken_back), of_run

    @staticmethod
    def _judge_overruled(heard: Sequence[str]) -> None:
        """What is known only moves up: no failure is told of what was delivered."""
        delivered: set[str] = set()
        for event in heard:
            of, status = event.rsplit("/", 1)
            assert status not in ("retrying", "undelivered") or of not in delivered, f"{event} behind its delivery"
            if status in ("delivered", "read"):
                delivered.add(of)

    @staticmethod
    def _callback_of(event: str) -> str:
        job_id, run, attempt, _ = event.split("/")
        return job_id if (run, attempt) == ("1", "1") else f"{job_id}/{run}/{attempt}"

    @staticmethod
    def _overtaken(run: int, of_run: Sequence[str], heard: Sequence[str]) -> bool:
        """A replay that waited for its retry when the run before it was delivered: it is told that one's end."""
        earlier = [event for event in heard if int(event.split("/")[1]) < run]
        delivered = any(event.endswith(("/delivered", "/read")) for event in earlier)
        return delivered and not any(event.rsplit("/", 1)[1] in ENDS for event in of_run)

    @staticmethod
    def _run_of(callback: str) -> str:
        return callback.split("/")[1] if "/" in callback else "1"


def _wamid(callback: str) -> str:
    return f"wamid.of.{callback}"


async def holds_for(place: Implementation, seed: int) -> None:
    course = Course(place, Random(seed))  # noqa: S311 - to be repeated, not to be secret
    try:
        course.world.put(envelope())
        await course.go()
        for run in (2, 3):
            if not course.world.broker.letters or course.dice.random() < 0.3:
                break
            (buried, _) = course.world.broker.letters[-1]
            course.world.put(envelope(buried.body, run=run))
            await course.go()
        await course.judge()
    except (AssertionError, KeyError) as failure:
        told = "\n".join([*course.log, "heard:", *course.world.broker.event_ids, "letters:", *course.world.letters])
        raise AssertionError(f"seed {seed}: {failure}\n{told}") from failure
    assert course.world.clock.now >= NOW


@pytest.mark.parametrize("first", range(0, 400, 50))
async def test_what_always_holds_in_memory(first: int) -> None:
    for seed in range(first, first + 50):
        await holds_for(Memory(), seed)


@pytest.mark.parametrize("seed", range(1000, 1020))
async def test_what_always_holds_in_a_ledger_that_lasts(place: Implementation, seed: int) -> None:
    await holds_for(place, seed)


@pytest.mark.long
@pytest.mark.timeout(900)
async def test_what_always_holds_in_ten_thousand_courses() -> None:
    for seed in range(10_000, 20_000):
        await holds_for(Memory(), seed)
