"""What a dropped message says of where it was going, by its key and its deaths."""

from __future__ import annotations

from typing import Any

import pytest

from otpost_worker.dropped import Cause, Drop, read_drop

BITS = "0.0.0.0.0.0.0.0.0.0.0.0.1.0.1"


def death(queue: object, reason: object, exchange: str = "otpost.jobs") -> dict[str, Any]:
    return {"queue": queue, "reason": reason, "exchange": exchange, "count": 1, "routing-keys": ["default"]}


@pytest.mark.parametrize(
    ("key", "headers", "expected"),
    [
        pytest.param("shop", {}, Drop("shop", Cause.NO_SENDER), id="no such sender"),
        pytest.param(
            f"{BITS}.shop",
            {"x-death": [death("otpost.delay.00", "expired", "otpost.delay.00")]},
            Drop("shop", Cause.NO_SENDER),
            id="no such sender any more, behind the ladder",
        ),
        pytest.param(
            "default",
            {"x-death": [death("otpost.jobs.default", "delivery_limit")]},
            Drop("default", Cause.RETURNED),
            id="delivery limit",
        ),
        pytest.param(
            "default",
            {"x-death": [death(b"otpost.jobs.default", b"delivery_limit")]},
            Drop("default", Cause.RETURNED),
            id="delivery limit, as bytes",
        ),
        pytest.param(
            f"{BITS}.bank_2",
            {
                "x-death": [
                    death("otpost.jobs.bank_2", "delivery_limit", "otpost.due"),
                    death("otpost.delay.00", "expired"),
                ]
            },
            Drop("bank_2", Cause.RETURNED),
            id="delivery limit, after the ladder: the latest death counts",
        ),
        pytest.param(
            "default",
            {"x-death": [death("otpost.jobs.default", "rejected")]},
            Drop("default", Cause.RETURNED),
            id="somebody rejected it",
        ),
        pytest.param(
            "default",
            {"x-death": [death("otpost.jobs.default", "expired")]},
            Drop("default", Cause.EXPIRED),
            id="a foreign client's expiration",
        ),
        pytest.param("a b/c", {"x-death": "nonsense"}, Drop("~unknown", Cause.NO_SENDER), id="deaths that are no list"),
        pytest.param("shop", {"x-death": []}, Drop("shop", Cause.NO_SENDER), id="no deaths in the list"),
        pytest.param("shop", {"x-death": ["x"]}, Drop("shop", Cause.NO_SENDER), id="a death that is no table"),
        pytest.param("shop", {"x-death": [{}]}, Drop("shop", Cause.NO_SENDER), id="a death that says nothing"),
        pytest.param("shop", {"x-death": [death(7, None)]}, Drop("shop", Cause.NO_SENDER), id="a death of numbers"),
        pytest.param("", {}, Drop("~unknown", Cause.NO_SENDER), id="no key at all"),
        pytest.param("+12015553931", {}, Drop("~unknown", Cause.NO_SENDER), id="a number for a key"),
        pytest.param("12015553931", {}, Drop("~unknown", Cause.NO_SENDER), id="a number that could be a name"),
        pytest.param("1-201-555-3931", {}, Drop("~unknown", Cause.NO_SENDER), id="a number as people write it"),
        pytest.param(f"{BITS}.shop_12015553931", {}, Drop("~unknown", Cause.NO_SENDER), id="a number in a name"),
        pytest.param("shop_2026-01", {}, Drop("shop_2026-01", Cause.NO_SENDER), id="six digits are no number"),
        pytest.param(
            "default",
            {"x-death": [death("otpost.jobs.106540352242922", "delivery_limit")]},
            Drop("106540352242922", Cause.RETURNED),
            id="a sender that there is may be called what it likes",
        ),
        pytest.param(
            "default",
            {"x-death": [death("otpost.jobs.+12015553931", "expired")]},
            Drop("~unknown", Cause.EXPIRED),
            id="a queue that no sender can have",
        ),
    ],
)
def test_a_drop_is_told_by_its_latest_death_or_else_by_its_key(
    key: str, headers: dict[str, Any], expected: Drop
) -> None:
    assert read_drop(key, headers) == expected
