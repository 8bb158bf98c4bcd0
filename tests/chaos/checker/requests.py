"""Nothing late and nothing twice: each request that the simulator saw, held against what it may know and say."""

from __future__ import annotations

from collections import Counter, defaultdict
from itertools import pairwise
from typing import TYPE_CHECKING, Final

from chaos.checker.ends import end_of, ends_by_run
from chaos.checker.evidence import Violation, attempt_of, offsets
from chaos.checker.messages import fates

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from chaos.checker.evidence import Evidence, Job, Passing, Request
    from chaos.checker.messages import Fates

LATE: Final = "nothing late"
TWICE: Final = "nothing twice"
TRUE: Final = "what is told is true"

# What the simulator did with a message that it took so that nobody can tell from its answer (docs/simulator.md).
UNTELLING: Final = frozenset(
    {
        "cut_after",
        "half_answer",
        "no_id",
        "huge_answer",
        "invalid_json",
        "hang_after",
        "empty_messages",
        "not_utf8",
    }
)
MAX_TAKEN: Final = 2
# From a worker's last look at its clock to the probe's: a busy machine takes its time.
DAWDLING_S: Final = 0.5
# A message's way to the simulator, beyond the time that the request itself may take.
_TRAVEL_S: Final = 1.0

RunKey = tuple[str, int]


def check(evidence: Evidence) -> Iterator[Violation]:
    """Hold the simulator's log against the jobs, the workers' clocks, and the ends that were told."""
    jobs = {job.id: job for job in evidence.jobs if job.id is not None and not job.is_copy}
    yield from _well_made(evidence, jobs)
    yield from _in_time(evidence, jobs)
    yield from _with_time_left(evidence, jobs)
    yield from _once(evidence)
    yield from _told(evidence)


def by_run(evidence: Evidence) -> dict[RunKey, list[Request]]:
    """Collect the requests of each run, in the order of their attempts."""
    runs: dict[RunKey, list[Request]] = defaultdict(list)
    for request in evidence.requests:
        if request.callback is not None:
            job, run, _ = attempt_of(request.callback)
            runs[job, run].append(request)
    for requests in runs.values():
        requests.sort(key=lambda request: (attempt_of(request.callback or "")[2], request.at))
    return runs


def _well_made(evidence: Evidence, jobs: Mapping[str, Job]) -> Iterator[Violation]:
    for request in evidence.requests:
        callback = request.callback or "?"
        job = jobs.get(attempt_of(callback)[0])
        if job is None or not job.is_sendable:
            yield Violation(TRUE, callback, "a request for something that was never to be sent")
            continue
        if request.to != f"+{job.to}" or request.code != job.code or request.prepended:
            yield Violation(TRUE, callback, "a request with another number or code than the job's")
        if request.invalid is not None:
            yield Violation(TRUE, callback, f"a request that breaks the provider's rules: {request.invalid}")


def deadline_of(evidence: Evidence, job: Job, run: int) -> float:
    """Tell the deadline of a run; a replay may have been given a new one."""
    replayed = [replay.deadline for replay in evidence.replays if (replay.id, replay.run) == (job.id, run)]
    return max([*replayed] or [job.deadline or 0.0])


def _in_time(evidence: Evidence, jobs: Mapping[str, Job]) -> Iterator[Violation]:
    """No request arrives after the deadline, by the clock of the worker that sent it."""
    senders = {passing.callback: passing.worker for passing in evidence.passings if passing.point == "before request"}
    for request in evidence.requests:
        job_id, run, _ = attempt_of(request.callback or "")
        job = jobs.get(job_id)
        if job is None or not job.is_sendable:
            continue
        worker = senders.get(request.callback)
        since = request.at - evidence.terms.timeout_s - _TRAVEL_S
        offs = offsets(evidence.clock_moves, worker, since, request.at)
        late_s = request.at + min(offs) - deadline_of(evidence, job, run)
        if late_s > 0:
            yield Violation(LATE, str(request.callback), f"arrived {late_s:.3f} s after its deadline")
        early_s = (job.not_before or 0.0) - (request.at + max(offs))
        if early_s > 0:
            yield Violation(LATE, str(request.callback), f"arrived {early_s:.3f} s before its not_before")


def _with_time_left(evidence: Evidence, jobs: Mapping[str, Job]) -> Iterator[Violation]:
    """No request starts with less than its own time-out left."""
    for passing in evidence.passings:
        if passing.point != "before request" or passing.callback is None:
            continue
        job_id, run, _ = attempt_of(passing.callback)
        job = jobs.get(job_id)
        if job is None or not job.is_sendable:
            continue
        offs = offsets(evidence.clock_moves, passing.worker, passing.at - DAWDLING_S, passing.at)
        left_s = deadline_of(evidence, job, run) - (passing.at + min(offs))
        if left_s < evidence.terms.timeout_s - DAWDLING_S:
            yield Violation(LATE, passing.callback, f"started with {left_s:.3f} s left")


def _once(evidence: Evidence) -> Iterator[Violation]:
    attempts = Counter(request.callback for request in evidence.requests)
    for callback, count in attempts.items():
        if count > 1:
            yield Violation(TWICE, str(callback), f"this very attempt was requested {count} times")
    lost = {attempt_of(request.callback or "") for request in evidence.requests if is_lost(evidence, request)}
    lost |= {attempt_of(one.callback) for one in evidence.unanswered} | set(interrupted_attempts(evidence))
    told = fates(evidence)
    for (job_id, run), requests in by_run(evidence).items():
        for earlier, later in pairwise(requests):
            attempt = attempt_of(earlier.callback or "")
            if earlier.taken and attempt not in lost and not told.failed(attempt):
                yield Violation(
                    TWICE,
                    job_id,
                    f"{later.callback} was sent although {earlier.callback} had been taken, "
                    f"its answer ({earlier.outcome}) was not lost, and its worker lived to record it",
                )
        taken = [str(request.callback) for request in requests if _is_taken(request, told)]
        if len(taken) > MAX_TAKEN:
            yield Violation(TWICE, job_id, f"run {run} reached the recipient {len(taken)} times: {', '.join(taken)}")


def _is_taken(request: Request, told: Fates) -> bool:
    """Tell whether the provider took a message, and did not say afterwards that it failed."""
    return request.taken and not told.failed(attempt_of(request.callback or ""))


def is_lost(evidence: Evidence, request: Request) -> bool:
    """Tell whether the simulator's answer told nothing, never came, or came when nobody could be waiting any more."""
    if request.outcome in UNTELLING or request.answered_at is None:
        return True
    enough_s = evidence.terms.timeout_s - DAWDLING_S
    begun_at = _begun_at(evidence, request)
    return request.answered_at - begun_at > enough_s or _has_starved(evidence, request, begun_at, enough_s)


def _has_starved(evidence: Evidence, request: Request, begun_at: float, enough_s: float) -> bool:
    """Tell whether all of a request's time went by, while the machine had none for who had to hear its answer."""
    ended = (one.at for one in evidence.passings if one.callback == request.callback and one.point == "after request")
    ended_at = next(ended, begun_at)
    return ended_at - begun_at > enough_s and any(
        one.at < ended_at and one.until > request.at for one in evidence.starved
    )


def _begun_at(evidence: Evidence, request: Request) -> float:
    begun = (one.at for one in evidence.passings if one.callback == request.callback and one.point == "before request")
    return next(begun, request.at)


def interrupted_attempts(evidence: Evidence) -> dict[tuple[str, int, int], int]:
    """Find the attempts whose worker ended between its claim and its record, each with that process's id."""
    open_claims: dict[int, dict[tuple[str, int, int], Passing]] = defaultdict(dict)
    for passing in sorted(evidence.passings, key=lambda passing: passing.at):
        key = _key_of(passing)
        if key is None:
            continue
        if passing.point == "after claim" and passing.result == "Claimed":
            open_claims[passing.pid][key] = passing
        elif passing.point in ("after record", "after release"):
            open_claims[passing.pid].pop(key, None)
    ended = {life.pid for life in evidence.lives}
    return {key: pid for pid, claims in open_claims.items() if pid in ended for key in claims}


def _key_of(passing: Passing) -> tuple[str, int, int] | None:
    if passing.job is None or passing.run is None or passing.attempt is None:
        return None
    return passing.job, passing.run, passing.attempt


def _told(evidence: Evidence) -> Iterator[Violation]:
    """An end must say what happened: accepted what was taken, and never expired what may have arrived."""
    runs, told = by_run(evidence), fates(evidence)
    for (job_id, run), events in ends_by_run(evidence).items():
        requests: Sequence[Request] = runs.get((job_id, run), [])
        taken = {request.wamid for request in requests if request.taken}
        for event in events.values():
            if event["status"] == "accepted" and event["provider_message_id"] not in taken:
                yield Violation(TRUE, job_id, f"run {run} is accepted under an id that the provider never gave")
            if event["status"] == "expired" and any(_is_taken(request, told) for request in requests):
                yield Violation(TRUE, job_id, f"run {run} is expired, but the provider took its message")
            if event["status"] == "failed" and not requests and event["error"]["code"] is not None:
                yield Violation(TRUE, job_id, f"run {run} ended as {end_of(event)} with a code nobody gave it")
