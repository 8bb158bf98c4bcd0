"""An end that was not planned for its job needs a cause, in the faults that struck and in what the witnesses saw."""

from __future__ import annotations

from collections import Counter, defaultdict
from typing import TYPE_CHECKING, Any, Final

from chaos.checker.doubts import LEASE_S, doubts, never_arrived
from chaos.checker.ends import LOST, Run, end_of, ends_by_run
from chaos.checker.evidence import Violation, instant, offsets
from chaos.checker.hindrances import AFTER_S, CLEAR_S, Span, of_jobs, starved, uncovered
from chaos.checker.messages import FAILED, fates
from chaos.checker.requests import by_run, deadline_of

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from chaos.checker.evidence import Evidence, Job, Request

# Before the second and last request for what may have arrived.
_UNKNOWN_PAUSE_S: Final = 5.0
# No job waits longer than so for its next try, or for its sender or its recipient.
_LONGEST_WAIT_S: Final = 31.0
_TOLERANCE_S: Final = 1.0
# What has to be accepted of the jobs that should be, whatever strikes: of all, and of those with plenty of time.
LEAST: Final = 0.5
LEAST_OF_PATIENT: Final = 0.75
_PATIENT_S: Final = 60.0
_STARVED_SHARE: Final = 0.5
STARVED: Final = "ended as expired, as the machine had no time"
# Of fewer jobs no share can be told.
_ENOUGH: Final = 20


def check(evidence: Evidence) -> Iterator[Violation]:
    """Hold each end against those that its kind of job may have, and the others against what explains them."""
    causes = _Causes(evidence)
    for job, run, event in _asked_for(evidence):
        if why := causes.missing(job, run, event):
            yield Violation(LOST, str(job.id), f"run {run} ended as {end_of(event)}, {why}")
    yield from _enough_accepted(evidence, causes)


def excused(evidence: Evidence) -> list[str]:
    """Name each end that was not planned for its job, and that something explains."""
    causes = _Causes(evidence)
    return [
        STARVED if causes.is_only_starved(job, run, event) else f"ended as {end_of(event)}, which was not planned"
        for job, run, event in _asked_for(evidence)
        if not causes.is_planned(job, run, event) and not causes.missing(job, run, event)
    ]


def _asked_for(evidence: Evidence) -> Iterator[tuple[Job, int, Mapping[str, Any]]]:
    """List the ends of the runs that somebody asked for."""
    jobs = _jobs(evidence)
    replayed = {(replay.id, replay.run) for replay in evidence.replays}
    for (job_id, run), events in sorted(ends_by_run(evidence).items()):
        if (job := jobs.get(job_id)) and (run == 1 or (job_id, run) in replayed):
            yield from ((job, run, event) for event in events.values())


def _jobs(evidence: Evidence) -> dict[str, Job]:
    return {job.id: job for job in evidence.jobs if job.id is not None and not job.is_copy}


def _enough_accepted(evidence: Evidence, causes: _Causes) -> Iterator[Violation]:
    """No fault lasts so long that most jobs that should arrive do not; those that starved do not count."""
    ends = ends_by_run(evidence)
    starved = {job.id for job, run, event in _asked_for(evidence) if run == 1 and causes.has_starved(job, run, event)}
    plain = [
        job
        for job in _jobs(evidence).values()
        if job.wanted == ("accepted",) and job.is_sendable and job.confirmed and job.id not in starved
    ]
    patient = [job for job in plain if (job.deadline or 0.0) - job.published_at >= _PATIENT_S]
    for name, some, least in (("plain jobs", plain, LEAST), ("patient jobs", patient, LEAST_OF_PATIENT)):
        told = [ends.get((str(job.id), 1), {}).values() for job in some]
        accepted = sum(any(end_of(event) == "accepted" for event in events) for events in told)
        if len(some) >= _ENOUGH and accepted < least * len(some):
            yield Violation(LOST, name, f"{accepted} of {len(some)} were accepted, less than {least:.0%}")


class _Causes:
    """Knows what went wrong in a run, and for which job."""

    def __init__(self, evidence: Evidence) -> None:
        self._evidence = evidence
        self._terms = evidence.terms
        self._doubts = doubts(evidence)
        self._turned_away = {(job, run) for (job, run, _), _ in never_arrived(evidence)}
        self._requests = by_run(evidence)
        self._copied = {job.id for job in evidence.jobs if job.is_copy}
        self._crowds = Counter(job.to for job in evidence.jobs if job.is_sendable)
        self._visits: dict[Run, list[tuple[float, bool]]] = defaultdict(list)
        for passing in sorted(evidence.passings, key=lambda passing: passing.at):
            # A wait begins once the ladder has the job, which a broker that blocks publishers may hold up.
            put_off = passing.point == "after next home"
            if passing.job is not None and passing.run is not None and (passing.point.endswith("claim") or put_off):
                waits = put_off or (passing.point == "after claim" and passing.result == "Wait")
                self._visits[passing.job, passing.run].append((passing.at, waits))
        self._fates = fates(evidence)
        self._faults = of_jobs(evidence)
        self._starved = starved(evidence)

    @staticmethod
    def is_planned(job: Job, run: int, event: Mapping[str, Any]) -> bool:
        """Tell whether this is an end that such a job may have without any fault, or when it is replayed."""
        return end_of(event) in job.wanted or (run > 1 and end_of(event) == "accepted")

    def missing(self, job: Job, run: int, event: Mapping[str, Any]) -> str:
        """Tell what is wrong with an end; nothing where it was planned, or something explains it."""
        end = end_of(event)
        if end == "expired" and job.is_sendable and (early := self._too_early(job, run, event)):
            return early
        if self.is_planned(job, run, event):
            return ""
        if not job.is_sendable:
            return _unwanted(job)
        match end:
            case "failed unknown":
                return self._not_unknown(job, run, event)
            case "expired":
                return self._not_expired(job, run, event)
            case "failed invalid_job" if job.id in self._copied:
                # Of two bodies under one id the first to arrive wins, which may be the one that was published later.
                return "but it had been sent" if self._requests.get((str(job.id), run)) else ""
        return _unwanted(job)

    def _not_unknown(self, job: Job, run: int, event: Mapping[str, Any]) -> str:
        """One attempt in doubt is sent again, unless there is no time left for it, or that was refused."""
        in_doubt = self._doubts.get((str(job.id), run), {})
        if not in_doubt:
            return "but no attempt was lost, interrupted or left without an answer"
        left_s = deadline_of(self._evidence, job, run) - instant(event["at"])
        had_room = left_s > _UNKNOWN_PAUSE_S + self._terms.timeout_s + _TOLERANCE_S
        if len(in_doubt) == 1 and had_room and not self._refused(job, run) and not self._in_crowd(job):
            return f"after one attempt in doubt ({min(in_doubt)}) and with {left_s:.1f} s left to send it again"
        return ""

    def _too_early(self, job: Job, run: int, event: Mapping[str, Any]) -> str:
        """Before its last moment to start a job may only be given up where a retry, or its turn, would be too late."""
        left_s = deadline_of(self._evidence, job, run) - instant(event["at"])
        # Nobody was there to take its request: whoever knows so for certain tries again, or expires.
        may_wait = self._refused(job, run) or self._in_crowd(job) or (str(job.id), run) in self._turned_away
        is_early = left_s > self._terms.timeout_s + _TOLERANCE_S
        return f"{left_s:.1f} s before its deadline, and nothing had refused it" if is_early and not may_wait else ""

    def _not_expired(self, job: Job, run: int, event: Mapping[str, Any]) -> str:
        clear_s = self.clear_s(job, run, event)
        if clear_s <= CLEAR_S:
            return ""
        return f"although for {clear_s:.1f} s of its time nothing stood in its way"

    def clear_s(self, job: Job, run: int, event: Mapping[str, Any], *, is_starved: bool = True) -> float:
        """Tell how much of the time that a job had was free of everything that may have held it up.

        Not *is_starved*: as if the machine had had time for everybody.
        """
        published_at = max([one.at for one in self._evidence.replays if (one.id, one.run) == (job.id, run)] or [0.0])
        since = max(published_at or job.published_at, job.not_before or 0.0)
        deadline = deadline_of(self._evidence, job, run)
        until = min(deadline - self._terms.timeout_s, instant(event["at"]))
        until -= max(0.0, *offsets(self._evidence.clock_moves, None, since, deadline))
        hindrances = [*self._faults, *self._own(job, run)]
        return uncovered((since, until), [*hindrances, *(self._starved if is_starved else [])])

    def has_starved(self, job: Job, run: int, event: Mapping[str, Any]) -> bool:
        """Tell whether the machine had no time for half of the time or more that an expired job had."""
        window = (job.published_at, deadline_of(self._evidence, job, run) - self._terms.timeout_s)
        starved_s = window[1] - window[0] - uncovered(window, self._starved)
        return end_of(event) == "expired" and starved_s >= _STARVED_SHARE * max(0.0, window[1] - window[0])

    def is_only_starved(self, job: Job, run: int, event: Mapping[str, Any]) -> bool:
        """Tell whether nothing explains an expiry but that the machine was busy."""
        return end_of(event) == "expired" and self.clear_s(job, run, event, is_starved=False) > CLEAR_S

    def _own(self, job: Job, run: int) -> Iterator[Span]:
        """What held up this very job: doubt, a refusal, a wait, a claim of somebody who left it."""
        key = (str(job.id), run)
        lease_s = self._terms.timeout_s + LEASE_S
        for at in self._doubts.get(key, {}).values():
            yield at, at + lease_s + _UNKNOWN_PAUSE_S + AFTER_S
        visits = self._visits[key]
        refused = [*(one.at for one in self._refusals(job, run)), *self._failures(job, run)]
        for at in [*refused, *(at for at, waits in visits if waits)]:
            next_at = min((later for later, _ in visits if later > at), default=at + _LONGEST_WAIT_S)
            yield at, min(next_at, at + _LONGEST_WAIT_S)

    def _refusals(self, job: Job, run: int) -> list[Request]:
        return [one for one in self._requests.get((str(job.id), run), []) if not one.taken]

    def _failures(self, job: Job, run: int) -> list[float]:
        """When failures were reported of what had been taken: as a refusal, only later."""
        reports = self._fates.of_run((str(job.id), run))
        return [one.first_answered_at or float(one.timestamp) for one in reports if one.status == FAILED]

    def _refused(self, job: Job, run: int) -> bool:
        return bool(self._refusals(job, run) or self._failures(job, run))

    def _in_crowd(self, job: Job) -> bool:
        """Tell whether more jobs go to this recipient than it may get at once."""
        return self._crowds[job.to] > self._terms.pair_burst


def _unwanted(job: Job) -> str:
    return f"a job '{job.kind}' ends as {job.wanted}"
