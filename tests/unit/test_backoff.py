"""The curves of the contract's sixth section, in exact seconds."""

from __future__ import annotations

import pytest

from otpost_worker.backoff import delay_s
from otpost_worker.outcome import Kind

THROUGHPUT = Kind("throughput")
PAIR_LIMIT = Kind("pair_limit")
QUOTA = Kind("quota")
USER_LIMIT = Kind("user_limit")
UNAVAILABLE = Kind("unavailable")
# With full jitter, random=0 means "at once"; the ladder's shortest wait is 250 ms.
LEAST_S = 0.25


def waits(kind: Kind, failures: int, random: float = 1.0, asked_s: float | None = None) -> float:
    return delay_s(kind, failures, asked_s=asked_s, random=random)


@pytest.mark.parametrize(
    ("kind", "seconds"),
    [
        (THROUGHPUT, [1, 2, 4, 8, 16, 30, 30]),
        (PAIR_LIMIT, [1, 4, 16, 64, 256, 1024, 4096]),
        (QUOTA, [60, 120, 240, 480, 900, 900]),
        (USER_LIMIT, [30, 60, 120, 240, 480, 960]),
        (UNAVAILABLE, [1, 4, 16, 30, 30]),
    ],
)
def test_the_longest_waits_of_a_kind_are_these(kind: Kind, seconds: list[float]) -> None:
    assert [waits(kind, failures) for failures in range(len(seconds))] == seconds


@pytest.mark.parametrize("kind", [THROUGHPUT, UNAVAILABLE])
def test_what_many_jobs_meet_at_once_has_full_jitter(kind: Kind) -> None:
    assert [waits(kind, failures, random=0.0) for failures in range(4)] == [LEAST_S] * 4
    assert waits(kind, 10, random=0.5) == 15
    assert waits(kind, 0, random=0.1) == LEAST_S


@pytest.mark.parametrize(("kind", "seconds"), [(PAIR_LIMIT, [1, 4, 16]), (QUOTA, [60, 120]), (USER_LIMIT, [30, 60])])
def test_what_the_provider_rules_has_no_jitter(kind: Kind, seconds: list[float]) -> None:
    for random in (0.0, 0.3, 1.0):
        assert [waits(kind, failures, random=random) for failures in range(len(seconds))] == seconds


@pytest.mark.parametrize("kind", [THROUGHPUT, PAIR_LIMIT, USER_LIMIT, UNAVAILABLE])
def test_a_retry_is_never_earlier_than_the_provider_asked(kind: Kind) -> None:
    assert waits(kind, 0, random=0.0, asked_s=45.5) == 45.5
    assert waits(kind, 0, random=1.0, asked_s=45.5) == 45.5
    assert waits(kind, 6, random=1.0, asked_s=0.1) == waits(kind, 6)


def test_for_a_quota_the_providers_word_replaces_the_curve() -> None:
    assert waits(QUOTA, 0, asked_s=20) == 20
    assert waits(QUOTA, 5, asked_s=180) == 180
    assert waits(QUOTA, 0, asked_s=7200) == 7200
    assert waits(QUOTA, 0, asked_s=0.001) == LEAST_S


@pytest.mark.parametrize(
    ("kind", "ceiling_s"),
    [(THROUGHPUT, 30), (PAIR_LIMIT, 4096), (QUOTA, 900), (USER_LIMIT, 7200), (UNAVAILABLE, 30)],
)
@pytest.mark.parametrize("failures", [20, 10_000, 10**9])
def test_no_number_of_failures_is_too_large(kind: Kind, ceiling_s: float, failures: int) -> None:
    assert waits(kind, failures) == ceiling_s
