"""The checker finds requests that came too late, twice, too fast, or were not what the job asked for."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Final

from chaos.checker.evidence import ClockMove, Life, Starved
from chaos.checker.limits import CLOCK, HELD_UP
from chaos.checker.verdict import excused
from chaos.clean_run import (
    NOW,
    OTHER_NUMBER,
    clean_run,
    failure,
    job,
    letter,
    passings,
    request,
    result,
    with_more,
    without_result,
)
from chaos.verdicts import found, the_one

if TYPE_CHECKING:
    from chaos.checker.evidence import Evidence, Request

KILLED: Final = -9


# Nothing late


def late(evidence: Evidence, at: float) -> Evidence:
    """Let the first request come `at`, and start just before it."""
    first, *others = evidence.requests
    _, _, _, _, *passed = evidence.passings
    return replace(
        evidence,
        requests=(replace(first, at=at), *others),
        passings=(*passings("good-1", int(at - NOW)), *passed),
    )


def test_a_request_after_its_deadline_is_found_at_its_arrival_and_at_its_start() -> None:
    what = [one[2] for one in found(late(clean_run(), NOW + 61))]
    assert what == ["arrived 1.000 s after its deadline", "started with -0.990 s left"]


def test_a_request_with_less_than_its_own_time_left_is_found() -> None:
    assert the_one(late(clean_run(), NOW + 59))[:2] == ("nothing late", "good-1")


def test_a_request_is_not_late_by_a_clock_that_was_set_back() -> None:
    moved = with_more(late(clean_run(), NOW + 61), clock_moves=[ClockMove(NOW, -20.0, "w1")])
    assert found(moved) == []


def test_another_workers_clock_explains_nothing() -> None:
    moved = with_more(late(clean_run(), NOW + 61), clock_moves=[ClockMove(NOW, -20.0, "w2")])
    assert len(found(moved)) == 2


def test_a_clock_that_was_set_forward_makes_a_request_late_that_was_in_time() -> None:
    moved = with_more(late(clean_run(), NOW + 50), clock_moves=[ClockMove(NOW, 20.0, "w1")])
    assert [one[0] for one in found(moved)] == ["nothing late", "nothing late"]


def test_a_request_before_its_not_before_is_found() -> None:
    jobs = tuple(replace(one, not_before=NOW + 5) if one.id == "good-1" else one for one in clean_run().jobs)
    assert the_one(replace(clean_run(), jobs=jobs))[2] == "arrived 4.000 s before its not_before"


# Nothing twice


def again(evidence: Evidence, callback: str = "good-1/1/2") -> Evidence:
    return with_more(evidence, requests=[request(20, callback)], passings=passings(callback, 20))


def test_the_same_attempt_requested_twice_is_found() -> None:
    assert "this very attempt was requested 2 times" in [one[2] for one in found(again(clean_run(), "good-1"))]


def test_a_second_request_although_nothing_was_lost_is_found() -> None:
    promise, subject, what = the_one(again(clean_run()))
    assert (promise, subject) == ("nothing twice", "good-1")
    assert what.startswith("good-1/1/2 was sent although good-1 had been taken, its answer (accepted) was not lost")


def test_a_second_request_after_an_answer_was_lost_on_the_way_is_explained() -> None:
    lost = with_more(clean_run(), unanswered=[replace(clean_run().unanswered[0], callback="good-1")])
    assert found(again(lost)) == []


def test_a_second_request_after_an_answer_that_came_too_late_or_never_is_explained() -> None:
    for answered_at in (NOW + 2.9, None):
        assert found(again(first_request(answered_at=answered_at))) == []
    assert the_one(again(first_request(answered_at=NOW + 2.0)))[0] == "nothing twice"


def test_a_second_request_is_explained_by_a_machine_that_had_no_time_for_the_answer_until_it_was_too_late() -> None:
    way = passings("good-1", 1)
    late = tuple(replace(one, at=NOW + 2.9) if one.point in ("after request", "after record") else one for one in way)
    evidence = again(replace(clean_run(), passings=(*late, *clean_run().passings[4:])))
    assert the_one(evidence)[0] == "nothing twice"
    starved = Starved(NOW + 1.5, NOW + 1.75, "harness")
    assert found(with_more(evidence, starved=[starved])) == []
    # The answer was there in time, and nothing kept anybody from it.
    in_time = again(replace(clean_run(), passings=(*way, *clean_run().passings[4:])))
    assert the_one(with_more(in_time, starved=[starved]))[0] == "nothing twice"


def test_a_second_request_after_a_worker_died_between_claim_and_record_is_explained() -> None:
    evidence = clean_run()
    died = replace(
        evidence,
        passings=(*passings("good-1", 1, pid=4712, upto="after request"), *evidence.passings[4:]),
        lives=(*evidence.lives, Life("w2", 4712, NOW, NOW + 1.5, KILLED, "kill")),
    )
    assert found(again(died)) == []


def test_a_death_after_the_record_explains_no_second_request() -> None:
    evidence = clean_run()
    died = replace(
        evidence,
        passings=(*passings("good-1", 1, pid=4712), *evidence.passings[4:]),
        lives=(*evidence.lives, Life("w2", 4712, NOW, NOW + 1.5, KILLED, "kill")),
    )
    assert the_one(again(died))[0] == "nothing twice"


def test_a_third_message_is_found_however_often_answers_were_lost() -> None:
    lost = [replace(clean_run().unanswered[0], callback=callback) for callback in ("lost-1", "lost-1/1/2")]
    third = request(20, "lost-1/1/3", to=f"+{OTHER_NUMBER}", recipient=OTHER_NUMBER)
    evidence = with_more(clean_run(), unanswered=lost, requests=[third], passings=passings("lost-1/1/3", 20))
    assert the_one(evidence)[2] == "run 1 reached the recipient 3 times: lost-1, lost-1/1/2, lost-1/1/3"


# What is told


def first_request(**changes: object) -> Evidence:
    first, *others = clean_run().requests
    return replace(clean_run(), requests=(replace(first, **changes), *others))  # type: ignore[arg-type] # any fields, as the test says


def test_a_request_to_another_number_or_with_another_code_is_found() -> None:
    wanted = "a request with another number or code than the job's"
    for changed in ({"to": "+12025550199"}, {"code": "other"}, {"prepended": True}):
        assert the_one(first_request(**changed))[2] == wanted


def test_a_request_that_breaks_the_providers_rules_is_found() -> None:
    assert "breaks the provider's rules: no" in the_one(first_request(invalid="no button"))[2]


def test_a_request_for_what_was_never_to_be_sent_is_found() -> None:
    stray = with_more(clean_run(), requests=[request(20, "never-1")])
    assert the_one(stray)[2] == "a request for something that was never to be sent"


def test_an_acceptance_under_an_id_that_the_provider_never_gave_is_found() -> None:
    told = result(0, "good-1", "accepted", provider_message_id="wamid.of-another")
    evidence = with_more(without_result(clean_run(), 0), results=[told])
    assert the_one(evidence)[2] == "run 1 is accepted under an id that the provider never gave"


def test_an_expiry_of_what_the_provider_took_is_found() -> None:
    evidence = with_more(without_result(clean_run(), 5), results=[result(5, "lost-1", "expired", attempt=2)])
    assert "run 1 is expired, but the provider took its message" in [one[2] for one in found(evidence)]


def test_a_failure_with_a_code_that_nobody_gave_is_found() -> None:
    jobs = (*clean_run().jobs, job(id="bad-1", kind="bad", wanted=("failed bad_request",)))
    told = [result(6, "bad-1", "failed", error=failure("bad_request", 131009))]
    evidence = with_more(replace(clean_run(), jobs=jobs), results=told, letters=[letter("bad-1", "bad_request")])
    assert the_one(evidence)[2] == "run 1 ended as failed bad_request with a code nobody gave it"


# Limits


def crowd(count: int, *, every_s: float = 0.02) -> list[Request]:
    """Make so many messages to one recipient in a row."""
    return [
        request(20 + number, f"crowd-{number}", at=NOW + 20 + number * every_s, to="+15550100", recipient="15550100")
        for number in range(count)
    ]


def crowded(requests: list[Request], **more: object) -> Evidence:
    jobs = [job(id=str(one.callback), kind="crowd", to="15550100") for one in requests]
    ends = [result(20 + one.seq, str(one.callback), "accepted") for one in requests]
    return with_more(clean_run(), jobs=jobs, requests=requests, results=ends, **more)


def refused(one: Request, limit: str) -> Request:
    return replace(one, taken=False, outcome="error", refused_by=limit)


def test_a_refusal_by_the_pairs_limit_is_found_with_how_much_too_early_it_was() -> None:
    requests = crowd(46)
    requests[45] = refused(requests[45], "pair")
    promise, subject, what = next(one for one in found(crowded(requests)) if one[0] == "nothing jumps a limit")
    assert subject == "crowd-45"
    # The debt of 45 messages is 270 s; the 46th came 0.9 s after the first, where 6 s would have been right.
    assert what == "refused by the simulator's limit (pair): 5.100 s too early"
    assert promise == "nothing jumps a limit"


def test_a_refusal_by_the_pairs_limit_is_explained_by_a_clock_that_was_put_forward_as_far() -> None:
    requests = crowd(46)
    requests[45] = refused(requests[45], "pair")
    for offset_s, explained in ((5.2, True), (5.0, False)):
        moved = crowded(requests, clock_moves=[ClockMove(NOW + 20.5, offset_s, "w1")])
        limits = [one for one in found(moved) if one[0] == "nothing jumps a limit"]
        assert (limits == []) is explained


def test_a_refusal_is_explained_by_a_message_that_was_held_up_for_longer_than_anybody_reckons_with() -> None:
    requests = crowd(46, every_s=0.132)
    requests[45] = refused(requests[45], "pair")
    # It came 5.94 s after the first one, where 6 s would have been right.
    for held_up_s, explained in ((0.7, True), (0.5, False)):
        started = replace(passings("crowd-0", 20)[1], at=NOW + 20 - held_up_s)
        limits = [one for one in found(crowded(requests, passings=[started])) if one[0] == "nothing jumps a limit"]
        assert (limits == []) is explained


def test_a_held_up_message_explains_no_refusal_that_it_cannot_have_caused() -> None:
    requests = crowd(46, every_s=0.132)
    requests[45] = refused(requests[45], "pair")
    # In the middle of a burst nothing is owed any longer for it; and another recipient's messages are his own.
    other = request(19, "good-2", at=NOW + 19.9, to="+15550101", recipient="15550101")
    for started in (
        replace(passings("crowd-20", 20)[1], at=requests[20].at - 0.7),
        replace(passings("good-2", 20)[1], at=NOW + 19.2),
    ):
        evidence = crowded([other, *requests], passings=[started])
        assert "nothing jumps a limit" in {one[0] for one in found(evidence)}


def test_each_excuse_for_a_refusal_is_counted_and_a_refusal_without_one_is_not() -> None:
    requests = crowd(46, every_s=0.132)
    requests[45] = refused(requests[45], "pair")
    started = replace(passings("crowd-0", 20)[1], at=NOW + 19.3)
    assert excused(crowded(requests, passings=[started])) == {HELD_UP: 1}
    assert excused(crowded(requests, clock_moves=[ClockMove(NOW + 20.5, 5.2, "w1")])) == {CLOCK: 1}
    assert excused(crowded(requests)) == {}


def test_one_clock_that_all_workers_go_by_was_put_forward_only_once() -> None:
    requests = crowd(46)
    requests[45] = refused(requests[45], "pair")
    moves = [ClockMove(NOW + 20.5, 2.0, worker) for worker in ("w1", "w2", "w3")]
    assert "nothing jumps a limit" in {one[0] for one in found(crowded(requests, clock_moves=moves))}


def test_a_clock_that_was_put_forward_before_anything_was_owed_explains_nothing() -> None:
    requests = crowd(46)
    requests[45] = refused(requests[45], "pair")
    moved = crowded(requests, clock_moves=[ClockMove(NOW + 15, 20.0, "w1")])
    assert "nothing jumps a limit" in {one[0] for one in found(moved)}


def test_no_workers_clock_explains_a_limit_that_is_kept_by_the_ledgers_own() -> None:
    requests = crowd(46)
    requests[45] = refused(requests[45], "pair")
    moved = crowded(requests, clock_moves=[ClockMove(NOW + 20.5, 20.0, "w1")])
    moved = replace(moved, terms=replace(moved.terms, own_ledger_clock=True))
    assert "nothing jumps a limit" in {one[0] for one in found(moved)}


def test_a_refusal_by_the_numbers_throughput_is_found() -> None:
    requests = [refused(one, "throughput") if one.seq == 20 else one for one in crowd(2)]
    assert "nothing jumps a limit" in {one[0] for one in found(crowded(requests))}


def test_a_refusal_by_a_rule_of_the_simulators_is_no_crossed_limit() -> None:
    by_rule = first_request(taken=False, outcome="error", error_code=131056)
    assert "nothing jumps a limit" not in {one[0] for one in found(by_rule)}
