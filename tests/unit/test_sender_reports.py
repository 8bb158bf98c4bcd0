"""What webhooks say of a sender: whom they mean, what is held or released by them, and what the world is told."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Final

import pytest

from otpost.event import EventName, SenderEvent
from otpost.result import ResultError
from otpost_worker.envelope import Defaults
from otpost_worker.outcome import Error, Kind, Refused
from otpost_worker.pacing import Lane
from otpost_worker.sender_reports import (
    Account,
    category_changed,
    concerned,
    concerns_nobody,
    consequences,
    hear_failure,
    note_category,
)
from otpost_worker.standing import Heard, Said, Signal, Topic
from otpost_worker.updates import (
    AccountChange,
    Preference,
    ProviderError,
    ServiceTrouble,
    TemplateStatus,
    Update,
)
from ports_in_memory import NOW, envelope, job_body

OURS: Final = Account("default", "102", "106", 80.0, "quota-1", Defaults("verification_code", "en_US"))
OTHER: Final = Account("other", "103", "107", 40.0, "quota-2")
UNNAMED: Final = Account("unnamed", None, "108", 80.0, "quota-3")
AT: Final = NOW - 5
HALTED: Final = Error(Kind.SENDER_HALTED, 131042, "Payment", "see the account", 400, "trace-1")
TEMPLATE_REMEDY: Final = (
    "see the template in Meta's WhatsApp Manager; another approved one may be named in OTPOST_TEMPLATE"
)
ACCOUNT_REMEDY: Final = "see the account in Meta's WhatsApp Manager and Business Support Home"


def lane(template: str = "", language: str = "", recipient: str = "") -> Lane:
    return Lane("default", "quota-1", recipient, template, language, 80.0, 0.0, 0.0)


def told_error(error: Error) -> ResultError:
    """What the world hears of an error: all of it."""
    return ResultError(
        kind=error.kind.value,
        code=error.code,
        title=error.title,
        detail=error.detail,
        http_status=error.http_status,
        provider_trace_id=error.provider_trace_id,
    )


def moment(at: float) -> datetime:
    return datetime.fromtimestamp(at, UTC)


def follows(update: Update, error: Error = HALTED) -> tuple[Heard | None, SenderEvent]:
    (one,) = consequences(update, (OURS, OTHER), now=NOW, refusal_of=lambda _: Refused(error))
    assert one.event is not None
    assert one.sender == one.event.sender == "default"
    return one.heard, one.event


# Whom a webhook means


@pytest.mark.parametrize(
    ("account_id", "number_id", "named"),
    [
        ("102", None, ["default"]),
        ("103", None, ["other"]),
        ("999", None, []),
        (None, None, []),
        (None, "107", ["other"]),
        ("102", "107", ["other"]),
        ("102", "999", []),
    ],
)
def test_a_webhook_means_the_senders_of_its_number_or_else_of_its_account(
    account_id: str | None, number_id: str | None, named: list[str]
) -> None:
    accounts = (OURS, OTHER, UNNAMED)
    assert [one.sender for one in concerned(accounts, account_id=account_id, number_id=number_id)] == named


@pytest.mark.parametrize("account_id", ["102", None])
def test_a_sender_without_an_account_is_meant_only_where_it_is_the_only_one(account_id: str | None) -> None:
    assert concerned((UNNAMED,), account_id=account_id) == [UNNAMED]
    assert concerned((UNNAMED, OTHER), account_id=account_id) == []
    assert concerned((OTHER,), account_id=account_id) == []


def test_trouble_of_a_number_that_is_nobodys_concerns_nobody_whatever_its_account() -> None:
    assert concerns_nobody(ServiceTrouble("102", "999", ProviderError(131042)), (OURS,))
    assert not concerns_nobody(ServiceTrouble("999", "106", ProviderError(131042)), (OURS,))
    assert not concerns_nobody(AccountChange("102", "X", blocked=None, detail=None, at=AT), (OURS,))
    assert concerns_nobody(AccountChange("999", "X", blocked=None, detail=None, at=AT), (OURS,))


# What is held and released


@pytest.mark.parametrize("event", ["LOCKED", "LIMIT_EXCEEDED"])
@pytest.mark.parametrize(("reason", "why"), [("FIRST_PAUSE", " (FIRST_PAUSE)"), ("NONE", ""), (None, "")])
def test_a_closed_template_is_held_with_its_reason_and_told_at_the_providers_time(
    event: str, reason: str | None, why: str
) -> None:
    heard, told = follows(TemplateStatus("102", "login", "de", event, reason, AT, "the author should change it"))
    error = Error(Kind.TEMPLATE, title=f"The template is {event}{why}", detail="the author should change it")
    assert heard == Heard(
        lane("login", "de"),
        Signal.TEMPLATE_CLOSED,
        NOW,
        error=error,
        remedy=TEMPLATE_REMEDY,
        said=Said(Topic.STATUS, AT),
    )
    assert told == SenderEvent(
        event_id=f"default/login/de/halted/{event.lower()}/{round(AT) * 1000}",
        sender="default",
        name=EventName.HALTED,
        at=moment(AT),
        template="login",
        language="de",
        error=told_error(error),
    )


@pytest.mark.parametrize("event", ["APPROVED", "REINSTATED", "UNARCHIVED"])
def test_a_template_that_can_be_sent_again_is_released(event: str) -> None:
    heard, told = follows(TemplateStatus("102", "login", "de", event, "NONE", None))
    assert heard == Heard(
        lane("login", "de"), Signal.TEMPLATE_OPENED, NOW, said=Said(Topic.STATUS, NOW), by_report=True
    )
    assert (told.name, told.template, told.language, told.at) == (EventName.RESUMED, "login", "de", moment(NOW))


def test_a_blocked_account_halts_its_sender_and_says_which_word_did_it() -> None:
    heard, told = follows(AccountChange("102", "DISABLED_UPDATE", blocked=True, detail="DISABLE", at=AT))
    error = Error(Kind.SENDER_HALTED, title="The account is blocked: DISABLED_UPDATE", detail="DISABLE")
    assert heard == Heard(
        lane(), Signal.SENDER_REFUSED, NOW, error=error, remedy=ACCOUNT_REMEDY, said=Said(Topic.STATUS, AT)
    )
    assert (told.event_id, told.at) == (f"default/halted/disabled_update/{round(AT) * 1000}", moment(AT))
    assert told.error == told_error(error)


def test_a_reinstated_account_is_an_answer_of_its_sender() -> None:
    heard, told = follows(AccountChange("102", "DISABLED_UPDATE", blocked=False, detail="REINSTATE", at=AT))
    assert heard == Heard(lane(), Signal.ANSWERED, NOW, said=Said(Topic.STATUS, AT), by_report=True)
    assert (told.name, told.at, told.template) == (EventName.RESUMED, moment(AT), None)


def test_a_block_is_over_at_its_very_end_and_not_before() -> None:
    def held(until: float) -> bool:
        update = AccountChange("102", "ACCOUNT_RESTRICTION", blocked=True, detail=None, at=AT, until=until)
        return bool(consequences(update, (OURS,), now=NOW, refusal_of=lambda _: Refused(HALTED)))

    assert (held(NOW), held(NOW + 0.5)) == (False, True)


def test_an_error_that_belongs_to_no_message_halts_the_sender_of_its_number_where_it_would_in_an_answer() -> None:
    trouble = ServiceTrouble("103", "106", ProviderError(131042))
    (one,) = consequences(trouble, (OURS, OTHER), now=NOW, refusal_of=lambda _: Refused(HALTED))
    # What the world hears of it is what is new to the ledger.
    assert (one.sender, one.event) == ("default", None)
    assert one.heard == Heard(lane(), Signal.SENDER_REFUSED, NOW, error=HALTED, remedy=ACCOUNT_REMEDY, by_report=True)
    harmless = Refused(Error(Kind.UNAVAILABLE, 131016))
    assert consequences(trouble, (OURS,), now=NOW, refusal_of=lambda _: harmless) == []


def test_what_concerns_no_sender_has_no_consequence() -> None:
    assert consequences(Preference("stop"), (OURS,), now=NOW, refusal_of=lambda _: Refused(HALTED)) == []


# What a failure of a message says of its sender


def heard_of(refused: Refused, body: bytes, account: Account = OURS) -> Heard | None:
    return hear_failure(refused, account, envelope(body), claimed_at=NOW - 9, at=NOW - 1, now=NOW)


NAMED: Final = job_body(template="login", language="de")


def test_a_failure_that_halts_a_sender_sends_its_operator_to_the_account_and_not_to_an_answers_remedy() -> None:
    heard = heard_of(Refused(HALTED, remedy="look into the answer"), NAMED)
    assert heard is not None
    assert (heard.signal, heard.begun_at, heard.remedy) == (Signal.SENDER_REFUSED, NOW - 9, ACCOUNT_REMEDY)
    assert heard.lane == lane("login", "de", "+12015553931")


@pytest.mark.parametrize(
    ("body", "template", "language"),
    [(NAMED, "login", "de"), (job_body(), "verification_code", "en_US"), (b"", "verification_code", "en_US")],
    ids=["its own", "of the sender", "body gone"],
)
def test_a_failure_of_a_template_concerns_the_jobs_own_or_else_that_of_its_sender(
    body: bytes, template: str, language: str
) -> None:
    heard = heard_of(Refused(Error(Kind.TEMPLATE, 132015)), body)
    assert heard is not None
    assert (heard.signal, heard.remedy) == (Signal.TEMPLATE_REFUSED, TEMPLATE_REMEDY)
    assert (heard.lane.template, heard.lane.language) == (template, language)


def test_nothing_is_said_of_a_template_or_a_recipient_that_nobody_knows_any_more() -> None:
    bare = Account("default", "102", "106", 80.0, "quota-1")
    assert heard_of(Refused(Error(Kind.TEMPLATE, 132015)), b"", bare) is None
    assert note_category(Error(Kind.USER_LIMIT, 131049), bare, envelope(b""), at=AT, now=NOW) is None
    pair = Refused(Error(Kind.PAIR_LIMIT, 131056))
    assert heard_of(pair, b"") is None
    heard = heard_of(pair, NAMED)
    assert heard is not None
    assert heard.signal is Signal.PAIR_LIMITED


@pytest.mark.parametrize("kind", [Kind.RECIPIENT, Kind.USER_LIMIT, Kind.UNAVAILABLE])
def test_a_failure_of_one_message_says_nothing_of_its_sender(kind: Kind) -> None:
    assert heard_of(Refused(Error(kind, 1)), NAMED) is None


def test_a_failure_that_only_marketing_meets_is_noted_of_the_jobs_template_and_told_with_its_error() -> None:
    error = Error(Kind.USER_LIMIT, 131049, "Not delivered", "so it is", 400, "trace-1")
    noted = note_category(error, OURS, envelope(NAMED), at=AT, now=NOW)
    notice = "a message failed with 131049, which only MARKETING templates can meet: see its category"
    assert noted == Heard(lane("login", "de", "+12015553931"), Signal.NOTED, NOW, said=Said(Topic.CATEGORY, AT, notice))
    assert category_changed("default", error, key="job-1/1/1", at=AT) == SenderEvent(
        event_id="job-1/1/1/category_changed",
        sender="default",
        name=EventName.CATEGORY_CHANGED,
        at=moment(AT),
        detail="the provider treats the template as MARKETING: see its category in Meta's WhatsApp Manager",
        error=told_error(error),
    )
