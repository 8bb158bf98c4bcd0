"""The checker finds workers that do not behave, however well their jobs do."""

from __future__ import annotations

from dataclasses import replace

from chaos.checker.evidence import Life, Struck
from chaos.clean_run import NOW, PID, clean_run, passings, with_more
from chaos.verdicts import found, the_one


def test_a_worker_that_dies_by_itself_is_found() -> None:
    died = with_more(clean_run(), lives=[Life("w2", 4712, NOW, NOW + 3, 1)])
    assert the_one(died)[2] == "process 4712 ended with 1 after 3.0 s, told nothing"


def test_a_worker_that_finds_no_ledger_at_its_start_may_end_if_it_says_so() -> None:
    said = (
        b'{"level":"critical","event":"ended","error":"the ledger redis://127.0.0.1:1/0 cannot be used: it is away"}\n'
    )
    ended = with_more(clean_run(), lives=[Life("w2", 4712, NOW, NOW + 3, 1, log="w1-1.log")])
    gone = with_more(ended, struck=[Struck(NOW - 1, NOW + 2, "ledger: kill -9 and start")])
    assert found(gone, log=said) == []
    assert the_one(ended, log=said)[0] == "shutdown is not failure"
    long_back = with_more(ended, struck=[Struck(NOW - 9, NOW - 6, "ledger: kill -9 and start")])
    assert the_one(long_back, log=said)[0] == "shutdown is not failure"
    others = with_more(ended, struck=[Struck(NOW - 1, NOW + 2, "ledger: connections cut", "(w1, 1)")])
    assert the_one(others, log=said)[0] == "shutdown is not failure"
    assert the_one(gone, log=b'{"level":"critical","event":"ended","error":"no key"}\n')[0] == "shutdown is not failure"
    working = replace(clean_run(), lives=(Life("w1", PID, NOW - 5, NOW + 30, 1, log="w1-1.log"),))
    assert the_one(working, log=said)[0] == "shutdown is not failure"


def test_a_worker_that_does_not_end_well_on_sigterm_is_found() -> None:
    ended = replace(clean_run(), lives=(Life("w1", PID, NOW - 5, NOW + 30, 1, "term"),))
    assert the_one(ended)[0] == "shutdown is not failure"


def test_a_period_of_grace_may_end_first_where_there_is_no_broker_and_nowhere_else() -> None:
    ended = replace(clean_run(), lives=(Life("w1", PID, NOW - 5, NOW + 30, 1, "term"),))
    no_broker = Struck(NOW + 15, NOW + 21, "broker: kill -9 and start")
    assert found(with_more(ended, struck=[no_broker])) == []
    assert the_one(with_more(ended, struck=[replace(no_broker, until=NOW + 19)]))[0] == "shutdown is not failure"
    of_another = replace(no_broker, kind="broker: connections cut", detail="(w2, 1)")
    assert the_one(with_more(ended, struck=[of_another]))[0] == "shutdown is not failure"


def test_sigterm_itself_may_end_a_process_that_has_not_begun_and_no_other() -> None:
    ended = with_more(clean_run(), lives=[Life("w2", 4712, NOW, NOW + 1, -15, "term", log="w1-1.log")])
    assert found(ended) == []
    assert the_one(ended, log=b'{"event":"consuming"}\n')[0] == "shutdown is not failure"


def test_a_claim_that_a_clean_end_leaves_behind_is_found() -> None:
    evidence = clean_run()
    left = replace(evidence, passings=(*passings("good-1", 1, upto="after claim"), *evidence.passings[4:]))
    assert the_one(left)[2] == "run 1, attempt 1: claimed, then left by a clean end"


def test_a_crash_in_a_log_and_a_line_that_is_no_log_line_are_found() -> None:
    crash = b'{"event":"job.crashed","level":"error","exception":"Traceback"}\n'
    assert the_one(clean_run(), log=crash)[0] == "no bug shows"
    assert the_one(clean_run(), log=b"Traceback (most recent call last):\n")[0] == "no bug shows"


def test_the_last_line_of_a_killed_process_may_be_cut_off() -> None:
    log = b'{"event":"consuming"}\n{"event":"atte'
    killed = with_more(clean_run(), lives=[Life("w2", 4712, NOW, NOW + 1, -9, "kill", log="w1-1.log")])
    assert found(killed, log=log) == []
    assert the_one(clean_run(), log=log)[0] == "no bug shows"


def test_a_worker_that_is_not_ready_again_when_all_is_over_is_found() -> None:
    waiting = replace(clean_run(), unready={"w1": '{"ledger":"no answer"}'})
    assert the_one(waiting)[2] == 'is not ready again when all is over, and says: {"ledger":"no answer"}'
