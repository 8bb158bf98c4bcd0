"""What the provider reports in a random course of things: judged by the rules, and as nobody would judge it."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Final

from known_states import end_step, event, retry_step
from ledger_course import KEPT, Course
from otpost_worker.attempts import State
from otpost_worker.decision import Policy
from otpost_worker.envelope import Letter, Step
from otpost_worker.outcome import Error, Kind, Refused
from otpost_worker.statuses import Follow, Heard, Terms, follow, miss
from otpost_worker.stories import Amendment, AttemptChange, Hearing, Report

if TYPE_CHECKING:
    from collections.abc import Mapping

    from otpost_worker.envelope import Envelope
    from otpost_worker.stories import AttemptStory, JobStory, RunStory

LETTER: Final = Letter("recipient", "{}", 1, "2026-11-23T20:00:09.000Z")
HEARINGS: Final = (Hearing.SENT, Hearing.DELIVERED, Hearing.READ, *[Hearing.FAILED] * 4)
REFUSALS: Final = (
    Refused(Error(Kind.USER_LIMIT, 131049, "Not delivered", 'to keep a "healthy" ü')),
    Refused(Error(Kind.UNAVAILABLE, 131000)),
    Refused(Error(Kind.RECIPIENT, 131026)),
    Refused(Error(Kind.SENDER_HALTED, 190), remedy="replace the token"),
)
FATES: Final = ("none", "none", "accepted", "given up", "failed", "expired", "reopened", "reopened")


@dataclass
class ReportedCourse(Course):
    """A course with reports in it."""

    async def find(self) -> None:
        message_id = self.message_id(self.job_id(), self.some((1, 2)), self.some((1, 2, 3)))
        await self.ask("find", message_id)

    async def report(self) -> None:
        """Let a report be followed, or its absence be noticed, as the rules say; now and then by an old story."""
        found = await self._story()
        if found is None:
            return
        stories, run, attempt = found
        story = stories["memory"]
        terms, token = self._terms(), self.some(("t-1", "t-2"))
        if self.some((False, False, False, True)):
            verdict = miss(story, run.run, attempt.attempt, token, terms)
        else:
            wamid = self.some((None, self.message_id(story.job_id, run.run, attempt.attempt)))
            heard = Heard(self.some(HEARINGS), self._at(), token, wamid, self.some(REFUSALS))
            verdict = follow(heard, story, run.run, attempt.attempt, terms)
        if isinstance(verdict, Follow) and verdict.amendment is not None:
            await self._amend(stories, verdict.amendment)

    async def amend(self) -> None:
        """Write down what the types allow and the doc of an amendment does not forbid."""
        found = await self._story()
        if found is not None:
            stories, run, attempt = found
            await self._amend(stories, self._amendment(stories["memory"], run, attempt))

    async def outlive(self) -> None:
        """Come behind a deadline, have something done there, and perhaps go back before it."""
        deadlines = [one.deadline for one in self.requests if one.deadline > self.clock.now]
        if deadlines:
            await self.reach(self.some(deadlines) + self.some((0.0, 1.0)))
            await self.some((self.amend, self.report, self.record, self.come_again))()
        if deadlines and self.some((False, True)):
            await self.set_clock_back()

    async def _amend(self, stories: Mapping[str, JobStory], amendment: Amendment) -> None:
        job_id = stories["memory"].job_id
        written = await self.ask_each("amend", {name: (story, amendment) for name, story in stories.items()})
        # Mostly somebody comes with a copy then, and is told what stands now.
        if written and self.some((True, True, False)):
            await self.copy_comes(job_id, amendment.run, amendment.attempt)

    async def _story(self) -> tuple[Mapping[str, JobStory], RunStory, AttemptStory] | None:
        """Choose an attempt in what was told of a job: now, mostly, or a while ago."""
        stories: Any = self.some(self.stories[-6:]) if self.stories and self.some((False, False, True)) else None
        stories = stories or await self.look_up(self.job_id())
        attempts = [(run, one) for run in stories["memory"].runs for one in run.attempts] if stories else []
        if not attempts:
            return None
        # Mostly of the last that there is.
        run, attempt = self.some((*attempts, *attempts[-1:] * 3))
        return stories, run, attempt

    def _terms(self) -> Terms:
        def cover(envelope: Envelope) -> Envelope:
            return replace(envelope, body=KEPT)

        watch_s = self.some((None, 60.0))
        return Terms(self.clock.now, self.some((0.0, 0.3, 1.0)), Policy(), "in memory", watch_s, cover)

    def _at(self) -> float:
        return float(self.clock.now - self.some((0.0, 1.0, 20.0)))

    def _amendment(self, story: JobStory, run: RunStory, attempt: AttemptStory) -> Amendment:
        accepted = event(f"job-1/{run.run}/{attempt.attempt}/accepted")
        told = self.some((None, accepted.body.decode()))
        report = Report(self._at(), self.some(("t-1", "t-2")), self.some((None, REFUSALS[0].error)), told)
        fate = self.some(FATES)
        end = self._end(fate, run.run, attempt.attempt)
        has_ended = end is not None or (run.end is not None and fate != "reopened")
        return Amendment(
            run.run,
            attempt.attempt,
            {**attempt.reports, self.some(list(Hearing)): report},
            self.some((None, self.message_id(story.job_id, run.run, attempt.attempt))),
            self._change(run.run, attempt.attempt),
            end,
            reopened=fate == "reopened",
            undelivered=fate == "given up" or self.some((run.undelivered, run.undelivered, True, False)),
            delivered=self.some((run.delivered, run.delivered, run.delivered, True)),
            # A job under way has its own, and what is to be buried has to last.
            body=self.some((None, b"", KEPT)) if has_ended and not (end and end.letter) else None,
        )

    def _change(self, run: int, attempt: int) -> AttemptChange | None:
        retry = retry_step(attempt, self.clock.now + 5, run=run)
        change: AttemptChange | None = self.some(
            (
                None,
                None,
                AttemptChange(State.SETTLED),
                AttemptChange(State.SETTLED, Kind.RECIPIENT, Step(retry.event)),
                AttemptChange(State.REFUSED, Kind.UNAVAILABLE, replace(retry, event=None)),
                AttemptChange(State.TAKEN_BACK, Kind.USER_LIMIT, retry),
            )
        )
        return change

    @staticmethod
    def _end(fate: str, run: int, attempt: int) -> Step | None:
        match fate:
            case "accepted" | "failed" | "expired":
                return end_step(attempt, fate, run=run)
            case "given up":
                return Step(event(f"job-1/{run}/{attempt}/accepted"), letter=LETTER)
            case _:
                return None
