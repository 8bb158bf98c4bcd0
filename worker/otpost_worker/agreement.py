"""Whether the workers of a broker share one ledger: what the broker says, and what to do where they do not [pure]."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from otpost.errors import OtpostError

NEW_LEDGER: Final = "otpost topology declare --new-ledger"


@dataclass(frozen=True, slots=True)
class Same:
    """The broker's workers use this very ledger."""


@dataclass(frozen=True, slots=True)
class Other:
    """They use another one. *identity* is what the broker tells of it: all, a beginning that ends in …, or None."""

    identity: str | None


@dataclass(frozen=True, slots=True)
class NoMark:
    """No worker has said yet which ledger it uses."""


@dataclass(frozen=True, slots=True)
class NotCompared:
    """The broker does not compare: *why*, and what would let it."""

    why: str


Comparison = Same | Other | NoMark | NotCompared


class LedgerDiffers(OtpostError):
    """The broker's workers share another ledger than ours; *theirs* is as in ``Other``."""

    def __init__(self, theirs: str | None, ours: str) -> None:
        self.theirs = theirs
        self.ours = ours
        super().__init__(
            f"the workers of this broker share the ledger {theirs or '(the broker does not tell which)'}, and "
            f"OTPOST_LEDGER_URL names another one, {ours}: workers with different ledgers may send the same code "
            "twice. Let OTPOST_LEDGER_URL name the ledger that the others use; if that one is gone for good, stop all "
            f"workers and run '{NEW_LEDGER}'"
        )
