"""Whatever is asked of them in whatever order, all ledgers say the same."""

from __future__ import annotations

import asyncio
import secrets
from contextlib import AsyncExitStack
from dataclasses import dataclass, field, replace
from itertools import count
from typing import TYPE_CHECKING, Any, Final

from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from known_states import end_step, retry_step
from ledger_implementations import Memory, Redis, Sqlite
from otpost_worker.attempts import State, Wish
from otpost_worker.outcome import Error, Kind
from otpost_worker.pacing import Lane
from otpost_worker.ports import Claimed, ClaimRequest, Entry, Lapsed, Ticket
from otpost_worker.standing import Heard, Signal
from ports_in_memory import NOW, Clock, envelope

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from hypothesis.strategies import DataObject

    from ledger_implementations import OpenLedger
    from private_redis import PrivateRedis

EXAMPLES: Final = 50
MOVES: Final = 30
LEASE_S: Final = 10.0
# From less than a request takes to more than any hold, debt or pause lasts.
PAUSES_S: Final = (0.0, 0.05, 0.5, 0.9, 3.0, 5.0, 10.5, 31.0, 61.0, 301.0, 1000.0, 3700.0)


@dataclass
class Course:
    """One course of things, the same for all ledgers; its names are its own, so that it begins with nothing."""

    ledgers: Mapping[str, OpenLedger]
    clock: Clock
    data: DataObject
    name: str
    requests: list[ClaimRequest] = field(default_factory=list)
    tickets: list[Ticket] = field(default_factory=list)
    heard: dict[str, Heard | None] = field(default_factory=dict)
    told: list[str] = field(default_factory=list)

    async def ask(self, what: str, *arguments: object) -> Any:  # noqa: ANN401 - any reply
        """Ask all of them; their replies have to be equal."""
        replies = {name: await getattr(ledger, what)(*arguments) for name, ledger in self.ledgers.items()}
        reply = replies["memory"]
        self.told.append(f"{self.clock.now - NOW:10.3f} {what} {arguments}\n{'':10} {reply}")
        assert replies == dict.fromkeys(replies, reply), "\n".join(["", *self.told, *map(str, replies.items())])
        return reply

    def draw(self, strategy: st.SearchStrategy[Any]) -> Any:  # noqa: ANN401 - whatever the strategy gives
        return self.data.draw(strategy)

    def some(self, values: Sequence[Any]) -> Any:  # noqa: ANN401 - one of the values
        return self.draw(st.sampled_from(values))

    # What can be asked

    async def pass_time(self) -> None:
        self.clock.reach(self.clock.now + self.some(PAUSES_S))
        for ledger in self.ledgers.values():
            await ledger.forget()

    async def set_clock_back(self) -> None:
        self.clock.now -= self.some((0.05, 3.0, 3700.0))

    async def claim(self) -> None:
        await self._claim(self._request())

    async def claim_again(self) -> None:
        if self.requests:
            await self._claim(self.some(self.requests))

    async def _claim(self, request: ClaimRequest) -> None:
        self.requests.append(request)
        reply = await self.ask("claim", request)
        if isinstance(reply, Claimed | Lapsed):
            self.tickets.append(reply.ticket)

    async def record(self) -> None:
        if not self.tickets:
            return
        ticket = self.some(self.tickets)
        # Whoever records twice has heard the same thing twice.
        heard = self.heard.setdefault(ticket.token, self._heard())
        entry = self._entry(heard)
        if self.draw(st.integers(0, 9)) == 0:
            ticket = replace(ticket, token="somebody else's")
        for _ in range(self.some((1, 1, 2))):
            await self.ask("record", ticket, entry)

    async def lapse(self) -> None:
        if self.tickets:
            ticket = self.some(self.tickets)
            step = self.some((retry_step(1, self.clock.now + 5), end_step(1, "failed")))
            entry = Entry(State.SETTLED if step.ends_job else State.UNKNOWN, Kind.UNKNOWN, step)
            await self.ask("lapse", ticket, entry)

    async def conclude(self) -> None:
        request = self._request()
        step = end_step(1, self.some(("expired", "failed")))
        await self.ask("conclude", request, step)

    async def refuse(self) -> None:
        request = self._request()
        step = end_step(self.some((1, 2)), "failed")
        await self.ask("refuse", request, step)

    async def release(self) -> None:
        if self.tickets:
            ticket = self.some(self.tickets)
            await self.ask("release", ticket)

    async def note_buried(self) -> None:
        job_id, run = self._job_id(), self.some((1, 2))
        await self.ask("note_buried", job_id, run)

    async def probe_soon(self) -> None:
        await self.ask("probe_soon", [self._sender()])

    # What is made up

    def _job_id(self) -> str:
        return f"{self.name}-{self.some(('a', 'b'))}"

    def _sender(self) -> str:
        return f"{self.name}-sender"

    def _lane(self) -> Lane:
        return Lane(
            self._sender(),
            f"{self.name}-quota",
            self.some(("+12015553931", "+12015553932")),
            self.some(("one", "two")),
            self.some(("en", "de")),
            rate=self.some((80.0, 2.0, 0.5)),
            latest_start=self.clock.now + self.some((295.0, 3.0)),
            deadline=self.clock.now + 300,
        )

    def _request(self) -> ClaimRequest:
        run, attempt = self.some((1, 1, 1, 1, 1, 2)), self.some((1, 1, 2, 3))
        wish = Wish(
            run,
            attempt,
            late=self.some((False,) * 7 + (True,)),
            hold_until=self.some((0.0, 0.0, 0.0, self.clock.now + 2)),
            resend=self.some((True, True, False)),
            end=self.some((False,) * 7 + (True,)),
        )
        return ClaimRequest(
            self._job_id(),
            wish,
            envelope(run=run, attempt=attempt, counted=attempt - 1),
            self.clock.now + 300,
            LEASE_S,
            self.some((self._lane(), self._lane(), None)),
            token=secrets.token_hex(8),
        )

    def _entry(self, heard: Heard | None) -> Entry:
        now = self.clock.now
        wamid = f"wamid.{self.some((1, 2))}"
        entry: Entry = self.some(
            (
                Entry(State.SETTLED, None, end_step(1, "accepted"), wamid, heard),
                Entry(State.SETTLED, Kind.RECIPIENT, end_step(1, "failed"), heard=heard),
                Entry(State.SETTLED, Kind.UNAVAILABLE, end_step(1, "expired"), heard=heard),
                Entry(State.REFUSED, Kind.UNAVAILABLE, retry_step(1, now + 3), heard=heard),
                Entry(State.REFUSED, Kind.THROUGHPUT, retry_step(1, now), heard=heard),
                Entry(State.UNKNOWN, Kind.UNKNOWN, retry_step(1, now + 5), heard=heard),
            )
        )
        return entry

    def _heard(self) -> Heard | None:
        if self.some((False, True)):
            return None
        return Heard(
            self._lane(),
            self.some(list(Signal)),
            begun_at=self.clock.now - self.some((0.0, 1.0, 20.0)),
            pause_s=self.some((None, 0.0, 90.0)),
            error=self.some((None, Error(Kind.SENDER_HALTED, 190, "The token is not valid", 'a "quoted" ü', 401))),
            remedy=self.some((None, "replace the token")),
            pair_until=self.some((None, self.clock.now + 1, self.clock.now + 64, self.clock.now - 3)),
        )

    # What is looked at in the end

    async def look(self) -> None:
        rates, quotas = {self._sender(): 80.0, "nobody": 1.0}, {self._sender(): f"{self.name}-quota", "nobody": "none"}
        await self.ask("report", rates, quotas)
        for job_id in (f"{self.name}-a", f"{self.name}-b"):
            await self.ask("story", job_id)


MOVES_THERE_ARE: Final = (
    *[Course.claim] * 6,
    *[Course.record] * 5,
    *[Course.pass_time] * 4,
    *[Course.claim_again, Course.lapse, Course.release] * 2,
    Course.conclude,
    Course.refuse,
    Course.note_buried,
    Course.probe_soon,
    Course.set_clock_back,
)


def test_all_ledgers_give_the_same_replies_to_any_course_of_things(tmp_path: Path, redis_server: PrivateRedis) -> None:
    clock, numbers = Clock(NOW), count()
    implementations = {"sqlite": Sqlite(tmp_path / "ledger.db"), "redis": Redis(redis_server), "memory": Memory()}

    async def follow(course: Course, moves: int) -> None:
        # What the course before this one has left is forgotten.
        clock.reach(clock.now + 2 * 24 * 3600)
        await asyncio.gather(*(ledger.forget() for ledger in course.ledgers.values()))
        for _ in range(moves):
            await course.some(MOVES_THERE_ARE)(course)
        await course.look()

    with asyncio.Runner() as runner:
        resources = AsyncExitStack()

        async def open_all() -> dict[str, OpenLedger]:
            return {
                name: await resources.enter_async_context(implementation.open(clock))
                for name, implementation in implementations.items()
            }

        ledgers = runner.run(open_all())

        # Without shrinking, which takes minutes here: the failure tells the whole course.
        @settings(
            max_examples=EXAMPLES,
            phases=[Phase.generate],
            deadline=None,
            derandomize=True,
            database=None,
            suppress_health_check=list(HealthCheck),
        )
        @given(st.data())
        def run(data: DataObject) -> None:
            course = Course(ledgers, clock, data, f"course-{next(numbers)}")
            runner.run(follow(course, data.draw(st.integers(1, MOVES))))

        try:
            run()
        finally:
            runner.run(resources.aclose())
