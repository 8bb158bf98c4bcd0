"""How the workers behaved: none died by itself, none left work behind in a clean end, none told of a bug."""

from __future__ import annotations

import re
import signal
from typing import TYPE_CHECKING, Final

import orjson

from chaos.checker.evidence import Violation, was_struck
from chaos.checker.requests import interrupted_attempts

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from chaos.checker.evidence import Evidence, Life

CONDUCT: Final = "shutdown is not failure"
CALM: Final = "it recovers by itself"
SOUND: Final = "no bug shows"
_BEGUN: Final = (b'"event":"consuming"', b'"event":"webhook.listening"')
# What a receiver may say to the provider's own POSTs; and 400 to one that a fault cut in two.
_ANSWERS: Final = {"200", "503", "none"}
_CUT_IN_TWO: Final = "webhooks: connections half-closed"
_SHOWN: Final = 300
_KILLED: Final = -signal.SIGKILL
_FAILED: Final = 1
# A ledger that has just come back, on a machine on which all else comes back too, may take so long to answer in time.
_TRACES_S: Final = 5.0
_NO_LEDGER: Final = re.compile(rb'"event":"ended","error":"the ledger [^"]* cannot be used')


def check(evidence: Evidence, logs: Mapping[str, bytes]) -> Iterator[Violation]:
    """Judge each process by its end, and each log by what should never be in one."""
    workers = {passing.pid for passing in evidence.passings}
    for life in evidence.lives:
        expected = _expected_end(evidence, life, logs.get(life.log, b""), has_worked=life.pid in workers)
        if life.status not in expected:
            what = f"ended with {life.status} after {life.ended_at - life.began_at:.1f} s"
            yield Violation(CONDUCT, life.worker, f"process {life.pid} {what}, told {life.told or 'nothing'}")
    clean = {life.pid for life in evidence.lives if life.status == 0}
    for attempt, pid in sorted(interrupted_attempts(evidence).items()):
        if pid in clean:
            yield Violation(
                CONDUCT, attempt[0], f"run {attempt[1]}, attempt {attempt[2]}: claimed, then left by a clean end"
            )
    for worker, told in evidence.unready.items():
        yield Violation(CALM, worker, f"is not ready again when all is over, and says: {told or 'nothing'}")
    yield from _webhooks(evidence)
    cut_off = {life.log for life in evidence.lives if life.status < 0}
    for name, text in logs.items():
        yield from _log(name, text, may_be_cut_off=name in cut_off)


def _expected_end(evidence: Evidence, life: Life, log: bytes, *, has_worked: bool) -> set[int]:
    if life.told in ("kill", "probe"):
        return {_KILLED}
    if life.told == "term":
        # A process that has not begun yet may be ended by the signal itself; and where there is neither broker nor
        # ledger to leave its jobs to, its period of grace can end first.
        hindered = _was_struck(evidence, life, ("broker", "ledger"), since=life.ended_at - evidence.terms.grace_s)
        has_begun = has_worked or any(begun in log for begun in _BEGUN)
        return {0} | ({_FAILED} if hindered else set()) | (set() if has_begun else {-signal.SIGTERM})
    # One that finds no ledger when it starts says so and ends, to be started again.
    had_no_ledger = _NO_LEDGER.search(log) and _was_struck(evidence, life, ("ledger",), since=life.began_at - _TRACES_S)
    return {_FAILED} if not has_worked and had_no_ledger else set()


def _webhooks(evidence: Evidence) -> Iterator[Violation]:
    """Judge how webhooks were answered: none refused, and each taken in the end."""
    is_cut = any(one.kind.startswith(_CUT_IN_TWO) for one in evidence.struck)
    for answer in sorted(evidence.answers.keys() - _ANSWERS - ({"400"} if is_cut else set())):
        yield Violation(CONDUCT, "webhooks", f"{evidence.answers[answer]} were answered with {answer}")
    waiting = sum(not one.answered for one in evidence.reports)
    if waiting:
        yield Violation(CALM, "webhooks", f"{waiting} reports were never answered with 200")


def _was_struck(evidence: Evidence, life: Life, what: Iterable[str], *, since: float) -> bool:
    return any(was_struck(evidence, one, life.worker, since, life.ended_at) for one in what)


def _log(name: str, text: bytes, *, may_be_cut_off: bool) -> Iterator[Violation]:
    """Judge each line; a process that a signal has ended may have left half of one."""
    *lines, last = text.split(b"\n")
    for line in [*lines, *([last] if last and not may_be_cut_off else [])]:
        try:
            entry = orjson.loads(line)
        except orjson.JSONDecodeError:
            yield Violation(SOUND, name, f"not a log line: {line[:_SHOWN].decode(errors='replace')}")
            return
        if entry.get("event") == "job.crashed" or "exception" in entry:
            yield Violation(SOUND, name, f"a bug: {line[: 3 * _SHOWN].decode(errors='replace')}")
