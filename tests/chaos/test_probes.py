"""The probes note who passes on the way of a report, and what it changes; checks come sooner, and nothing else does."""

from __future__ import annotations

import asyncio
import os
import time
from typing import TYPE_CHECKING, Any, Final

import orjson
import pytest

from chaos.children.probes import BROKER, LEDGER, Probe, Probed, SoonerChecks
from otpost_worker.attempts import State
from otpost_worker.envelope import Envelope, Event, Watch
from otpost_worker.stories import Amendment, AttemptStory, Hearing, JobStory, Report, RunStory

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

NOW: Final = 1_795_464_000.0
ENVELOPE: Final = Envelope(body=b"", sender="default", published_at=None)
EVENT: Final = Event("job-1/1/1/delivered", "delivered", b"{}")
SENT: Final = Report(NOW, "token-1")


class Ports:
    """A ledger that writes everything down, and a broker that takes everything."""

    def __init__(self) -> None:
        self.watched: list[tuple[str, Watch, float]] = []

    async def amend(self, story: JobStory, amendment: Amendment) -> bool:
        return bool(story.job_id and amendment.run)

    async def publish_event(self, event: Event, envelope: Envelope) -> None:
        assert (event, envelope) == (EVENT, ENVELOPE)

    async def watch(self, job_id: str, watch: Watch, delay_s: float) -> None:
        self.watched.append((job_id, watch, delay_s))


def story() -> JobStory:
    attempt = AttemptStory(1, State.SETTLED, None, NOW, NOW, None, None, "wamid.1", None, {Hearing.SENT: SENT})
    run = RunStory(1, ENVELOPE, NOW, None, buried=False, forget_at=NOW + 60, turn=None, attempts=(attempt,))
    return JobStory("job-1", (run,), "1")


@pytest.fixture
def noted(tmp_path: Path) -> Iterator[tuple[Probe, Callable[[], list[dict[str, Any]]]]]:
    file = tmp_path / "trace.jsonl"
    trace = os.open(file, os.O_CREAT | os.O_WRONLY | os.O_APPEND)
    yield (
        Probe("w1", trace, time.time),
        lambda: [orjson.loads(line) for line in file.read_bytes().splitlines()],
    )
    os.close(trace)


async def test_an_amendment_is_noted_with_what_is_new_and_its_event_as_reported(
    noted: tuple[Probe, Callable[[], list[dict[str, Any]]]],
) -> None:
    probe, passings = noted
    ledger, broker = Probed(Ports(), LEDGER, probe), Probed(Ports(), BROKER, probe)
    reports = {Hearing.SENT: SENT, Hearing.FAILED: Report(NOW, "token-2")}

    async def report() -> None:
        await ledger.amend(story(), Amendment(1, 1, reports, reopened=True))
        await broker.publish_event(EVENT, ENVELOPE)

    await asyncio.create_task(report())
    # What another task publishes has nothing to do with it.
    await asyncio.create_task(broker.publish_event(EVENT, ENVELOPE))
    assert [one["point"] for one in passings()] == [
        *("before amend", "after amend", "before reported", "after reported"),
        *("before event", "after event"),
    ]
    amended = passings()[1]
    assert (amended["job"], amended["run"], amended["attempt"], amended["result"]) == ("job-1", 1, 1, "True")
    assert amended["amends"] == "failed, taken back"


async def test_a_run_that_is_given_up_is_noted_as_such_once(
    noted: tuple[Probe, Callable[[], list[dict[str, Any]]]],
) -> None:
    probe, passings = noted
    amendment = Amendment(1, 1, {Hearing.SENT: SENT}, undelivered=True)
    await Probed(Ports(), LEDGER, probe).amend(story(), amendment)
    assert passings()[0]["amends"] == "given up"


async def test_a_check_comes_after_a_share_of_its_time_and_its_attempt_is_noted(
    noted: tuple[Probe, Callable[[], list[dict[str, Any]]]],
) -> None:
    probe, passings = noted
    ports: Any = Ports()
    watch = Watch(1, 2, NOW + 60)
    await Probed(SoonerChecks(ports, 0.25), BROKER, probe).watch("job-1", watch, 60.0)
    assert ports.watched == [("job-1", watch, 15.0)]
    assert [(one["point"], one["job"], one["attempt"]) for one in passings()] == [
        ("before watch", "job-1", 2),
        ("after watch", "job-1", 2),
    ]
