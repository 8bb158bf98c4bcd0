"""Plans: what is reported of a message after it was taken, when, and how often.

Pure. A plan is a list of steps; each is a status that happens so many seconds after the message was taken. Its
webhook carries that time, and goes out then, or later (`late_s`), so that webhooks overtake each other.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Literal, get_args

from otpost_worker.simulator.control import ControlError, Fields, shown

if TYPE_CHECKING:
    from collections.abc import Mapping

Status = Literal["sent", "delivered", "read", "failed"]
STATUSES: Final[tuple[Status, ...]] = get_args(Status)
MAX_STEPS: Final = 50
MAX_TIMES: Final = 100
MAX_DELAY_S: Final = 86_400.0
UNDELIVERABLE: Final = 131026
_PAUSED: Final = 132015
_STEP: Final = ("status", "after_s", "until_s", "late_s", "times", "code", "before_answer")


@dataclass(frozen=True, slots=True)
class Step:
    """One status of a message.

    It happens `after_s` seconds after the message was taken, or somewhere between that and `until_s`. Its webhook goes
    out `late_s` seconds after it happened, `times` times. `code` is Meta's, of a `failed`. `before_answer`: at once,
    and the sender has its answer only after the webhook had one.
    """

    status: Status
    after_s: float = 0.0
    until_s: float | None = None
    late_s: float = 0.0
    times: int = 1
    code: int | None = None
    before_answer: bool = False


@dataclass(frozen=True, slots=True)
class Plan:
    """What is reported of a message; without steps, nothing ever is."""

    name: str
    steps: tuple[Step, ...] = ()


def failing(code: int) -> Plan:
    """Only a `failed` with this code."""
    return Plan("failed", (Step("failed", 0.2, code=code),))


_SENT: Final = Step("sent", 0.1)
_DELIVERED: Final = Step("delivered", 0.4)
_READ: Final = Step("read", 0.8)

PLANS: Final[Mapping[str, Plan]] = {
    plan.name: plan
    for plan in (
        Plan("delivered", (_SENT, _DELIVERED)),
        Plan("read", (_SENT, _DELIVERED, _READ)),
        Plan("never"),
        Plan("sent_only", (_SENT,)),
        Plan("delivered_without_sent", (_DELIVERED,)),
        Plan("read_without_delivered", (_SENT, _READ)),
        Plan("failed_after_delivered", (_SENT, _DELIVERED, Step("failed", 0.8, code=UNDELIVERABLE))),
        Plan("delivered_after_failed", (_SENT, Step("failed", 0.4, code=UNDELIVERABLE), Step("delivered", 0.8))),
        # What happened last is told first.
        Plan("reversed", (Step("sent", 0.1, late_s=1.2), Step("delivered", 0.4, late_s=0.7), Step("read", 0.8))),
        Plan(
            "twice",
            (Step("sent", 0.1, times=2), Step("delivered", 0.4, times=2), Step("read", 0.8, times=2)),
        ),
        # The first device counts; the others get the message seconds later and show it masked.
        Plan("linked_devices", (_SENT, _DELIVERED, *(Step("delivered", after_s) for after_s in (1.4, 2.4, 3.4)))),
        Plan("before_answer", (Step("sent", before_answer=True), Step("delivered", before_answer=True))),
        Plan("failed_template", (Step("failed", 0.4, code=_PAUSED),)),
    )
}


def parse_plan(value: object, where: str) -> Plan:
    """A plan in a control request: the name of one, or `{"steps": […]}`."""
    if isinstance(value, str):
        if value not in PLANS:
            raise ControlError(
                f'{where}: there is no plan {shown(value)}; there are {", ".join(PLANS)}, or write {{"steps": [...]}}.'
            )
        return PLANS[value]
    fields = Fields.of(value, where, ("name", "steps"))
    if "steps" not in fields:
        raise ControlError(f'{where}: steps is missing; write {{"steps": []}} for no report at all.')
    items = fields.items("steps")
    if len(items) > MAX_STEPS:
        raise ControlError(f"{where}: steps has {len(items)} items; at most {MAX_STEPS} are possible.")
    steps = tuple(_step(item, f"{where}: steps[{position}]") for position, item in enumerate(items))
    return Plan(fields.text("name") or "custom", steps)


def _step(item: object, where: str) -> Step:
    fields = Fields.of(item, where, _STEP)
    status = read_status(fields)
    after_s = fields.number("after_s", 0, MAX_DELAY_S) or 0.0
    until_s = fields.number("until_s", 0, MAX_DELAY_S)
    if until_s is not None and until_s < after_s:
        raise ControlError(f"{where}: until_s must not be less than after_s; got {until_s:g} and {after_s:g}.")
    late_s = fields.number("late_s", 0, MAX_DELAY_S) or 0.0
    before_answer = fields.flag("before_answer") or False
    if before_answer and (after_s or until_s or late_s):
        raise ControlError(f"{where}: before_answer means at once; leave after_s, until_s and late_s out.")
    return Step(
        status,
        after_s,
        until_s,
        late_s,
        fields.whole("times", 1, MAX_TIMES) or 1,
        read_code(fields, status),
        before_answer,
    )


def read_status(fields: Fields) -> Status:
    """The status in a control request."""
    text = fields.text("status")
    for status in STATUSES:
        if text == status:
            return status
    raise ControlError(f"{fields.where}: status must be one of {', '.join(STATUSES)}; got {shown(text)}.")


def read_code(fields: Fields, status: Status) -> int | None:
    """Meta's code of a `failed`, 131026 where none is given."""
    code = fields.whole("code", 0)
    if status == "failed":
        return UNDELIVERABLE if code is None else code
    if code is not None:
        raise ControlError(f"{fields.where}: code goes with the status failed alone; leave it out.")
    return None
