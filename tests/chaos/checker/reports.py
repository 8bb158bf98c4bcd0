"""What the provider reported, held against what was told of it: each status once, as it was, and nothing made up."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field
from itertools import pairwise
from math import inf
from typing import TYPE_CHECKING, Any, Final

from chaos.checker.ends import LOST, standing_ends
from chaos.checker.evidence import Violation, attempt_of, instant, offsets
from chaos.checker.hindrances import CLEAR_S, of_reports, uncovered
from chaos.checker.limits import LIMITS
from chaos.checker.messages import DELIVERIES, FAILED, Attempt, Fates, fates
from chaos.checker.requests import TRUE, TWICE, by_run, deadline_of

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from chaos.checker.evidence import Evidence, Job, Passing, Reported

ARRIVED: Final = ("sent", "delivered", "read")
SILENT: Final = "no_report"
_CHANGES: Final = {"taken back", "given up"}
UNHEARD: Final = "sent again too soon, as the report of its failure was held up"
OVERTAKEN: Final = "told as silence, as the report of a delivery was held up"
# What is worth another try, and the longest that the first and each further one may have to wait (docs/limits.md).
_PAUSES_S: Final = {131049: (30.0, 60.0), 131000: (1.0, 30.0), 131016: (1.0, 30.0)}
# What a template for codes cannot meet: an event on its sender.
_USER_LIMIT: Final = 131049
_MARKETING: Final = frozenset({_USER_LIMIT})
_TOLERANCE_S: Final = 1.0
_MS: Final = 1000
# Rounding on the way from the job's text to the event's.
_ROUNDED_MS: Final = 1


def check(evidence: Evidence) -> Iterator[Violation]:
    """Hold the simulator's reports against the results stream and the traces."""
    known = _Known(evidence)
    yield from _each_told(known)
    yield from _as_reported(known)
    yield from _failures(known)
    yield from _undelivered(known)
    yield from _silences(known)
    yield from _not_too_soon(known)
    yield from _deliveries_stand(evidence)


def excused(evidence: Evidence) -> list[str]:
    """Name the excuse of each silence that was told although a delivery had been reported, and of each haste."""
    known = _Known(evidence)
    silences = [
        OVERTAKEN
        for event in known.of_status("undelivered")
        if event["error"]["kind"] == SILENT and _overtaken(known, event) is not None
    ]
    return silences + [UNHEARD for _, _, _, clear_s in _hasty(known) if clear_s <= CLEAR_S]


class _Known:
    """What the rules look up again and again."""

    def __init__(self, evidence: Evidence) -> None:
        self.evidence = evidence
        self.terms = evidence.terms
        self.fates: Fates = fates(evidence)
        self.jobs: dict[str, Job] = {job.id: job for job in evidence.jobs if job.id is not None and not job.is_copy}
        self.requests = by_run(evidence)
        self.events: dict[str, dict[str, Any]] = {}
        self.of_senders: set[str] = set()
        for result in evidence.results:
            if result.kind == "otpost.result.v1":
                self.events.setdefault(result.event["event_id"], result.event)
            else:
                self.of_senders.add(str(result.event.get("event_id")))

    def of_status(self, *statuses: str) -> Iterator[dict[str, Any]]:
        """Go through the events of these statuses, each once."""
        return (event for event in self.events.values() if event["status"] in statuses)

    def event(self, attempt: Attempt, status: str) -> dict[str, Any] | None:
        """Find what was told of an attempt."""
        return self.events.get("/".join(map(str, (*attempt, status))))

    def left_s(self, event: Mapping[str, Any]) -> float:
        """Tell how long before its deadline an event was told, by the clock of who told it."""
        return deadline_of(self.evidence, self.jobs[event["job_id"]], event["run"]) - instant(event["at"])

    def others_taken(self, attempt: Attempt) -> bool:
        """Tell whether another attempt of the job was taken, and not reported as failed."""
        job = attempt[0]
        taken = [
            attempt_of(one.callback or "")
            for (of_job, _), requests in self.requests.items()
            for one in requests
            if of_job == job and one.taken
        ]
        return any(one != attempt and not self.fates.failed(one) for one in taken)


def attempt_in(event: Mapping[str, Any]) -> Attempt:
    """Name the attempt that an event is about."""
    return event["job_id"], event["run"], event["attempt"]


def _each_told(known: _Known) -> Iterator[Violation]:
    """What was answered with 200 is told: each status of each attempt is an event."""
    for attempt, reports in known.fates:
        for status in ARRIVED:
            taken = [one for one in reports if one.status == status and one.answered]
            if taken and known.event(attempt, status) is None:
                posts = sum(one.answered for one in taken)
                what = f"{status} of attempt {attempt[2]} of run {attempt[1]} was answered with 200 {posts} times"
                yield Violation(LOST, attempt[0], f"{what} and never told")


def _as_reported(known: _Known) -> Iterator[Violation]:
    """What is told was reported: of this very message, and at this time."""
    for event in known.of_status(*ARRIVED):
        reported = [one for one in known.fates.of(attempt_in(event)) if one.status == event["status"]]
        subject, name = str(event["job_id"]), event["event_id"]
        if not reported:
            yield Violation(TRUE, subject, f"{name} was never reported")
            continue
        same = [one for one in reported if one.timestamp == instant(event["at"])]
        if not same:
            times = ", ".join(sorted({str(one.timestamp) for one in reported}))
            yield Violation(TRUE, subject, f"{name} is said to be of {event['at']}; it was reported as of {times}")
        elif event["provider_message_id"] not in {one.message_id for one in same}:
            yield Violation(TRUE, subject, f"{name} has another message id than was reported")
        elif (wrong_ms := _wrong_ms(known, event)) > _ROUNDED_MS:
            yield Violation(TRUE, subject, f"the latency of {name} is wrong by {wrong_ms} ms")


def _wrong_ms(known: _Known, event: Mapping[str, Any]) -> int:
    """Tell by how much a latency is wrong; where clocks were moved, nobody can tell."""
    created_at = known.jobs[event["job_id"]].created_at
    if created_at is None or event["latency_ms"] is None or known.evidence.clock_moves:
        return 0
    right_ms = max(0, round((instant(event["at"]) - created_at) * _MS))
    return abs(int(event["latency_ms"]) - right_ms)


def _failures(known: _Known) -> Iterator[Violation]:
    """A failure of what stood accepted is told, by what follows from it: another try, or none."""
    for attempt, reports in known.fates:
        failed = [one for one in reports if one.status == FAILED and one.answered]
        name = "/".join(map(str, (*attempt, "category_changed")))
        if any(one.code in _MARKETING for one in failed) and name not in known.of_senders:
            yield Violation(LOST, attempt[0], f"{name} was not told, although only a marketing template can fail so")
        if not failed or known.event(attempt, "accepted") is None:
            continue
        if known.fates.delivered(attempt[0]) or known.others_taken(attempt):
            continue
        if known.event(attempt, "retrying") is None and known.event(attempt, "undelivered") is None:
            what = f"the failure ({failed[0].code}) of attempt {attempt[2]} of run {attempt[1]} was answered with 200"
            yield Violation(LOST, attempt[0], f"{what} and nothing came of it")


def _undelivered(known: _Known) -> Iterator[Violation]:
    """Nothing is given up but what failed, or what nobody reported in time."""
    for event in known.of_status("undelivered"):
        attempt, error = attempt_in(event), event["error"]
        subject, name = str(event["job_id"]), event["event_id"]
        failed = [one for one in known.fates.of(attempt) if one.status == FAILED]
        if error["kind"] == SILENT:
            yield from _silence_in_time(known, event)
            continue
        if not failed:
            yield Violation(TRUE, subject, f"{name} ({error['kind']}), which the provider never said")
        elif error["code"] not in {one.code for one in failed}:
            yield Violation(TRUE, subject, f"{name} has the code {error['code']}, which the provider never gave")
        elif why := _too_soon(known, event, failed[0]):
            yield Violation(LOST, subject, f"{name} ({error['code']}) {why}")
        elif _wants_letter(known, event) and not _has_letter(known, event):
            yield Violation(LOST, subject, f"{name} ({error['kind']}) left no dead letter")


def _too_soon(known: _Known, event: Mapping[str, Any], failed: Reported) -> str:
    """Tell whether there was time for another try, of what is worth one."""
    run = (event["job_id"], event["run"])
    pauses = _PAUSES_S.get(failed.code or 0)
    later = [one for one in known.requests[run] if attempt_of(one.callback or "")[2] > event["attempt"]]
    if pauses is None or later:
        return ""
    is_first = event["attempt"] == 1
    if not is_first and event["error"]["kind"] == "exhausted":
        return ""
    needed_s = pauses[0 if is_first else 1] + known.terms.timeout_s + _TOLERANCE_S
    left_s = known.left_s(event)
    return f"was given up {left_s:.1f} s before its deadline" if left_s > needed_s else ""


def _wants_letter(known: _Known, event: Mapping[str, Any]) -> bool:
    """Tell whether something is left to be replayed: until the deadline, unless it was delivered all the same."""
    return known.left_s(event) > _TOLERANCE_S and not known.fates.delivered(event["job_id"], event["run"])


def _has_letter(known: _Known, event: Mapping[str, Any]) -> bool:
    return any((one.id, one.run) == (event["job_id"], event["run"]) for one in known.evidence.letters)


def _not_too_soon(known: _Known) -> Iterator[Violation]:
    """Who got too many messages from businesses gets no other one before its pause is over; by clocks not moved."""
    for job, what, waited_s, clear_s in _hasty(known):
        if clear_s > CLEAR_S:
            yield Violation(LIMITS, job, f"{what.format(waited_s)} had failed ({_USER_LIMIT})")


def _hasty(known: _Known) -> Iterator[tuple[str, str, float, float]]:
    """Find requests within that pause, and for how long whoever sent them could have heard of the failure."""
    for run, requests in known.requests.items() if not known.evidence.clock_moves else ():
        for earlier, later in pairwise(requests):
            failed = [one for one in known.fates.of(attempt_of(earlier.callback or "")) if one.code == _USER_LIMIT]
            waited_s = later.at - min((one.timestamp for one in failed), default=0)
            if failed and waited_s < _PAUSES_S[_USER_LIMIT][0]:
                answered = [one.first_answered_at for one in failed if one.first_answered_at is not None]
                heard_at = _written_failure(known.evidence, attempt_of(earlier.callback or ""))
                since = min(answered, default=later.at)
                # Who knew of it has no excuse.
                clear_s = uncovered((since, later.at), of_reports(known.evidence)) if since < later.at else 0.0
                clear_s = inf if heard_at is not None and heard_at < later.at else clear_s
                yield run[0], f"{later.callback} was sent {{:.1f}} s after {earlier.callback}", waited_s, clear_s


def _silence_in_time(known: _Known, event: Mapping[str, Any]) -> Iterator[Violation]:
    """Silence is told when the time for a report is over, and not although a delivery was reported before."""
    subject, name = str(event["job_id"]), event["event_id"]
    accepted = known.event(attempt_in(event), "accepted")
    if accepted is None:
        yield Violation(TRUE, subject, f"{name} ({SILENT}), which was never accepted")
        return
    waits_s = (known.terms.check_of_held_s if accepted.get("message_status") else known.terms.check_s) or 0.0
    waited_s = instant(event["at"]) - instant(accepted["at"])
    if waited_s < waits_s - _TOLERANCE_S and not known.evidence.clock_moves:
        yield Violation(TRUE, subject, f"{name} ({SILENT}) {waited_s:.1f} s after it was accepted")
    clear_s = _overtaken(known, event)
    if clear_s is not None and clear_s > CLEAR_S:
        what = "although a delivery had been answered with 200, and nothing stood in its way"
        yield Violation(LOST, subject, f"{name} ({SILENT}) {what} for {clear_s:.1f} s")


def _overtaken(known: _Known, event: Mapping[str, Any]) -> float | None:
    """Tell for how long the report of a delivery had a clear way before this was told; None where there was none."""
    taken_at = [one.first_answered_at for one in known.fates.delivered(event["job_id"], event["run"])]
    since = min((at for at in taken_at if at is not None), default=None)
    if since is None:
        return None
    told_at = instant(event["at"])
    told_at -= max(0.0, *offsets(known.evidence.clock_moves, None, since, told_at))
    return uncovered((since, told_at), of_reports(known.evidence)) if since < told_at else None


def _silences(known: _Known) -> Iterator[Violation]:
    """What was accepted, and of which neither a delivery nor a failure was ever reported, is told to be silent."""
    if known.terms.check_s is None:
        return
    for event in standing_ends(known.evidence):
        attempt = attempt_in(event)
        if event["status"] != "accepted" or known.fates.delivered(*attempt[:2]) or known.fates.failed(attempt):
            continue
        if known.event(attempt, "undelivered") is None:
            what = f"attempt {attempt[2]} of run {attempt[1]} was accepted, no delivery was ever reported"
            yield Violation(LOST, attempt[0], f"{what}, and nobody was told")


def _written_failure(evidence: Evidence, attempt: Attempt) -> float | None:
    """Find when the failure of an attempt was written down, as the probes saw it."""
    written = (
        passing.at
        for passing in evidence.passings
        if (passing.job, passing.run, passing.attempt) == attempt
        and (passing.point, passing.result) == ("after amend", "True")
        and FAILED in _amends(passing)
    )
    return min(written, default=None)


@dataclass(frozen=True, slots=True)
class _Delivery:
    """From *at* on, a delivery of *attempt* of *run* is written down."""

    at: float
    run: int
    attempt: int


@dataclass(slots=True)
class _Asked:
    """Questions of one process about one attempt that are on their way: since when, and how many have their answer."""

    since: list[float] = field(default_factory=list)
    answered: int = 0

    def answer(self) -> float:
        """Take an answer, and tell since when its question was on its way at the longest."""
        since = min(self.since, default=0.0)
        self.answered += 1
        if self.answered >= len(self.since):
            self.since.clear()
            self.answered = 0
        return since


def _deliveries_stand(evidence: Evidence) -> Iterator[Violation]:
    """Once a delivery is written down nothing of that job is claimed any more, and nothing of it taken back."""
    noted = _written_deliveries(evidence)
    asked: dict[tuple[str, int, str, int, int], _Asked] = defaultdict(_Asked)
    for passing in sorted(evidence.passings, key=lambda passing: passing.at):
        job, attempt = str(passing.job), passing.attempt or 0
        delivery = noted.get(job)
        when, _, arrow = passing.point.partition(" ")
        if delivery is None or arrow not in ("claim", "amend"):
            continue
        way = asked[arrow, passing.pid, job, passing.run or 0, attempt]
        if when == "before":
            way.since.append(passing.at)
        elif way.answer() > delivery.at:
            what = f"run {delivery.run}, attempt {delivery.attempt} was delivered, which was written down;"
            then = f"{what} then run {passing.run}, attempt {attempt} was"
            if passing.result == "Claimed":
                yield Violation(TWICE, job, f"{then} claimed")
            for change in sorted(_CHANGES & _amends(passing)) if passing.result == "True" else ():
                yield Violation(TRUE, job, f"{then} {change}")


def _written_deliveries(evidence: Evidence) -> dict[str, _Delivery]:
    """Find when the first delivery of each job was written down, as the probes saw it."""
    noted: dict[str, _Delivery] = {}
    for passing in evidence.passings:
        if passing.point == "after amend" and passing.result == "True" and _amends(passing) & DELIVERIES:
            job = str(passing.job)
            if job not in noted or passing.at < noted[job].at:
                noted[job] = _Delivery(passing.at, passing.run or 0, passing.attempt or 0)
    return noted


def _amends(passing: Passing) -> set[str]:
    return set((passing.amends or "").split(", "))
