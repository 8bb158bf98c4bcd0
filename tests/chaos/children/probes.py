"""Probes at each arrow of the way of a job and of a report: they note who passes, and may be a process's last act.

They stand around the application's ports (``otpost_worker.wrapping``); the product knows nothing of them.
"""

from __future__ import annotations

import asyncio
import os
import signal
import time
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, cast

import orjson

from otpost_worker.envelope import Envelope, Event, Watch, readable_id
from otpost_worker.ports import ClaimRequest, Message, Ticket
from otpost_worker.stories import Amendment, JobStory
from otpost_worker.wrapping import Wrappers

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from otpost_worker.ports import Broker, Clock

# What each port's calls are on the way of a job. What is not named here passes unseen.
LEDGER: Final = {
    "claim": "claim",
    "record": "record",
    "lapse": "lapse",
    "conclude": "conclude",
    "refuse": "refuse",
    "release": "release",
    "note_buried": "note",
    "amend": "amend",
}
BROKER: Final = {
    "publish_event": "event",
    "delay": "next home",
    "hand_back": "next home",
    "bury": "next home",
    "publish_sender_event": "sender event",
    "watch": "watch",
    "postpone_report": "postpone",
}
PROVIDER: Final = {"send": "request"}
SETTLING: Final = {"acknowledge": "acknowledge", "requeue": "acknowledge"}
SETTLING_REPORT: Final = {"acknowledge": "report done", "requeue": "report done"}
# What is told after a report was written down has a name of its own.
REPORTED: Final = "reported"
_REPORTS: Final = ("otpost.webhook.v1", "otpost.check.v1")
# A request is under way this long after it began, and its answer has not been read yet.
WITHIN_S: Final = 0.004

_CLOCK_FILE_BYTES: Final = 32

# Each report is taken in a task of its own; whether it was written down there.
_amended: ContextVar[bool] = ContextVar("amended", default=False)


@dataclass
class Probe:
    """Writes every passing to *trace*, one JSON object a line, and kills the process where its plan says so.

    *deaths*: how many passings of a point are still to be survived, by its name such as ``before record``.
    """

    worker: str
    trace: int
    clock: Clock
    deaths: dict[str, int] = field(default_factory=dict)

    def meet(self, when: str, arrow: str, subject: Mapping[str, object]) -> None:
        """Somebody passes the point."""
        point = f"{when} {arrow}"
        dies = self._is_last(point)
        self._note(point, subject, dies=dies)
        if dies and when == "within":
            asyncio.get_running_loop().call_later(WITHIN_S, _die)
        elif dies:
            _die()

    def _is_last(self, point: str) -> bool:
        if point not in self.deaths:
            return False
        self.deaths[point] -= 1
        return self.deaths[point] == 0

    def _note(self, point: str, subject: Mapping[str, object], *, dies: bool) -> None:
        passing = {
            "at": time.time(),
            "clock": self.clock(),
            "worker": self.worker,
            "pid": os.getpid(),
            "point": point,
            "dies": dies,
            **subject,
        }
        # Not buffered: what a process that is killed has passed must be in the file.
        os.write(self.trace, orjson.dumps(passing, option=orjson.OPT_APPEND_NEWLINE))


def _die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


class Probed:
    """A port with probes before and after its calls; *settled* is what its calls are about where they do not say."""

    def __init__(
        self, port: object, arrows: Mapping[str, str], probe: Probe, settled: Mapping[str, object] | None = None
    ) -> None:
        self._port = port
        self._arrows = arrows
        self._probe = probe
        self._settled = settled or {}

    def __getattr__(self, name: str) -> Any:  # noqa: ANN401 - whatever the port has
        attribute = getattr(self._port, name)
        arrow = self._arrows.get(name)
        return attribute if arrow is None else self._with_probes(arrow, attribute)

    def _with_probes(self, arrow: str, call: Callable[..., Any]) -> Callable[..., Any]:
        async def probed(*arguments: Any, **named: Any) -> Any:  # noqa: ANN401 - the port's own
            subject = {**self._settled, **_subject_of(arguments)}
            passed = REPORTED if arrow == "event" and _amended.get() else arrow
            self._probe.meet("before", passed, subject)
            if arrow == "request":
                self._probe.meet("within", arrow, subject)
            result = await call(*arguments, **named)
            if arrow == "amend":
                _amended.set(result)
            told = str(result) if isinstance(result, bool) else type(result).__name__
            self._probe.meet("after", passed, {**subject, "result": told})
            return result

        return probed


def _subject_of(arguments: tuple[Any, ...]) -> dict[str, object]:
    """Tell which job and attempt a call is about; never anything of its code or number."""
    match arguments:
        case (JobStory() as story, Amendment() as amendment):
            return {"job": story.job_id, **_subject_of_amendment(story, amendment)}
        case (str() as job, Watch(run=run, attempt=attempt), _):
            return {"job": job, "run": run, "attempt": attempt}
    subject: dict[str, object] = {}
    for argument in arguments:
        match argument:
            case ClaimRequest(job_id=job, wish=wish):
                subject |= {"job": job, "run": wish.run, "attempt": wish.attempt}
            case Ticket(job_id=job, run=run, attempt=attempt):
                subject |= {"job": job, "run": run, "attempt": attempt}
            case Message(callback=callback):
                subject |= {"callback": callback}
            case Event(id=event_id):
                subject |= {"event": event_id}
            case Envelope():
                subject |= _subject_of_envelope(argument)
            case _:
                continue
    return subject


def _subject_of_amendment(story: JobStory, amendment: Amendment) -> dict[str, object]:
    """Tell what is new: which reports, and whether the run has no end any more, or is given up."""
    run = next(one for one in story.runs if one.run == amendment.run)
    known = next((one.reports for one in run.attempts if one.attempt == amendment.attempt), {})
    new = sorted(str(hearing) for hearing in amendment.reports.keys() - known.keys())
    new += ["taken back"] if amendment.reopened else []
    new += ["given up"] if amendment.undelivered and not run.undelivered else []
    return {"run": amendment.run, "attempt": amendment.attempt, "amends": ", ".join(new)}


def _subject_of_envelope(envelope: Envelope) -> dict[str, object]:
    return {"job": readable_id(envelope.body), "run": envelope.run, "attempt": envelope.attempt}


class SoonerChecks:
    """A broker that brings checks back after *share* of the time that they should take; all else is the broker's."""

    def __init__(self, broker: Broker, share: float) -> None:
        self._broker = broker
        self._share = share

    def __getattr__(self, name: str) -> Any:  # noqa: ANN401 - whatever the port has
        return getattr(self._broker, name)

    async def watch(self, job_id: str, watch: Watch, delay_s: float) -> None:
        """See the port."""
        await self._broker.watch(job_id, watch, delay_s * self._share)


class MovedClock:
    """The time of day as somebody has set it: *file* holds by how many seconds it is wrong."""

    def __init__(self, clock: Clock, file: Path) -> None:
        self._clock = clock
        self._file = os.open(file, os.O_RDONLY)

    def __call__(self) -> float:
        """Tell the time in Unix seconds."""
        return self._clock() + float(os.pread(self._file, _CLOCK_FILE_BYTES, 0))


def set_clock(file: Path, offset_s: float) -> None:
    """Move the clocks that read *file*, from now on."""
    # In one write and always as long, so that nobody reads half of it.
    with file.open("r+b" if file.exists() else "wb") as opened:
        opened.write(f"{offset_s:{_CLOCK_FILE_BYTES}.3f}".encode())


def wrappers_for(probe: Probe, clock_file: Path, *, check_share: float) -> Wrappers:
    """Put *probe* around every port, and the clock into somebody else's hands; see ``SoonerChecks``."""

    def around(arrows: Mapping[str, str]) -> Callable[[Any], Any]:
        return lambda port: Probed(port, arrows, probe)

    def settling(incoming: Any) -> Any:  # noqa: ANN401 - a delivery as the application made it
        if incoming.message.header.properties.message_type in _REPORTS:
            return Probed(incoming, SETTLING_REPORT, probe)
        return Probed(incoming, SETTLING, probe, settled={"job": readable_id(incoming.message.body)})

    def broker(real: Broker) -> Any:  # noqa: ANN401 - the port
        return Probed(SoonerChecks(real, check_share), BROKER, probe)

    def clock(real: Clock) -> Clock:
        probe.clock = MovedClock(real, clock_file)
        return probe.clock

    return Wrappers(
        ledger=cast("Any", around(LEDGER)),
        broker=broker,
        provider=cast("Any", around(PROVIDER)),
        settling=settling,
        clock=clock,
    )
