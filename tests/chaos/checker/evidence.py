"""What a run left behind, as plain values: what was asked for, what each witness saw, and what was broken on the way.

All times are Unix seconds of this machine's real clock, unless a field says otherwise. Nothing in this folder imports
anything of what it judges.
"""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from datetime import datetime
from typing import TYPE_CHECKING, Any, Final, TypeVar

import orjson

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from pathlib import Path

T = TypeVar("T")

ENDS: Final = frozenset({"accepted", "failed", "expired"})


@dataclass(frozen=True, slots=True)
class Job:
    """One job as it was published.

    *id*: None where nobody can read one off its body. *to*: the digits. *wanted*: the ends, with the kind of a
    failure behind them, that it may have in a world without faults. *not_before* and *deadline*: None where the
    job is none. *confirmed*: how many copies the broker has confirmed. *is_copy*: a second body under another job's
    id, which is no job and ends nothing.
    """

    id: str | None
    kind: str
    sender: str
    to: str
    code: str
    wanted: tuple[str, ...]
    published_at: float
    deadline: float | None = None
    not_before: float | None = None
    confirmed: int = 1
    is_copy: bool = False
    is_sealed: bool = False
    created_at: float | None = None

    @property
    def is_sendable(self) -> bool:
        """Whether a request may come of it at all."""
        return self.deadline is not None


@dataclass(frozen=True, slots=True)
class Replay:
    """A dead letter that somebody replayed as *run*; *is_sure* where the command said that it did."""

    id: str
    run: int
    at: float
    deadline: float
    is_sure: bool = True


@dataclass(frozen=True, slots=True)
class Request:
    """An entry of the simulator's log, the fields that matter here under its own names."""

    seq: int
    at: float
    outcome: str
    taken: bool
    callback: str | None
    to: str | None
    code: str | None
    phone_number_id: str = ""
    recipient: str | None = None
    wamid: str | None = None
    error_code: int | None = None
    refused_by: str | None = None
    invalid: str | None = None
    prepended: bool = False
    code_in_callback: bool = False
    answered_at: float | None = None


@dataclass(frozen=True, slots=True)
class Reported:
    """A status of a message that the simulator reported, the fields that matter here under its own names.

    *timestamp*: when it happened, as the webhook says it, in whole seconds. *posts*: in how many POSTs it was, tries
    again counted; *answered*: how many of them had a 200, the first at *first_answered_at*. *planned*: how many should.
    """

    seq: int
    message_id: str
    callback: str
    status: str
    timestamp: int
    code: int | None = None
    planned: int = 1
    posts: int = 1
    answered: int = 1
    first_answered_at: float | None = None


@dataclass(frozen=True, slots=True)
class Result:
    """A message of the results stream; *body* and *properties* as text, for what must not be in there."""

    offset: int
    kind: str
    body: str
    properties: str

    @property
    def event(self) -> dict[str, Any]:
        """The JSON object inside."""
        decoded = orjson.loads(self.body)
        assert isinstance(decoded, dict)
        return decoded


@dataclass(frozen=True, slots=True)
class Letter:
    """A dead letter: *id* and *run* as far as they can be read; the rest as text."""

    id: str | None
    run: int
    reason: str
    died_at: str
    body: str
    headers: str


@dataclass(frozen=True, slots=True)
class Passing:
    """A worker came by *point*, such as ``after claim``, for an attempt of a job; *clock* is what its clock said.

    *result*: of what type the call's answer was, or which one of True and False. *amends*: what a report changes.
    """

    at: float
    clock: float
    worker: str
    pid: int
    point: str
    dies: bool = False
    job: str | None = None
    run: int | None = None
    attempt: int | None = None
    callback: str | None = None
    event: str | None = None
    result: str | None = None
    amends: str | None = None


@dataclass(frozen=True, slots=True)
class Life:
    """One process of a worker or a receiver, whose log has the name *log*.

    *status* as the system told it; *told* is what had been done to it: term, kill, probe, or nothing.
    """

    worker: str
    pid: int
    began_at: float
    ended_at: float
    status: int
    told: str = ""
    log: str = ""


@dataclass(frozen=True, slots=True)
class Unanswered:
    """A request that went through, and whose connection ended before any answer did."""

    at: float
    callback: str


@dataclass(frozen=True, slots=True)
class ClockMove:
    """From *at* on a worker's clock was off by *offset_s*; every worker's where none is named."""

    at: float
    offset_s: float
    worker: str | None = None


@dataclass(frozen=True, slots=True)
class Struck:
    """A fault that was at work from *at* to *until*."""

    at: float
    until: float
    kind: str
    detail: str = ""


@dataclass(frozen=True, slots=True)
class Starved:
    """From *at* to *until* the process *who* wanted to run, and was not let for half of the time or more."""

    at: float
    until: float
    who: str


@dataclass(frozen=True, slots=True)
class Exposed:
    """A code that was sealed, in clear in a file of the broker or of the ledger."""

    job: str
    place: str


@dataclass(frozen=True, slots=True)
class Terms:
    """What the run was played under. *own_ledger_clock*: leases and limits go by a clock that nobody moved.

    *check_s*: how long after an acceptance it is looked whether a delivery was reported, if ever; *check_of_held_s*
    where the provider holds the message back.
    """

    seed: int
    ledger: str
    timeout_s: float
    grace_s: float = 10.0
    rate: float = 80.0
    pair_interval_s: float = 6.0
    pair_burst: int = 45
    own_ledger_clock: bool = False
    check_s: float | None = None
    check_of_held_s: float | None = None


@dataclass(frozen=True, slots=True)
class Evidence:
    """Everything that a run is judged by; the texts of logs and the like lie in files beside it.

    *left*: messages that stand in queues where nothing should be left. *unready*: workers and receivers that do not
    call themselves ready when all is over, with what they say instead. *answers*: how webhooks were answered, by HTTP
    status. *secrets*: what nobody may read, by its name.
    """

    terms: Terms
    jobs: tuple[Job, ...] = ()
    replays: tuple[Replay, ...] = ()
    requests: tuple[Request, ...] = ()
    reports: tuple[Reported, ...] = ()
    results: tuple[Result, ...] = ()
    letters: tuple[Letter, ...] = ()
    passings: tuple[Passing, ...] = ()
    lives: tuple[Life, ...] = ()
    unanswered: tuple[Unanswered, ...] = ()
    clock_moves: tuple[ClockMove, ...] = ()
    struck: tuple[Struck, ...] = ()
    exposed: tuple[Exposed, ...] = ()
    starved: tuple[Starved, ...] = ()
    left: Mapping[str, int] = field(default_factory=dict)
    unready: Mapping[str, str] = field(default_factory=dict)
    answers: Mapping[str, int] = field(default_factory=dict)
    secrets: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Violation:
    """A promise that was not kept; *subject* names the job, the process or the place."""

    promise: str
    subject: str
    what: str


def attempt_of(callback: str) -> tuple[str, int, int]:
    """Read job, run and attempt off what travels as our own word for a message, or off the id of an event."""
    job, *rest = callback.split("/")
    run, attempt = (*rest[:2], "1", "1")[:2]
    return job, int(run), int(attempt)


def instant(text: str) -> float:
    """Read an RFC 3339 time, such as an event's *at*, as Unix seconds."""
    return datetime.fromisoformat(text).timestamp()


def only_known(kind: type[T], raw: Mapping[str, Any]) -> T:
    """Make a value of *kind* from what of *raw* it has fields for."""
    known = {one.name for one in fields(kind)}  # type: ignore[arg-type] # dataclasses all
    return kind(**{name: value for name, value in raw.items() if name in known})


def save(evidence: Evidence, file: Path) -> None:
    """Write it down, so that it can be judged again."""
    file.write_bytes(orjson.dumps(evidence, option=orjson.OPT_INDENT_2))


def load(file: Path) -> Evidence:
    """Read what ``save`` wrote."""
    raw = orjson.loads(file.read_bytes())

    def many(kind: type[T], name: str) -> tuple[T, ...]:
        return tuple(only_known(kind, _tuples(one)) for one in raw.get(name, []))

    return Evidence(
        only_known(Terms, raw["terms"]),
        jobs=many(Job, "jobs"),
        replays=many(Replay, "replays"),
        requests=many(Request, "requests"),
        reports=many(Reported, "reports"),
        results=many(Result, "results"),
        letters=many(Letter, "letters"),
        passings=many(Passing, "passings"),
        lives=many(Life, "lives"),
        unanswered=many(Unanswered, "unanswered"),
        clock_moves=many(ClockMove, "clock_moves"),
        struck=many(Struck, "struck"),
        exposed=many(Exposed, "exposed"),
        starved=many(Starved, "starved"),
        left=raw.get("left", {}),
        unready=raw.get("unready", {}),
        answers=raw.get("answers", {}),
        secrets=raw.get("secrets", {}),
    )


def _tuples(raw: Mapping[str, Any]) -> dict[str, Any]:
    return {name: tuple(value) if isinstance(value, list) else value for name, value in raw.items()}


def offsets(moves: Iterable[ClockMove], worker: str | None, since: float, until: float) -> list[float]:
    """List by how much a worker's clock was off at some moment from *since* to *until*; any worker's for None."""
    ours = sorted((move for move in moves if worker in (None, move.worker) or move.worker is None), key=_at)
    found, current = [], 0.0
    for move in ours:
        if move.at > until:
            break
        if move.at > since:
            found.append(current)
        current = move.offset_s
    return [*found, current]


def _at(move: ClockMove) -> float:
    return move.at


def was_struck(evidence: Evidence, what: str, worker: str, since: float, until: float) -> bool:
    """Tell whether *what* itself, or this worker's line to it, was struck at some moment from *since* to *until*."""
    return any(
        one.kind.startswith(what) and one.at <= until and one.until >= since and _concerns(one, worker)
        for one in evidence.struck
    )


def _concerns(struck: Struck, worker: str) -> bool:
    """Tell whether a fault struck this worker; one that names nobody struck all."""
    whose = struck.detail.removeprefix("(").partition(",")[0]
    return whose in ("", "everybody", worker)
