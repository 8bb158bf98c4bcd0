"""What the scripts answer, and what is read without one; times by the worker's clock [pure]."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import orjson

from otpost_worker.attempts import Acknowledge, State, Wait
from otpost_worker.decision import History
from otpost_worker.envelope import Step
from otpost_worker.ledger.coding import envelope_from_json, error_from_json, reports_from_json
from otpost_worker.outcome import Kind
from otpost_worker.pacing import HOLD_KEPT_S, Cut, Hold, current_rate
from otpost_worker.ports import (
    Claimed,
    ClaimReply,
    ClaimRequest,
    Crowded,
    HoldReport,
    Lapsed,
    MustEnd,
    NoRoom,
    Notice,
    Recorded,
    SenderReport,
    Ticket,
)
from otpost_worker.standing import Change, News
from otpost_worker.stories import AttemptStory, JobStory, RunStory

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from otpost_worker.ledger.redis.offset import ClockOffset
    from otpost_worker.standing import Heard


def claim_reply(request: ClaimRequest, reply: Sequence[bytes], offset: ClockOffset) -> ClaimReply:
    """Read the reply to a claim."""
    wish = request.wish
    match reply:
        case [b"claimed", history, start_at, probe]:
            ticket = Ticket(request.job_id, wish.run, wish.attempt, request.token)
            return Claimed(ticket, _history(request, history), _moment(start_at, offset), probe == b"1")
        case [b"wait" | b"crowded" as how, until]:
            return (Wait if how == b"wait" else Crowded)(_moment(until, offset))
        case [b"end", *end]:
            return recorded_end(end)
        case [b"repeat", envelope, body, step, due_at]:
            return Recorded(envelope_from_json(envelope, body), _step(step, due_at, offset))
        case [b"lapsed", number, token, history, envelope, body]:
            ticket = Ticket(request.job_id, wish.run, int(number), token.decode())
            return Lapsed(ticket, _history(request, history), envelope_from_json(envelope, body))
        case [b"must_end", history, unknown]:
            return MustEnd(_history(request, history), int(unknown) if unknown else None)
        case [b"no_room"]:
            return NoRoom()
        case [b"acknowledge"]:
            return Acknowledge()
        case _:
            raise AssertionError(f"no reply of the claim script begins with {reply[0]!r}")


def recorded(reply: Sequence[bytes], step: Step) -> Recorded | None:
    """Read the reply of a script that writes *step* down, unless something else stands."""
    match reply:
        case [b"entry", envelope, body]:
            return Recorded(envelope_from_json(envelope, body), step)
        case [b"end", *end]:
            return recorded_end(end)
        case _:
            return None


def recorded_end(reply: Sequence[bytes]) -> Recorded:
    """Read an end that was recorded, without its dead letter where that is noted."""
    envelope, body, step, buried = reply
    end = Step.from_json(step)
    step_now = Step(end.event) if buried else end
    return Recorded(envelope_from_json(envelope, body if step_now.letter else None), step_now)


def news(reply: bytes, heard: Heard | None, offset: ClockOffset) -> tuple[News, ...]:
    """Read what changed about a sender."""
    return () if heard is None else tuple(_one_news(one, heard, offset) for one in orjson.loads(reply))


def _one_news(told: Mapping[str, str], heard: Heard, offset: ClockOffset) -> News:
    change, lane = Change(told["change"]), heard.lane
    of_template = "template" in told
    return News(
        change,
        lane.sender,
        offset.to_worker(float(told["at"])),
        lane.template if of_template else None,
        lane.language if of_template else None,
        error=None if change is Change.RESUMED else heard.error,
        rate=float(told["rate"]) if "rate" in told else None,
        until=offset.to_worker(float(told["until"])) if "until" in told else None,
    )


def _history(request: ClaimRequest, counts: bytes) -> History:
    return History(request.envelope.counted, {Kind(kind): count for kind, count in orjson.loads(counts).items()})


def _step(step: bytes, due_at: bytes, offset: ClockOffset) -> Step:
    """Read a step; when it is due was written down by Redis's clock, as another worker's may differ from ours."""
    known = Step.from_json(step)
    if known.next is None or not due_at:
        return known
    return replace(known, next=replace(known.next, due_at=_moment(due_at, offset)))


def _moment(text: bytes | str, offset: ClockOffset) -> float:
    return offset.to_worker(float(text))


# For whoever watches the senders


def sender_report(
    cut: Sequence[bytes | None],
    quota_until: bytes | None,
    holds: Mapping[bytes, bytes],
    words: Mapping[bytes, bytes],
    *,
    rate: float,
    now: float,
    offset: ClockOffset,
) -> SenderReport:
    """Read how a sender is doing; *now* by Redis's clock."""
    cut_rate, cut_at = cut
    cut_now = None if cut_rate is None or cut_at is None else Cut(float(cut_rate), float(cut_at))
    until = float(quota_until or 0.0)
    found = sorted((field.decode(), orjson.loads(hold)) for field, hold in holds.items())
    return SenderReport(
        current_rate(rate, cut_now, now),
        offset.to_worker(until) if until > now else None,
        tuple(
            _hold_report(field, hold, offset)
            for field, hold in found
            if not field or float(hold["probe_at"]) > now - HOLD_KEPT_S
        ),
        tuple(_notices(words, now)),
    )


def _notices(words: Mapping[bytes, bytes], now: float) -> Iterator[Notice]:
    told = [(*field.decode().split("/"), orjson.loads(word)) for field, word in words.items()]
    for topic, template, language, word in sorted(told, key=lambda one: (one[1], one[2], one[0])):
        if "notice" in word and float(word["kept_until"]) > now:
            yield Notice(topic, template or None, language or None, word["notice"], float(word["said_at"]))


def _hold_report(field: str, hold: Mapping[str, str], offset: ClockOffset) -> HoldReport:
    template, _, language = field.partition("/")
    error = hold.get("error")
    return HoldReport(
        Hold(
            _moment(hold["since"], offset),
            _moment(hold["probe_at"], offset),
            int(hold["probes"]),
            "by_report" in hold,
            _moment(hold["cleared_at"], offset) if "cleared_at" in hold else None,
        ),
        template or None,
        language or None,
        error_from_json(orjson.loads(error)) if error else None,
        hold.get("remedy"),
    )


# For whoever wants to know what became of a job


def story(job: Mapping[bytes, bytes], turns: Mapping[bytes, bytes], offset: ClockOffset) -> tuple[RunStory, ...]:
    """Read everything that is known of a job."""
    fields = {name.decode(): value for name, value in job.items()}
    runs = {int(name[1:]): orjson.loads(value) for name, value in fields.items() if name[0] == "r"}
    return tuple(_run_story(number, run, fields, turns, offset) for number, run in sorted(runs.items()))


def job_story(
    job_id: str,
    job: Mapping[bytes, bytes],
    turns: Mapping[bytes, bytes],
    kept: Mapping[int, bytes | None],
    offset: ClockOffset,
) -> JobStory:
    """Read the same with the bodies; *kept* by run: those that are there although their runs have ended."""
    runs = tuple(
        replace(one, envelope=replace(one.envelope, body=job.get(f"b{one.run}".encode()) or kept.get(one.run) or b""))
        for one in story(job, turns, offset)
    )
    written = (name + b"=" + value for name, value in sorted(job.items()) if not name.startswith(b"b"))
    return JobStory(job_id, runs, hashlib.sha1(b"\n".join(written), usedforsecurity=False).hexdigest())


def place_of_message(value: bytes | None) -> tuple[str, int, int] | None:
    """Read whose message it is: the job, its run and attempt."""
    if value is None:
        return None
    run, attempt, job_id = value.decode().split("/", 2)
    return job_id, int(run), int(attempt)


def _run_story(
    number: int, run: Mapping[str, str], fields: Mapping[str, bytes], turns: Mapping[bytes, bytes], offset: ClockOffset
) -> RunStory:
    prefix = f"a{number}."
    attempts = {int(name.removeprefix(prefix)): value for name, value in fields.items() if name.startswith(prefix)}
    booked = [float(at) for name, at in turns.items() if name.startswith(f"{number}.".encode())]
    step, ended_at = run.get("step"), run.get("ended_at")
    return RunStory(
        number,
        envelope_from_json(run["envelope"].encode(), None),
        _moment(ended_at, offset) if ended_at else None,
        Step.from_json(step.encode()) if step else None,
        "buried" in run,
        _moment(run["forget_at"], offset),
        offset.to_worker(max(booked)) if booked else None,
        tuple(_attempt_story(one, orjson.loads(value), offset) for one, value in sorted(attempts.items())),
        "undelivered" in run,
        "delivered" in run,
    )


def latest_turn(turns: Mapping[bytes, bytes], offset: ClockOffset) -> float | None:
    """Read when the last turn comes that was booked for a job."""
    return offset.to_worker(max(map(float, turns.values()))) if turns else None


def _attempt_story(number: int, attempt: Mapping[str, Any], offset: ClockOffset) -> AttemptStory:
    def moment(name: str) -> float | None:
        return _moment(attempt[name], offset) if name in attempt else None

    kind, step = attempt.get("kind"), attempt.get("step")
    return AttemptStory(
        number,
        State(attempt["state"]),
        Kind(kind) if kind else None,
        _moment(attempt["claimed_at"], offset),
        moment("recorded_at"),
        moment("lease_until"),
        moment("due_at"),
        attempt.get("provider_message_id"),
        _step(step.encode(), attempt.get("due_at", "").encode(), offset) if step else None,
        reports_from_json(attempt.get("reports")),
        "probe" in attempt,
    )
