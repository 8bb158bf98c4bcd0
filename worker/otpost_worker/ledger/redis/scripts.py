"""The Lua scripts, put together from their parts, with the constants of the pure rooms on top."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from importlib.resources import files
from typing import Final

from otpost_worker import pacing, standing
from otpost_worker.ports import REMEMBERED_AFTER_DEADLINE_S

# What nobody has used for so long is a stranger: a sender's pace, and the state of a quota.
SENDER_KEPT_S: Final = 30 * 24 * 3600.0
# Whoever asks gives up after this long, whatever it is that takes its time.
PATIENCE_S: Final = 5.0
# More than a round trip takes, and less than matters where a clock was set.
CLOCK_SLACK_S: Final = 1.0
CONSTANTS: Final[dict[str, float]] = {
    "BOOKED_AHEAD_S": pacing.BOOKED_AHEAD_S,
    "BURST_S": pacing.BURST_S,
    "CLOCK_SLACK_S": CLOCK_SLACK_S,
    "GROW_EVERY_S": pacing.GROW_EVERY_S,
    "GROW_STEP": pacing.GROW_STEP,
    "HELD_S": pacing.HELD_S,
    "HOLD_KEPT_S": pacing.HOLD_KEPT_S,
    "HORIZON_S": pacing.HORIZON_S,
    "LAST_CHANCE_S": pacing.LAST_CHANCE_S,
    "MAX_QUOTA_PAUSE_S": standing.MAX_QUOTA_PAUSE_S,
    "MAX_UNANSWERED": standing.MAX_UNANSWERED,
    "MIN_RATE": pacing.MIN_RATE,
    "PAIR_BURST": pacing.PAIR_BURST,
    "PAIR_INTERVAL_S": pacing.PAIR_INTERVAL_S,
    "PAIR_MARGIN_S": pacing.PAIR_MARGIN_S,
    "PATIENCE_S": PATIENCE_S,
    "PROBE_S": pacing.PROBE_S,
    "QUOTA_PAUSE_S": standing.QUOTA_PAUSE_S,
    "REMEMBERED_AFTER_DEADLINE_S": REMEMBERED_AFTER_DEADLINE_S,
    "REPORTED_WITHIN_S": pacing.REPORTED_WITHIN_S,
    "SENDER_KEPT_S": SENDER_KEPT_S,
    "TURN_KEPT_S": pacing.TURN_KEPT_S,
    "TURN_TOLERANCE_S": pacing.TURN_TOLERANCE_S,
    "WORD_KEPT_S": standing.WORD_KEPT_S,
}


@dataclass(frozen=True, slots=True)
class Script:
    """One script: its text, and the digest that Redis knows it by."""

    name: str
    text: str
    digest: str


def _script(*parts: str) -> Script:
    lua = files(__package__) / "lua"
    constants = [f"local {name} = {value!r}" for name, value in CONSTANTS.items()]
    texts = [(lua / f"{part}.lua").read_text(encoding="utf-8") for part in parts]
    text = "\n".join([*constants, *texts])
    return Script(parts[-1], text, hashlib.sha1(text.encode(), usedforsecurity=False).hexdigest())


@dataclass(frozen=True, slots=True)
class Scripts:
    """Every operation that reads and writes, and so has to be one script."""

    claim: Script
    record: Script
    lapse: Script
    conclude: Script
    refuse: Script
    release: Script
    note_buried: Script
    amend: Script
    hear: Script
    probe_soon: Script

    def all(self) -> tuple[Script, ...]:
        """List them."""
        return tuple(getattr(self, name) for name in self.__slots__)


def read_scripts() -> Scripts:
    """Put the scripts together."""
    return Scripts(
        claim=_script("times", "job", "table", "holds", "pacing", "bookings", "claim"),
        record=_script("times", "job", "holds", "pacing", "bookings", "standing", "hearing", "record"),
        lapse=_script("times", "job", "lapse"),
        conclude=_script("times", "job", "table", "conclude"),
        refuse=_script("times", "job", "refuse"),
        release=_script("times", "job", "release"),
        note_buried=_script("times", "job", "note_buried"),
        amend=_script("times", "job", "amend"),
        hear=_script("times", "holds", "pacing", "bookings", "standing", "hearing", "hear"),
        probe_soon=_script("times", "holds", "probe_soon"),
    )
