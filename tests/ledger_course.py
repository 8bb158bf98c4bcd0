"""One random course of what happens to two jobs, asked of several ledgers at once: their replies have to be equal."""

from __future__ import annotations

import asyncio
import secrets
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Final

from known_states import end_step, retry_step
from otpost_worker.attempts import State, Wish
from otpost_worker.outcome import Error, Kind
from otpost_worker.pacing import HOLD_KEPT_S, Lane
from otpost_worker.ports import Claimed, ClaimRequest, Entry, Lapsed, Ticket
from otpost_worker.standing import Heard, Said, Signal, Topic
from ports_in_memory import NOW, Clock, envelope, job_body

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from random import Random

    from ledger_implementations import OpenLedger
    from otpost_worker.stories import JobStory

LEASE_S: Final = 10.0
LIFETIME_S: Final = 300.0
# From less than a request takes to more than any hold, debt or pause lasts, and to more than any job is remembered.
PAUSES_S: Final = (0.0, 0.05, 0.5, 0.9, 3.0, 5.0, 10.5, 31.0, 61.0, 301.0, 1000.0, 3700.0)
FORGOTTEN_AFTER_S: Final = 100_000.0
# Redis lets go of what it keeps until a deadline by its own time, which goes on beside the test's clock: nobody does
# anything so shortly before one.
SHORTLY_S: Final = 5.0
# The copy that is kept of an accepted job; one that came sealed is a copy of itself.
KEPT: Final = b'{"id": "job-1", "sealed_code": "c2VhbGVk"}'


@dataclass
class Course:
    """One course of things, the same for all ledgers; its names are its own, so that it begins with nothing.

    *dice* are all the chance that there is: from the same seed comes the same course.
    *stories*: what each ledger has told when it was asked last, and before that, for whoever judges by it. *began*: the
    earliest moment of the course, as the clock is set back in it.
    """

    ledgers: Mapping[str, OpenLedger]
    clock: Clock
    dice: Random
    name: str
    requests: list[ClaimRequest] = field(default_factory=list)
    tickets: list[Ticket] = field(default_factory=list)
    heard: dict[str, Heard | None] = field(default_factory=dict)
    words: dict[tuple[object, ...], Heard] = field(default_factory=dict)
    stories: list[Mapping[str, JobStory]] = field(default_factory=list)
    told: list[str] = field(default_factory=list)
    began: float = field(init=False)

    def __post_init__(self) -> None:
        self.began = self.clock.now

    async def ask(self, what: str, *arguments: object) -> Any:  # noqa: ANN401 - any reply
        """Ask all of them; their replies have to be equal."""
        return await self.ask_each(what, dict.fromkeys(self.ledgers, arguments))

    async def ask_each(self, what: str, arguments: Mapping[str, Sequence[object]]) -> Any:  # noqa: ANN401 - any reply
        """Ask each in its own words; their replies have to be equal."""
        return self._same(what, arguments["memory"], await self._replies(what, arguments))

    async def look_up(self, job_id: str) -> Mapping[str, JobStory] | None:
        """Ask all of them for a job: their stories have to be equal but for the version, which is each one's own."""
        replies = await self._replies("look_up", dict.fromkeys(self.ledgers, (job_id,)))
        versions = {name: replace(reply, version="") if reply else None for name, reply in replies.items()}
        if self._same("look_up", (job_id,), versions) is None:
            return None
        self.stories.append(replies)
        return replies

    async def _replies(self, what: str, arguments: Mapping[str, Sequence[object]]) -> dict[str, Any]:
        """Ask them all at once, as that takes the least time."""
        replies = await asyncio.gather(*(self._reply(name, what, *own) for name, own in arguments.items()))
        return dict(zip(arguments, replies, strict=True))

    async def _reply(self, name: str, what: str, *arguments: object) -> Any:  # noqa: ANN401 - any reply
        try:
            return await getattr(self.ledgers[name], what)(*arguments)
        except Exception as error:
            raise AssertionError("\n".join(["", *self.told, f"{name} {what} {arguments}"])) from error

    def _same(self, what: str, arguments: Sequence[object], replies: Mapping[str, Any]) -> Any:  # noqa: ANN401 - any reply
        reply = replies["memory"]
        self.told.append(f"{self.clock.now - NOW:10.3f} {what} {arguments}\n{'':10} {reply}")
        assert replies == dict.fromkeys(replies, reply), "\n".join(["", *self.told, *map(str, replies.items())])
        return reply

    def some(self, values: Sequence[Any]) -> Any:  # noqa: ANN401 - one of the values
        return self.dice.choice(values)

    # Time

    async def pass_time(self) -> None:
        await self.reach(self.clock.now + self.some(PAUSES_S))

    async def be_forgotten(self) -> None:
        await self.reach(self.clock.now + FORGOTTEN_AFTER_S)

    async def set_clock_back(self) -> None:
        # Later, a template's hold may be over: who has forgotten it would not know of it again, and who has not would.
        if self.clock.now - self.began > HOLD_KEPT_S:
            return
        self.clock.now -= self.some((0.05, 3.0, 3700.0))
        while self._ends_shortly():
            self.clock.now -= SHORTLY_S
        self.began = min(self.began, self.clock.now)

    async def reach(self, moment: float) -> None:
        self.clock.reach(moment)
        while deadlines := self._ends_shortly():
            self.clock.reach(max(deadlines))
        for ledger in self.ledgers.values():
            await ledger.forget()

    def _ends_shortly(self) -> list[float]:
        return [one.deadline for one in self.requests if 0 < one.deadline - self.clock.now < SHORTLY_S]

    # The way of a job

    async def claim(self) -> None:
        await self._claim(self._request())

    async def claim_again(self) -> None:
        # Of what comes later than a ledger remembers anything each may forget as it likes.
        if requests := [one for one in self.requests if one.forget_at > self.clock.now + LIFETIME_S]:
            await self._claim(self.some(requests))

    async def _claim(self, request: ClaimRequest) -> Ticket | None:
        self.requests.append(request)
        reply = await self.ask("claim", request)
        if not isinstance(reply, Claimed | Lapsed):
            return None
        self.tickets.append(reply.ticket)
        return reply.ticket if isinstance(reply, Claimed) else None

    async def come_again(self) -> None:
        """Claim by a copy of an attempt that there is."""
        job_id = self.job_id()
        if story := await self.ask("story", job_id):
            run = self.some(story)
            await self.copy_comes(job_id, run.run, self.some([one.attempt for one in run.attempts] or [1]))

    async def copy_comes(self, job_id: str, run: int, attempt: int) -> None:
        await self._claim(self._plain_request(job_id, run, attempt))

    async def go_on(self) -> None:
        """Claim what comes next of a job, when it is due, and perhaps have it accepted."""
        job_id = self.job_id()
        run, attempt, due_at = await self._next(job_id)
        if due_at > self.clock.now:
            await self.reach(due_at)
        ticket = await self._claim(self._plain_request(job_id, run, attempt))
        if ticket is not None and self.some((True, True, False)):
            entry = self._accepted(ticket, None)
            await self.ask("record", ticket, entry)

    async def _next(self, job_id: str) -> tuple[int, int, float]:
        """Tell which attempt comes next, of which run, and when it is due."""
        story = await self.ask("story", job_id)
        if not story:
            return 1, 1, 0.0
        last = story[-1]
        if last.end is not None:
            return last.run + 1, 1, 0.0
        highest = last.attempts[-1] if last.attempts else None
        return (last.run, highest.attempt + 1, highest.due_at or 0.0) if highest else (last.run, 1, 0.0)

    async def record(self) -> None:
        if not self.tickets:
            return
        ticket = self.some(self.tickets)
        # Whoever records twice has heard the same thing twice.
        heard = self.heard.setdefault(ticket.token, self._heard() if self.some((False, True)) else None)
        entry = self._entry(ticket, heard)
        if self.some(range(10)) == 0:
            ticket = replace(ticket, token="somebody else's")
        for _ in range(self.some((1, 1, 2))):
            await self.ask("record", ticket, entry)

    async def lapse(self) -> None:
        if self.tickets:
            ticket = self.some(self.tickets)
            run, attempt = ticket.run, ticket.attempt
            retry, end = retry_step(attempt, self.clock.now + 5, run=run), end_step(attempt, "failed", run=run)
            step = self.some((retry, end))
            entry = Entry(State.SETTLED if step.ends_job else State.UNKNOWN, Kind.UNKNOWN, step)
            await self.ask("lapse", ticket, entry)

    async def conclude(self) -> None:
        request = self._request()
        step = end_step(request.wish.attempt, self.some(("expired", "failed")), run=request.wish.run)
        await self.ask("conclude", request, step)

    async def refuse(self) -> None:
        request = self._request()
        step = end_step(self.some((1, 2)), "failed", run=request.wish.run)
        await self.ask("refuse", request, step)

    async def release(self) -> None:
        if not self.tickets:
            return
        ticket = self.some(self.tickets)
        # A request that never left has no message.
        if await self.ask("find", self.message_id(ticket.job_id, ticket.run, ticket.attempt)) is None:
            await self.ask("release", ticket)

    async def note_buried(self) -> None:
        job_id, run = self.job_id(), self.some((1, 2))
        await self.ask("note_buried", job_id, run)

    async def probe_soon(self) -> None:
        await self.ask("probe_soon", [self._sender()])

    async def hear(self) -> None:
        heard = self._heard()
        if self.some((True, True, False)):
            at = self.some((self.clock.now, self.clock.now - 5, self.began))
            said = Said(self.some(tuple(Topic)), at, self.some((None, "RED", 'a "quoted" ü')))
            # Whoever says the same once more says all of it.
            word = (said, heard.signal, heard.lane.template, heard.lane.language)
            heard = self.words.setdefault(word, replace(heard, said=said))
        for _ in range(self.some((1, 1, 2))):
            await self.ask("hear", heard)

    async def watch(self) -> None:
        rates, quotas = {self._sender(): 80.0, "nobody": 1.0}, {self._sender(): f"{self.name}-quota", "nobody": "none"}
        await self.ask("report", rates, quotas)

    # What is made up

    def job_id(self) -> str:
        return str(self.some(self.job_ids))

    @property
    def job_ids(self) -> tuple[str, str]:
        return f"{self.name}-a", f"{self.name}-b"

    @staticmethod
    def message_id(job_id: str, run: int, attempt: int) -> str:
        """The provider's id of the message of an attempt: it gives each one its own."""
        return f"wamid.{job_id}.{run}.{attempt}"

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
            deadline=self.clock.now + LIFETIME_S,
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
        lane = self.some((self._lane(), self._lane(), None))
        return replace(self._plain_request(self.job_id(), run, attempt), wish=wish, lane=lane)

    def _plain_request(self, job_id: str, run: int, attempt: int) -> ClaimRequest:
        return ClaimRequest(
            job_id,
            Wish(run, attempt),
            envelope(run=run, attempt=attempt, counted=attempt - 1),
            self.clock.now + LIFETIME_S,
            LEASE_S,
            token=secrets.token_hex(8),
        )

    def _entry(self, ticket: Ticket, heard: Heard | None) -> Entry:
        now, run, attempt = self.clock.now, ticket.run, ticket.attempt
        entry: Entry = self.some(
            (
                self._accepted(ticket, heard),
                self._accepted(ticket, heard),
                Entry(State.SETTLED, Kind.RECIPIENT, end_step(attempt, "failed", run=run), heard=heard),
                Entry(State.SETTLED, Kind.UNAVAILABLE, end_step(attempt, "expired", run=run), heard=heard),
                Entry(State.REFUSED, Kind.UNAVAILABLE, retry_step(attempt, now + 3, run=run), heard=heard),
                Entry(State.REFUSED, Kind.THROUGHPUT, retry_step(attempt, now, run=run), heard=heard),
                Entry(State.UNKNOWN, Kind.UNKNOWN, retry_step(attempt, now + 5, run=run), heard=heard),
            )
        )
        return entry

    def _accepted(self, ticket: Ticket, heard: Heard | None) -> Entry:
        step = end_step(ticket.attempt, "accepted", run=ticket.run)
        wamid = self.message_id(ticket.job_id, ticket.run, ticket.attempt)
        return Entry(State.SETTLED, None, step, wamid, heard, self.some((KEPT, job_body(), b"")))

    def _heard(self) -> Heard:
        signal, now = self.some(list(Signal)), self.clock.now
        return Heard(
            self._lane(),
            signal,
            begun_at=now - self.some((0.0, 1.0, 20.0)),
            pause_s=self.some((None, 0.0, 90.0)),
            error=self.some((None, Error(Kind.SENDER_HALTED, 190, "The token is not valid", 'a "quoted" ü', 401))),
            remedy=self.some((None, "replace the token")),
            pair_until=self.some((None, now + 1, now + 64, now - 3)) if signal is Signal.PAIR_LIMITED else None,
        )

    # What is looked at

    async def look(self) -> None:
        """Look at the jobs."""
        for job_id in self.job_ids:
            await asyncio.gather(self.ask("story", job_id), self.look_up(job_id))

    async def look_at_all(self) -> None:
        """Look at whatever there is in the end."""
        await self.watch()
        for ticket in self.tickets:
            await self.ask("find", self.message_id(ticket.job_id, ticket.run, ticket.attempt))
