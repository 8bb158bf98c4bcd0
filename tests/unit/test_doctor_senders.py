"""What the doctor makes of the ledger, of the senders, and of what the provider says of their numbers."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import orjson
import pytest

from otpost_worker.agreement import Comparison, NoMark, NotCompared, Other, Same
from otpost_worker.doctor.facts import LedgerFacts, LedgerTrouble, NotAsked, ProviderFacts
from otpost_worker.doctor.ledger import judge_ledger, judge_senders
from otpost_worker.doctor.provider import judge_clock, judge_provider
from otpost_worker.outcome import Error, Kind
from otpost_worker.pacing import Hold
from otpost_worker.ports import HoldReport, Notice, SenderReport
from otpost_worker.providers.cloud_api_health import (
    Entity,
    Health,
    NoAnswer,
    NumberHealth,
    Obstacle,
    QuestionRefused,
    health_of,
)
from otpost_worker.standing import Topic

if TYPE_CHECKING:
    from otpost_worker.doctor.findings import Finding

# 2009-02-13T23:31:30Z
THEN: Final = 1234567890.0
FILE: Final = "/var/lib/otpost/otpost.db"
LEDGER: Final = LedgerFacts(FILE, "ours", True, {})  # noqa: FBT003 - writable
URL: Final = "http://graph.example/v25.0/1"
SOURCE: Final = "/run/token"


def told(findings: list[Finding]) -> list[tuple[str, str]]:
    return [(finding.level.value, finding.what) for finding in findings]


# -- the ledger ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("shared", "level", "what"),
    [
        (Same(), "ok", "it is the one that the workers of this broker share"),
        (Other("theirs"), "problem", "the workers of this broker share another one, theirs"),
        (Other(None), "problem", "the workers of this broker share another one, which it does not tell"),
        (NoMark(), "warning", "no worker has told the broker yet which ledger it uses"),
        (NotCompared("ACCESS_REFUSED; give the right"), "warning", "it cannot be compared: ACCESS_REFUSED"),
        (NotAsked("no answer"), "warning", "it cannot be compared: no answer"),
    ],
)
def test_our_ledger_has_to_be_the_one_that_the_workers_share(
    shared: Comparison | NotAsked, level: str, what: str
) -> None:
    assert told(judge_ledger(LEDGER, shared)) == [
        ("ok", "it can be read and written; its identity is ours"),
        (level, what),
    ]


def test_without_a_broker_nothing_is_said_of_what_its_workers_share() -> None:
    assert len(judge_ledger(LEDGER, None)) == 1


def test_a_ledger_that_this_user_may_not_write_is_warned_of() -> None:
    readable = LedgerFacts(FILE, "ours", False, {})  # noqa: FBT003 - writable
    assert told(judge_ledger(readable, None)) == [("warning", "it can be read, but not written by this user")]


def test_what_may_lose_the_ledgers_contents_is_warned_of() -> None:
    unsafe = LedgerFacts("redis://redis:6379/0", "ours", True, {}, ("its appendonly is off; set appendonly yes",))  # noqa: FBT003 - writable
    [_, finding] = judge_ledger(unsafe, None)
    assert (finding.level.value, finding.what, finding.remedy) == (
        "warning", "its appendonly is off", "set appendonly yes",
    )  # fmt: skip


def test_where_no_worker_has_run_a_missing_ledger_is_no_problem() -> None:
    missing = LedgerTrouble(FILE, f"there is no ledger {FILE}; check OTPOST_LEDGER_URL", missing=True)
    assert told(judge_ledger(missing, NoMark())) == [("warning", f"there is no ledger {FILE}")]
    [finding] = judge_ledger(missing, Other("theirs"))
    assert told([finding]) == [("problem", f"there is no ledger {FILE}; the workers of this broker share theirs")]
    assert finding.remedy == "check OTPOST_LEDGER_URL; let OTPOST_LEDGER_URL name the ledger that the workers use"


def test_a_ledger_that_cannot_be_read_is_a_problem() -> None:
    broken = LedgerTrouble(FILE, "the ledger cannot be read: disk I/O error; run this as root", missing=False)
    [finding] = judge_ledger(broken, None)
    assert told([finding]) == [("problem", "the ledger cannot be read: disk I/O error")]
    assert finding.remedy == "run this as root"


# -- the senders ---------------------------------------------------------------------------------------


def held(**fields: Any) -> SenderReport:  # noqa: ANN401 - those of HoldReport
    given: dict[str, Any] = {
        "hold": Hold(THEN, THEN + 60),
        "template": None,
        "language": None,
        "error": Error(Kind.SENDER_HALTED, code=190, title="Session has expired"),
        "remedy": "put a new token into /run/token",
    }
    return SenderReport(80.0, None, (HoldReport(**(given | fields)),))


def judged(report: SenderReport) -> list[Finding]:
    return judge_senders({"default": report}, {"default": 80.0}, {"default": ("login", "en_US")})


def test_a_sender_that_is_not_held_is_told_so() -> None:
    assert told(judged(SenderReport(80.0, None, ()))) == [("ok", "it is not held; 80 messages a second")]


def test_what_the_provider_warned_of_by_webhook_is_a_warning() -> None:
    notices = (
        Notice(Topic.QUALITY, "login", "en_US", "its quality is RED", THEN),
        Notice(Topic.ACCOUNT, None, None, "ACCOUNT_VIOLATION, SCAM", THEN + 1),
    )
    [red, violation, last] = judged(SenderReport(80.0, None, (), notices))
    assert told([red, violation, last]) == [
        ("warning", "template login (en_US): its quality is RED; said at 2009-02-13T23:31:30.000Z"),
        ("warning", "ACCOUNT_VIOLATION, SCAM; said at 2009-02-13T23:31:31.000Z"),
        ("ok", "it is not held; 80 messages a second"),
    ]
    assert red.remedy is not None
    assert red.remedy.startswith("see it in Meta's WhatsApp Manager")


def test_a_halted_sender_is_a_problem_with_its_reason_its_probe_and_its_remedy() -> None:
    [finding] = judged(held())
    assert finding.level.value == "problem"
    assert finding.what == (
        "halted since 2009-02-13T23:31:30.000Z: Session has expired (code 190); a job tries again from "
        "2009-02-13T23:32:30.000Z on"
    )
    assert finding.where == "sender default"
    assert finding.remedy == "put a new token into /run/token"


def test_a_template_that_is_held_back_is_named() -> None:
    [finding] = judged(held(template="login", language="en_US", error=None, remedy=None))
    assert finding.what.startswith(
        "template login (en_US) held back since 2009-02-13T23:31:30.000Z; a job tries again from "
    )
    assert finding.remedy == "it ends by itself once the provider takes a message"


@pytest.mark.parametrize(
    ("template", "error", "level"),
    [
        ("login", Error(Kind.TEMPLATE, title="The template is PAUSED"), "problem"),
        ("newsletter", Error(Kind.TEMPLATE, title="The template is REJECTED"), "warning"),
        ("newsletter", Error(Kind.TEMPLATE, code=132015, title="Template paused"), "problem"),
    ],
)
def test_a_template_that_no_job_is_known_to_use_is_no_problem(template: str, error: Error, level: str) -> None:
    [finding] = judged(held(template=template, language="en_US", error=error))
    assert finding.level.value == level


@pytest.mark.parametrize("default", [(None, None), ("newsletter", None), (None, "en_US")])
def test_where_jobs_name_their_templates_themselves_any_may_be_theirs(default: tuple[str | None, str | None]) -> None:
    report = held(template="newsletter", language="en_US", error=None)
    [finding] = judge_senders({"default": report}, {"default": 80.0}, {"default": default})
    assert finding.level.value == "problem"


def test_a_pause_and_a_lower_rate_are_warned_of() -> None:
    assert told(judged(SenderReport(40.0, THEN, ()))) == [
        ("warning", "the quota of its app or account is used up; nothing is sent until 2009-02-13T23:31:30.000Z"),
        ("warning", "it sends 40 messages a second in place of 80, as the provider found it too fast"),
    ]


# -- the provider --------------------------------------------------------------------------------------


def provider(health: Health, offset_s: float | None = 0.0) -> ProviderFacts:
    return ProviderFacts("default", URL, health, offset_s)


def entity(can_send: str, *obstacles: Obstacle) -> NumberHealth:
    return NumberHealth(can_send, (Entity("WABA", "102", can_send, obstacles), Entity("APP", "6", "AVAILABLE", ())))


@pytest.mark.parametrize(
    ("health", "findings"),
    [
        (NumberHealth("AVAILABLE", ()), [("ok", "the token is good, and the number can send")]),
        (NumberHealth("BLOCKED", ()), [("problem", "the number: BLOCKED")]),
        (entity("LIMITED"), [("warning", "WABA 102: LIMITED")]),
        (entity("SOMETHING_NEW"), [("warning", "WABA 102: SOMETHING_NEW")]),
        (
            entity("BLOCKED", Obstacle(141006, "No payment method.", "Add one."), Obstacle(None, "Unverified.", None)),
            [
                ("problem", "WABA 102: BLOCKED: No payment method. (code 141006)"),
                ("problem", "WABA 102: BLOCKED: Unverified."),
            ],
        ),
        (NoAnswer("no connection to the provider in time"), [("problem", "no connection to the provider in time")]),
        (
            QuestionRefused(190, 401, "Session has expired", "a new token"),
            [("problem", "the token is refused: Session has expired (code 190)")],
        ),
        (
            QuestionRefused(4, 400, "Too many calls", "?"),
            [("warning", "it was asked too often: Too many calls (code 4)")],
        ),
        (
            # Sending needs fewer rights than looking.
            QuestionRefused(200, 403, "Permissions error", "?"),
            [("warning", "it does not tell how the number is: Permissions error (code 200)")],
        ),
        (
            QuestionRefused(None, 502, "HTTP status 502", "?"),
            [("warning", "it does not tell how the number is: HTTP status 502 (HTTP status 502)")],
        ),
    ],
)
def test_what_the_provider_says_is_judged(health: Health, findings: list[tuple[str, str]]) -> None:
    assert told(judge_provider(provider(health))) == findings


def test_the_providers_own_solution_is_the_remedy() -> None:
    [finding] = judge_provider(provider(entity("BLOCKED", Obstacle(141006, "No payment method.", "Add one."))))
    assert (finding.where, finding.remedy) == (f"sender default, {URL}", "Add one.")


def answer(**fields: object) -> bytes:
    return orjson.dumps(fields)


@pytest.mark.parametrize(
    ("status", "body", "health"),
    [
        (
            200,
            answer(
                health_status={
                    "can_send_message": "BLOCKED",
                    "entities": [
                        {
                            "entity_type": "WABA", "id": "102", "can_send_message": "BLOCKED",
                            "errors": [
                                {"error_code": 141006, "error_description": "D", "possible_solution": "S"},
                                {"error_code": "x"}, "nonsense",
                            ],
                            "additional_info": ["A", "", 7],
                        },
                        {"entity_type": 5}, "nonsense",
                    ],
                }
            ),
            NumberHealth(
                "BLOCKED",
                (
                    Entity(
                        "WABA", "102", "BLOCKED",
                        (Obstacle(141006, "D", "S"), Obstacle(None, "no description", None), Obstacle(None, "A", None)),
                    ),
                    Entity("?", "?", "?", ()),
                ),
            ),
        ),
        (200, answer(health_status={}), NumberHealth("?", ())),
        (200, b"<html>", NoAnswer("what answers there is not the Cloud API (HTTP status 200)")),
        (502, None, NoAnswer("what answers there is not the Cloud API (HTTP status 502)")),
        (
            401, answer(error={"message": "Session has expired", "code": 190}),
            QuestionRefused(
                190, 401, "Session has expired",
                "the access token is expired, revoked or wrong: put a new one into /run/token; then restart the "
                "workers",
            ),
        ),
        (500, answer(error={"code": True}), QuestionRefused(
            None, 500, "HTTP status 500",
            "check OTPOST_API_BASE, OTPOST_API_VERSION and the token from /run/token",
        )),
    ],
)  # fmt: skip
def test_an_answer_is_read_whatever_is_in_it(status: int, body: bytes | None, health: Health) -> None:
    assert health_of(status, body, token_source=SOURCE) == health


# -- the clock -----------------------------------------------------------------------------------------


def test_the_worst_clock_counts() -> None:
    well = provider(NumberHealth("AVAILABLE", ()), 3.0)
    off = ProviderFacts("other", "http://other.example", NoAnswer("?"), -95.0)
    [finding] = judge_clock([well, off])
    assert (finding.level.value, finding.where) == ("problem", "http://other.example")
    assert finding.what == "the clock of this machine is 95 s behind that of the provider, so codes expire too late"
    assert finding.remedy == "set the one that is wrong (timedatectl and chronyc tell which)"
    assert told(judge_clock([well])) == [("ok", "ours agrees with the provider's")]


def test_without_an_answer_nothing_is_said_of_clocks() -> None:
    assert judge_clock([provider(NoAnswer("?"), None)]) == []
