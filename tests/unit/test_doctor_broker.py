"""What the doctor makes of a broker: its version, what is declared, who consumes, and what waits."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Final

import pytest

from otpost.declaring import QueueState
from otpost.differences import Finding as Difference
from otpost.differences import Trouble
from otpost.topology import topology
from otpost_worker.agreement import Same
from otpost_worker.doctor.broker import judge_broker, judge_version, unreachable
from otpost_worker.doctor.facts import BrokerFacts, Effects, ManagementFacts, NotAsked
from otpost_worker.doctor.policies import judge_management

if TYPE_CHECKING:
    from otpost_worker.doctor.findings import Finding

WHERE: Final = "amqp://guest@127.0.0.1:5672/"
WELL: Final = BrokerFacts(
    WHERE,
    "RabbitMQ",
    "3.10.8",
    (),
    {"otpost.jobs.default": QueueState(0, 2), "otpost.dead": QueueState(0, 0), "otpost.dropped": QueueState(0, 2)},
    Same(),
)
WANTED: Final = topology(["default"])
API: Final = "http://127.0.0.1:15672"


def told(findings: list[Finding]) -> list[tuple[str, str, str]]:
    return [(finding.level.value, finding.where, finding.what) for finding in findings]


def judged(facts: BrokerFacts, *, passive: bool = False) -> list[tuple[str, str, str]]:
    """Everything that is not well."""
    return [one for one in told(judge_broker(facts, ["default"], passive=passive)) if one[0] != "ok"]


def test_a_broker_that_is_well_is_told_so() -> None:
    assert told(judge_broker(WELL, ["default"], passive=False)) == [
        ("ok", WHERE, "RabbitMQ 3.10.8 answers"),
        ("ok", WHERE, "every exchange and queue is there, with the arguments that it needs"),
        ("ok", "otpost.jobs.default", "consumed by 2; 0 jobs wait"),
    ]


def test_what_keeps_us_from_it_is_told_apart_from_what_to_do() -> None:
    finding = unreachable(
        WHERE, f"{WHERE}: Connection refused; does RabbitMQ run there? If not: check OTPOST_BROKER_URL"
    )
    assert (finding.level.value, finding.what) == ("problem", "Connection refused")
    assert finding.remedy == "does RabbitMQ run there? If not: check OTPOST_BROKER_URL"


@pytest.mark.parametrize(
    ("version", "level"),
    [
        ("3.10.0", "ok"), ("3.13.7", "ok"), ("4.0.5", "ok"), ("4.2.9", "ok"),
        ("4.3.0", "warning"), ("4.3.4", "warning"), ("4.3.5", "ok"),
        ("4.3.5-rc.1", "ok"), ("4.4.0", "ok"), ("5.0.0", "ok"), ("unknown", "warning"),
    ],
)  # fmt: skip
def test_versions_with_faults_in_what_the_ladder_is_made_of_are_warned_of(version: str, level: str) -> None:
    assert judge_version(replace(WELL, version=version)).level.value == level


def test_another_broker_is_warned_of() -> None:
    finding = judge_version(replace(WELL, product="LavinMQ", version="2.0.0"))
    assert (finding.level.value, finding.what) == ("warning", "it answers as LavinMQ 2.0.0")


def test_what_is_missing_is_one_finding_and_each_difference_is_one() -> None:
    names = ("otpost.dead", "otpost.checks", "otpost.webhooks", "otpost.results", "otpost.dropped")
    missing = tuple(Difference("queue", name, Trouble.MISSING) for name in names)
    differs = Difference("queue", "otpost.jobs.us", Trouble.DIFFERS, "x-delivery-limit", "20", "7")
    assert judged(replace(WELL, differences=(*missing, differs))) == [
        ("problem", WHERE, "missing: queue otpost.dead, queue otpost.checks, queue otpost.webhooks and 2 more"),
        ("problem", "otpost.jobs.us", "queue otpost.jobs.us: x-delivery-limit is 7, should be 20"),
    ]


def test_what_somebody_else_provides_may_differ_on_purpose() -> None:
    differs = Difference("queue", "otpost.dead", Trouble.DIFFERS, "x-message-ttl", "1209600000", "5")
    [(level, _, _)] = judged(replace(WELL, differences=(differs,)), passive=True)
    assert level == "warning"


def test_what_may_not_be_compared_is_one_warning() -> None:
    unchecked = tuple(
        Difference("queue", f"q{number}", Trouble.UNCHECKED, detail="ACCESS_REFUSED") for number in range(5)
    )
    [finding] = [
        finding
        for finding in judge_broker(replace(WELL, differences=unchecked), [], passive=False)
        if finding.check == "topology"
    ]
    assert (finding.level.value, finding.what) == (
        "warning",
        "not compared: queue q0, queue q1, queue q2 and 2 more (ACCESS_REFUSED)",
    )
    assert finding.remedy == "give the user the right to configure 'otpost.*'"


def test_what_waits_and_what_nobody_consumes_is_told() -> None:
    queues = {
        "otpost.jobs.default": QueueState(1, 0), "otpost.dead": QueueState(3, 0), "otpost.dropped": QueueState(4, 0),
    }  # fmt: skip
    assert judged(replace(WELL, queues=queues)) == [
        ("problem", "otpost.jobs.default", "nobody consumes it; 1 job waits"),
        ("warning", "otpost.dead", "3 dead letters wait"),
        ("problem", "otpost.dropped", "4 messages that the broker gave up on wait to be ended"),
    ]
    [dropped] = judged(replace(WELL, queues={"otpost.dropped": QueueState(4, 1)}))
    assert dropped[0] == "warning"


def test_what_could_not_be_asked_is_a_warning_and_hides_nothing() -> None:
    silent = NotAsked("the broker did not answer within 10 s; is it overloaded?")
    assert judged(replace(WELL, differences=silent, queues=silent)) == [
        ("warning", WHERE, "the broker did not answer within 10 s"),
        ("warning", WHERE, "the broker did not answer within 10 s"),
    ]


# -- policies and bindings -----------------------------------------------------------------------------


def managed(**policies: dict[str, object]) -> list[tuple[str, str, str]]:
    """Judge a policy on each of these queues, whose names have _ for the dot."""
    effects = {name.replace("_", "."): Effects("p", None, definition) for name, definition in policies.items()}
    return told(judge_management(ManagementFacts(API, effects, frozenset(WANTED.bindings)), API, WANTED))


BOUND: Final = ("ok", API, "every binding is there")
UNTOUCHED: Final = ("ok", API, "no policy changes what the queues were declared with")


def test_without_a_policy_all_is_well() -> None:
    assert managed() == [UNTOUCHED, BOUND]


@pytest.mark.parametrize(
    "definition",
    [
        {"queue-leader-locator": "balanced"},
        {"delayed-retry-type": "failed", "delayed-retry-min": 1000},
        {"ha-mode": "all", "max-in-memory-length": 10},
        {"dead-letter-exchange": "elsewhere", "overflow": "drop-head"},  # the arguments count
        {"delivery-limit": 20},
        {"delivery-limit": 100},
    ],
)
def test_a_policy_without_effect_on_a_job_queue_is_no_finding(definition: dict[str, object]) -> None:
    assert managed(otpost_jobs_default=definition) == [UNTOUCHED, BOUND]


@pytest.mark.parametrize(
    ("queue", "key", "value", "level", "what"),
    [
        ("otpost_jobs_default", "max-length", 5, "problem", "beyond 5 messages it refuses or loses what comes"),
        ("otpost_jobs_default", "message-ttl", 9, "problem", "what waits there for 9 ms is taken away"),
        (
            "otpost_jobs_default",
            "delivery-limit",
            3,
            "problem",
            "a message that was given back 3 times is gone from it",
        ),
        ("otpost_jobs_default", "expires", 60, "problem", "the queue is deleted where nobody has used it for 60 ms"),
        ("otpost_delay_14", "message-ttl", 1000, "problem", "what waits there for 1000 ms is taken away"),
        ("otpost_delay_14", "dead-letter-routing-key", "x", "problem", "what leaves it carries the routing key x"),
        ("otpost_dead", "message-ttl", 1000, "warning", "what waits there for 1000 ms is taken away"),
        ("otpost_dead", "delivery-limit", 20, "problem", "a message that was given back 20 times is gone from it"),
        ("otpost_dead", "dead-letter-exchange", "x", "warning", "what leaves it goes to the exchange x too"),
        ("otpost_results", "max-age", "1D", "warning", "results are kept for 1D at the longest"),
        ("otpost_results", "max-length-bytes", 1000, "warning", "beyond 1000 bytes it refuses or loses what comes"),
        ("otpost_checks", "consumer-timeout", 1000, "warning", "a job that is in hand for more than 1000 ms"),
        ("otpost_checks", "from-the-future", 1, "warning", "what comes of that for otpost is not known"),
    ],
)
def test_what_a_policy_does_to_a_queue_is_told(queue: str, key: str, value: object, level: str, what: str) -> None:
    [finding, bound] = managed(**{queue: {key: value}})
    assert finding[0] == level
    assert finding[1] == queue.replace("_", ".")
    assert finding[2].startswith(f"the policy 'p' sets {key}={value}: {what}")
    assert bound == BOUND


def test_streams_know_no_time_to_live() -> None:
    assert managed(otpost_results={"message-ttl": 1, "max-length": 1, "delivery-limit": 1}) == [UNTOUCHED, BOUND]


def test_one_policy_on_many_queues_is_one_finding_and_both_kinds_are_named() -> None:
    effects = Effects("ours", "theirs", {"expires": 60})
    facts = ManagementFacts(API, {queue.name: effects for queue in WANTED.queues}, frozenset(WANTED.bindings))
    [finding, _] = told(judge_management(facts, API, WANTED))
    level, where, what = finding
    assert (level, where) == ("problem", "otpost.dropped, otpost.dead, otpost.webhooks and 17 more")
    assert what == (
        "the policy 'ours' and operator policy 'theirs' sets expires=60: the queue is deleted where nobody has used it "
        "for 60 ms"
    )


def test_a_missing_binding_is_told() -> None:
    facts = ManagementFacts(API, {}, frozenset(WANTED.bindings[1:]))
    [_, finding] = told(judge_management(facts, API, WANTED))
    assert finding == ("problem", API, "missing: otpost.dropped → otpost.dropped ()")


def test_a_management_api_that_was_not_asked_is_a_warning() -> None:
    why = "the management API does not answer at http://x (refused); 'rabbitmq-plugins enable …' turns it on"
    [finding] = judge_management(NotAsked(why), API, WANTED)
    assert (finding.level.value, finding.remedy) == ("warning", "'rabbitmq-plugins enable …' turns it on")
    assert finding.what == (
        "policies and bindings could not be looked at: the management API does not answer at http://x (refused)"
    )
