"""What the doctor makes of webhooks: the settings, the two queues, and whether any report comes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import pytest

from otpost.declaring import QueueState
from otpost_worker.agreement import Same
from otpost_worker.doctor.facts import BrokerFacts, Expecting, Heard, NotAsked
from otpost_worker.doctor.webhooks import judge_expecting, judge_heard, judge_webhook_queues

if TYPE_CHECKING:
    from otpost_worker.doctor.findings import Finding

WHOLE: Final = Expecting(app_secret=True, verify_token=True, account=True)
ALONE: Final = Expecting(app_secret=True, verify_token=True, account=False)
WORKERS: Final = Expecting(app_secret=True, verify_token=False, account=True)
NOTHING: Final = Expecting(app_secret=False, verify_token=False, account=False)
WATCHED: Final = "deliveries are watched"
UNWATCHED: Final = (
    "no app secret: no deliveries are watched, and 'accepted' is the last that is heard (docs/webhooks.md)"
)
NO_ACCOUNT: Final = "no business account is named: webhooks about its templates and its account are not heard"
WEBHOOKS: Final = "otpost.webhooks"
CHECKS: Final = "otpost.checks"


def told(findings: list[Finding]) -> list[tuple[str, str, str]]:
    # Whatever is not well has a remedy.
    assert all((one.remedy is None) == (one.level.value == "ok") for one in findings)
    return [(one.level.value, one.where, one.what) for one in findings]


@pytest.mark.parametrize(
    ("senders", "findings"),
    [
        ({}, []),
        ({"default": ALONE}, [("ok", "sender default", WATCHED)]),
        ({"default": NOTHING}, [("ok", "sender default", UNWATCHED)]),
        (
            {"default": WORKERS},
            [
                (
                    "ok",
                    "sender default",
                    f"{WATCHED}; no verify token here, which 'otpost webhook' needs (OTPOST_VERIFY_TOKEN)",
                )
            ],
        ),
        ({"at": WHOLE, "de": WORKERS}, [("ok", "senders at, de", WATCHED)]),
        (
            {"at": WHOLE, "de": ALONE, "us": NOTHING},
            [
                ("ok", "sender us", UNWATCHED),
                ("ok", "senders at, de", WATCHED),
                ("warning", "sender de", NO_ACCOUNT),
            ],
        ),
        ({"at": NOTHING, "de": NOTHING}, [("ok", "senders at, de", UNWATCHED)]),
    ],
    ids=["no sender", "one", "unwatched", "as workers have it", "two", "some of each", "none watched"],
)
def test_the_settings_tell_what_can_be_reported(
    senders: dict[str, Expecting], findings: list[tuple[str, str, str]]
) -> None:
    assert told(judge_expecting(senders)) == findings


def facts(webhooks: QueueState | None, checks: QueueState | None) -> BrokerFacts:
    return BrokerFacts("amqp://guest@127.0.0.1/", "RabbitMQ", "4.0.5", (), {WEBHOOKS: webhooks, CHECKS: checks}, Same())


@pytest.mark.parametrize(
    ("sender", "webhooks", "checks", "findings"),
    [
        (
            WHOLE,
            QueueState(1, 0),
            QueueState(0, 0),
            [
                ("problem", WEBHOOKS, "nobody consumes it; 1 webhook waits"),
                ("problem", CHECKS, "nobody consumes it; 0 checks wait"),
            ],
        ),
        (
            WHOLE,
            QueueState(0, 2),
            QueueState(1, 2),
            [("ok", WEBHOOKS, "consumed by 2; 0 webhooks wait"), ("ok", CHECKS, "consumed by 2; 1 check waits")],
        ),
        (NOTHING, QueueState(0, 0), QueueState(0, 0), []),
        (NOTHING, QueueState(0, 2), QueueState(0, 2), []),
        # Of a sender that was watched, or of somebody else's.
        (
            NOTHING,
            QueueState(12, 0),
            QueueState(3, 0),
            [
                ("problem", WEBHOOKS, "nobody consumes it; 12 webhooks wait"),
                ("problem", CHECKS, "nobody consumes it; 3 checks wait"),
            ],
        ),
        (WHOLE, None, None, []),
    ],
    ids=["nobody reads", "read", "not needed", "not needed but read", "piled up", "missing"],
)
def test_what_piles_up_without_a_reader_is_a_problem(
    sender: Expecting, webhooks: QueueState | None, checks: QueueState | None, findings: list[tuple[str, str, str]]
) -> None:
    assert told(judge_webhook_queues(facts(webhooks, checks), {"default": sender})) == findings


def test_what_cannot_be_asked_is_told_with_the_other_queues() -> None:
    unasked = BrokerFacts("amqp://guest@127.0.0.1/", "RabbitMQ", "4.0.5", (), NotAsked("no answer"), Same())
    assert judge_webhook_queues(unasked, {"default": WHOLE}) == []


@pytest.mark.parametrize(
    ("heard", "findings"),
    [
        (None, []),
        (Heard(3600, 0, reported=False), []),
        (Heard(3600, 0, reported=True), [("ok", "the provider reports what became of messages")]),
        (Heard(3600, 9, reported=True), [("ok", "the provider reports what became of messages")]),
        (
            Heard(3600, 1, reported=False),
            [("warning", "1 message was accepted in the last 60 minutes, and not one report came")],
        ),
        (
            Heard(3600, 20, reported=False),
            [("warning", "20 messages were accepted in the last 60 minutes, and not one report came")],
        ),
        (NotAsked("ACCESS_REFUSED; give the right"), [("warning", "ACCESS_REFUSED")]),
    ],
)
def test_silence_is_told_once_something_should_have_come(
    heard: Heard | NotAsked | None, findings: list[tuple[str, str]]
) -> None:
    assert [(level, what) for level, _, what in told(judge_heard(heard))] == findings
