"""Reading what RabbitMQ says of a declaration that differs; the texts are those of RabbitMQ 3.10.8."""

from __future__ import annotations

from typing import Final

import pytest

from otpost.declaring import TopologyDiffers
from otpost.differences import Finding, Trouble, current_value, difference, missing, unchecked
from otpost.topology import Exchange, Queue

DEAD: Final = Queue("otpost.dead", {"x-queue-type": "quorum", "x-message-ttl": 1209600000})
JOBS: Final = Exchange("otpost.jobs", "direct", {"alternate-exchange": "otpost.dropped"})
BEGIN: Final = "PRECONDITION_FAILED - inequivalent arg"

TEXTS: Final[dict[str, tuple[Queue | Exchange, str, str]]] = {
    "another value": (
        DEAD,
        f"{BEGIN} 'x-message-ttl' for queue 'otpost.dead' in vhost '/': received '1209600000' but current is '5'",
        "queue otpost.dead: x-message-ttl is 5, should be 1209600000",
    ),
    "a value where there should be none": (
        DEAD,
        (
            f"{BEGIN} 'x-expires' for queue 'otpost.dead' in vhost '/': received none but current is the value '5' "
            "of type 'signedint'"
        ),
        "queue otpost.dead: x-expires is 5, should be not set",
    ),
    "no value where there should be one": (
        DEAD,
        (
            f"{BEGIN} 'x-message-ttl' for queue 'otpost.dead' in vhost '/': received the value '1209600000' of type "
            "'signedint' but current is none"
        ),
        "queue otpost.dead: x-message-ttl is not set, should be 1209600000",
    ),
    "a flag": (
        DEAD,
        f"{BEGIN} 'durable' for queue 'otpost.dead' in vhost '/': received 'true' but current is 'false'",
        "queue otpost.dead: durable is false, should be true",
    ),
    "an exchange's type": (
        JOBS,
        f"{BEGIN} 'type' for exchange 'otpost.jobs' in vhost '/': received 'direct' but current is 'topic'",
        "exchange otpost.jobs: type is topic, should be direct",
    ),
    "a text that was cut": (
        DEAD,
        f"{BEGIN} 'x-message-ttl' for queue 'otpost.dead' in vhost '/': received '1209600000' but curr",
        (
            f"queue otpost.dead: x-message-ttl differs ({BEGIN} 'x-message-ttl' for queue 'otpost.dead' in vhost '/': "
            "received '1209600000' but curr), should be 1209600000"
        ),
    ),
    "a text that nobody knows": (
        DEAD,
        "PRECONDITION_FAILED - the moon is full",
        "queue otpost.dead differs: PRECONDITION_FAILED - the moon is full",
    ),
}


@pytest.mark.parametrize("name", TEXTS)
def test_a_refusal_tells_the_argument_and_both_values(name: str) -> None:
    wanted, refusal, told = TEXTS[name]
    assert str(difference(wanted, refusal)) == told


def test_a_finding_holds_its_parts() -> None:
    refusal = f"{BEGIN} 'x-message-ttl' for queue 'otpost.dead' in vhost '/': received '1209600000' but current is '5'"
    assert difference(DEAD, refusal) == Finding(
        "queue", "otpost.dead", Trouble.DIFFERS, "x-message-ttl", "1209600000", "5"
    )
    assert missing(JOBS) == Finding("exchange", "otpost.jobs", Trouble.MISSING)
    assert str(missing(JOBS)) == "exchange otpost.jobs is missing"
    assert str(unchecked(DEAD, "not yours")) == "queue otpost.dead cannot be checked: not yours"


@pytest.mark.parametrize(
    ("told", "like", "value"),
    [
        ("none", 5, None),
        ("'5'", 7, 5),
        ("'5'", "7", "5"),
        ("the value '5' of type 'signedint'", None, 5),
        ("the value '5' of type 'long'", None, 5),
        ("the value 'quorum' of type 'longstr'", None, "quorum"),
        ("the value '5' of type 'longstr'", 7, "5"),
    ],
)
def test_the_value_that_a_queue_has_is_read_with_its_type(
    told: str, like: int | str | None, value: int | str | None
) -> None:
    assert current_value(f"{BEGIN} 'x-a' for queue 'q' in vhost '/': received '7' but current is {told}", like) == value


def test_a_value_that_is_not_told_is_not_made_up() -> None:
    with pytest.raises(ValueError, match="does not tell"):
        current_value(f"{BEGIN} 'x-a' for queue 'q' in vhost '/': received '7' but", 7)


def test_the_error_names_five_findings_counts_the_rest_and_says_what_to_do() -> None:
    gone = [missing(Queue(f"q{number}", {})) for number in range(7)]
    assert str(TopologyDiffers(gone)) == (
        "queue q0 is missing; queue q1 is missing; queue q2 is missing; queue q3 is missing; queue q4 is missing; "
        "and 2 more. 'otpost topology declare' makes what is missing (so does a worker with OTPOST_TOPOLOGY=declare)"
    )
    assert "OTPOST_TOPOLOGY=passive" in str(TopologyDiffers([unchecked(DEAD, "not yours")]))
    assert "delete it" in str(TopologyDiffers([gone[0], difference(DEAD, BEGIN)]))
