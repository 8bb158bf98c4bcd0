"""Where a report belongs: an attempt of a run of a job, and what stands around it [pure]."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import orjson

from otpost.errors import InvalidJob
from otpost.job import OtpJob
from otpost.result import Status, mask_number
from otpost.times import parse_rfc3339
from otpost_worker.attempts import State
from otpost_worker.decision import History
from otpost_worker.ports import REMEMBERED_AFTER_DEADLINE_S
from otpost_worker.steps import Subject
from otpost_worker.stories import Hearing

if TYPE_CHECKING:
    from collections.abc import Mapping

    from otpost_worker.stories import AttemptStory, JobStory, RunStory

DELIVERIES: Final = frozenset({Hearing.DELIVERED, Hearing.READ})


@dataclass(frozen=True, slots=True)
class Place:
    """An attempt of a run of a job."""

    story: JobStory
    run: RunStory
    attempt: AttemptStory

    @property
    def is_end(self) -> bool:
        """Whether it is this attempt's acceptance that the run has ended with."""
        end = self.run.end.event if self.run.end else None
        return end is not None and end.id.endswith(f"/{self.run.run}/{self.attempt.attempt}/{Status.ACCEPTED}")

    @property
    def is_highest(self) -> bool:
        """Whether no attempt of the run came after it."""
        return self.attempt.attempt == self.run.attempts[-1].attempt

    def others_in_flight_until(self, now: float) -> float | None:
        """Until when the answer to another attempt of the run may still come; None where none is on its way."""
        claims = (
            one.lease_until or 0.0
            for one in self.run.attempts
            if one.attempt != self.attempt.attempt and one.state is State.CLAIMED
        )
        return max((until for until in claims if until > now), default=None)

    @property
    def was_delivered(self) -> bool:
        """Whether any attempt of the run was."""
        return any(DELIVERIES & one.reports.keys() for one in self.run.attempts)

    @property
    def others_stand(self) -> bool:
        """Whether another attempt stands accepted, or was delivered, in this run or in another."""
        others = [one for one in self.run.attempts if one.attempt != self.attempt.attempt]
        # What was reported as failed stands no more.
        taken = any(_was_taken(one) and Hearing.FAILED not in one.reports for one in others)
        delivered = any(DELIVERIES & one.reports.keys() for one in others)
        runs = [one for one in self.story.runs if one.run != self.run.run]
        return taken or delivered or any(one.stands for one in runs)

    @property
    def history(self) -> History:
        """What came before this attempt."""
        before = [one for one in self.run.attempts if one.attempt < self.attempt.attempt]
        # One that a report has settled tells no more what was counted; it only grows.
        steps = (one.step for one in before)
        counted = max((step.next.counted for step in steps if step and step.next), default=self.run.envelope.counted)
        return History(counted, dict(Counter(one.kind for one in before if one.kind is not None)))

    @property
    def deadline(self) -> float:
        """In Unix seconds."""
        return self.run.forget_at - REMEMBERED_AFTER_DEADLINE_S

    def subject(self, *, now: float, provider: str | None) -> Subject:
        """Whom its events speak of; *provider* is what results call it where nothing was told yet."""
        steps = [self.run.end, *(one.step for one in self.run.attempts)]
        told = next((step.event.body for step in steps if step and step.event), None)
        if told is not None:
            return _subject_of_event(orjson.loads(told), self)
        return _subject_of_body(self, now, provider)


def place_of(story: JobStory, run: int, attempt: int) -> Place | None:
    """Find an attempt of a run of a job; None where there is none."""
    for one in story.runs:
        for of_run in one.attempts:
            if (one.run, of_run.attempt) == (run, attempt):
                return Place(story, one, of_run)
    return None


def _was_taken(attempt: AttemptStory) -> bool:
    """Tell whether the provider took it, by its answer or by a report."""
    return attempt.provider_message_id is not None or Hearing.SENT in attempt.reports


def _subject_of_event(told: Mapping[str, Any], place: Place) -> Subject:
    """Read it off an event of the same run, which says all there is to say when the job itself is gone."""
    at, latency_ms = parse_rfc3339(told["at"]), told["latency_ms"]
    created_at = None if at is None or latency_ms is None else at - latency_ms / 1000
    job_id = place.story.job_id
    return Subject(
        key=job_id,
        job_id=job_id,
        sender=place.run.envelope.sender,
        run=place.run.run,
        attempt=place.attempt.attempt,
        to=told["to"],
        ref=told["ref"],
        created_at=created_at,
        provider=told["provider"],
    )


def _subject_of_body(place: Place, now: float, provider: str | None) -> Subject:
    envelope, job_id = place.run.envelope, place.story.job_id
    try:
        job = OtpJob.parse(envelope.body, now=now, published_at=envelope.published_at)
    except InvalidJob:  # its clock was set, or its body is gone: less is said of it
        job = None
    return Subject(
        key=job_id,
        job_id=job_id,
        sender=envelope.sender,
        run=place.run.run,
        attempt=place.attempt.attempt,
        to=mask_number(job.to) if job else None,
        ref=job.ref if job else None,
        created_at=job.created_at.timestamp() if job and job.created_at else None,
        provider=provider,
    )
