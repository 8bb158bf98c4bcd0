"""The time line of one job, from all witnesses: what to read when a violation has to be understood."""

from __future__ import annotations

import signal
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any, Final

import orjson

from chaos.checker.evidence import attempt_of

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from chaos.checker.evidence import Evidence

_UNTOLD: Final = frozenset({"ts", "level", "logger", "event", "job_id", "run", "attempt", "sender"})


@dataclass(frozen=True, slots=True, order=True)
class Moment:
    """Something that happened at *at*, as *witness* saw it."""

    at: float
    witness: str
    what: str


def timeline(evidence: Evidence, job_id: str, logs: Mapping[str, bytes]) -> list[str]:
    """Tell the job's story, one line a moment; times in seconds since the first job of the run was published."""
    began_at = min((job.published_at for job in evidence.jobs), default=0.0)
    moments = sorted(_moments(evidence, job_id, logs))
    if moments:
        first, last = moments[0].at, moments[-1].at
        around = [
            Moment(one.at, "fault", f"{one.kind} {one.detail}, until {one.until - began_at:.3f}")
            for one in evidence.struck
            if one.until >= first and one.at <= last
        ]
        moments = sorted([*moments, *around])
    return [f"{moment.at - began_at:9.3f}  {moment.witness:<10} {moment.what}" for moment in moments]


def _moments(evidence: Evidence, job_id: str, logs: Mapping[str, bytes]) -> Iterator[Moment]:
    yield from _asked(evidence, job_id)
    yield from _sent(evidence, job_id)
    yield from _reported(evidence, job_id)
    yield from _passings(evidence, job_id)
    yield from _told(evidence, job_id)
    for name, text in logs.items():
        yield from _logged(name, text, job_id)


def _asked(evidence: Evidence, job_id: str) -> Iterator[Moment]:
    for job in evidence.jobs:
        if job.id == job_id:
            what = f"published ({job.kind}) for {job.sender}, confirmed {job.confirmed} times"
            yield Moment(job.published_at, "producer", what)
            if job.deadline is not None:
                yield Moment(job.deadline, "clock", "its deadline")
    for replay in evidence.replays:
        if replay.id == job_id:
            yield Moment(replay.at, "operator", f"replayed as run {replay.run}")


def _sent(evidence: Evidence, job_id: str) -> Iterator[Moment]:
    for request in evidence.requests:
        if attempt_of(request.callback or "")[0] == job_id:
            answer = f"{request.outcome}, {'taken' if request.taken else 'not taken'}"
            refused = f", refused by its limit: {request.refused_by}" if request.refused_by else ""
            yield Moment(request.at, "simulator", f"{request.callback}: {answer}{refused}")
    for lost in evidence.unanswered:
        if attempt_of(lost.callback)[0] == job_id:
            yield Moment(lost.at, "proxy", f"{lost.callback}: the connection ended without an answer")


def _reported(evidence: Evidence, job_id: str) -> Iterator[Moment]:
    for one in evidence.reports:
        if attempt_of(one.callback)[0] == job_id:
            at = one.first_answered_at or float(one.timestamp)
            code = "" if one.code is None else f" ({one.code})"
            what = f"of {one.timestamp}, in {one.posts} POSTs, {one.answered} of which were answered with 200"
            yield Moment(at, "webhook", f"{one.callback}: {one.status}{code} {what}")


def _passings(evidence: Evidence, job_id: str) -> Iterator[Moment]:
    workers: dict[int, float] = {}
    for passing in evidence.passings:
        of = passing.job or attempt_of(passing.callback or passing.event or "")[0]
        if of != job_id:
            continue
        workers[passing.pid] = max(workers.get(passing.pid, 0.0), passing.at)
        attempt = f" {passing.run}/{passing.attempt}" if passing.run is not None else ""
        amends = f" ({passing.amends})" if passing.amends else ""
        result = f" = {passing.result}" if passing.result else ""
        dies = " and dies" if passing.dies else ""
        off = f", its clock off by {passing.clock - passing.at:.1f} s" if abs(passing.clock - passing.at) > 1 else ""
        what = f"{passing.point}{attempt}{amends}{result}{dies} ({passing.pid}{off})"
        yield Moment(passing.at, passing.worker, what)
    for life in evidence.lives:
        if life.pid in workers:
            yield Moment(life.ended_at, life.worker, f"ended with {_status(life.status)} ({life.pid}, {life.told})")


def _status(status: int) -> str:
    return signal.Signals(-status).name if status < 0 else str(status)


def _told(evidence: Evidence, job_id: str) -> Iterator[Moment]:
    for result in evidence.results:
        event = result.event
        if event.get("job_id") == job_id:
            error = event.get("error") or {}
            why = f" ({error.get('kind')}, code {error.get('code')})" if error else ""
            yield Moment(_time(event["at"]), "results", f"{event['event_id']}{why}, offset {result.offset}")
    for letter in evidence.letters:
        if letter.id == job_id:
            yield Moment(_time(letter.died_at), "dead", f"run {letter.run}: {letter.reason}")


def _logged(name: str, text: bytes, job_id: str) -> Iterator[Moment]:
    wanted = job_id.encode()
    for line in text.split(b"\n"):
        if wanted not in line:
            continue
        try:
            entry: dict[str, Any] = orjson.loads(line)
        except orjson.JSONDecodeError:
            continue
        rest = " ".join(f"{key}={value}" for key, value in entry.items() if key not in _UNTOLD and value is not None)
        yield Moment(_time(str(entry.get("ts"))), "log", f"{name}: {entry.get('event')} {rest}")


def _time(text: str) -> float:
    try:
        return datetime.fromisoformat(text).timestamp()
    except ValueError:
        return 0.0
