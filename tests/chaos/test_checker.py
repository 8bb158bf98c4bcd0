"""The checker finds each violation by itself in a run that is clean but for it, and nothing in a clean one."""

from __future__ import annotations

import ast
import base64
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Final

import pytest

from chaos.checker.evidence import ClockMove, Exposed, Life, Replay, Struck, load, save
from chaos.checker.secrecy import search_stores
from chaos.checker.timeline import timeline
from chaos.checker.verdict import judge
from chaos.clean_run import (
    CODE,
    NOW,
    NUMBER,
    OTHER_NUMBER,
    PID,
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

if TYPE_CHECKING:
    from chaos.checker.evidence import Evidence, Request

CHECKER: Final = Path(__file__).parent / "checker"
KILLED: Final = -9
OTHER_CODE: Final = "p4NqX07zTb"


def found(evidence: Evidence, *, log: bytes = b"", text: bytes = b"") -> list[tuple[str, str, str]]:
    verdict = judge(evidence, {"w1-1.log": log}, {"metrics.txt": text})
    return [(one.promise, one.subject, one.what) for one in verdict]


def the_one(evidence: Evidence, **texts: bytes) -> tuple[str, str, str]:
    violations = found(evidence, **texts)
    assert len(violations) == 1, violations
    return violations[0]


def test_a_clean_run_is_clean() -> None:
    assert found(clean_run(), log=b'{"event":"stopped"}\n', text=b"otpost_ready 1") == []


# Nothing lost


def test_a_confirmed_job_without_an_end_is_lost() -> None:
    promise, subject, what = the_one(without_result(clean_run(), 3))
    assert (promise, subject, what) == ("nothing lost", "stale-1", "run 1 was confirmed and has not ended")


def test_a_job_that_was_not_confirmed_need_not_end() -> None:
    jobs = tuple(replace(one, confirmed=0) if one.id == "stale-1" else one for one in clean_run().jobs)
    assert found(without_result(replace(clean_run(), jobs=jobs), 3)) == []


def test_two_different_ends_of_a_run_are_found() -> None:
    twice = with_more(clean_run(), results=[result(6, "good-1", "accepted", attempt=2)])
    promise, subject, what = the_one(twice)
    assert (promise, subject) == ("nothing lost", "good-1")
    assert what == "run 1 has ended 2 times: good-1/1/1/accepted, good-1/1/2/accepted"


def test_a_copy_of_an_end_counts_once() -> None:
    assert found(with_more(clean_run(), results=[result(6, "good-1", "accepted")])) == []


def test_two_different_events_under_one_id_are_found() -> None:
    other = result(6, "good-1", "accepted", at="2026-11-23T20:00:09.000Z")
    assert the_one(with_more(clean_run(), results=[other]))[2] == "two different events have the id good-1/1/1/accepted"


def test_an_end_that_nobody_asked_for_is_found() -> None:
    more = with_more(clean_run(), results=[result(6, "good-1", "expired", run=2)])
    assert the_one(more)[2] == "run 2 has ended, but nobody asked for it"


def test_a_replay_that_does_not_end_is_lost() -> None:
    replayed = with_more(clean_run(), replays=[Replay("nobody-1", 2, NOW + 20, NOW + 50)])
    assert the_one(replayed)[2] == "run 2 was confirmed and has not ended"


def test_an_end_that_no_trouble_explains_is_found() -> None:
    jobs = tuple(replace(one, wanted=("failed template",)) if one.id == "nobody-1" else one for one in clean_run().jobs)
    assert "run 1 ended as failed recipient" in the_one(replace(clean_run(), jobs=jobs))[2]


def test_a_failure_without_its_dead_letter_is_found() -> None:
    letters = (letter(None, "invalid_job"),)
    assert the_one(replace(clean_run(), letters=letters))[2] == "run 1 failed (recipient) and left no such dead letter"


def test_a_dead_letter_of_a_job_that_was_accepted_is_found() -> None:
    more = with_more(clean_run(), letters=[letter("good-1", "unknown")])
    assert the_one(more)[2] == "there is a dead letter (unknown) of run 1, which is accepted"


def test_a_body_without_an_id_needs_an_end_and_a_dead_letter() -> None:
    assert the_one(without_result(clean_run(), 4))[2] == "1 were confirmed and 0 have ended"
    letters = (letter("nobody-1", "recipient"),)
    assert the_one(replace(clean_run(), letters=letters))[2] == "1 were confirmed and 0 are dead letters"


def test_a_message_that_is_left_in_a_queue_is_found() -> None:
    left = replace(clean_run(), left={"otpost.jobs.default": 2})
    assert the_one(left) == ("nothing lost", "otpost.jobs.default", "2 messages are left in it")


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
    return replace(clean_run(), requests=(replace(first, **changes), *others))  # type: ignore[arg-type]


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
    assert the_one(evidence)[2] == "run 1 is expired, but the provider took its message"


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


# Nothing leaked


@pytest.mark.parametrize("where", ["log", "text"])
def test_a_code_or_a_full_number_in_a_text_is_found(where: str) -> None:
    for leak in (CODE, NUMBER, base64.b64encode(b"xxx" + NUMBER.encode()).decode()):
        line = b'{"event":"oops","told":"%s"}\n' % leak.encode()
        assert {one[0] for one in found(clean_run(), **{where: line})} == {"nothing leaked"}


def test_a_code_in_a_result_or_in_a_dead_letters_headers_is_found() -> None:
    in_result = result(6, "good-1", "retrying", error={"kind": "unavailable", "detail": f"said {CODE}"})
    assert "nothing leaked" in {one[0] for one in found(with_more(clean_run(), results=[in_result]))}
    headers = letter("nobody-1", "recipient", headers=f"error: {CODE}")
    letters = (headers, letter(None, "invalid_job"))
    assert "nothing leaked" in {one[0] for one in found(replace(clean_run(), letters=letters))}


def test_a_full_number_may_stand_in_a_message_id_and_nowhere_else_of_a_result() -> None:
    spoilt = result(6, "good-1", "retrying", ref={"to": NUMBER})
    assert the_one(with_more(clean_run(), results=[spoilt]))[2] == "its full number is in the results"


def test_a_code_in_a_dead_letter_is_found_whether_its_producer_had_sealed_it_or_not() -> None:
    letters = (letter("nobody-1", "recipient", body=f'{{"code":"{OTHER_CODE}"}}'), letter(None, "invalid_job"))
    evidence = replace(clean_run(), letters=letters)
    jobs = tuple(replace(one, code=OTHER_CODE) if one.id == "nobody-1" else one for one in evidence.jobs)
    requests = tuple(replace(one, code=OTHER_CODE) if one.callback == "nobody-1" else one for one in evidence.requests)
    evidence = replace(evidence, jobs=jobs, requests=requests)
    assert the_one(evidence) == ("nothing leaked", "nobody-1", "its code was buried without a seal")


def test_a_code_in_a_file_of_broker_or_ledger_is_found_if_it_was_sealed_and_only_then(tmp_path: Path) -> None:
    file = tmp_path / "ledger.db-wal"
    file.write_bytes(b"\x00\xff" + CODE.encode() + b"\x00")
    files = [file, tmp_path / "taken-away"]
    assert list(search_stores([job()], files)) == []
    exposed = list(search_stores([job(is_sealed=True)], files))
    assert exposed == [Exposed("good-1", "ledger.db-wal")]
    assert the_one(with_more(clean_run(), exposed=exposed))[2] == "its code was sealed, and is in ledger.db-wal"


# Conduct


def test_a_worker_that_dies_by_itself_is_found() -> None:
    died = with_more(clean_run(), lives=[Life("w2", 4712, NOW, NOW + 3, 1)])
    assert the_one(died)[2] == "process 4712 ended with 1 after 3.0 s, told nothing"


def test_a_worker_that_finds_no_ledger_at_its_start_may_end_and_no_other() -> None:
    no_ledger = [Struck(NOW - 1, NOW + 1, "ledger: kill -9 and start")]
    early = with_more(clean_run(), lives=[Life("w2", 4712, NOW, NOW + 3, 1)], struck=no_ledger)
    assert found(early) == []
    later = with_more(clean_run(), lives=[Life("w2", 4712, NOW + 2, NOW + 3, 1)], struck=no_ledger)
    assert the_one(later)[0] == "shutdown is not failure"
    working = replace(clean_run(), lives=(Life("w1", PID, NOW - 5, NOW + 30, 1),), struck=tuple(no_ledger))
    assert the_one(working)[0] == "shutdown is not failure"


def test_a_worker_that_does_not_end_well_on_sigterm_is_found() -> None:
    ended = replace(clean_run(), lives=(Life("w1", PID, NOW - 5, NOW + 30, 1, "term"),))
    assert the_one(ended)[0] == "shutdown is not failure"


def test_a_period_of_grace_may_end_first_where_there_is_no_broker_and_nowhere_else() -> None:
    ended = replace(clean_run(), lives=(Life("w1", PID, NOW - 5, NOW + 30, 1, "term"),))
    no_broker = Struck(NOW + 15, NOW + 21, "broker: kill -9 and start")
    assert found(with_more(ended, struck=[no_broker])) == []
    assert the_one(with_more(ended, struck=[replace(no_broker, until=NOW + 19)]))[0] == "shutdown is not failure"


def test_a_claim_that_a_clean_end_leaves_behind_is_found() -> None:
    evidence = clean_run()
    left = replace(evidence, passings=(*passings("good-1", 1, upto="after claim"), *evidence.passings[4:]))
    assert the_one(left)[2] == "run 1, attempt 1: claimed, then left by a clean end"


def test_a_crash_in_a_log_and_a_line_that_is_no_log_line_are_found() -> None:
    crash = b'{"event":"job.crashed","level":"error","exception":"Traceback"}\n'
    assert the_one(clean_run(), log=crash)[0] == "no bug shows"
    assert the_one(clean_run(), log=b"Traceback (most recent call last):\n")[0] == "no bug shows"


def test_the_last_line_of_a_killed_process_may_be_cut_off() -> None:
    assert found(clean_run(), log=b'{"event":"consuming"}\n{"event":"atte') == []


# Evidence


def test_evidence_can_be_written_down_and_judged_again(tmp_path: Path) -> None:
    evidence = with_more(clean_run(), struck=[Struck(NOW, NOW + 1, "broker: memory alarm")])
    save(evidence, tmp_path / "evidence.json")
    assert load(tmp_path / "evidence.json") == evidence


def test_a_time_line_tells_of_a_job_from_all_witnesses_and_of_the_faults_meanwhile() -> None:
    evidence = with_more(clean_run(), struck=[Struck(NOW + 1, NOW + 3, "simulator: answers lost", "(w1, 1)")])
    log = b'{"event":"attempt.finished","job_id":"lost-1","ts":"2026-11-23T20:00:02Z","kind":"unknown"}\n'
    lines = [line.strip() for line in timeline(evidence, "lost-1", {"w1-1.log": log})]
    assert lines[0] == "0.000  producer   published (lost) for default, confirmed 1 times"
    assert "1.000  fault      simulator: answers lost (w1, 1), until 3.000" in lines
    assert "1.990  w1         before request (4711)" in lines
    assert "2.000  simulator  lost-1: cut_after, taken" in lines
    assert "2.000  proxy      lost-1: the connection ended without an answer" in lines
    assert "2.000  log        w1-1.log: attempt.finished kind=unknown" in lines
    assert "9.000  simulator  lost-1/1/2: accepted, taken" in lines
    assert lines[-1] == "60.000  clock      its deadline"


# Independence


def test_the_checker_imports_nothing_of_what_it_judges() -> None:
    for file in CHECKER.glob("*.py"):
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            ours = [name for name in names if name.split(".")[0] in ("otpost", "otpost_worker")]
            ours += [name for name in names if name.startswith("chaos.") and not name.startswith("chaos.checker")]
            assert ours == [], file.name


def test_the_checker_works_where_what_it_judges_is_not_there(tmp_path: Path) -> None:
    save(clean_run(), tmp_path / "evidence.json")
    blocked = "import sys; sys.modules['otpost'] = sys.modules['otpost_worker'] = None; import runpy; "
    run = f"{blocked}sys.argv = ['checker', {str(tmp_path)!r}]; runpy.run_module('chaos.checker', run_name='__main__')"
    tests = str(CHECKER.parent.parent)
    done = subprocess.run([sys.executable, "-c", run], env={"PYTHONPATH": tests}, capture_output=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")
