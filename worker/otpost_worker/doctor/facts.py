"""What the doctor found out, before anybody judges it [pure]."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from otpost.declaring import QueueState
    from otpost.differences import Finding as Difference
    from otpost.topology import Binding
    from otpost_worker.agreement import Comparison
    from otpost_worker.ports import SenderReport
    from otpost_worker.providers.cloud_api_health import Health


@dataclass(frozen=True, slots=True)
class NotAsked:
    """It could not be found out: *why*, and what would help, as one of our messages."""

    why: str


# A sender's template and its language, as far as they are set.
DefaultTemplate = tuple[str | None, str | None]


@dataclass(frozen=True, slots=True)
class Expecting:
    """What a sender's settings hold for webhooks: whether there is an app secret, a verify token, an account's id."""

    app_secret: bool
    verify_token: bool
    account: bool


@dataclass(frozen=True, slots=True)
class Heard:
    """What the results of the last *within_s* seconds tell of the senders that are watched.

    *accepted*: how many messages were, so long ago that a report should have come. *reported*: whether any did.
    """

    within_s: float
    accepted: int
    reported: bool


@dataclass(frozen=True, slots=True)
class BrokerFacts:
    """A broker that lets us in. *queues* by name: None for one that does not exist."""

    where: str
    product: str
    version: str
    differences: tuple[Difference, ...] | NotAsked
    queues: Mapping[str, QueueState | None] | NotAsked
    ledger: Comparison | NotAsked


@dataclass(frozen=True, slots=True)
class Effects:
    """The policies on a queue by their names, and everything that they set together."""

    policy: str | None
    operator_policy: str | None
    definition: Mapping[str, object]

    def __str__(self) -> str:
        """Name the policies."""
        named = (("policy", self.policy), ("operator policy", self.operator_policy))
        return " and ".join(f"{kind} {name!r}" for kind, name in named if name)


@dataclass(frozen=True, slots=True)
class ManagementFacts:
    """What only the management API tells: policies by queue, and all bindings."""

    where: str
    policies: Mapping[str, Effects]
    bindings: frozenset[Binding]


@dataclass(frozen=True, slots=True)
class LedgerFacts:
    """A ledger that can be read. *writable*: by whoever asks. *reports* by sender.

    *warnings*: what may lose its contents, each as one of our messages.
    """

    where: str
    identity: str
    writable: bool
    reports: Mapping[str, SenderReport]
    warnings: Sequence[str] = ()


@dataclass(frozen=True, slots=True)
class LedgerTrouble:
    """No ledger, or none that can be read; *missing* where there is nothing at all."""

    where: str
    why: str
    missing: bool


@dataclass(frozen=True, slots=True)
class ProviderFacts:
    """What the provider says of a sender; *clock_offset_s* tells how far our clock is ahead of its, None: not known."""

    sender: str
    where: str
    health: Health
    clock_offset_s: float | None
