"""What a job waits for now [pure]."""

from __future__ import annotations

from typing import TYPE_CHECKING

from otpost.topology import job_queue
from otpost_worker.attempts import State
from otpost_worker.stories import Hearing

if TYPE_CHECKING:
    from collections.abc import Iterator

    from otpost_worker.ports import HoldReport, SenderReport
    from otpost_worker.stories import AttemptStory, RunStory


def waits_for(run: RunStory, deadline: float, report: SenderReport | None, *, now: float) -> list[str]:
    """Say what keeps the job's latest run from its end, the nearest first; *report*: how its sender is doing.

    All times are Unix seconds.
    """
    if run.end is not None:
        return [_end(run, now)]
    latest = run.attempts[-1] if run.attempts else None
    if latest is not None and latest.state is State.CLAIMED:
        return [_claim(latest, now)]
    return [*_turn(run, latest, now), *_sender(report, now), _deadline(deadline, now)]


def waits_unclaimed(turn: float | None, *, now: float) -> list[str]:
    """The same for a job of which the ledger knows at most the *turn* that was booked with its recipient."""
    return [] if turn is None else [_recipient(turn, now)]


def _end(run: RunStory, now: float) -> str:
    status, since = run.end.event.status if run.end and run.end.event else "dead letter", _since_then(run)
    if run.end is None or run.end.letter is None:
        watch = run.end.watch if run.end else None
        if watch is not None and watch.due_at > now and not since:
            due = _in(watch.due_at, now)
            return f"a report of its delivery; it has ended as {status}, and counts as undelivered {due}"
        return f"nothing: it has ended as {status}{since}"
    if run.buried:
        return (
            f"nothing: it has ended as {status}{since}; 'otpost dead show' shows its letter until somebody replays it"
        )
    return f"its dead letter to be confirmed by the broker; it has ended as {status}{since}"


def _since_then(run: RunStory) -> str:
    """Say what was heard of a run after its end, as far as that is more than that it was sent."""
    if run.delivered:
        return ", and was delivered"
    silent = any(Hearing.UNDELIVERED in one.reports for one in run.attempts)
    return ", but counts as undelivered since" if run.undelivered or silent else ""


def _claim(latest: AttemptStory, now: float) -> str:
    lease_until = latest.lease_until or now
    if lease_until > now:
        ends = _in(lease_until, now)
        return f"the worker that has claimed attempt {latest.attempt} and is sending it; the claim ends {ends}"
    return (
        f"its next delivery: whoever claimed attempt {latest.attempt} has not told its outcome, and the claim ended "
        f"{_in(lease_until, now)}; whoever gets the job next records the outcome as unknown"
    )


def _turn(run: RunStory, latest: AttemptStory | None, now: float) -> Iterator[str]:
    due_at = latest.due_at if latest is not None else None
    if due_at is not None and due_at > now:
        yield f"its next attempt, which is due {_in(due_at, now)}; it is on the delay ladder"
    elif run.turn is not None and run.turn > now:
        yield _recipient(run.turn, now)
    else:
        queue = job_queue(run.envelope.sender)
        due = f" (its next attempt was due {_in(due_at, now)})" if due_at is not None else ""
        yield f"a worker to take it from {queue}{due}, if it has come there"


def _recipient(turn: float, now: float) -> str:
    why = "after 45 messages at once, or a refusal for its limit, one number gets one every 6 s"
    return f"its recipient's turn, {_in(turn, now)}: {why}"


def _sender(report: SenderReport | None, now: float) -> Iterator[str]:
    if report is None:
        return
    yield from (_hold(hold, now) for hold in report.holds)
    if report.quota_until is not None and report.quota_until > now:
        back = _in(report.quota_until, now)
        yield f"the quota of its sender's app or account, which is used up and comes back {back}"


def _hold(hold: HoldReport, now: float) -> str:
    error = hold.error
    why = f" ({error.title or error.kind.value})" if error is not None else ""
    probe_at = hold.hold.probe_at
    probe = f"the next probe goes out {_in(probe_at, now)}" if probe_at > now else "the next job is a probe"
    remedy = f"; {hold.remedy}" if hold.remedy else ""
    if hold.template is None:
        return f"its sender, which is halted{why}; {probe}{remedy}"
    return (
        f"the template {hold.template} ({hold.language}), if it is this job's, which is held back{why}; {probe}{remedy}"
    )


def _deadline(deadline: float, now: float) -> str:
    if deadline > now:
        return f"at the latest its deadline, {_in(deadline, now)}"
    return f"its end: the deadline was {_in(deadline, now)}, so that the next worker that gets it ends it"


def _in(moment: float, now: float) -> str:
    seconds = moment - now
    return f"in {seconds:.1f} s" if seconds > 0 else f"{-seconds:.1f} s ago"
