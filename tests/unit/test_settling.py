"""What follows from an outcome is published in the one order that loses nothing, and nothing of it where it is over."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from typing import TYPE_CHECKING, Final

import pytest

from fateful_ledger import FatefulLedger
from known_states import event
from ledger_implementations import Memory
from otpost_worker.envelope import Letter, Next, Step, Watch
from otpost_worker.keyring import Keyring
from otpost_worker.metrics import Metrics
from otpost_worker.ports import Recorded
from otpost_worker.recording import Records
from otpost_worker.settling import Settler
from ports_in_memory import KEY, NOW, Clock, Crash, Fate, RecordingBroker, envelope

if TYPE_CHECKING:
    from collections.abc import Awaitable

    from otpost_worker.envelope import Envelope
    from otpost_worker.standing import News

RETRYING: Final = event("job-1/2/1/retrying")
NEXT: Final = Next(3, 2, NOW + 30)
LETTER: Final = Letter("recipient", "{}", 1, "2026-11-23T20:00:09.000Z")
WATCH: Final = Watch(2, 1, NOW + 630)
COPY: Final = envelope(run=2, attempt=1, counted=1, drops=2)


def no_background(_: Awaitable[None]) -> None:
    raise AssertionError("nothing is left for later while the ledger is there")


def no_news(_: News) -> None:
    raise AssertionError("nothing is said of a sender")


class Published:
    """A settler with everything that it publishes to, ten seconds after the job was made."""

    def __init__(self) -> None:
        self.fate = Fate()
        self.broker = RecordingBroker(self.fate, lambda _, __: None)
        self.metrics = Metrics(["default"])
        self.clock = Clock(NOW + 10)

    async def publish(
        self, step: Step, job_id: str | None = "job-1", *, of: Envelope = COPY, again: bool = False
    ) -> list[str]:
        """Publish what follows; returns the points that were passed, each once it was confirmed."""
        async with Memory().open(self.clock) as ledger:
            records = Records(FatefulLedger(ledger, self.fate, Counter()), background=no_background, tell=no_news)
            settler = Settler(self.broker, Keyring((KEY,)), self.metrics, self.clock, records)
            await settler.publish(Recorded(of, step), job_id, sender="default", again=again)
        return [point for when, point in self.fate.passed if when == "after"]

    def counted(self, name: str, **labels: str) -> float:
        return self.metrics.registry.get_sample_value(name, {"sender": "default", **labels}) or 0.0


async def test_the_event_goes_out_first_and_the_jobs_next_home_last() -> None:
    assert await Published().publish(Step(RETRYING, NEXT, watch=WATCH)) == ["event", "watch", "next home"]
    assert await Published().publish(Step(RETRYING, letter=LETTER)) == ["event", "next home", "note"]


async def test_the_next_copy_has_its_own_numbers_and_waits_until_it_is_due() -> None:
    published = Published()
    await published.publish(Step(RETRYING, NEXT))
    # It has a new life with the broker, which counts from nothing.
    assert published.broker.delays == [(replace(COPY, attempt=3, counted=2, drops=0), 20.0)]


async def test_a_check_waits_until_it_is_due_and_needs_the_id_of_a_job() -> None:
    published = Published()
    await published.publish(Step(RETRYING, watch=WATCH))
    assert published.broker.watches == [("job-1", WATCH, 620.0)]
    assert await Published().publish(Step(RETRYING, watch=WATCH), None) == ["event"]


async def test_a_copy_without_its_body_gets_no_next_home() -> None:
    assert await Published().publish(Step(RETRYING, NEXT), of=replace(COPY, body=b"")) == ["event"]


async def test_a_dead_letter_holds_no_readable_code_and_is_counted() -> None:
    published = Published()
    await published.publish(Step(None, letter=LETTER))
    ((buried, letter),) = published.broker.letters
    assert (letter, b"493817" in COPY.body, b"493817" in buried.body) == (LETTER, True, False)
    assert published.counted("otpost_dead_letters_total", reason="recipient") == 1.0


@pytest.mark.parametrize(
    ("step", "job_id"),
    [(Step(None, letter=LETTER, is_of_a_stranger=True), "job-1"), (Step(None, letter=LETTER), None)],
    ids=["another job's id", "no id"],
)
async def test_the_dead_letter_of_what_is_no_run_of_the_job_is_not_noted(step: Step, job_id: str | None) -> None:
    assert await Published().publish(step, job_id) == ["next home"]


@pytest.mark.parametrize(("again", "first", "repeated"), [(False, 1.0, 0.0), (True, 0.0, 1.0)])
async def test_what_is_told_once_more_is_counted_apart(again: bool, first: float, repeated: float) -> None:  # noqa: FBT001 - by name, from pytest
    published = Published()
    await published.publish(Step(RETRYING), again=again)
    assert published.counted("otpost_results_total", status="retrying") == first
    assert published.counted("otpost_results_repeated_total", status="retrying") == repeated


async def test_where_nothing_follows_nothing_is_published() -> None:
    assert await Published().publish(Step(None)) == []


async def test_what_the_broker_has_not_confirmed_is_not_counted() -> None:
    published = Published()
    published.fate.crash_at = ("before", "event")
    with pytest.raises(Crash):
        await published.publish(Step(RETRYING))
    published.fate.crash_at = ("before", "next home")
    with pytest.raises(Crash):
        await published.publish(Step(None, letter=LETTER))
    assert published.counted("otpost_results_total", status="retrying") == 0.0
    assert published.counted("otpost_dead_letters_total", reason="recipient") == 0.0
