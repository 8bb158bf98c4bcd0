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

from chaos.checker.ends import DOUBLED, REWORDED, STANDS
from chaos.checker.evidence import Exposed, Life, Replay, Struck, load, save
from chaos.checker.secrecy import search_stores
from chaos.checker.timeline import timeline
from chaos.checker.verdict import excused
from chaos.clean_run import (
    CODE,
    NOW,
    NUMBER,
    clean_run,
    failure,
    job,
    letter,
    passings,
    report,
    request,
    result,
    told,
    with_more,
    without_result,
)
from chaos.verdicts import found, the_one

if TYPE_CHECKING:
    from chaos.checker.evidence import Evidence

OTHER_CODE: Final = "p4NqX07zTb"
CHECKER: Final = Path(__file__).parent / "checker"


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


def told_without_record(*faults: Struck, told: str = "probe") -> Evidence:
    """Let a worker tell an end that it has not recorded, and die; another one tells another end."""
    way = passings("good-1", 1, pid=4712, upto="after request")
    telling = replace(way[0], at=NOW + 1.2, point="before event", event="good-1/1/1/accepted", result=None)
    evidence = clean_run()
    return with_more(
        replace(evidence, passings=(*way, telling, *evidence.passings[4:])),
        results=[result(6, "good-1", "accepted", attempt=2)],
        requests=[request(20, "good-1/1/2")],
        lives=[Life("w2", 4712, NOW - 1, NOW + 2, -9 if told else 0, told)],
        struck=faults,
    )


def test_an_end_may_be_doubled_by_two_faults_at_once_and_not_by_one() -> None:
    no_ledger = Struck(NOW, NOW + 3, "ledger: kill -9 and start")
    assert found(told_without_record(no_ledger)) == []
    assert "run 1 has ended 2 times" in the_one(told_without_record())[2]
    earlier = replace(no_ledger, at=NOW - 20, until=NOW - 10)
    assert "run 1 has ended 2 times" in the_one(told_without_record(earlier))[2]
    of_another = replace(no_ledger, kind="ledger: connections cut", detail="(w2, 1)")
    assert "run 1 has ended 2 times" in the_one(told_without_record(of_another))[2]
    assert excused(told_without_record(no_ledger)) == {DOUBLED: 1}


def test_an_end_that_was_told_without_a_record_need_not_have_left_its_dead_letter_and_any_other_has() -> None:
    def failed(*faults: Struck) -> Evidence:
        evidence = told_without_record(*faults)
        end = result(0, "good-1", "failed", error=failure("recipient", 131026))
        telling = tuple(
            replace(one, event="good-1/1/1/failed") if one.point == "before event" else one for one in evidence.passings
        )
        others = tuple(one for one in evidence.results if one.event.get("event_id") != "good-1/1/1/accepted")
        jobs = tuple(
            replace(one, wanted=("accepted", "failed recipient")) if one.id == "good-1" else one
            for one in evidence.jobs
        )
        return replace(evidence, results=(end, *others), passings=telling, jobs=jobs)

    assert found(failed(Struck(NOW, NOW + 3, "ledger: kill -9 and start"))) == []
    missing = "run 1 failed (recipient) and left no such dead letter"
    assert missing in [one[2] for one in found(failed())]


def test_a_replay_of_what_stands_accepted_gets_that_end_again_and_nothing_is_sent() -> None:
    no_ledger = Struck(NOW, NOW + 3, "ledger: kill -9 and start")
    replayed = with_more(told_without_record(no_ledger), replays=[Replay("good-1", 2, NOW + 22, NOW + 62)])
    assert the_one(replayed)[2] == "run 2 was confirmed and has not ended"
    again = with_more(replayed, results=[result(7, "good-1", "accepted", attempt=2)])
    assert found(again) == []
    assert excused(again) == {DOUBLED: 1, STANDS: 1}
    sent = with_more(again, requests=[request(23, "good-1/2/1")])
    assert "run 2 was confirmed and has not ended" in [one[2] for one in found(sent)]


def test_a_replay_of_what_was_delivered_after_it_had_failed_gets_that_end_again_and_nothing_is_taken() -> None:
    replayed = with_more(clean_run(), replays=[Replay("nobody-1", 2, NOW + 20, NOW + 50)])
    end = next(one for one in clean_run().results if one.event["job_id"] == "nobody-1")
    again = with_more(replayed, results=[replace(end, offset=6)])
    assert the_one(again)[2] == "run 2 was confirmed and has not ended"
    arrived = report(1, "nobody-1", "delivered")
    delivered = with_more(again, reports=[arrived], results=[told(7, "nobody-1", "delivered")])
    assert found(delivered) == []
    assert excused(delivered) == {STANDS: 1}
    # It was on its way when that was reported, and waited for its next try.
    refused = request(23, "nobody-1/2/1", outcome="error", taken=False, error_code=131026, wamid=None)
    assert found(with_more(delivered, requests=[refused])) == []
    taken = with_more(delivered, requests=[request(23, "nobody-1/2/1")])
    assert "run 2 was confirmed and has not ended" in [one[2] for one in found(taken)]


def test_a_third_end_is_found_whatever_happened() -> None:
    no_ledger = Struck(NOW, NOW + 3, "ledger: kill -9 and start")
    third = result(7, "good-1", "accepted", attempt=3)
    assert "run 1 has ended 3 times" in the_one(with_more(told_without_record(no_ledger), results=[third]))[2]


def test_a_copy_of_an_end_counts_once() -> None:
    assert found(with_more(clean_run(), results=[result(6, "good-1", "accepted")])) == []


def test_two_different_events_under_one_id_are_found() -> None:
    other = result(6, "good-1", "accepted", at="2026-11-23T20:00:09.000Z")
    assert the_one(with_more(clean_run(), results=[other]))[2] == "two different events have the id good-1/1/1/accepted"


def test_an_end_may_be_told_in_two_ways_where_who_told_it_first_had_no_ledger_and_not_in_three() -> None:
    other = result(6, "good-1", "accepted", at="2026-11-23T20:00:09.000Z")
    way = passings("good-1", 1)
    early = replace(way[-1], at=way[-1].at - 0.005, point="before event", event="good-1/1/1/accepted", result=None)
    evidence = replace(with_more(clean_run(), results=[other]), passings=(*way[:-1], early, *clean_run().passings[3:]))
    assert the_one(evidence)[2] == "two different events have the id good-1/1/1/accepted"
    no_ledger = with_more(evidence, struck=[Struck(NOW, NOW + 3, "ledger: kill -9 and start")])
    assert found(no_ledger) == []
    assert excused(no_ledger) == {REWORDED: 1}
    third = result(7, "good-1", "accepted", at="2026-11-23T20:00:10.000Z")
    assert "two different events" in the_one(with_more(no_ledger, results=[third]))[2]


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
