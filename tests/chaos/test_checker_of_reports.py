"""The checker finds what is told otherwise than it was reported, not at all, or although nobody reported it."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final

import pytest

from chaos.checker.evidence import ClockMove, Life, Passing, Reported, Result, Starved, Struck, Unanswered
from chaos.checker.reports import OVERTAKEN, UNHEARD
from chaos.checker.verdict import excused
from chaos.clean_run import (
    NOW,
    PID,
    REPORTED_AT,
    failure,
    letter,
    passings,
    report,
    reported_run,
    request,
    told,
    with_more,
    without_result,
)
from chaos.verdicts import found, the_one

if TYPE_CHECKING:
    from chaos.checker.evidence import Evidence

SECRET: Final = b"hush-1c9f"


def with_report(seq: int, **changes: Any) -> Evidence:  # noqa: ANN401 - those of Reported
    """Change one of the reports."""
    evidence = reported_run()
    reports = tuple(replace(one, **changes) if one.seq == seq else one for one in evidence.reports)
    return replace(evidence, reports=reports)


def with_told(offset: int, status: str, **changes: Any) -> Evidence:  # noqa: ANN401 - fields of a result
    """Let one event say something else."""
    evidence = reported_run()
    before = next(one.event for one in evidence.results if one.offset == offset)
    fields = {name: before[name] for name in ("run", "attempt", "at", "latency_ms", "error")}
    other = told(offset, str(before["job_id"]), status, **(fields | changes))
    results = tuple(other if one.offset == offset else one for one in evidence.results)
    return replace(evidence, results=results)


def test_a_run_whose_reports_are_told_is_clean() -> None:
    assert found(reported_run(), log=b'{"event":"stopped"}\n') == []
    assert excused(reported_run()) == {}


# Nothing lost


@pytest.mark.parametrize(("offset", "status", "times"), [(14, "sent", 1), (15, "delivered", 2)])
def test_a_report_that_was_answered_with_200_and_never_told_is_found(offset: int, status: str, times: int) -> None:
    what = f"{status} of attempt 1 of run 1 was answered with 200 {times} times and never told"
    assert the_one(without_result(reported_run(), offset)) == ("nothing lost", "told-1", what)


def test_a_report_that_was_never_answered_with_200_need_not_be_told_but_has_to_be_taken_in_the_end() -> None:
    evidence = without_result(with_report(1, answered=0, first_answered_at=None), 14)
    what = "1 reports were never answered with 200"
    assert the_one(evidence) == ("it recovers by itself", "webhooks", what)


def test_a_copy_of_an_event_is_allowed_and_another_event_under_its_id_is_found() -> None:
    copy = told(21, "told-1", "delivered")
    assert found(with_more(reported_run(), results=[copy])) == []
    device = report(6, "told-1", "delivered", timestamp=REPORTED_AT + 2)
    other = told(21, "told-1", "delivered", at="2026-11-23T20:00:35.000Z", latency_ms=5000)
    twice = with_more(reported_run(), reports=[device], results=[other])
    assert the_one(twice)[2] == "two different events have the id told-1/1/1/delivered"


def test_a_failure_of_which_nothing_comes_is_found() -> None:
    evidence = without_result(replace(reported_run(), letters=reported_run().letters[:-1]), 16)
    what = "the failure (131026) of attempt 1 of run 1 was answered with 200 and nothing came of it"
    assert the_one(evidence) == ("nothing lost", "gone-1", what)


def test_a_failure_of_what_was_delivered_changes_nothing() -> None:
    assert found(with_more(reported_run(), reports=[report(6, "told-1", "failed", code=131026)])) == []


def test_a_failure_behind_which_another_attempt_stands_changes_nothing() -> None:
    # Its answer was lost, it was sent again, and that one stands.
    lost = [Unanswered(NOW + 32, "told-1")]
    again = request(30, "told-1/1/2", at=NOW + 37, to="+12025550200", recipient="12025550200")
    evidence = with_more(reported_run(), unanswered=lost, requests=[again], passings=passings("told-1/1/2", 37))
    reports = tuple(one for one in evidence.reports if one.callback != "told-1")
    failed = report(6, "told-1", "failed", code=131026)
    results = tuple(one for one in evidence.results if one.offset not in (14, 15))
    silent = told(21, "told-1", "undelivered", at="2026-11-23T20:00:47.000Z", error=failure("no_report"))
    stood = replace(evidence, reports=(*reports, failed), results=(*results, silent))
    assert "and nothing came of it" not in " ".join(one[2] for one in found(stood))


def test_a_silence_that_nobody_is_told_of_is_found() -> None:
    what = "attempt 1 of run 1 was accepted, no delivery was ever reported, and nobody was told"
    assert the_one(without_result(reported_run(), 20)) == ("nothing lost", "silent-1", what)


def test_what_was_taken_back_has_to_end_again() -> None:
    evidence = without_result(without_result(reported_run(), 18), 19)
    evidence = replace(evidence, reports=evidence.reports[:-1])
    assert the_one(evidence)[2] == "run 1 was taken back and has not ended again"


def test_what_was_never_reported_as_failed_is_not_taken_back() -> None:
    what = {
        one[2]
        for one in found(replace(reported_run(), reports=(*reported_run().reports[:3], *reported_run().reports[4:])))
    }
    assert "run 1 has ended 2 times: again-1/1/1/accepted, again-1/1/2/accepted" in what


def test_what_is_given_up_leaves_a_dead_letter_unless_it_was_delivered_all_the_same() -> None:
    without = replace(reported_run(), letters=reported_run().letters[:-1])
    what = "gone-1/1/1/undelivered (recipient) left no dead letter"
    assert the_one(without) == ("nothing lost", "gone-1", what)
    arrived = with_more(without, reports=[report(6, "gone-1", "delivered")], results=[told(21, "gone-1", "delivered")])
    assert found(arrived) == []


def test_a_dead_letter_of_what_was_given_up_by_a_worker_that_died_may_be_of_what_was_delivered_since() -> None:
    untold = with_more(
        without_result(reported_run(), 16),
        reports=[report(6, "gone-1", "delivered")],
        results=[told(21, "gone-1", "delivered")],
    )
    what = "there is a dead letter (recipient) of run 1, which is accepted"
    assert the_one(untold) == ("nothing lost", "gone-1", what)
    amends = "failed, undelivered, given up"
    given_up = replace(passing(33.1, "after amend", amends=amends, result="True"), job="gone-1")
    assert found(with_more(untold, passings=[given_up])) == []


def test_a_dead_letter_of_what_was_given_up_has_the_reason_of_its_failure() -> None:
    letters = (*reported_run().letters[:-1], letter("gone-1", "unavailable"))
    what = "there is a dead letter (unavailable) of run 1, which is accepted"
    assert the_one(replace(reported_run(), letters=letters)) == ("nothing lost", "gone-1", what)
    of_the_delivered = with_more(reported_run(), letters=[letter("told-1", "recipient")])
    assert the_one(of_the_delivered)[:2] == ("nothing lost", "told-1")


def test_what_is_worth_another_try_and_has_the_time_is_not_given_up() -> None:
    given_up = with_told(16, "undelivered", error=failure("unavailable", 131016))
    evidence = replace(
        given_up, reports=with_report(3, code=131016).reports, letters=(letter("gone-1", "unavailable"),)
    )
    what = "gone-1/1/1/undelivered (131016) was given up 57.0 s before its deadline"
    assert the_one(evidence) == ("nothing lost", "gone-1", what)
    jobs = tuple(replace(one, deadline=NOW + 36) if one.id == "gone-1" else one for one in evidence.jobs)
    assert found(replace(evidence, jobs=jobs)) == []


def test_a_failure_that_only_marketing_templates_meet_is_told_of_the_sender() -> None:
    failed = report(6, "told-1", "failed", code=131049)
    evidence = with_more(reported_run(), reports=[failed])
    what = "told-1/1/1/category_changed was not told, although only a marketing template can fail so"
    assert the_one(evidence) == ("nothing lost", "told-1", what)
    event = Result(21, "otpost.event.v1", '{"event_id":"told-1/1/1/category_changed"}', "")
    assert found(with_more(evidence, results=[event])) == []


# What is told is true


def test_a_status_that_nobody_reported_is_found() -> None:
    evidence = with_more(reported_run(), results=[told(21, "told-1", "read")])
    assert the_one(evidence) == ("what is told is true", "told-1", "told-1/1/1/read was never reported")


def test_another_time_or_another_message_than_was_reported_is_found() -> None:
    assert "it was reported as of" in the_one(with_told(15, "delivered", at="2026-11-23T20:00:34.000Z"))[2]
    other = the_one(with_told(15, "delivered", provider_message_id="wamid.2"))
    assert other[2] == "told-1/1/1/delivered has another message id than was reported"


def test_a_wrong_latency_is_found_where_no_clock_was_moved() -> None:
    wrong = with_told(15, "delivered", latency_ms=2000)
    assert the_one(wrong)[2] == "the latency of told-1/1/1/delivered is wrong by 1000 ms"
    assert found(with_more(wrong, clock_moves=[ClockMove(NOW + 59, 2.0, "w1")])) == []


def test_an_end_that_the_provider_never_said_is_found() -> None:
    evidence = with_more(
        reported_run(),
        results=[told(21, "again-1", "undelivered", attempt=2, error=failure("recipient", 131026))],
    )
    what = "again-1/1/2/undelivered (recipient), which the provider never said"
    assert the_one(evidence) == ("what is told is true", "again-1", what)
    code = with_told(16, "undelivered", error=failure("recipient", 131030))
    assert the_one(code)[2] == "gone-1/1/1/undelivered has the code 131030, which the provider never gave"


def test_a_silence_before_its_time_is_found() -> None:
    early = with_told(20, "undelivered", at="2026-11-23T20:00:40.000Z")
    assert the_one(early)[2] == "silent-1/1/1/undelivered (no_report) 8.0 s after it was accepted"


def overtaken(**more: Any) -> Evidence:  # noqa: ANN401 - fields of Evidence
    """Let the silent one be delivered 3 s before its silence is told."""
    delivered: list[Reported] = [report(6, "silent-1", "delivered", first_answered_at=NOW + 38)]
    events = [told(21, "silent-1", "delivered")]
    return with_more(reported_run(), reports=delivered, results=events, **more)


def test_a_silence_although_a_delivery_was_reported_long_before_is_found() -> None:
    promise, _, what = the_one(overtaken())
    assert promise == "nothing lost"
    assert what.endswith("had been answered with 200, and nothing stood in its way for 4.0 s")


@pytest.mark.parametrize(
    "cause",
    [
        {"struck": [Struck(NOW + 30, NOW + 34, "webhooks: answers lost")]},
        {"lives": [Life("r1", 4721, NOW + 20, NOW + 34, -9, "kill")]},
        {"starved": [Starved(NOW + 39, NOW + 41, "w1")]},
    ],
)
def test_a_silence_is_excused_by_what_held_the_delivery_up(cause: dict[str, Any]) -> None:
    assert found(overtaken(**cause)) == []
    assert excused(overtaken(**cause)) == {OVERTAKEN: 1}


# Nothing twice


def passing(at_s: float, point: str, **more: Any) -> Passing:  # noqa: ANN401 - fields of Passing
    about: dict[str, Any] = {"job": "told-1", "run": 1, "attempt": 1}
    return Passing(NOW + at_s, NOW + at_s, "w1", PID, point, **(about | more))


WRITTEN: Final = (
    passing(34, "before amend", amends="delivered"),
    passing(34.1, "after amend", amends="delivered", result="True"),
)


def test_a_claim_after_a_delivery_was_written_down_is_found() -> None:
    claimed = [passing(35, "before claim", attempt=2), passing(35.1, "after claim", attempt=2, result="Claimed")]
    evidence = with_more(reported_run(), passings=[*WRITTEN, *claimed, passing(35.2, "after release", attempt=2)])
    what = "run 1, attempt 1 was delivered, which was written down; then run 1, attempt 2 was claimed"
    assert the_one(evidence) == ("nothing twice", "told-1", what)


def test_a_claim_that_was_asked_for_before_or_denied_is_none() -> None:
    before = [passing(34.05, "before claim", attempt=2), passing(35.1, "after claim", attempt=2, result="Claimed")]
    denied = [passing(36, "before claim", attempt=2), passing(36.1, "after claim", attempt=2, result="Recorded")]
    settled = passing(35.2, "after release", attempt=2)
    assert found(with_more(reported_run(), passings=[*WRITTEN, *before, settled, *denied])) == []
    unwritten = (WRITTEN[0], replace(WRITTEN[1], result="False"))
    late = [passing(35, "before claim", attempt=2), passing(35.1, "after claim", attempt=2, result="Claimed"), settled]
    assert found(with_more(reported_run(), passings=[*unwritten, *late])) == []


def test_a_claim_of_a_replay_after_a_delivery_was_written_down_is_found() -> None:
    again: dict[str, Any] = {"run": 2, "attempt": 1}
    claimed = [passing(35, "before claim", **again), passing(35.1, "after claim", result="Claimed", **again)]
    evidence = with_more(reported_run(), passings=[*WRITTEN, *claimed, passing(35.2, "after release", **again)])
    assert the_one(evidence)[2].endswith("then run 2, attempt 1 was claimed")


@pytest.mark.parametrize("change", ["taken back", "given up"])
def test_a_delivery_that_a_failure_overrules_is_found(change: str) -> None:
    amends = f"failed, {change}"
    failed = [passing(35, "before amend", amends=amends), passing(35.1, "after amend", amends=amends, result="True")]
    evidence = with_more(reported_run(), passings=[*WRITTEN, *failed])
    what = f"run 1, attempt 1 was delivered, which was written down; then run 1, attempt 1 was {change}"
    assert the_one(evidence) == ("what is told is true", "told-1", what)


def test_a_second_request_after_a_failure_was_reported_is_none_too_many_and_without_it_is() -> None:
    evidence = replace(reported_run(), reports=tuple(one for one in reported_run().reports if one.seq != 4))
    assert ("nothing twice", "again-1") in {one[:2] for one in found(evidence)}


# Nothing jumps a limit


def test_who_gets_too_many_messages_gets_none_for_half_a_minute() -> None:
    event = Result(21, "otpost.event.v1", '{"event_id":"again-1/1/1/category_changed"}', "")
    told_so = with_told(17, "retrying", error=failure("user_limit", 131049))
    evidence = with_more(replace(told_so, reports=with_report(4, code=131049).reports), results=[event])
    what = "again-1/1/2 was sent 2.0 s after again-1 had failed (131049)"
    written = replace(passing(34, "after amend", amends="failed, taken back", result="True"), job="again-1")
    heard = with_more(evidence, passings=[written])
    assert the_one(heard) == ("nothing jumps a limit", "again-1", what)
    assert found(with_more(heard, clock_moves=[ClockMove(NOW + 33, 20.0, "w1")])) == []


def test_who_could_not_hear_of_it_may_send_sooner_and_who_had_the_time_may_not() -> None:
    event = Result(21, "otpost.event.v1", '{"event_id":"again-1/1/1/category_changed"}', "")
    told_so = with_told(17, "retrying", error=failure("user_limit", 131049))
    early = with_report(4, code=131049, first_answered_at=NOW + 31).reports
    evidence = with_more(replace(told_so, reports=early), results=[event])
    assert the_one(evidence)[:2] == ("nothing jumps a limit", "again-1")
    away = with_more(evidence, struck=[Struck(NOW + 32, NOW + 36, "broker: memory alarm")])
    assert found(away) == []
    assert excused(away) == {UNHEARD: 1}


def test_a_dead_letter_of_what_was_given_up_for_want_of_time_may_say_that_it_may_have_arrived() -> None:
    given_up = with_told(16, "undelivered", error=failure("unknown", 131026), attempt=2)
    late = replace(
        given_up,
        reports=tuple(replace(one, callback="gone-1/1/2") if one.seq == 3 else one for one in given_up.reports),
    )
    evidence = replace(late, letters=(*late.letters[:-1], letter("gone-1", "unknown")))
    assert "dead letter (unknown)" not in str(found(evidence))
    first = replace(with_told(16, "undelivered", error=failure("unknown", 131026)), letters=evidence.letters)
    assert "dead letter (unknown)" in str(found(first))


# The receiver


def test_a_receiver_that_refuses_the_providers_own_is_found() -> None:
    refused = replace(reported_run(), answers={"200": 5, "401": 2})
    assert the_one(refused) == ("shutdown is not failure", "webhooks", "2 were answered with 401")
    halves = replace(reported_run(), answers={"200": 5, "400": 1})
    assert the_one(halves)[2] == "1 were answered with 400"
    struck = Struck(NOW, NOW + 1, "webhooks: connections half-closed toward the server")
    assert found(with_more(halves, struck=[struck])) == []


def test_a_receiver_that_dies_by_itself_or_not_with_0_is_found() -> None:
    for status, how in ((1, ""), (1, "term"), (-15, "")):
        died = with_more(reported_run(), lives=[Life("r2", 4722, NOW, NOW + 3, status, how)])
        assert the_one(died)[:2] == ("shutdown is not failure", "r2")


def test_a_secret_in_a_log_or_a_scrape_is_found() -> None:
    line = b'{"event":"oops","told":"%s"}\n' % SECRET
    assert the_one(reported_run(), log=line) == ("nothing leaked", "w1-1.log", "the app secret is in it")
    assert the_one(reported_run(), text=SECRET) == ("nothing leaked", "metrics.txt", "the app secret is in it")
