"""Publishing what follows from an outcome, in the one order that loses nothing."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from otpost_worker.observer import Observer
    from otpost_worker.ports import Broker, Clock, Codes, Recorded
    from otpost_worker.recording import Records


class Settler:
    """Publishes the steps of jobs; safe to use for many at once."""

    def __init__(self, broker: Broker, codes: Codes, observer: Observer, clock: Clock, records: Records) -> None:
        self._broker = broker
        self._codes = codes
        self._observer = observer
        self._clock = clock
        self._records = records

    async def publish(self, recorded: Recorded, job_id: str | None, *, sender: str, again: bool = False) -> None:
        """Publish what follows: its event first, the job's next home last. *again*: it may have been published before.

        *job_id* is None, and nothing of it noted, where a body gives itself no id that can be read.
        """
        envelope, step = recorded.envelope, recorded.step
        if step.event is not None:
            await self._broker.publish_event(step.event, envelope)
            self._observer.result_published(sender, step.event.status, again=again)
        if step.watch is not None and job_id is not None:
            await self._broker.watch(job_id, step.watch, step.watch.due_at - self._clock())
        # Without its body it is over: it ended meanwhile, and whoever asks is a copy that came late.
        if step.next is not None and envelope.body:
            copy = replace(envelope, attempt=step.next.attempt, counted=step.next.counted, drops=0)
            await self._broker.delay(copy, step.next.due_at - self._clock())
        if step.letter is not None:
            await self._broker.bury(self._codes.cover(envelope), step.letter)
            self._observer.job_buried(sender, step.letter.reason)
            if job_id is not None and not step.is_of_a_stranger:
                await self._records.note_buried(job_id, envelope.run)
