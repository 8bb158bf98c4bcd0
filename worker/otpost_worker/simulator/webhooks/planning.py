"""From a plan to a message's reports, and to the moments at which each is posted.

Pure: chance is an argument.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from .reports import Report

if TYPE_CHECKING:
    from random import Random

    from .plans import Plan, Step
    from .settings import WebhookSettings


@dataclass(frozen=True, slots=True)
class TakenMessage:
    """A message that a handset would get. *at*: when it was taken, in seconds since the epoch."""

    message_id: str
    callback: str | None
    phone_number_id: str
    recipient: str
    at: float


@dataclass(frozen=True, slots=True)
class Planned:
    """A report, and when it is posted: so many seconds after the message was taken, once for each number."""

    report: Report
    post_after_s: tuple[float, ...]
    before_answer: bool


def planned(
    message: TakenMessage, plan: Plan, settings: WebhookSettings, chance: Random, *, first_seq: int
) -> list[Planned]:
    """What will be reported of a message; the reports are numbered from `first_seq`."""
    priced: set[str] = set()
    return [
        _planned(message, step, settings, chance, seq=first_seq + position, priced=priced)
        for position, step in enumerate(plan.steps)
    ]


def _planned(
    message: TakenMessage, step: Step, settings: WebhookSettings, chance: Random, *, seq: int, priced: set[str]
) -> Planned:
    after_s = step.after_s if step.until_s is None else chance.uniform(step.after_s, step.until_s)
    times = step.times + (chance.randint(0, settings.duplicates) if settings.duplicates else 0)
    post_after_s = tuple(
        after_s + step.late_s + (chance.uniform(0, settings.shuffle_s) if settings.shuffle_s else 0.0)
        for _ in range(times)
    )
    at = message.at + after_s
    report = Report(
        seq=seq,
        message_id=message.message_id,
        callback=message.callback,
        status=step.status,
        timestamp=int(at),
        at=at,
        phone_number_id=message.phone_number_id,
        recipient=message.recipient,
        code=step.code,
        priced=_is_priced(step, priced),
        planned=times,
    )
    return Planned(report, post_after_s, step.before_answer)


def _is_priced(step: Step, priced: set[str]) -> bool:
    """Prices come with `sent`, and with the first of `delivered` and `read`."""
    if step.status == "failed":
        return False
    what = "sent" if step.status == "sent" else "delivery"
    first = what not in priced
    priced.add(what)
    return first
