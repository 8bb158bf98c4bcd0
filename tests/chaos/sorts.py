"""Which kinds of jobs there are: good ones, each kind of bad one, and each kind of report that comes of them.

What may become of each kind is written down by hand. Nothing here is computed from what otpost does.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import Final

# Three senders, one of which has a token that the provider refuses.
DEFAULT: Final = "default"
OTHER: Final = "other"
HALTED: Final = "halted"
SENDERS: Final = (DEFAULT, OTHER, HALTED)


class Seal(Enum):
    """What a job's code is sealed to."""

    NOTHING = "nothing"
    KEY = "the workers' key"
    OLD_KEY = "the key that they had before, and still hold"
    STRANGE_KEY = "a key that nobody here holds"


class Form(Enum):
    """How a job is published: by our client, or as somebody else's program would, rightly or wrongly."""

    CLIENT = "by the client"
    FOREIGN = "a proper job, published by hand"
    NOT_JSON = "cut off in the middle"
    UNKNOWN_FIELD = "with a misspelt field"
    NO_NUMBER = "without a number"
    COPY = "an invalid body under the id of another job"


@dataclass(frozen=True, slots=True)
class Sort:
    """So many jobs of a hundred, to the number *to* (``{}``: a number of each job's own), and how they may end.

    *wanted* leaves out what trouble on the way can do to any job, ``expired`` and ``failed unknown``: the checker asks
    for that trouble. Times in seconds; *age_s* before it is published it was created. *is_long*: it takes half a
    minute by itself, which a short run has not.
    """

    name: str
    share: float
    to: str
    wanted: tuple[str, ...]
    ttl_s: float = 75.0
    age_s: float = 0.0
    not_before_s: float = 0.0
    sender: str = DEFAULT
    template: str | None = None
    copies: int = 1
    form: Form = Form.CLIENT
    seal: Seal = Seal.NOTHING
    is_long: bool = False


ACCEPTED: Final = ("accepted",)
INVALID: Final = ("failed invalid_job",)

# Accepted, and then reported in some way; where its answer is lost, the report of a failure stands for it.
NOBODY: Final = ("accepted", "failed recipient")
REPORTED: Final = (
    Sort("read", 0.5, "+990310{:04}", ACCEPTED),
    Sort("never", 0.5, "+990320{:04}", ACCEPTED),
    Sort("sent-only", 0.5, "+990330{:04}", ACCEPTED),
    Sort("delivery-alone", 0.5, "+990340{:04}", ACCEPTED),
    Sort("read-alone", 0.5, "+990350{:04}", ACCEPTED),
    Sort("failed-late", 1, "+990360{:04}", NOBODY),
    Sort("delivered-after-all", 1, "+990370{:04}", NOBODY),
    Sort("reversed", 0.5, "+990380{:04}", ACCEPTED),
    Sort("repeated", 0.5, "+990390{:04}", ACCEPTED),
    Sort("devices", 1, "+990400{:04}", ACCEPTED),
    Sort("early", 1, "+990410{:04}", ACCEPTED),
    Sort("held-silent", 0.5, "+990420{:04}", ACCEPTED),
    Sort("held", 0.5, "+990440{:04}", ACCEPTED),
    Sort("undeliverable", 1, "+9911310261{:04}", NOBODY),
    Sort("fails-once", 1, "+9911310161{:04}", ACCEPTED),
    Sort("fails-twice", 0.5, "+9911310162{:04}", ACCEPTED),
    Sort("fails-for-good", 0.5, "+9911310000{:04}", ("accepted", "failed exhausted")),
    Sort("sealed-fails", 0.5, "+9911310001{:04}", ACCEPTED, seal=Seal.KEY),
    Sort("user-limit", 0.5, "+9911310491{:04}", ACCEPTED, is_long=True),
    Sort("user-limit-late", 0.5, "+9911310490{:04}", ("accepted", "expired"), ttl_s=20),
    Sort("failed-much-later", 0.5, "+1210555{:04}", ACCEPTED),
    Sort("delivered-too-late", 0.5, "+1210556{:04}", ACCEPTED),
)  # fmt: skip

# Recipients that begin with +999 and +990 make the simulator fail: see docs/simulator.md.
SORTS: Final = (
    Sort("good", 0, "+1201555{:04}", ACCEPTED),
    Sort("twice", 4, "+1204555{:04}", ACCEPTED, copies=2),
    Sort("later", 2, "+1205555{:04}", ACCEPTED, not_before_s=3),
    Sort("short", 5, "+1203555{:04}", ACCEPTED, ttl_s=5),
    Sort("shorter", 2, "+1203556{:04}", ACCEPTED, ttl_s=2.6),
    Sort("stale", 2, "+1206555{:04}", ("expired",), ttl_s=30, age_s=60),
    Sort("trouble", 3, "+9991310001{:04}", ACCEPTED),
    Sort("more-trouble", 1, "+9991310162{:04}", ACCEPTED),
    Sort("busy", 2, "+990071{:04}", ACCEPTED),
    Sort("busy-until-late", 1, "+990070{:04}", ("expired",), ttl_s=9),
    Sort("slow", 3, "+990100{:04}", ACCEPTED),
    Sort("too-slow", 1, "+990181{:04}", ACCEPTED),
    Sort("lost", 3, "+990031{:04}", ACCEPTED),
    Sort("half", 1, "+990041{:04}", ACCEPTED),
    Sort("no-id", 1, "+990051{:04}", ACCEPTED),
    Sort("hangs", 1, "+990151{:04}", ACCEPTED),
    Sort("cut-before", 1, "+990021{:04}", ACCEPTED),
    Sort("lost-twice", 1, "+990032{:04}", ("failed unknown", "accepted")),
    Sort("lost-at-the-end", 1, "+990031{:04}", ("failed unknown", "accepted"), ttl_s=6),
    Sort("nobody", 2, "+9991310261{:04}", ("failed recipient", "accepted")),
    Sort("bad", 1, "+9991310090{:04}", ("failed bad_request",)),
    Sort("template", 1, "+9991320010{:04}", ("failed template",), template="no_such_template"),
    Sort("pair-by-rule", 1, "+9991310561{:04}", ACCEPTED),
    Sort("throttled-by-rule", 1, "+9991304291{:04}", ACCEPTED, sender=OTHER),
    Sort("unknown-code", 1, "+990170{:04}", ("failed exhausted",), sender=OTHER),
    Sort("elsewhere", 4, "+1209555{:04}", ACCEPTED, sender=OTHER),
    Sort("token", 1, "+9990001900{:04}", ("expired",), ttl_s=14, sender=HALTED),
    Sort("not-json", 1, "+1207555{:04}", INVALID, form=Form.NOT_JSON),
    Sort("field", 1, "+1207556{:04}", INVALID, form=Form.UNKNOWN_FIELD),
    Sort("number", 1, "", INVALID, form=Form.NO_NUMBER),
    Sort("no-sender", 1, "+1207558{:04}", ("failed no_sender",), sender="nobody", form=Form.FOREIGN),
    Sort("by-hand", 2, "+1207559{:04}", ACCEPTED, form=Form.FOREIGN),
    Sort("sealed", 4, "+1208555{:04}", ACCEPTED, seal=Seal.KEY),
    Sort("sealed-before", 1, "+1208556{:04}", ACCEPTED, seal=Seal.OLD_KEY),
    Sort("sealed-lost", 1, "+990031{:04}", ACCEPTED, seal=Seal.KEY),
    Sort("sealed-trouble", 1, "+9991310001{:04}", ACCEPTED, seal=Seal.KEY),
    Sort("sealed-nobody", 1, "+9991310261{:04}", ("failed recipient", "accepted"), seal=Seal.KEY),
    Sort("sealed-strangely", 1, "+1208557{:04}", ("failed no_key",), seal=Seal.STRANGE_KEY),
    Sort("sealed-field", 1, "+1208558{:04}", INVALID, form=Form.UNKNOWN_FIELD, seal=Seal.KEY),
    Sort("sealed-by-hand", 1, "+1208559{:04}", ACCEPTED, form=Form.FOREIGN, seal=Seal.KEY),
    *REPORTED,
)  # fmt: skip
