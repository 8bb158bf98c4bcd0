"""Nothing lost: every confirmed job ends exactly once a run, and its dead letter is there if it failed."""

from __future__ import annotations

from collections import Counter, defaultdict
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from chaos.checker.evidence import ENDS, Violation, attempt_of, was_struck
from chaos.checker.messages import FAILED, fates

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from chaos.checker.evidence import Evidence, Job, Letter, Passing

Run = tuple[str, int]

LOST: Final = "nothing lost"
DOUBLED: Final = "ended twice, as who told the first end could not record it and died"
REWORDED: Final = "told twice in different words, as who told it first could not record it"
STANDS: Final = "replayed without an end, as the run before stands"
_RECORDING: Final = ("after record", "after conclude", "after lapse", "after refuse")
# What a failure by webhook is called, of those that a run has in store (docs/failures.md, the README's table).
_KINDS: Final = {
    131026: ("recipient",),
    131049: ("user_limit", "exhausted"),
    131000: ("unavailable", "exhausted"),
    131016: ("unavailable", "exhausted"),
}
# How long after the end of a fault a worker may still take the ledger to be away.
_OUTAGE_S: Final = 5.0


def check(evidence: Evidence) -> Iterator[Violation]:
    """Hold results and dead letters against the jobs that were confirmed."""
    jobs = {job.id: job for job in evidence.jobs if job.id is not None and not job.is_copy}
    ends = ends_by_run(evidence)
    yield from _exactly_once(evidence, jobs, ends)
    yield from _same_copies(evidence)
    yield from _letters(evidence, ends)
    yield from _nameless(evidence)
    for queue, count in evidence.left.items():
        yield Violation(LOST, queue, f"{count} messages are left in it")


def ends_by_run(evidence: Evidence) -> dict[Run, dict[str, dict[str, Any]]]:
    """Collect the end events of each run by their ids; copies of one event count once."""
    ends: dict[Run, dict[str, dict[str, Any]]] = defaultdict(dict)
    for result in evidence.results:
        if result.kind != "otpost.result.v1":
            continue
        event = result.event
        if event["status"] in ENDS and event["job_id"] is not None:
            ends[event["job_id"], event["run"]].setdefault(event["event_id"], event)
    return ends


def end_of(event: Mapping[str, Any]) -> str:
    """Say an end in a word or two: the status, and of a failure its kind."""
    return f"failed {event['error']['kind']}" if event["status"] == "failed" else str(event["status"])


def _exactly_once(
    evidence: Evidence, jobs: Mapping[str, Job], ends: Mapping[Run, Mapping[str, Any]]
) -> Iterator[Violation]:
    told = fates(evidence)
    due = {(job.id, 1) for job in jobs.values() if job.confirmed and job.id is not None}
    due |= {(replay.id, replay.run) for replay in evidence.replays if replay.is_sure}
    possible = due | {(job.id, 1) for job in jobs.values() if job.id is not None}
    possible |= {(replay.id, replay.run) for replay in evidence.replays}
    for job_id, run in sorted(due):
        if not ends.get((job_id, run)) and not _stands(evidence, job_id, run, ends):
            yield Violation(LOST, job_id, f"run {run} was confirmed and has not ended")
    unrecorded, taken_back = _told_without_record(evidence), _taken_back(evidence)
    for (job_id, run), events in sorted(ends.items()):
        standing = events.keys() - taken_back
        if len(standing) > 1 and len(standing - unrecorded) != 1:
            yield Violation(LOST, job_id, f"run {run} has ended {len(standing)} times: {', '.join(sorted(standing))}")
        if not standing and not told.delivered(job_id, run):
            yield Violation(LOST, job_id, f"run {run} was taken back and has not ended again")
        if (job_id, run) not in possible:
            yield Violation(LOST, job_id, f"run {run} has ended, but nobody asked for it")


def _taken_back(evidence: Evidence) -> set[str]:
    """Find the acceptances that the provider took back: it said that they failed, and we that it is tried again."""
    told = fates(evidence)
    retried = {
        (event["job_id"], event["run"], event["attempt"])
        for event in (result.event for result in evidence.results if result.kind == "otpost.result.v1")
        if event["status"] == "retrying"
    }
    return {f"{job}/{run}/{attempt}/accepted" for job, run, attempt in retried if told.failed((job, run, attempt))}


def _stands(evidence: Evidence, job_id: str, run: int, ends: Mapping[Run, Mapping[str, Mapping[str, Any]]]) -> bool:
    """Tell whether a replay got the end of a run before it again, which stands, and nothing was sent for it.

    A run stands that was accepted; it may have left a dead letter all the same, where it has ended twice. And one that
    was delivered, however it had ended before that was reported: until then a replay of it is one like any other.
    """
    told, fate = Counter(result.event.get("event_id") for result in evidence.results), fates(evidence)
    requests = [one for one in evidence.requests if attempt_of(one.callback or "")[:2] == (job_id, run)]
    for before in range(1, run):
        was_delivered = bool(fate.delivered(job_id, before))
        is_sent = any(one.taken or not was_delivered for one in requests)
        for event in ends.get((job_id, before), {}).values():
            stands = event["status"] == "accepted" or was_delivered
            if stands and told[event["event_id"]] > 1 and not is_sent:
                return True
    return False


def standing_ends(evidence: Evidence) -> Iterator[Mapping[str, Any]]:
    """Go through the ends that stand: of runs with one, which was neither taken back nor told without a record."""
    unrecorded, taken_back = _told_without_record(evidence), _taken_back(evidence)
    for events in ends_by_run(evidence).values():
        standing = events.keys() - taken_back
        if len(standing) == 1 and not standing & unrecorded:
            yield from (events[name] for name in standing)


def excused(evidence: Evidence) -> list[str]:
    """Name the excuse of each run that has ended twice, or not by itself, by nobody's fault."""
    unrecorded = _told_without_record(evidence)
    ends = ends_by_run(evidence)
    taken_back = _taken_back(evidence)
    standing = [events.keys() - taken_back for events in ends.values()]
    doubled = [DOUBLED for events in standing if len(events) > 1 and len(events - unrecorded) == 1]
    unended = [one for one in evidence.replays if one.is_sure and not ends.get((one.id, one.run))]
    stands = [STANDS for one in unended if _stands(evidence, one.id, one.run, ends)]
    early = _told_before_record(evidence)
    return doubled + stands + [REWORDED for name, told in _bodies(evidence).items() if len(told) == 2 and name in early]


def _told_without_record(evidence: Evidence) -> set[str]:
    """Find the ends that two faults at once may double: told while the ledger was away, by a worker that then died.

    Who waits for an end does not wait for the ledger, so it is told first and recorded as soon as the ledger
    answers. Where it never does, as the worker dies before, nobody can know of that end but those who heard it.
    """
    killed = {life.pid for life in evidence.lives if life.told in ("kill", "probe")}
    return {one.event for one in _told_early(evidence) if one.pid in killed and not one.recorded_later}


def _told_before_record(evidence: Evidence) -> set[str]:
    """Find the ends that were told while the ledger was away, whatever became of their record.

    Meanwhile a report may say that the provider took the message: then the same end is written down, and told, with
    the time of whoever heard that.
    """
    return {one.event for one in _told_early(evidence)}


@dataclass(slots=True)
class _Early:
    """An end that a process told before it could record it."""

    pid: int
    event: str
    recorded_later: bool = False


def _told_early(evidence: Evidence) -> list[_Early]:
    unrecorded: dict[tuple[int, str, int], _Early] = {}
    recorded: set[tuple[int, str, int]] = set()
    early: list[_Early] = []
    for passing in sorted(evidence.passings, key=lambda passing: passing.at):
        if passing.job is None or passing.run is None:
            continue
        key = (passing.pid, passing.job, passing.run)
        if passing.point == "after claim" and passing.result == "Claimed":
            recorded.discard(key)
        elif passing.point in _RECORDING or (passing.point == "after claim" and passing.result == "Recorded"):
            recorded.add(key)
            if key in unrecorded:
                unrecorded.pop(key).recorded_later = True
        elif passing.point == "before event" and key not in recorded and _had_no_ledger(evidence, passing):
            unrecorded[key] = _Early(passing.pid, str(passing.event))
            early.append(unrecorded[key])
    return early


def _had_no_ledger(evidence: Evidence, passing: Passing) -> bool:
    """Tell whether the ledger was, or had just been, out of this worker's reach."""
    return was_struck(evidence, "ledger", passing.worker, passing.at - _OUTAGE_S, passing.at)


def _same_copies(evidence: Evidence) -> Iterator[Violation]:
    early = _told_before_record(evidence)
    for name, told in _bodies(evidence).items():
        if len(told) > (2 if name in early else 1):
            job = next(iter(told.values()))
            yield Violation(LOST, str(job), f"two different events have the id {name}")


def _bodies(evidence: Evidence) -> dict[str, dict[str, Any]]:
    """Collect the different bodies of each event, with their job."""
    bodies: dict[str, dict[str, Any]] = defaultdict(dict)
    for result in evidence.results:
        if result.kind == "otpost.result.v1":
            bodies[result.event["event_id"]][result.body] = result.event["job_id"]
    return bodies


def _letters(evidence: Evidence, ends: Mapping[Run, Mapping[str, Mapping[str, Any]]]) -> Iterator[Violation]:
    copied = {job.id for job in evidence.jobs if job.is_copy}
    letters: dict[Run, list[Letter]] = defaultdict(list)
    for letter in evidence.letters:
        if letter.id is not None:
            letters[letter.id, letter.run].append(letter)
    unrecorded = _told_without_record(evidence)
    for (job_id, run), events in sorted(ends.items()):
        # Whoever told an end without a record may have died before it left the dead letter; then there is another end.
        kept = [event for event_id, event in events.items() if event_id not in unrecorded or len(events) == 1]
        reasons = {event["error"]["kind"] for event in kept if event["status"] == "failed"}
        found = {letter.reason for letter in letters.get((job_id, run), [])}
        if missing := reasons - found:
            yield Violation(LOST, job_id, f"run {run} failed ({', '.join(missing)}) and left no such dead letter")
    given_up = _reasons_to_give_up(evidence)
    for (job_id, run), written in sorted(letters.items()):
        run_ends = {end_of(event) for event in ends.get((job_id, run), {}).values()}
        for letter in written:
            is_copy = job_id in copied and letter.reason == "invalid_job"
            is_given_up = letter.reason in given_up.get((job_id, run), ())
            if f"failed {letter.reason}" not in run_ends and not is_copy and not is_given_up:
                ended = ", ".join(run_ends) or "not ended"
                yield Violation(
                    LOST, job_id, f"there is a dead letter ({letter.reason}) of run {run}, which is {ended}"
                )


def _reasons_to_give_up(evidence: Evidence) -> dict[Run, set[str]]:
    """Find the runs that were accepted, failed afterwards, and were given up for that: and for what, maybe."""
    told = fates(evidence)
    reasons: dict[Run, set[str]] = defaultdict(set)
    for result in evidence.results:
        if result.kind == "otpost.result.v1" and result.event["status"] == "undelivered":
            event = result.event
            codes = {
                one.code for one in told.of((event["job_id"], event["run"], event["attempt"])) if one.status == FAILED
            }
            reasons[event["job_id"], event["run"]] |= {kind for code in codes for kind in _KINDS.get(code or 0, ())}
            if event["attempt"] > 1 and event["error"]["kind"] == "unknown":
                # For want of time; and an attempt before it may have arrived.
                reasons[event["job_id"], event["run"]].add("unknown")
    # It may have died before it told that, and a delivery was reported before the next one could.
    for passing in evidence.passings:
        is_given_up = passing.point == "after amend" and "given up" in (passing.amends or "").split(", ")
        run = (str(passing.job), passing.run or 0)
        if is_given_up and told.delivered(*run):
            codes = {one.code for one in told.of((*run, passing.attempt or 0)) if one.status == FAILED}
            reasons[run] |= {kind for code in codes for kind in _KINDS.get(code or 0, ())}
    return reasons


def _nameless(evidence: Evidence) -> Iterator[Violation]:
    """Of bodies without an id nothing but the number can be told: each has an end and a dead letter, at least."""
    confirmed = sum(job.confirmed for job in evidence.jobs if job.id is None)
    ended = {
        result.event["event_id"]
        for result in evidence.results
        if result.kind == "otpost.result.v1" and result.event["job_id"] is None
    }
    buried = sum(letter.id is None for letter in evidence.letters)
    if len(ended) < confirmed:
        yield Violation(LOST, "jobs without an id", f"{confirmed} were confirmed and {len(ended)} have ended")
    if buried < confirmed:
        yield Violation(LOST, "jobs without an id", f"{confirmed} were confirmed and {buried} are dead letters")
