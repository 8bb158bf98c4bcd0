"""The checker takes no end for the work of a fault that nothing shows to be so, nor blames a worker for one that is."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final

import pytest

from chaos.checker.evidence import ClockMove, Life, Passing, Replay, Starved, Struck, Unanswered
from chaos.checker.unplanned import STARVED
from chaos.checker.verdict import excused
from chaos.clean_run import NOW, OTHER_NUMBER, PID, clean_run, failure, job, letter, request, result, with_more
from chaos.verdicts import found, the_one

if TYPE_CHECKING:
    from chaos.checker.evidence import Evidence, Request

UNKNOWN: Final = failure("unknown")
NO_DOUBT: Final = "run 1 ended as failed unknown, but no attempt was lost, interrupted or left without an answer"


def expired(at_s: int = 58, *, deadline_s: float = 60.0, **more: Any) -> Evidence:  # noqa: ANN401 - fields of Evidence
    """Add a good job that expired, and say so at `at_s`."""
    ended = result(6, "more-1", "expired", at=f"2026-11-23T20:00:{at_s:02}.000Z")
    jobs = [job(id="more-1", to=OTHER_NUMBER, deadline=NOW + deadline_s)]
    return with_more(with_more(clean_run(), jobs=jobs, results=[ended]), **more)


def unknown(at_s: int = 55, **more: Any) -> Evidence:  # noqa: ANN401 - fields of Evidence
    """Add a good job that failed as unknown, and say so at `at_s`, 60 s after which it expires."""
    ended = result(6, "more-1", "failed", error=UNKNOWN, at=f"2026-11-23T20:00:{at_s:02}.000Z")
    jobs = [job(id="more-1", to=OTHER_NUMBER)]
    evidence = with_more(clean_run(), jobs=jobs, results=[ended], letters=[letter("more-1", "unknown")])
    return with_more(evidence, **more)


def passing(at_s: float, point: str, **more: Any) -> Passing:  # noqa: ANN401 - fields of Passing
    about: dict[str, Any] = {"job": "more-1", "run": 1, "attempt": 1}
    if point.endswith("request"):
        about = {"callback": "more-1"}
    return Passing(NOW + at_s, NOW + at_s, "w1", PID, point, **(about | more))


def to_it(seq: int, callback: str = "more-1", **more: Any) -> Request:  # noqa: ANN401 - fields of Request
    return request(seq, callback, to=f"+{OTHER_NUMBER}", recipient=OTHER_NUMBER, **more)


def refusal(seq: int, callback: str = "more-1") -> Request:
    return to_it(seq, callback, taken=False, outcome="error", error_code=131000, wamid=None)


# Expired


def test_an_expiry_with_nothing_in_its_way_is_found() -> None:
    # From NOW to NOW + 58 it could have started; w1 went home at NOW + 30, which may have held it up for 5 s.
    what = "run 1 ended as expired, although for 53.0 s of its time nothing stood in its way"
    assert the_one(expired()) == ("nothing lost", "more-1", what)


@pytest.mark.parametrize("fault", ["broker: kill -9 and start", "ledger: stands still", "simulator: answers lost"])
def test_an_expiry_is_explained_by_what_stood_in_its_way_nearly_all_the_time(fault: str) -> None:
    assert found(expired(struck=[Struck(NOW, NOW + 52, fault)])) == []


def test_a_fault_that_was_over_long_before_explains_no_expiry() -> None:
    # 5 s after the fault its traces are gone.
    faults = [Struck(NOW, NOW + 4, "broker: kill -9 and start")]
    assert the_one(expired(struck=faults))[2].startswith("run 1 ended as expired, although for 44.0 s")


def test_an_expiry_is_explained_by_a_clock_that_was_put_forward_and_not_without_it() -> None:
    assert "although for 20.0 s" in the_one(expired(20, deadline_s=22))[2]
    assert found(expired(20, deadline_s=22, clock_moves=[ClockMove(NOW + 1, 20.0, "w1")])) == []


def test_a_clock_that_was_put_back_explains_as_much_and_no_more() -> None:
    # Leases and turns last 20 s longer from NOW + 1 on, and w1 goes home at NOW + 30.
    moved = expired(clock_moves=[ClockMove(NOW + 1, -20.0, "w1")])
    assert "although for 28.0 s" in the_one(moved)[2]


def test_a_wait_explains_the_time_until_the_job_is_looked_at_again_but_no_job_waits_for_ever() -> None:
    waits = [passing(1, "after claim", result="Wait"), passing(30, "after claim", result="Wait")]
    assert found(expired(passings=waits)) == []
    # From NOW + 1 a wait lasts until NOW + 32 at most, and w1 goes home at NOW + 30.
    assert "although for 24.0 s" in the_one(expired(passings=waits[:1]))[2]


def test_a_wait_begins_when_the_ladder_has_the_job() -> None:
    held_up = [passing(1, "after claim", result="Wait"), passing(29, "after next home")]
    assert found(expired(passings=held_up)) == []


def test_an_expiry_is_explained_by_a_machine_that_had_no_time_and_counted_as_such() -> None:
    # From NOW to NOW + 55 somebody wanted to run and was not let; it could have started until NOW + 58.
    starved = [Starved(NOW + second, NOW + second + 1, "w2") for second in range(55)]
    assert found(expired(starved=starved)) == []
    assert excused(expired(starved=starved)) == {STARVED: 1}
    assert "although for 13.0 s" in the_one(expired(starved=starved[:45]))[2]
    outage = [Struck(NOW, NOW + 52, "broker: kill -9 and start")]
    assert excused(expired(starved=starved, struck=outage)) == {"ended as expired, which was not planned": 1}


def test_what_strikes_only_receivers_and_their_reports_explains_no_expiry() -> None:
    for kind in ("webhooks: connections stalled", "receiver: SIGKILL", "receiver's broker: connections cut"):
        assert "although for 53.0 s" in the_one(expired(struck=[Struck(NOW, NOW + 52, kind)]))[2]
    ended = [Life("r1", 4720, NOW, NOW + at_s, -9, "kill") for at_s in range(0, 60, 5)]
    assert "although for 53.0 s" in the_one(expired(lives=ended))[2]


def test_an_expiry_long_before_the_deadline_is_found_also_where_the_job_was_to_expire() -> None:
    faults = [Struck(NOW, NOW + 60, "broker: kill -9 and start")]
    what = "run 1 ended as expired, 30.0 s before its deadline, and nothing had refused it"
    assert the_one(expired(30, struck=faults))[2] == what
    planned = expired(30)
    jobs = tuple(replace(one, wanted=("expired",)) if one.id == "more-1" else one for one in planned.jobs)
    assert the_one(replace(planned, jobs=jobs))[2] == what


def test_an_expiry_before_the_deadline_is_explained_by_a_refusal_whose_retry_would_be_too_late() -> None:
    assert found(expired(30, requests=[refusal(29)], struck=[Struck(NOW, NOW + 25, "broker: memory alarm")])) == []


def test_an_expiry_before_the_deadline_is_explained_by_a_request_that_its_struck_line_let_nobody_take() -> None:
    way = [passing(29, "before request"), passing(29.1, "after request", result="Refused")]
    outage = Struck(NOW, NOW + 25, "broker: memory alarm")
    refused = Struck(NOW + 28, NOW + 30, "simulator: new connections refused", "(w1, 1)")
    assert found(expired(30, passings=way, struck=[outage, refused])) == []
    early = "run 1 ended as expired, 30.0 s before its deadline, and nothing had refused it"
    assert the_one(expired(30, passings=way, struck=[outage]))[2] == early
    of_another = replace(refused, detail="(w2, 1)")
    assert the_one(expired(30, passings=way, struck=[outage, of_another]))[2] == early


# Failed as unknown


def test_a_failure_as_unknown_without_any_doubt_is_found_whatever_its_worker_says() -> None:
    assert the_one(unknown())[2] == NO_DOUBT
    # The simulator has answered, the answer went through, and it said no.
    said = [passing(52, "before request"), passing(52.1, "after request", result="Unknown")]
    assert the_one(unknown(requests=[refusal(52)], passings=said))[2] == NO_DOUBT


def test_a_failure_as_unknown_is_explained_by_two_lost_answers() -> None:
    lost = [Unanswered(NOW + 12, "more-1"), Unanswered(NOW + 20, "more-1/1/2")]
    assert found(unknown(20, unanswered=lost)) == []
    requests = [to_it(12, outcome="cut_after"), to_it(20, "more-1/1/2", answered_at=None)]
    assert found(unknown(20, requests=requests)) == []


def test_one_lost_answer_explains_it_only_where_nothing_was_left_to_try() -> None:
    lost = [Unanswered(NOW + 12, "more-1")]
    what = "run 1 ended as failed unknown, after one attempt in doubt (1) and with 40.0 s left to send it again"
    assert the_one(unknown(20, unanswered=lost))[2] == what
    assert found(unknown(54, unanswered=lost)) == []
    assert found(unknown(20, unanswered=lost, requests=[refusal(20, "more-1/1/2")])) == []


def test_a_request_that_never_arrived_is_in_doubt_where_its_own_line_was_struck_or_all_its_time_went_by() -> None:
    def begun(whose: str = "", ended_s: float = 50.1, until_s: float = 51.0) -> Evidence:
        way = [passing(50, "before request"), passing(ended_s, "after request", result="Unknown")]
        fault = Struck(NOW + 40, NOW + until_s, "simulator: connections stalled", f"({whose}, 1)")
        return unknown(passings=way, struck=[fault] if whose else [])

    assert found(begun("w1")) == []
    assert found(begun("everybody")) == []
    assert found(begun(ended_s=52)) == []
    # A connection that was half-closed before, and kept, is noticed by the next request over it.
    assert found(begun("w1", until_s=49.5)) == []
    assert the_one(begun("w1", until_s=48.5))[2] == NO_DOUBT
    assert the_one(begun("w2"))[2] == NO_DOUBT
    assert the_one(begun())[2] == NO_DOUBT


def test_a_request_that_arrived_is_in_doubt_if_all_of_its_time_went_by_before_it_ended() -> None:
    for ended_s, in_doubt in ((52.1, True), (51.0, False)):
        way = [passing(50, "before request"), passing(ended_s, "after request", result="Unknown")]
        what = [
            one[2] for one in found(unknown(passings=way, requests=[to_it(51, at=NOW + 50.5, answered_at=NOW + 50.6)]))
        ]
        assert what == ([] if in_doubt else [NO_DOUBT])


def test_a_claim_is_in_doubt_if_its_worker_died_while_it_lasted_and_only_then() -> None:
    for died_s, in_doubt in ((51, True), (58, False)):
        claimed = [replace(passing(50, "before claim"), pid=4712, worker="w2")]
        lives = [Life("w2", 4712, NOW, NOW + died_s, -9, "kill")]
        what = [one[2] for one in found(unknown(passings=claimed, lives=lives))]
        assert what == ([] if in_doubt else [NO_DOUBT])


def test_a_claim_that_the_ledger_denied_or_that_was_recorded_is_in_no_doubt() -> None:
    lives = [Life("w2", 4712, NOW, NOW + 51, -9, "kill")]
    for point, said in (("after claim", "Wait"), ("after record", "Noted"), ("after release", "NoneType")):
        way = [passing(50, "before claim"), passing(50.2, point, result=said)]
        theirs = [replace(one, pid=4712, worker="w2") for one in way]
        assert the_one(unknown(passings=theirs, lives=lives))[2] == NO_DOUBT


def test_a_claim_that_outlives_its_lease_is_in_doubt_where_the_ledger_was_away_and_nowhere_else() -> None:
    # The lease lasts for the time-out of 2 s and 5 s more.
    for recorded_s, fault, in_doubt in (
        (53.0, "ledger: connections cut", True),
        (51.0, "ledger: connections cut", False),
        (53.0, "broker: connections cut", False),
    ):
        way = [passing(45, "before claim"), passing(recorded_s, "after record", result="Noted")]
        faults = [Struck(NOW + 46, NOW + 47, fault, "(w1, 1)")]
        what = [one[2] for one in found(unknown(passings=way, struck=faults))]
        assert what == ([] if in_doubt else [NO_DOUBT])


def test_a_claim_is_in_doubt_if_the_clock_of_its_lease_jumps_and_not_if_another_clock_does() -> None:
    way = [passing(50, "before claim"), passing(51, "after record", result="Noted")]
    moved = unknown(passings=way, clock_moves=[ClockMove(NOW + 50.5, 20.0, "w1")])
    assert found(moved) == []
    own = replace(moved, terms=replace(moved.terms, own_ledger_clock=True))
    assert the_one(own)[2] == NO_DOUBT


# Other ends


def test_a_good_job_ends_as_invalid_only_where_another_body_has_its_id_and_it_was_not_sent() -> None:
    ended = result(6, "more-1", "failed", error=failure("invalid_job"))
    copy = job(id="more-1", kind="copy", to="12075600001", deadline=None, is_copy=True)
    jobs, letters = [job(id="more-1", to=OTHER_NUMBER)], [letter("more-1", "invalid_job")]
    evidence = with_more(clean_run(), jobs=jobs, results=[ended], letters=letters)
    assert "a job 'good' ends as ('accepted',)" in the_one(evidence)[2]
    assert found(with_more(evidence, jobs=[copy])) == []
    sent = with_more(evidence, jobs=[copy], requests=[refusal(20)])
    assert the_one(sent)[2] == "run 1 ended as failed invalid_job, but it had been sent"


def test_a_replayed_job_needs_a_reason_for_its_end_like_any_other() -> None:
    def replayed(status: str, **more: Any) -> Evidence:  # noqa: ANN401 - fields of a result
        jobs = [job(id="more-1", to=OTHER_NUMBER, wanted=("failed recipient",))]
        letters = [letter("more-1", "recipient"), letter("more-1", "template", run=2)]
        ends = [
            result(6, "more-1", "failed", error=failure("recipient")),
            result(7, "more-1", status, run=2, at="2026-11-23T20:00:10.000Z", provider_message_id="wamid.2", **more),
        ]
        return with_more(
            clean_run(),
            jobs=jobs,
            results=ends,
            letters=letters if "error" in more else letters[:1],
            replays=[Replay("more-1", 2, NOW + 5, NOW + 45)],
            requests=[to_it(8, "more-1/2/1", wamid="wamid.2")] if status == "accepted" else [],
        )

    assert found(replayed("accepted")) == []
    assert "35.0 s before its deadline" in the_one(replayed("expired"))[2]
    assert "run 2 ended as failed template" in the_one(replayed("failed", error=failure("template")))[2]


# How many


def many(accepted: int, *, ttl_s: int) -> Evidence:
    """Add twenty good jobs, so many of them accepted, the others expired in an outage that lasts all the time."""
    names = [f"many-{number}" for number in range(20)]
    jobs = [job(id=name, to=f"120255510{number:02}", deadline=NOW + ttl_s) for number, name in enumerate(names)]
    ends = [
        result(20 + number, name, "accepted", provider_message_id=f"wamid.{number}")
        if number < accepted
        else result(20 + number, name, "expired", at=f"2026-11-23T20:00:{ttl_s - 2:02}.000Z")
        for number, name in enumerate(names)
    ]
    requests = [
        request(20 + number, name, at=NOW + 2, to=f"+{one.to}", recipient=one.to, wamid=f"wamid.{number}")
        for number, (name, one) in enumerate(zip(names[:accepted], jobs, strict=False))
    ]
    outage = Struck(NOW, NOW + 60, "broker: kill -9 and start")
    return with_more(clean_run(), jobs=jobs, results=ends, requests=requests, struck=[outage])


def test_no_outage_excuses_a_run_in_which_less_than_half_of_the_jobs_are_accepted() -> None:
    # The clean run has two more, both accepted.
    assert found(many(9, ttl_s=40)) == []
    assert the_one(many(8, ttl_s=40)) == ("nothing lost", "plain jobs", "10 of 22 were accepted, less than 50%")


def test_of_the_jobs_with_a_minute_or_more_three_quarters_have_to_be_accepted() -> None:
    assert found(many(15, ttl_s=60)) == []
    assert the_one(many(14, ttl_s=60)) == ("nothing lost", "patient jobs", "16 of 22 were accepted, less than 75%")


def test_jobs_that_starved_for_half_of_their_time_do_not_count() -> None:
    half = [Starved(NOW + 9, NOW + 28.5, "simulator")]
    assert found(with_more(many(8, ttl_s=40), starved=half)) == []
    less = [Starved(NOW + 9, NOW + 27.5, "simulator")]
    assert the_one(with_more(many(8, ttl_s=40), starved=less))[1] == "plain jobs"


def test_what_is_let_pass_is_counted() -> None:
    assert excused(clean_run()) == {}
    assert excused(many(15, ttl_s=60)) == {"ended as expired, which was not planned": 5}
    lost = [Unanswered(NOW + 12, "more-1"), Unanswered(NOW + 20, "more-1/1/2")]
    assert excused(unknown(20, unanswered=lost)) == {"ended as failed unknown, which was not planned": 1}
    assert excused(unknown(20)) == {}
