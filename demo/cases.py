"""What the demo sends, and what has to come of it: one case for each thing that can happen to a job.

The numbers on the right are written down by hand. Nothing here is computed from what otpost does.
"""

from __future__ import annotations

import secrets
import string
import time
from collections import Counter
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import Enum
from typing import TYPE_CHECKING, Final

import orjson

from otpost import OtpJob

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

_ALPHABET: Final = string.ascii_letters + string.digits
# Random letters and digits, unlike real codes: whoever finds one in a log can be sure that it leaked.
_CODE_CHARACTERS: Final = 10


class Form(Enum):
    """How a job is published: by our client, or as somebody else's program would, rightly or wrongly."""

    CLIENT = "by the client"
    FOREIGN = "a proper job, published by hand"
    NOT_JSON = "cut off in the middle"
    UNKNOWN_FIELD = "with a misspelt field"
    NO_NUMBER = "without a number"


@dataclass(frozen=True, slots=True)
class Case:
    """So many *jobs* to the number *to* (``{}``: a number of each job's own), and what has to come of them.

    *end* is the result that ends each of them; *reason* what its dead letter says, if it leaves one. *retries* and
    *requests* are sums over all jobs, *taken* is how many messages a handset gets of each. Times are in seconds,
    *not_before_s* from now on.
    """

    key: str
    label: str
    jobs: int
    to: str
    end: str
    requests: int
    reason: str = ""
    retries: int = 0
    taken: int = 0
    copies: int = 1
    ttl_s: float = 300.0
    age_s: float = 0.0
    not_before_s: float = 0.0
    sender: str = ""
    template: str | None = None
    form: Form = Form.CLIENT


# Recipients that begin with +999 and +990 make the simulator fail: see docs/simulator.md. The others meet RULES.
CASES: Final = (
    # The first of all: what it meets holds back the other jobs of its template, until they are too late.
    Case("template", "no template (132001)", 1, "+9991320010{:04}", "failed template", 1, "template", template="none"),
    Case("good", "good jobs", 300, "+1201555{:04}", "accepted", requests=300, taken=1),
    Case("twice", "each published twice", 10, "+1204555{:04}", "accepted", requests=10, taken=1, copies=2),
    Case("later", "not before 3 s from now", 10, "+1205555{:04}", "accepted", requests=10, taken=1, not_before_s=3),
    Case("throttled", "too fast (130429)", 20, "+1202555{:04}", "accepted", requests=40, retries=20, taken=1),
    Case("trouble", "trouble at Meta (131000)", 10, "+9991310002{:04}", "accepted", requests=30, retries=20, taken=1),
    Case("busy", "503, Retry-After: 2", 10, "+990071{:04}", "accepted", requests=20, retries=10, taken=1),
    Case("pair", "one recipient's limit", 3, "+99913105620001", "accepted", requests=5, retries=2, taken=1),
    Case("lost", "answer lost, sent again", 10, "+990031{:04}", "accepted", requests=20, retries=10, taken=2),
    Case(
        "lost-twice", "answer lost twice", 5, "+990032{:04}",
        "failed unknown", reason="unknown", requests=10, retries=5, taken=2,
    ),
    Case("nobody", "not on WhatsApp (131026)", 10, "+9991310260{:04}", "failed recipient", 10, "recipient"),
    Case("bad", "bad request (131009)", 5, "+9991310090{:04}", "failed bad_request", 5, "bad_request"),
    # Too late for the first probe, 5 s after the refusal, whenever they are looked at.
    Case("held", "its template is held back", 4, "+1209555{:04}", "expired", requests=0, ttl_s=8, template="none"),
    Case("unknown-code", "500, unknown code", 5, "+990170{:04}", "failed exhausted", 15, "exhausted", retries=10),
    Case("stale", "expired before it came", 10, "+1206555{:04}", "expired", requests=0, ttl_s=30, age_s=60),
    Case("too-late", "503 until it is too late", 5, "+1203555{:04}", "expired", requests=10, retries=5, ttl_s=45),
    # Its second request is the first probe, 5 s after the halt; the next one would come too late.
    Case(
        "token", "token refused (190)", 1, "+9990001900{:04}",
        "expired", requests=2, retries=2, ttl_s=20, sender="halted",
    ),
    Case("not-json", "not JSON", 3, "+1207555{:04}", "failed invalid_job", 0, "invalid_job", form=Form.NOT_JSON),
    Case("field", "unknown field", 3, "+1207556{:04}", "failed invalid_job", 0, "invalid_job", form=Form.UNKNOWN_FIELD),
    Case("number", "no number", 3, "+1207557{:04}", "failed invalid_job", 0, "invalid_job", form=Form.NO_NUMBER),
    Case(
        "no-sender", "no such sender", 5, "+1207558{:04}",
        "failed no_sender", requests=0, reason="no_sender", sender="nobody", form=Form.FOREIGN,
    ),
    Case("replay", "refused by mistake", 1, "+12085550001", "failed recipient", 1, "recipient"),
)  # fmt: skip

# What the simulator is told to answer beforehand. "times" counts over all jobs that a rule fits.
RULES: Final = (
    {"match": {"to_prefix": "+1202555"}, "times": 20, "answer": {"error": 130429}},
    {
        "match": {"to_prefix": "+1203555"},
        "times": 5,
        "answer": {"error": 131016, "http_status": 503, "retry_after": "1"},
    },
    # Later than the deadline: the job is given up at once, since nothing could come of waiting.
    {"match": {"to_prefix": "+1203555"}, "answer": {"error": 131016, "http_status": 503, "retry_after": "60"}},
    {"match": {"to": "+12085550001"}, "answer": {"error": 131026}},
)

# The one that is looked at as a dead letter; its rule is lifted before it is replayed.
REPLAYED: Final = Case("replay", "its replay (run 2)", 1, "", "accepted", requests=1, taken=1)
# Whose jobs have no id that anybody could read.
NAMELESS: Final = "not-json"


@dataclass(frozen=True, slots=True)
class Names:
    """What belongs to this run on a broker that others use too: senders and ids all begin with *marker*."""

    marker: str

    @classmethod
    def fresh(cls) -> Names:
        """Names that nobody has."""
        return cls(f"demo-{secrets.token_hex(3)}")

    @property
    def served(self) -> tuple[str, ...]:
        """The senders that the workers serve; a third one is missing on purpose."""
        return (self.marker, self.sender("halted"))

    def sender(self, suffix: str) -> str:
        """A sender of ours."""
        return f"{self.marker}-{suffix}" if suffix else self.marker

    def owns_sender(self, sender: str) -> bool:
        """Whether the sender is one of ours."""
        return sender == self.marker or sender.startswith(f"{self.marker}-")

    def job_id(self, case: Case, number: int) -> str:
        """The id of one job; it says which case it is of."""
        return f"{self.marker}:{case.key}:{number}"

    def case_of(self, job_id: str | None) -> str:
        """The case that a job of one of our senders is of."""
        marker, _, rest = (job_id or "").partition(":")
        return rest.partition(":")[0] if marker == self.marker else NAMELESS


@dataclass(frozen=True, slots=True)
class Planned:
    """One job of a case, ready to be published; *body* is what goes out where it is not the client that sends."""

    case: Case
    job: OtpJob
    sender: str
    body: bytes


def plan(cases: Iterable[Case], names: Names) -> list[Planned]:
    """Make all jobs, now."""
    return [planned for case in cases for planned in _plan(case, names)]


def _plan(case: Case, names: Names) -> Iterator[Planned]:
    now = time.time()
    for number in range(1, case.jobs + 1):
        job = OtpJob(
            id=names.job_id(case, number),
            to=case.to.format(number),
            code="".join(secrets.choice(_ALPHABET) for _ in range(_CODE_CHARACTERS)),
            created_at=datetime.fromtimestamp(now - case.age_s, UTC),
            ttl_s=case.ttl_s,
            template=case.template,
            not_before=datetime.now(UTC) + timedelta(seconds=case.not_before_s) if case.not_before_s else None,
        )
        yield Planned(case, job, names.sender(case.sender), _body(job, case.form))


def _body(job: OtpJob, form: Form) -> bytes:
    body = job.to_json()
    match form:
        case Form.CLIENT | Form.FOREIGN:
            return body
        case Form.NOT_JSON:
            return body[:-10]
        case Form.UNKNOWN_FIELD:
            return orjson.dumps({**orjson.loads(body), "expires_att": "2026-01-31T12:00:00Z"})
        case Form.NO_NUMBER:
            return orjson.dumps({name: value for name, value in orjson.loads(body).items() if name != "to"})


@dataclass(frozen=True, slots=True)
class Figures:
    """What became of one case's jobs: ends and dead letters by what they say, retries, requests."""

    ends: Counter[str]
    retries: int
    requests: int
    letters: Counter[str]


def expected(case: Case) -> Figures:
    """What has to come of a case."""
    letters = Counter({case.reason: case.jobs}) if case.reason else Counter[str]()
    return Figures(Counter({case.end: case.jobs}), case.retries, case.requests, letters)
