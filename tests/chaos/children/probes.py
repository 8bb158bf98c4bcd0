"""Probes at each arrow of the way of a job: they write down who passes, and may be the last thing a process does.

They stand around the application's ports (``otpost_worker.wrapping``); the product knows nothing of them.
"""

from __future__ import annotations

import asyncio
import os
import signal
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, cast

import orjson

from otpost_worker.envelope import Envelope, Event, readable_id
from otpost_worker.ports import ClaimRequest, Message, Ticket
from otpost_worker.wrapping import Wrappers

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from otpost_worker.ports import Clock

# What each port's calls are on the way of a job. What is not named here passes unseen.
LEDGER: Final = {
    "claim": "claim",
    "record": "record",
    "lapse": "lapse",
    "conclude": "conclude",
    "refuse": "refuse",
    "release": "release",
    "note_buried": "note",
}
BROKER: Final = {
    "publish_event": "event",
    "delay": "next home",
    "hand_back": "next home",
    "bury": "next home",
    "publish_sender_event": "sender event",
}
PROVIDER: Final = {"send": "request"}
SETTLING: Final = {"acknowledge": "acknowledge", "requeue": "acknowledge"}
# A request is under way this long after it began, and its answer has not been read yet.
WITHIN_S: Final = 0.004

_CLOCK_FILE_BYTES: Final = 32


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
            self._probe.meet("before", arrow, subject)
            if arrow == "request":
                self._probe.meet("within", arrow, subject)
            result = await call(*arguments, **named)
            self._probe.meet("after", arrow, {**subject, "result": type(result).__name__})
            return result

        return probed


def _subject_of(arguments: tuple[Any, ...]) -> dict[str, object]:
    """Tell which job and attempt a call is about; never anything of its code or number."""
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


def _subject_of_envelope(envelope: Envelope) -> dict[str, object]:
    return {"job": readable_id(envelope.body), "run": envelope.run, "attempt": envelope.attempt}


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


def wrappers_for(probe: Probe, clock_file: Path) -> Wrappers:
    """Put *probe* around every port, and the clock into somebody else's hands."""

    def around(arrows: Mapping[str, str]) -> Callable[[Any], Any]:
        return lambda port: Probed(port, arrows, probe)

    def settling(incoming: Any) -> Any:  # noqa: ANN401 - a delivery as the application made it
        return Probed(incoming, SETTLING, probe, settled={"job": readable_id(incoming.message.body)})

    def clock(real: Clock) -> Clock:
        probe.clock = MovedClock(real, clock_file)
        return probe.clock

    return Wrappers(
        ledger=cast("Any", around(LEDGER)),
        broker=cast("Any", around(BROKER)),
        provider=cast("Any", around(PROVIDER)),
        settling=settling,
        clock=clock,
    )
