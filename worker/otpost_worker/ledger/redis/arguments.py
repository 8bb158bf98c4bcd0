"""What the scripts are told: texts, times by Redis's clock [pure]."""

from __future__ import annotations

from typing import TYPE_CHECKING

import orjson

from otpost_worker.ledger.coding import envelope_to_json, reports_to_json

if TYPE_CHECKING:
    from otpost_worker.attempts import Wish
    from otpost_worker.envelope import Step
    from otpost_worker.ledger.redis.offset import ClockOffset
    from otpost_worker.pacing import Lane
    from otpost_worker.ports import ClaimRequest, Entry
    from otpost_worker.standing import Heard
    from otpost_worker.stories import Amendment, JobStory

Arguments = tuple[str | bytes, ...]


def flag(*, value: bool) -> str:
    """Write a truth value."""
    return "1" if value else "0"


def number(value: float) -> str:
    """Write a number with all its digits; what is no number is refused here and not by Redis."""
    return repr(value + 0.0)


def wish_arguments(wish: Wish, offset: ClockOffset) -> Arguments:
    """Write what the worker would do with the delivery."""
    return (
        str(wish.run),
        str(wish.attempt),
        flag(value=wish.late),
        # The epoch stands for "at any time", whatever the clocks say.
        number(offset.to_redis(wish.hold_until) if wish.hold_until else 0.0),
        flag(value=wish.resend),
        flag(value=wish.end),
    )


def copy_arguments(request: ClaimRequest, offset: ClockOffset) -> Arguments:
    """Write the copy of the job that the ledger keeps if it is the first, and until when."""
    return number(offset.to_redis(request.forget_at)), envelope_to_json(request.envelope), request.envelope.body


def lane_arguments(lane: Lane | None, offset: ClockOffset) -> Arguments:
    """Write what a request would use of the limits."""
    if lane is None:
        return ()
    latest_start, deadline = offset.to_redis(lane.latest_start), offset.to_redis(lane.deadline)
    return template_of(lane), number(lane.rate), number(latest_start), number(deadline)


def template_of(lane: Lane) -> str:
    """Name a template in one language, among the holds of its sender."""
    return f"{lane.template}/{lane.language}"


def entry_arguments(entry: Entry, offset: ClockOffset) -> Arguments:
    """Write the outcome of an attempt."""
    step = entry.step
    return (
        entry.state,
        entry.kind or "",
        *step_arguments(step),
        number(offset.to_redis(step.next.due_at)) if step.next else "",
        entry.provider_message_id or "",
    )


def step_arguments(step: Step) -> Arguments:
    """Write a step: itself, its status where it ends the job, and whether it has a dead letter."""
    ends = step.event is not None and step.ends_job
    return step.to_json(), step.event.status if step.event and ends else "", flag(value=step.letter is not None)


def amendment_arguments(story: JobStory, amendment: Amendment, offset: ClockOffset) -> Arguments:
    """Write what a report changes, and which state of the job it was judged by."""
    change, end, body = amendment.change, amendment.end, amendment.body
    step = change.step if change else None
    return (
        story.version,
        str(amendment.run),
        str(amendment.attempt),
        reports_to_json(amendment.reports),
        amendment.message_id or "",
        change.state if change else "",
        change.kind or "" if change else "",
        step.to_json() if step else "",
        number(offset.to_redis(step.next.due_at)) if step and step.next else "",
        *(step_arguments(end) if end else ("", "", "")),
        flag(value=amendment.reopened),
        flag(value=amendment.undelivered),
        flag(value=amendment.delivered),
        flag(value=body is not None),
        body or b"",
    )


def said_arguments(heard: Heard) -> Arguments:
    """Write what was said by webhook, and on what, by the provider's clock."""
    said = heard.said
    if said is None:
        return "", "", ""
    return f"{said.topic}/{template_of(heard.lane)}", number(said.at), said.notice or ""


def heard_arguments(heard: Heard, retry: tuple[str, int, int] | None, offset: ClockOffset) -> Arguments:
    """Write what an outcome says about its sender and its recipient; *retry* is the attempt that follows, if any."""
    return (
        heard.signal,
        number(offset.to_redis(heard.begun_at)),
        "" if heard.pause_s is None else number(heard.pause_s),
        number(heard.lane.rate),
        template_of(heard.lane),
        orjson.dumps(heard.error) if heard.error else "",
        heard.remedy or "",
        "" if heard.pair_until is None else number(offset.to_redis(heard.pair_until)),
        "" if retry is None else str(retry[2]),
        number(offset.to_redis(heard.lane.latest_start)),
        flag(value=heard.by_report),
    )
