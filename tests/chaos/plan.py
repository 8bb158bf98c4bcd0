"""What goes wrong in a run, drawn by its seed: where workers die, and what happens to the world around them."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from random import Random


class FaultKind(StrEnum):
    """A kind of fault; where it strikes is told by the fault."""

    KILL = "worker: SIGKILL"
    TERM = "worker: SIGTERM"
    RECEIVER_KILL = "receiver: SIGKILL"
    RECEIVER_TERM = "receiver: SIGTERM"
    BROKER_KILL = "broker: kill -9 and start"
    BROKER_RESTART = "broker: restart"
    BROKER_ALARM = "broker: memory alarm"
    LEDGER_KILL = "ledger: kill -9 and start"
    LEDGER_RESTART = "ledger: restart"
    LEDGER_STILL = "ledger: stands still"
    CUT = "connections cut"
    STALL = "connections stalled"
    STALL_TO_SERVER = "connections stalled toward the server"
    STALL_TO_CLIENT = "connections stalled toward the client"
    STALL_THEN_CUT = "connections stalled, then cut"
    HALF_CLOSE_CLIENT = "connections half-closed toward the client"
    HALF_CLOSE_SERVER = "connections half-closed toward the server"
    REFUSE = "new connections refused"
    LOSE_ANSWERS = "answers lost"
    CLOCK = "clock moved"


class Line(StrEnum):
    """What a worker is connected with; and a receiver with the broker, and the simulator with the receivers."""

    BROKER = "broker"
    LEDGER = "ledger"
    SIMULATOR = "simulator"
    STORING = "receiver's broker"
    WEBHOOKS = "webhooks"


@dataclass(frozen=True, slots=True)
class Fault:
    """Something that happens *at_s* seconds after the beginning, for *for_s* seconds.

    *line*: whose connections, where it is about connections. *victim*: the index of the worker, or of the receiver,
    that it happens to; None for all. *amount*: how many answers, or by how many seconds the clock is moved.
    """

    at_s: float
    kind: FaultKind
    for_s: float = 0.0
    line: Line | None = None
    victim: int | None = None
    amount: float = 0.0

    @property
    def strikes_receivers(self) -> bool:
        """Whether it happens to receivers; else to workers."""
        of_receiver = (FaultKind.RECEIVER_KILL, FaultKind.RECEIVER_TERM)
        return self.kind in of_receiver or self.line in (Line.STORING, Line.WEBHOOKS)

    @property
    def name(self) -> str:
        """What it is counted as."""
        return f"{self.line}: {self.kind}" if self.line else str(self.kind)


@dataclass(frozen=True, slots=True)
class Death:
    """A process of a worker kills itself when it comes by *point* for the *nth* time."""

    point: str
    nth: int

    @property
    def name(self) -> str:
        """What it is counted as."""
        return f"SIGKILL {self.point}"


@dataclass(frozen=True, slots=True)
class Plan:
    """Everything that will go wrong. *deaths*: for each worker those of its processes, one after the other."""

    faults: tuple[Fault, ...]
    deaths: tuple[tuple[Death, ...], ...]

    @property
    def kills_broker(self) -> bool:
        """Whether the broker's node goes down."""
        return any(fault.kind in (FaultKind.BROKER_KILL, FaultKind.BROKER_RESTART) for fault in self.faults)


def _around(*arrows: str) -> tuple[str, ...]:
    return tuple(f"{when} {arrow}" for arrow in arrows for when in ("before", "after"))


# On the way of a report.
_REPORTS: Final = _around("amend", "reported", "report done", "watch")
_OFTEN: Final = (*_around("claim", "request", "record", "event", "acknowledge"), "within request")
_SOMETIMES: Final = _around("next home", "note")
# Such as the end of a dead worker's lease: the process that meets it has to have lived for a while.
_RARELY: Final = _around("lapse", "conclude", "refuse", "release", "sender event", "postpone")
POINTS: Final = (*_OFTEN, *_REPORTS, *_SOMETIMES, *_RARELY)
# A point is drawn to be met so often at the most, or it would not be met at all.
_PASSES: Final = dict.fromkeys((*_OFTEN, *_REPORTS), 30) | dict.fromkeys(_SOMETIMES, 5) | dict.fromkeys(_RARELY, 1)

_LEDGER: Final = (FaultKind.LEDGER_KILL, FaultKind.LEDGER_RESTART, FaultKind.LEDGER_STILL)
_LINES: Final = (
    FaultKind.CUT,
    FaultKind.STALL,
    FaultKind.STALL_TO_SERVER,
    FaultKind.STALL_TO_CLIENT,
    FaultKind.STALL_THEN_CUT,
    FaultKind.HALF_CLOSE_CLIENT,
    FaultKind.HALF_CLOSE_SERVER,
    FaultKind.REFUSE,
    FaultKind.LOSE_ANSWERS,
)
# Longer, and what was held back would arrive so late that the simulator's limits, not the worker's, are at fault.
_SHORT_STALL_S: Final = 0.3
_LONG_STALLS_S: Final = (0.5, 2.0, 5.0)
_MOVES_S: Final = (-20.0, -3.0, 2.0, 4.0, 20.0)


_OF_RECEIVERS: Final = (Line.STORING, Line.WEBHOOKS)


def names_of_all(*, has_own_ledger: bool) -> list[str]:
    """Name everything that can go wrong, in the order of a table."""
    lines = [Line.BROKER, Line.SIMULATOR, *([Line.LEDGER] if has_own_ledger else []), *_OF_RECEIVERS]
    others = [kind for kind in FaultKind if kind not in _LINES and (has_own_ledger or kind not in _LEDGER)]
    return [
        *(Death(point, 1).name for point in POINTS),
        *(Fault(0, kind).name for kind in others),
        *(Fault(0, kind, line=line).name for line in lines for kind in _LINES),
    ]


def plan_faults(dice: Random, *, seed: int, workers: int, receivers: int, span_s: float, has_own_ledger: bool) -> Plan:
    """Draw a plan; *seed* also sees to it that each point and each kind of fault comes in its turn.

    *has_own_ledger*: the ledger is a server, with connections to it and a clock of its own.
    """
    deaths = tuple(_deaths(dice, seed * workers + worker) for worker in range(workers))
    lines = [Line.BROKER, Line.SIMULATOR, *([Line.LEDGER] if has_own_ledger else [])]
    faults = [_on_line(dice, line, kind, workers, span_s) for line in lines for kind in dice.sample(_LINES, 3)]
    faults += [
        Fault(dice.uniform(0, span_s), FaultKind.KILL, victim=dice.randrange(workers)),
        Fault(dice.uniform(0, span_s), FaultKind.TERM, victim=dice.randrange(workers)),
    ]
    faults += [
        Fault(dice.uniform(span_s / 2, span_s), FaultKind.TERM, victim=worker)
        for worker, (*_, last) in enumerate(deaths)
        if last.point in _around("release")  # which only those do who have to stop
    ]
    faults += _in_turn(dice, seed, workers, span_s, has_own_ledger=has_own_ledger)
    # What is published last is reported after that.
    faults += _of_receivers(dice, seed, receivers, span_s * 1.5)
    return Plan(tuple(sorted(faults, key=lambda fault: fault.at_s)), deaths)


def _deaths(dice: Random, turn: int) -> tuple[Death, ...]:
    """Draw how four processes of a worker die; who is to die where few ever come is the last, which lives longest."""
    first = (_OFTEN, _REPORTS) if turn % 2 == 0 else (_REPORTS, _OFTEN)
    points = tuple(points[turn % len(points)] for points in (*first, _SOMETIMES, _RARELY))
    return tuple(Death(point, dice.randint(1, _PASSES[point])) for point in points)


def _on_line(dice: Random, line: Line, kind: FaultKind, victims: int, span_s: float) -> Fault:
    victim = dice.choice([*range(victims), None])
    for_s = dice.choice(_LONG_STALLS_S)
    if line is Line.SIMULATOR and kind in (FaultKind.STALL, FaultKind.STALL_TO_SERVER, FaultKind.STALL_TO_CLIENT):
        for_s = _SHORT_STALL_S
    return Fault(dice.uniform(0, span_s), kind, for_s, line, victim, amount=dice.randint(1, 8))


def _of_receivers(dice: Random, seed: int, receivers: int, span_s: float) -> list[Fault]:
    """Draw what happens to receivers and their lines. All reports come over the one from the simulator."""
    kinds = [(Line.STORING, kind, receivers) for kind in dice.sample(_LINES, 2)]
    # Between the first webhook and the last there is time for more than one.
    kinds += [(Line.WEBHOOKS, _LINES[(seed + turn) % len(_LINES)], 0) for turn in range(3)]
    faults = [_on_line(dice, line, kind, victims, span_s) for line, kind, victims in kinds]
    ends = (FaultKind.RECEIVER_KILL, FaultKind.RECEIVER_KILL, FaultKind.RECEIVER_TERM)
    return faults + [Fault(dice.uniform(0, span_s), kind, victim=dice.randrange(receivers)) for kind in ends]


def _in_turn(dice: Random, seed: int, workers: int, span_s: float, *, has_own_ledger: bool) -> list[Fault]:
    """What is too slow or too coarse for every run, each in its turn."""
    turn = seed // 2 if has_own_ledger else seed
    at_s = dice.uniform(span_s / 4, span_s * 3 / 4)
    faults = {
        0: [Fault(at_s, FaultKind.BROKER_ALARM, for_s=3.0)],
        1: [Fault(at_s, FaultKind.CLOCK, amount=dice.choice(_MOVES_S), victim=dice.randrange(workers))],
        2: [Fault(at_s, FaultKind.BROKER_KILL, for_s=dice.choice([0.0, 2.0]))],
        3: [],
        4: [Fault(at_s, FaultKind.BROKER_RESTART)],
    }[turn % 5]
    if has_own_ledger:
        faults.append(Fault(dice.uniform(0, span_s), dice.choice(_LEDGER), for_s=dice.choice([0.2, 1.0, 4.0])))
    return faults
