"""One run from its beginning to its end: play it, collect what it left, judge it."""

from __future__ import annotations

import asyncio
import os
import sys
import time
from dataclasses import dataclass, field, replace
from pathlib import Path
from random import Random
from typing import TYPE_CHECKING, Any, Final, Self, TypeVar

import orjson

from chaos.checker import reading
from chaos.checker.evidence import ENDS, Evidence, Passing, Replay, Starved, Terms, only_known, save
from chaos.checker.secrecy import search_stores
from chaos.checker.verdict import judge_folder
from chaos.crew import clean_environment
from chaos.hiring import GRACE_S, STARVED, TIMEOUT_S, TRACE
from chaos.load import plan_jobs
from chaos.plan import plan_faults
from chaos.publishing import Press
from chaos.reporting import APP_SECRET, VERIFY_TOKEN, Manner
from chaos.scraping import scrape, unready
from chaos.sorts import SENDERS, Seal
from chaos.stage import a_vhost, set_stage
from chaos.starving import Watchman, open_record, writing_to
from chaos.striking import Striker
from otpost.sealing import PrivateKey

if TYPE_CHECKING:
    from collections.abc import Sequence

    from chaos.checker.evidence import Exposed, Letter, Violation
    from chaos.load import Draft
    from chaos.plan import Plan
    from chaos.stage import Stage
    from private_rabbitmq import PrivateRabbitMQ

T = TypeVar("T")

# After its deadline a job ends within the time that its last request and its lease may take, and a wait on the ladder.
_AFTER_DEADLINE_S: Final = 40.0
# A job that is in no queue is in a worker's hands, and not for so long that nothing is heard meanwhile.
_SILENCE_S: Final = 30.0
# So long nobody tells anything when all is over; and so long where a job may be in somebody's hands.
_STILL_S: Final = 1.0
_SURELY_QUIET_S: Final = 8.0
_REPLAYS: Final = 3
_REPLAY_TTL_S: Final = 40.0
_COMMAND_S: Final = 60.0
_CHECK_SHARE: Final = 1 / 6
# One of them with each kind of ledger.
_PATIENT: Final = (4, 7)


LEDGERS: Final = ("sqlite", "redis")


def check_share_of(seed: int) -> float:
    """Choose how much of the time until a check is waited: all of it in two runs of ten, or all would take long."""
    return 1.0 if seed % 10 in _PATIENT else _CHECK_SHARE


@dataclass(frozen=True, slots=True)
class Orders:
    """What kind of run it is to be.

    *crowd*: more jobs, to one recipient, of which 45 may go out at once; the others have *crowd_ttl_s* to get a turn.
    *span_s*: within this time jobs are published and faults begin. *check_share*: of the time until it is looked
    whether a delivery was reported so much is waited.
    """

    seed: int
    ledger: str = "sqlite"
    jobs: int = 260
    workers: int = 3
    receivers: int = 2
    crowd: int = 50
    crowd_ttl_s: float = 32.0
    span_s: float = 10.0
    check_share: float = _CHECK_SHARE
    is_short: bool = False

    @property
    def has_own_ledger(self) -> bool:
        """Whether the ledger is a server, with connections to it and a clock of its own."""
        return self.ledger == "redis"

    @classmethod
    def short(cls, seed: int, ledger: str = "sqlite") -> Self:
        """Order a run that is over soon: few jobs of each kind, and a crowd just over the limit."""
        return cls(
            seed,
            ledger,
            jobs=125,
            workers=2,
            receivers=1,
            crowd=52,
            crowd_ttl_s=12.0,
            span_s=4.0,
            check_share=1 / 10,
            is_short=True,
        )

    @property
    def manner(self) -> Manner:
        """How the simulator is to report; in every third run of what asks for nothing else nothing is told."""
        return Manner(self.seed, self.check_share, is_silent=self.seed % 3 == 0)


@dataclass(frozen=True, slots=True)
class Report:
    """What came of a run; *evidence* lies in *folder*."""

    orders: Orders
    folder: Path
    evidence: Evidence
    violations: tuple[Violation, ...]
    took_s: float

    @property
    def struck(self) -> list[str]:
        """Every fault that struck, by name, a death at a probe among them."""
        deaths = [f"SIGKILL {passing.point}" for passing in self.evidence.passings if passing.dies]
        return [one.kind for one in self.evidence.struck] + deaths


@dataclass
class Ends:
    """Which runs of jobs have ended so far, as the results stream tells while it is being written.

    *reopened*: those which were told to be tried again after that. *repeated*: jobs of which an end was told again, as
    it is to a replay of what stands.
    """

    ended: set[tuple[str | None, int]] = field(default_factory=set)
    reopened: set[tuple[str | None, int]] = field(default_factory=set)
    repeated: set[str | None] = field(default_factory=set)
    nameless: int = 0
    _events: set[str] = field(default_factory=set)
    _news: asyncio.Event = field(default_factory=asyncio.Event)

    def take(self, event: dict[str, Any]) -> None:
        """Note one event."""
        self._news.set()
        if event["event_id"] in self._events:
            if event["status"] in ENDS:
                self.repeated.add(event["job_id"])
            return
        self._events.add(event["event_id"])
        run = (event["job_id"], event["run"])
        if event["status"] == "retrying" and run in self.ended:
            self.reopened.add(run)
        if event["status"] in ENDS:
            self.reopened.discard(run)
            self.ended.add(run)
            self.nameless += event["job_id"] is None

    async def heard(self, within_s: float) -> bool:
        """Wait for the next event; whether there was one in time."""
        self._news.clear()
        try:
            async with asyncio.timeout(within_s):
                return await self._news.wait()
        except TimeoutError:
            return False

    def _missing(self, runs: set[tuple[str, int]]) -> bool:
        return any(run == 1 or job not in self.repeated for job, run in runs - self.ended)

    async def include(self, runs: set[tuple[str, int]], url: str, *, nameless: int, until: float) -> None:
        """Wait until all of *runs* have ended, the time (Unix seconds) has come, or nothing can come any more."""
        heard_at = time.time()
        while (self._missing(runs) or self.nameless < nameless) and time.time() < until:
            if await self.heard(1.0):
                heard_at = time.time()
            elif time.time() - heard_at > _SILENCE_S and not await reading.count_left(url, SENDERS):
                return


async def play(orders: Orders, folder: Path, node: PrivateRabbitMQ | None) -> Report:
    """Play one run on *node*, or on a node of its own where it is to be killed; files go into *folder*."""
    began = time.monotonic()
    dice = Random(orders.seed)  # noqa: S311 - the same seed has to give the same run
    drafts = plan_jobs(
        dice,
        jobs=orders.jobs,
        crowd=orders.crowd,
        crowd_ttl_s=orders.crowd_ttl_s,
        span_s=orders.span_s,
        prefix=f"c{orders.seed}",
        is_short=orders.is_short,
    )
    seals = (Seal.KEY, Seal.OLD_KEY, Seal.STRANGE_KEY)
    private = {seal: PrivateKey(dice.randbytes(32)) for seal in seals}
    public = {seal: key.public for seal, key in private.items()}
    held = [private[Seal.KEY], private[Seal.OLD_KEY]]
    plan = plan_faults(
        dice,
        seed=orders.seed,
        workers=orders.workers,
        receivers=orders.receivers,
        span_s=orders.span_s,
        has_own_ledger=orders.has_own_ledger,
    )
    async with (
        a_vhost(None if plan.kills_broker else node) as vhost,
        set_stage(
            vhost,
            folder,
            plan,
            ledger=orders.ledger,
            keys=held,
            receivers=orders.receivers,
            manner=orders.manner,
        ) as stage,
    ):
        evidence = await _act(orders, stage, plan, Press(vhost.url, public), drafts)
        evidence = replace(evidence, exposed=tuple(await asyncio.to_thread(_exposed, stage, evidence)))
    save(evidence, folder / "evidence.json")
    violations = await asyncio.to_thread(judge_folder, folder, evidence)
    return Report(orders, folder, evidence, tuple(violations), time.monotonic() - began)


async def _act(orders: Orders, stage: Stage, plan: Plan, press: Press, drafts: Sequence[Draft]) -> Evidence:
    url, crew, ends = stage.vhost.url, stage.crew, Ends()
    striker = Striker(stage, one_clock=not orders.has_own_ledger)
    watchman = Watchman("harness", writing_to(open_record(stage.folder / STARVED)))
    watchman.begin()
    crew.begin()
    await crew.at_work()
    following = asyncio.create_task(reading.follow(url, ends.take))
    scraping = asyncio.create_task(scrape(crew, stage.folder))
    try:
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(press.publish(drafts))
            tasks.create_task(striker.play(plan))
        await striker.heal()
        jobs = [job for job in press.jobs.values() if job.confirmed and not job.is_copy]
        last = max([job.deadline or job.published_at for job in jobs] + [time.time()]) + _AFTER_DEADLINE_S
        nameless = sum(job.id is None for job in jobs)
        runs = {(job.id, 1) for job in jobs if job.id is not None}
        await ends.include(runs, url, nameless=nameless, until=last)
        letters = await reading.read_letters(url)
        replays = await _replay(stage, letters)
        runs = {(replay.id, replay.run) for replay in replays}
        await ends.include(runs, url, nameless=0, until=time.time() + _REPLAY_TTL_S + _AFTER_DEADLINE_S)
        await _be_quiet(stage, ends, until=last + _AFTER_DEADLINE_S + orders.manner.check_s)
        waiting = await unready(crew)
    finally:
        for task in (following, scraping):
            task.cancel()
        await asyncio.gather(following, scraping, return_exceptions=True)
    await crew.go_home()
    watchman.end()
    manner = orders.manner
    return Evidence(
        Terms(
            orders.seed,
            orders.ledger,
            TIMEOUT_S,
            GRACE_S,
            own_ledger_clock=orders.has_own_ledger,
            check_s=manner.check_s,
            check_of_held_s=manner.check_of_held_s,
        ),
        jobs=tuple(press.jobs.values()),
        replays=tuple(replays),
        requests=tuple(await reading.read_requests(stage.api)),
        reports=tuple(await reading.read_reports(stage.api)),
        answers=await reading.read_answers(stage.api),
        results=tuple(await reading.read_results(url)),
        letters=tuple(_together(letters, await reading.read_letters(url))),
        passings=tuple(_lines(Passing, stage.folder / TRACE)),
        starved=tuple(_lines(Starved, stage.folder / STARVED)),
        lives=tuple(crew.lives),
        unanswered=tuple(one for answers in stage.answers for one in answers.unanswered),
        clock_moves=tuple(striker.clock_moves),
        struck=tuple(striker.struck),
        # What somebody still had in hand has come back by now.
        left=await reading.count_left(url, SENDERS),
        unready=waiting,
        secrets={"the app secret": APP_SECRET, "the verify token": VERIFY_TOKEN},
    )


async def _be_quiet(stage: Stage, ends: Ends, *, until: float) -> None:
    """Wait until every report is posted and taken, and nothing is on its way any more; not beyond *until*."""
    url, quiet_s = stage.vhost.url, 0.0
    while time.time() < until:
        began = time.monotonic()
        is_told = await reading.all_reported(stage.api)
        is_still = not await ends.heard(_STILL_S)
        is_quiet = is_told and is_still and not await reading.count_left(url, SENDERS)
        quiet_s = quiet_s + time.monotonic() - began if is_quiet else 0.0
        # A job that is to be tried again and is in no queue is in somebody's hands.
        if quiet_s > (0.0 if not ends.reopened else _SURELY_QUIET_S):
            return


async def _replay(stage: Stage, letters: list[Letter]) -> list[Replay]:
    """Replay some dead letters as an operator would, with the command."""
    chosen = [letter for letter in letters if letter.reason == "recipient" and letter.id][:_REPLAYS]
    chosen += [letter for letter in letters if letter.reason == "unknown" and letter.id][:1]
    ids = [str(letter.id) for letter in chosen]
    at = time.time()
    with (stage.folder / "operator.txt").open("ab") as errors:
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "otpost", "dead", "replay", "--json", "--ttl", str(_REPLAY_TTL_S), *ids),
            env=clean_environment() | {"OTPOST_BROKER_URL": stage.vhost.url},
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=errors,
        )
        async with asyncio.timeout(_COMMAND_S):
            output, _ = await process.communicate()
    told = {line["job_id"]: line for line in map(orjson.loads, output.splitlines())}
    # The new deadlines count from when the command has read the clock, a moment after it was started.
    deadline = time.time() + _REPLAY_TTL_S
    return [
        Replay(one, letter.run + 1, at, deadline, is_sure=one in told and told[one]["replayed"])
        for one, letter in zip(ids, chosen, strict=True)
    ]


def _together(before: list[Letter], after: list[Letter]) -> list[Letter]:
    """All letters that were ever seen; a replay has taken some away."""
    return [*after, *(letter for letter in before if letter not in after)]


def _lines(kind: type[T], file: Path) -> list[T]:
    """Read what processes have written down, each a line at a time."""
    lines = file.read_bytes().splitlines() if file.exists() else []
    return [only_known(kind, orjson.loads(line)) for line in lines]


def _exposed(stage: Stage, evidence: Evidence) -> list[Exposed]:
    """Look for sealed codes in all that the ledger and the broker have on disk, now that both are still there."""
    folders = [stage.node.folder, *([stage.redis.folder] if stage.redis else [])]
    # Unlike `Path.rglob`, it does not stumble over what a broker at work takes away.
    there = [Path(inside) / file for folder in folders for inside, _, files in os.walk(folder) for file in files]
    return list(search_stores(evidence.jobs, [*stage.folder.glob("ledger.db*"), *there]))
