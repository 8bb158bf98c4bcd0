"""Expected beside seen, and otpost's four promises held against everything that was seen. Values in, values out."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from cases import Case, Figures, Names, Planned, expected

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from otpost import OtpResult

NOTHING = Figures(Counter(), 0, 0, Counter())


@dataclass(frozen=True, slots=True)
class Seen:
    """What three witnesses say who know nothing of each other.

    *requests* is the simulator's journal, *results* the results stream with repeated events left out, *letters* the
    dead letters as ``otpost dead list --json`` prints them.
    """

    requests: Sequence[Mapping[str, Any]]
    results: Sequence[OtpResult]
    letters: Sequence[Mapping[str, Any]]


@dataclass(frozen=True, slots=True)
class Row:
    """One line of the table."""

    label: str
    expected: Figures
    seen: Figures

    @property
    def ok(self) -> bool:
        """Whether everything is as expected."""
        return self.expected == self.seen


def compare(cases: Sequence[Case], seen: Mapping[str, Figures]) -> list[Row]:
    """Make one row for each case, and one for each that was seen though nobody expected it."""
    rows = [Row(case.label, expected(case), seen.get(case.key, NOTHING)) for case in cases]
    strangers = sorted(set(seen) - {case.key for case in cases})
    return rows + [Row(f"not ours: {key}", NOTHING, seen[key]) for key in strangers]


def count(seen: Seen, names: Names, *, run: int) -> dict[str, Figures]:
    """Count by case what was seen of one run of the jobs."""
    ends: dict[str, Counter[str]] = {}
    letters: dict[str, Counter[str]] = {}
    retries: Counter[str] = Counter()
    requests = Counter(names.case_of(job_id) for job_id, its_run in map(attempt_of, seen.requests) if its_run == run)
    for result in seen.results:
        key = names.case_of(result.job_id)
        if result.run == run and result.ends_job:
            ends.setdefault(key, Counter())[end_of(result)] += 1
        elif result.run == run:
            retries[key] += 1
    for letter in seen.letters:
        if letter["run"] == run:
            letters.setdefault(names.case_of(letter["job_id"]), Counter())[letter["reason"]] += 1
    keys = {*ends, *letters, *retries, *requests}
    return {
        key: Figures(ends.get(key, Counter()), retries[key], requests[key], letters.get(key, Counter())) for key in keys
    }


def attempt_of(request: Mapping[str, Any]) -> tuple[str, int]:
    """The job and the run that a request was made for: ``<id>``, or ``<id>/<run>/<attempt>`` from the second on."""
    job_id, _, rest = str(request["callback"]).partition("/")
    return job_id, int(rest.partition("/")[0] or 1)


def end_of(result: OtpResult) -> str:
    """The end of a job in a word or two."""
    return f"failed {result.error.kind}" if result.status == "failed" and result.error else str(result.status)


@dataclass(frozen=True, slots=True)
class Promise:
    """One of the four promises: *found* says what was counted, and *broken* what speaks against it."""

    name: str
    found: str
    broken: tuple[str, ...]

    @property
    def ok(self) -> bool:
        """Whether it was kept."""
        return not self.broken


def judge(planned: Sequence[Planned], seen: Seen, *, left: Mapping[str, int], logs: str) -> list[Promise]:
    """Hold the promises against what was seen; *left* is what still stands in queues, *logs* what workers wrote."""
    return [
        _nothing_lost(planned, seen, left),
        _nothing_late(planned, seen),
        _nothing_twice(planned, seen),
        _nothing_leaked(planned, seen, logs),
    ]


def add_up(seen: Seen, counters: Mapping[str, int]) -> Promise:
    """Hold the workers' own *counters* against what the witnesses saw: whoever watches promises has only them."""
    ends = Counter(str(result.status) for result in seen.results if result.ends_job)
    wanted = {f"otpost_results_total{{{status}}}": ends[status] for status in ("accepted", "failed", "expired")} | {
        "otpost_jobs_received_total": ends.total(),
        "otpost_send_attempts_total": len(seen.requests),
    }
    broken = [
        f"{name} is {counters[name]} where {number} were seen"
        for name, number in wanted.items()
        if counters[name] != number
    ]
    found = (
        f"{ends['accepted']} accepted + {ends['failed']} failed + {ends['expired']} expired = "
        f"{ends.total()} jobs; {len(seen.requests)} attempts = requests"
    )
    return Promise("metrics add up", found, tuple(broken))


def _nothing_lost(planned: Sequence[Planned], seen: Seen, left: Mapping[str, int]) -> Promise:
    ends = Counter((result.job_id, result.run) for result in seen.results if result.ends_job)
    nameless = ends.pop((None, 1), 0)
    broken = [f"{job_id}: {number} ends of run {run}" for (job_id, run), number in ends.items() if number != 1]
    jobs = len({job_id for job_id, _ in ends}) + nameless
    if jobs != len(planned):
        broken.append(f"{jobs} of {len(planned)} jobs have ended")
    broken += [f"{number} messages are left in {queue}" for queue, number in left.items()]
    return Promise("nothing lost", f"{jobs} jobs, each with exactly one end; no queue holds any more", tuple(broken))


def _nothing_late(planned: Sequence[Planned], seen: Seen) -> Promise:
    jobs = {one.job.id: one.job for one in planned}
    broken = []
    for request in seen.requests:
        job_id, run = attempt_of(request)
        job = jobs.get(job_id)
        if job is None:
            continue
        if run == 1 and request["at"] >= job.deadline:
            broken.append(f"{job_id}: requested after its deadline")
        if job.not_before is not None and request["at"] < job.not_before.timestamp():
            broken.append(f"{job_id}: requested too early")
    return Promise(
        "nothing late",
        f"{len(seen.requests)} requests, none after its deadline, none before its not_before",
        tuple(broken),
    )


def _nothing_twice(planned: Sequence[Planned], seen: Seen) -> Promise:
    attempts = Counter(str(request["callback"]) for request in seen.requests)
    broken = [f"{attempt}: requested {number} times" for attempt, number in attempts.items() if number > 1]
    taken = Counter(attempt_of(request)[0] for request in seen.requests if request["taken"])
    allowed = {one.job.id: max(one.case.taken, 1) for one in planned}
    broken += [
        f"{job_id}: {number} messages, {allowed.get(job_id, 0)} at the most"
        for job_id, number in taken.items()
        if number > allowed.get(job_id, 0)
    ]
    again = sum(number > 1 for number in taken.values())
    return Promise("nothing twice", f"{again} codes went out again, once each: their answers were lost", tuple(broken))


def _nothing_leaked(planned: Sequence[Planned], seen: Seen, logs: str) -> Promise:
    texts = {"the workers' logs": logs, "the results": "\n".join(one.to_json().decode() for one in seen.results)}
    broken = []
    for where, text in texts.items():
        codes = sum(str(one.job.code) in text for one in planned)
        numbers = len({one.job.to for one in planned if one.job.to.removeprefix("+") in text})
        broken += [f"{codes} codes in {where}"] if codes else []
        broken += [f"{numbers} phone numbers in {where}"] if numbers else []
    found = f"no code and no number in {len(logs.splitlines())} log lines and {len(seen.results)} results"
    return Promise("nothing leaked", found, tuple(broken))
