"""What follows from an outcome: the table of the contract's sixth section, row by row, and the unknown of the fifth."""

from __future__ import annotations

from dataclasses import replace
from typing import Final

import pytest

from otpost_worker.decision import Bury, Decision, Done, Expire, Halt, History, Policy, RetryIn, after_unknown, decide
from otpost_worker.outcome import Accepted, Error, Kind, Outcome, Refused, Unknown
from otpost_worker.providers.cloud_api_codes import rule_of

NOW: Final = 1_000_000.0
FAR: Final = NOW + 5000.0
LOST: Final = Unknown(Error(Kind.UNKNOWN, title="Answer lost"))


def after(
    outcome: Outcome,
    *,
    deadline: float = FAR,
    counted: int = 0,
    failures: dict[str, int] | None = None,
    policy: Policy | None = None,
    random: float = 1.0,
) -> Decision:
    history = History(counted, {Kind(kind): times for kind, times in (failures or {}).items()})
    return decide(
        outcome, deadline=deadline, now=NOW, history=history, policy=policy or Policy(timeout_s=5.0), random=random
    )


def refused(kind: str, *, asked_s: float | None = None, max_retries: int | None = None) -> Refused:
    return Refused(Error(Kind(kind), code=1, title="no"), not_before_s=asked_s, max_retries=max_retries)


def code(number: int, *, subcode: int | None = None, status: int = 400, transient: bool = False) -> Refused:
    """What the Cloud API's table makes of a code."""
    rule = rule_of(number, subcode, status=status, transient=transient)
    return Refused(Error(rule.kind, code=number), rule.min_wait_s, rule.max_retries)


def waiting(decision: Decision) -> tuple[float, int]:
    assert isinstance(decision, RetryIn)
    return decision.delay_s, decision.counted


def test_an_accepted_message_ends_the_job_well() -> None:
    accepted = Accepted("wamid.X")
    assert after(accepted) == Done(accepted)
    # Even where it took longer than there was time: it has arrived.
    assert after(accepted, deadline=NOW - 1, counted=100) == Done(accepted)


# One row of the table after the other


@pytest.mark.parametrize(
    ("kind", "seconds", "counts"),
    [
        ("throughput", [1, 2, 4, 8, 16, 30, 30], False),
        ("pair_limit", [1, 4, 16, 64, 256, 1024], True),
        ("quota", [60, 120, 240, 480, 900, 900], False),
        ("user_limit", [30, 60, 120, 240], True),
        ("unavailable", [1, 4, 16, 30, 30], True),
    ],
)
def test_what_may_pass_is_tried_again(kind: str, seconds: list[float], *, counts: bool) -> None:
    for failures, wait in enumerate(seconds):
        expected = RetryIn(float(wait), 3 if counts else 2, refused(kind).error)
        assert after(refused(kind), counted=2, failures={kind: failures}) == expected


@pytest.mark.parametrize("kind", ["throughput", "unavailable"])
def test_the_wait_before_what_many_jobs_meet_at_once_is_spread_by_chance(kind: str) -> None:
    # The third wait is at most 4 s and 16 s.
    longest_s = {"throughput": 4, "unavailable": 16}[kind]
    assert waiting(after(refused(kind), failures={kind: 2}, random=0.25))[0] == longest_s / 4
    assert waiting(after(refused(kind), failures={kind: 2}, random=1.0))[0] == longest_s


def test_failures_of_another_kind_do_not_lengthen_the_wait() -> None:
    assert waiting(after(refused("pair_limit"), failures={"unavailable": 4, "throughput": 4})) == (1, 1)


@pytest.mark.parametrize("kind", ["template", "recipient", "bad_request"])
def test_what_cannot_pass_is_a_dead_letter_at_once(kind: str) -> None:
    assert after(refused(kind)) == Bury(refused(kind).error)
    assert after(refused(kind, asked_s=1.0)) == Bury(refused(kind).error)


@pytest.mark.parametrize(("before", "wait_s"), [(0, 5.5), (1, 10.5), (2, 20.5), (3, 30.0), (50, 30.0)])
def test_a_refusal_that_concerns_all_jobs_halts_the_sender_and_the_job_is_back_for_each_probe(
    before: int, wait_s: float
) -> None:
    expected = Halt(RetryIn(wait_s, 2, refused("sender_halted").error))
    assert after(refused("sender_halted"), counted=2, failures={"sender_halted": before}, random=0.0) == expected


@pytest.mark.parametrize(
    ("left_s", "wait_s"),
    # In time for the probe, or for one last chance, 2 s before the last moment to start; or not at all.
    [(30.5, 30.0), (30.4, 28.4), (10.0, 8.0), (4.0, 2.0), (3.9, None)],
)
def test_a_job_comes_back_to_a_halted_sender_before_its_last_moment(left_s: float, wait_s: float | None) -> None:
    halted = after(refused("sender_halted"), deadline=NOW + left_s + 5, failures={"sender_halted": 9})
    if wait_s is None:
        assert halted == Expire(refused("sender_halted").error)
    else:
        assert isinstance(halted, Halt)
        assert halted.retry.delay_s == pytest.approx(wait_s)


def test_a_refusal_of_a_token_that_was_replaced_meanwhile_halts_nobody_and_is_tried_again_soon() -> None:
    outdated = replace(refused("sender_halted"), outdated=True)
    assert after(outdated, counted=2, failures={"sender_halted": 7}) == RetryIn(1.0, 2, outdated.error)
    assert after(outdated, deadline=NOW + 5.9) == Expire(outdated.error)


# Attempts that count


@pytest.mark.parametrize("kind", ["pair_limit", "user_limit", "unavailable"])
def test_the_eighth_attempt_that_counts_is_the_last(kind: str) -> None:
    assert waiting(after(refused(kind), counted=6))[1] == 7
    assert after(refused(kind), counted=7) == Bury(Error(Kind("exhausted"), code=1, title="no"))
    assert after(refused(kind), counted=2, policy=Policy(max_attempts=3)) == Bury(
        Error(Kind("exhausted"), code=1, title="no")
    )


@pytest.mark.parametrize("kind", ["throughput", "quota"])
def test_trouble_of_the_sender_uses_up_no_attempt(kind: str) -> None:
    assert waiting(after(refused(kind), counted=7, failures={kind: 40}))[1] == 7
    assert isinstance(after(refused("sender_halted"), counted=7, failures={"sender_halted": 40}), Halt)


@pytest.mark.parametrize(
    ("answer", "retries"),
    [
        pytest.param(code(1), 2, id="code 1: twice"),
        pytest.param(code(135000), 1, id="code 135000: once"),
        pytest.param(code(999999, status=500), 2, id="unknown code, HTTP 500: twice"),
        pytest.param(code(999999, status=429), 2, id="unknown code, HTTP 429: twice"),
        pytest.param(code(999999, transient=True), 2, id="unknown code, is_transient: twice"),
    ],
)
def test_a_code_that_says_little_is_tried_again_seldom(answer: Refused, retries: int) -> None:
    for before in range(retries):
        assert isinstance(after(answer, counted=before, failures={"unavailable": before}), RetryIn)
    last = after(answer, counted=retries, failures={"unavailable": retries})
    assert last == Bury(Error(Kind("exhausted"), code=answer.error.code))


def test_an_unknown_code_with_a_clients_error_is_not_tried_again() -> None:
    assert after(code(999999, status=400)) == Bury(Error(Kind("bad_request"), code=999999))


def test_a_known_code_decides_whatever_the_status_says() -> None:
    assert isinstance(after(code(3, status=500)), Halt)
    assert after(code(133000, status=500)) == Bury(Error(Kind("bad_request"), code=133000))
    assert waiting(after(code(130429, status=400))) == (1, 0)
    assert isinstance(after(code(100, transient=True, status=500)), Bury)
    assert isinstance(after(code(100, subcode=33)), Halt)


# The deadline


@pytest.mark.parametrize(
    ("kind", "wait_s"),
    [
        ("throughput", 1),
        ("pair_limit", 1),
        ("quota", 60),
        ("user_limit", 30),
        ("unavailable", 1),
    ],
)
def test_a_retry_that_could_only_start_too_late_is_not_scheduled(kind: str, wait_s: float) -> None:
    # The request may take 5 s, so the last moment to start one is 5 s before the deadline.
    assert isinstance(after(refused(kind), deadline=NOW + wait_s + 5), RetryIn)
    assert after(refused(kind), deadline=NOW + wait_s + 4.999) == Expire(refused(kind).error)


def test_a_wait_that_the_provider_asks_for_meets_the_deadline_too() -> None:
    assert waiting(after(refused("unavailable", asked_s=100), deadline=NOW + 105)) == (100, 1)
    assert after(refused("unavailable", asked_s=100), deadline=NOW + 104) == Expire(refused("unavailable").error)


def test_a_refusal_without_room_to_try_again_has_failed_where_an_attempt_before_it_may_have_arrived() -> None:
    late = after(refused("unavailable"), deadline=NOW + 5, failures={"unknown": 1})
    assert late == Bury(Error(Kind("unknown"), code=1, title="no"))
    halted = after(refused("sender_halted"), deadline=NOW + 5, failures={"unknown": 1})
    assert halted == Bury(Error(Kind("unknown"), code=1, title="no"))
    # With room, it is tried again as ever.
    assert waiting(after(refused("unavailable"), failures={"unknown": 1})) == (1, 1)


def test_the_timeout_of_a_request_is_the_policys() -> None:
    ten = Policy(timeout_s=10.0)
    assert isinstance(after(refused("pair_limit"), deadline=NOW + 11, policy=ten), RetryIn)
    assert isinstance(after(refused("pair_limit"), deadline=NOW + 10.9, policy=ten), Expire)


@pytest.mark.parametrize("kind", ["template", "recipient", "bad_request"])
def test_what_cannot_pass_is_a_dead_letter_even_past_the_deadline(kind: str) -> None:
    assert after(refused(kind), deadline=NOW - 1) == Bury(refused(kind).error)


# Nobody can tell


def test_after_the_first_unknown_the_job_rests_for_5_s_and_is_announced() -> None:
    assert after(LOST, counted=1, random=0.0) == RetryIn(5.0, 2, LOST.error, announced=True)


def test_with_the_policy_fail_nobody_hears_of_a_retry_that_may_not_come() -> None:
    fail = Policy(resend_unknown=False)
    assert after(LOST, policy=fail) == RetryIn(5.0, 1, LOST.error, announced=False)


def test_a_second_unknown_is_the_end() -> None:
    assert after(LOST, counted=1, failures={"unknown": 1}) == Bury(Error(Kind("unknown"), title="Answer lost"))


def test_an_unknown_that_is_the_last_attempt_that_counts_is_the_end() -> None:
    assert waiting(after(LOST, counted=6)) == (5, 7)
    assert after(LOST, counted=7) == Bury(Error(Kind("unknown"), title="Answer lost"))
    assert after(LOST, policy=Policy(max_attempts=1)) == Bury(Error(Kind("unknown"), title="Answer lost"))


def test_an_unknown_without_room_to_send_again_has_failed_but_not_expired() -> None:
    # 5 s of rest and 5 s of the request have to fit.
    assert waiting(after(LOST, deadline=NOW + 10)) == (5, 1)
    assert after(LOST, deadline=NOW + 9.999) == Bury(Error(Kind("unknown"), title="Answer lost"))
    assert after(LOST, deadline=NOW - 1) == Bury(Error(Kind("unknown"), title="Answer lost"))


def test_an_unknown_counts_and_failures_before_it_are_no_unknowns() -> None:
    assert waiting(after(LOST, counted=3, failures={"unavailable": 3, "throughput": 2})) == (5, 4)


def test_a_lapsed_claim_is_judged_like_a_lost_answer() -> None:
    for failures in ({}, {Kind.UNKNOWN: 1}):
        history = History(1, failures)
        direct = after_unknown(LOST.error, deadline=FAR, now=NOW, history=history, policy=Policy())
        assert direct == decide(LOST, deadline=FAR, now=NOW, history=history, policy=Policy(), random=0.5)
