"""Where the simulator's webhooks go, and how.

Pure. The secret is shown to nobody, neither in a `repr` nor by the control endpoint.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field, replace
from typing import Any, Final

from otpost_worker.simulator.control import ControlError, Fields, shown

from .plans import PLANS, Plan, parse_plan

MAX_BATCH: Final = 1000
MAX_SHUFFLE_S: Final = 3600.0
_URL: Final = re.compile(r"https?://[^\s/?#]+[^\s]*")
_SETTINGS: Final = (
    "url",
    "secret",
    "plan",
    "batch",
    "batch_wait_s",
    "duplicates",
    "shuffle_s",
    "seed",
    "concurrency",
    "timeout_s",
    "retry",
    "account_id",
    "display_phone_number",
)


@dataclass(frozen=True, slots=True)
class Retry:
    """What is not answered with 200 is posted again after `first_s` seconds, then after `factor` times as long each
    time, at most `ceiling_s`, and given up `for_s` seconds after its first try. Meta goes on for days.
    """  # noqa: D205 - one sentence says it all

    first_s: float = 1.0
    factor: float = 2.0
    ceiling_s: float = 60.0
    for_s: float = 3600.0


@dataclass(frozen=True, slots=True)
class WebhookSettings:
    """How webhooks are sent; without a `url` none are.

    `secret` is the app secret that signs them. `plan` is that of messages which neither a rule nor a magic recipient
    has one for. `batch`: up to so many statuses in one POST, where a status waits at most `batch_wait_s` seconds for
    company. Disorder, by `seed` and a message's callback always the same: up to `duplicates` more POSTs of each
    status, each POST up to `shuffle_s` seconds late. At most `concurrency` POSTs are under way at once, each for
    `timeout_s` seconds. `account_id` and `display_phone_number` are what the bodies say of the business.
    """

    url: str | None = None
    secret: str = field(default="", repr=False)
    plan: Plan = PLANS["delivered"]
    batch: int = 1
    batch_wait_s: float = 0.2
    duplicates: int = 0
    shuffle_s: float = 0.0
    seed: int = 0
    concurrency: int = 64
    timeout_s: float = 10.0
    retry: Retry = field(default_factory=Retry)
    account_id: str = "102290129340398"
    display_phone_number: str = "15550783881"

    def __post_init__(self) -> None:
        if self.url is not None and not _URL.fullmatch(self.url):
            raise ValueError("url must begin with http:// or https:// and name a host")
        if self.url is not None and not self.secret:
            raise ValueError("secret must not be empty: webhooks are signed with the app secret")
        if not 1 <= self.batch <= MAX_BATCH or self.concurrency < 1 or self.timeout_s <= 0:
            raise ValueError(f"batch must be from 1 to {MAX_BATCH}, concurrency and timeout_s more than 0")

    def visible(self) -> dict[str, Any]:
        """All of it but the secret, for JSON."""
        names = (name for name in _SETTINGS if name != "secret")
        return {name: getattr(self, name) for name in names} | {"secret": "***" if self.secret else None}


def parse_settings(payload: object, current: WebhookSettings) -> WebhookSettings:
    """The body of PUT /_simulator/webhooks; what it leaves out stays as it is, `url` null means no webhooks."""
    fields = Fields.of(payload, "webhooks", _SETTINGS)
    given: dict[str, Any] = {
        "secret": fields.text("secret"),
        "plan": parse_plan(fields.values["plan"], "webhooks: plan") if fields.values.get("plan") is not None else None,
        "batch": fields.whole("batch", 1, MAX_BATCH),
        "batch_wait_s": fields.number("batch_wait_s", 0, 60),
        "duplicates": fields.whole("duplicates", 0, 20),
        "shuffle_s": fields.number("shuffle_s", 0, MAX_SHUFFLE_S),
        "seed": fields.whole("seed", 0),
        "concurrency": fields.whole("concurrency", 1, 1000),
        "timeout_s": fields.number("timeout_s", 0.01, 600),
        "retry": _retry(fields.values["retry"], current.retry) if fields.values.get("retry") is not None else None,
        "account_id": _digits(fields, "account_id"),
        "display_phone_number": _digits(fields, "display_phone_number"),
    }
    present = {name: value for name, value in given.items() if value is not None}
    if "url" in fields:
        present["url"] = fields.text("url")
    try:
        return replace(current, **present)
    except ValueError as error:
        raise ControlError(f"webhooks: {error}.") from None


def _retry(value: object, current: Retry) -> Retry:
    fields = Fields.of(value, "webhooks: retry", ("first_s", "factor", "ceiling_s", "for_s"))
    given: dict[str, Any] = {
        "first_s": fields.number("first_s", 0.001, 3600),
        "factor": fields.number("factor", 1, 100),
        "ceiling_s": fields.number("ceiling_s", 0.001, 86_400),
        "for_s": fields.number("for_s", 0, 7 * 86_400),
    }
    return replace(current, **{name: seconds for name, seconds in given.items() if seconds is not None})


def _digits(fields: Fields, name: str) -> str | None:
    text = fields.text(name)
    if text is not None and not re.fullmatch(r"[0-9]{1,30}", text):
        raise ControlError(f"webhooks: {name} must be digits; got {shown(text)}.")
    return text
