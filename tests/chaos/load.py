"""The jobs of a run, in an order and at moments that the seed decides."""

from __future__ import annotations

import string
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final

import orjson

from chaos.sorts import ACCEPTED, INVALID, SORTS, Form, Seal, Sort

if TYPE_CHECKING:
    from collections.abc import Mapping
    from random import Random

    from otpost.sealing import PublicKey

# Whoever finds one of these ten letters and digits in a file can be sure that it leaked.
_ALPHABET: Final = string.ascii_letters + string.digits
_CODE_CHARACTERS: Final = 10
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


def plan_jobs(
    dice: Random, *, jobs: int, crowd: int, crowd_ttl_s: float, span_s: float, prefix: str, is_short: bool
) -> list[Draft]:
    """Draw about *jobs* jobs, published within *span_s* seconds, in the order of their publication.

    *crowd* more go to one recipient. It may get 45 messages at once: more show whether its bucket is counted. How
    many of those get a turn within their *crowd_ttl_s*, one every 6 s, decides how long it all takes. *is_short*: jobs
    that need long by themselves are left out.
    """
    kinds = [sort for sort in SORTS if sort.share and not (is_short and sort.is_long)]
    sorts = [sort for sort in kinds for _ in range(max(1, round(sort.share * jobs / 100)))]
    sorts += [SORTS[0]] * max(0, jobs - len(sorts) - _copies(jobs))
    sorts += [replace(_CROWDED, ttl_s=crowd_ttl_s)] * crowd
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
