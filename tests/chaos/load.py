"""The jobs of a run: good ones, and each kind of bad one, in an order and at moments that the seed decides.

What may become of each kind is written down by hand. Nothing here is computed from what otpost does.
"""

from __future__ import annotations

import string
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from enum import Enum
from typing import TYPE_CHECKING, Final

import orjson

if TYPE_CHECKING:
    from collections.abc import Mapping
    from random import Random

    from otpost.sealing import PublicKey

# Whoever finds one of these ten letters and digits in a file can be sure that it leaked.
_ALPHABET: Final = string.ascii_letters + string.digits
_CODE_CHARACTERS: Final = 10
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
    for that trouble. Times in seconds; *age_s* before it is published it was created.
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


ACCEPTED: Final = ("accepted",)
INVALID: Final = ("failed invalid_job",)

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
    Sort("lost-twice", 1, "+990032{:04}", ("failed unknown",)),
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
)  # fmt: skip
_CROWDED: Final = Sort("crowd", 0, "+12025550100", ACCEPTED)
_COPIES: Final = Sort("copy", 0, "+1207560{:04}", INVALID, form=Form.COPY)
_COPIES_PER_HUNDRED: Final = 1


@dataclass(frozen=True, slots=True)
class Draft:
    """A job that will be published at *at_s*, in seconds since the beginning; *id* is what its body says."""

    sort: Sort
    at_s: float
    id: str
    to: str
    code: str

    @property
    def told_id(self) -> str | None:
        """The id that a reader can read off its body."""
        return None if self.sort.form is Form.NOT_JSON else self.id

    def body(self, now: float, keys: Mapping[Seal, PublicKey]) -> bytes:
        """Write the job, made at *now* (Unix seconds), its code sealed with one of *keys* where it has to be."""
        key = keys.get(self.sort.seal)
        code = {"code": self.code} if key is None else {"sealed_code": key.seal(self.code.encode())}
        fields: dict[str, object] = {
            "id": self.id,
            "to": self.to,
            "created_at": _rfc3339(now - self.sort.age_s),
            "ttl_s": self.sort.ttl_s,
            **code,
        }
        if self.sort.not_before_s:
            fields["not_before"] = _rfc3339(now + self.sort.not_before_s)
        if self.sort.template:
            fields["template"] = self.sort.template
        match self.sort.form:
            case Form.UNKNOWN_FIELD | Form.COPY:
                fields["expires_att"] = "2026-01-31T12:00:00Z"
            case Form.NO_NUMBER:
                del fields["to"]
            case Form.NOT_JSON:
                return orjson.dumps(fields)[:-10]
            case Form.CLIENT | Form.FOREIGN:
                pass
        return orjson.dumps(fields)


def _rfc3339(moment: float) -> str:
    return datetime.fromtimestamp(moment, UTC).isoformat()


def plan_jobs(dice: Random, *, jobs: int, crowd: int, crowd_ttl_s: float, span_s: float, prefix: str) -> list[Draft]:
    """Draw about *jobs* jobs, published within *span_s* seconds, in the order of their publication.

    *crowd* of them go to one recipient. It may get 45 messages at once: more show whether its bucket is counted. How
    many of those get a turn within their *crowd_ttl_s*, one every 6 s, decides how long it all takes.
    """
    sorts = [sort for sort in SORTS for _ in range(max(1, round(sort.share * jobs / 100)) if sort.share else 0)]
    sorts += [replace(_CROWDED, ttl_s=crowd_ttl_s)] * crowd
    sorts += [SORTS[0]] * max(0, jobs - len(sorts) - _copies(jobs))
    dice.shuffle(sorts)
    drafts = [
        _draft(dice, sort, number, span_s * number / len(sorts), prefix) for number, sort in enumerate(sorts, start=1)
    ]
    good = [draft for draft in drafts if draft.sort.name == "good"]
    drafts += [_second_copy(dice, draft, span_s) for draft in drafts if draft.sort.copies > 1]
    drafts += [_spoilt_copy(dice, one, number) for number, one in enumerate(dice.sample(good, _copies(jobs)), start=1)]
    return sorted(drafts, key=lambda draft: draft.at_s)


def _copies(jobs: int) -> int:
    return max(1, jobs * _COPIES_PER_HUNDRED // 100)


def _draft(dice: Random, sort: Sort, number: int, at_s: float, prefix: str) -> Draft:
    job_id = f"{prefix}-{sort.name}-{number}"
    return Draft(sort, at_s, job_id, sort.to.format(number), _code(dice))


def _code(dice: Random) -> str:
    return "".join(dice.choices(_ALPHABET, k=_CODE_CHARACTERS))


def _second_copy(dice: Random, draft: Draft, span_s: float) -> Draft:
    """The same job again, a moment or a while later: the first may be under way or have ended."""
    return Draft(draft.sort, draft.at_s + dice.choice([0.0, 0.05, 1.0, span_s / 2]), draft.id, draft.to, draft.code)


def _spoilt_copy(dice: Random, draft: Draft, number: int) -> Draft:
    """Somebody else's body under the same id, which is no job, once the first has had time to begin."""
    return Draft(_COPIES, draft.at_s + 2.0, draft.id, _COPIES.to.format(number), _code(dice))
