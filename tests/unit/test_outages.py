"""An outage is worth a word when it begins, now and then, and when it is over; not each time it is met."""

from __future__ import annotations

from otpost_worker.outages import Outage, Word


def met(outage: Outage, *moments: float, reason: str = "refused", part: str = "", aspect: str = "") -> list[Word]:
    words = (outage.met(reason, now=now, part=part, aspect=aspect) for now in moments)
    return [word for word in words if word is not None]


def test_a_hundred_jobs_that_meet_it_are_one_word() -> None:
    outage = Outage()
    assert met(outage, *[10.0 + number / 100 for number in range(100)]) == [Word("refused", 1, 0.0)]
    assert outage.reason == "refused"


def test_who_reads_the_log_is_reminded_every_five_minutes_with_the_latest_reason() -> None:
    outage = Outage()
    met(outage, 0.0, 1.0)
    assert met(outage, 299.0, 300.0, 301.0, 599.0, reason="no answer") == [Word("no answer", 4, 300.0)]
    assert met(outage, 601.0) == [Word("refused", 7, 601.0)]


def test_an_aspect_that_asks_for_something_else_is_said_too_and_once() -> None:
    outage = Outage()
    assert len(met(outage, 0.0, 1.0)) == 1
    login = met(outage, 2.0, 3.0, reason="the login is refused", aspect="login")
    assert login == [Word("the login is refused", 3, 2.0)]
    assert met(outage, 4.0) == []


def test_the_end_tells_how_long_it_lasted_and_how_often_it_was_met() -> None:
    outage = Outage()
    met(outage, 10.0, 11.0, 12.0)
    assert outage.works(now=14.5)
    assert outage.over(now=16.5) == Word("refused", 3, 4.5)
    assert outage.over(now=20.0) is None
    assert not outage.works(now=20.0)


def test_what_comes_back_after_its_end_is_another_outage() -> None:
    outage = Outage()
    met(outage, 0.0, 1.0)
    outage.works(now=2.0)
    outage.over(now=4.0)
    assert met(outage, 5.0, 6.0) == [Word("refused", 1, 0.0)]
    outage.works(now=7.0)
    assert outage.over(now=9.0) == Word("refused", 2, 2.0)


def test_what_works_for_a_moment_only_is_not_over() -> None:
    outage = Outage()
    met(outage, 0.0)
    assert outage.works(now=1.0)
    assert met(outage, 2.0) == []
    assert outage.over(now=3.0) is None
    assert outage.works(now=10.0)
    # The question that the first success asked for comes too early for the second one.
    assert outage.over(now=11.0) is None
    assert outage.over(now=12.0) == Word("refused", 2, 10.0)


def test_the_first_of_many_successes_counts() -> None:
    outage = Outage()
    met(outage, 0.0)
    assert [outage.works(now=now) for now in (1.0, 1.5, 2.9)] == [True, False, False]
    assert outage.over(now=3.0) == Word("refused", 1, 1.0)


def test_it_is_over_once_each_of_its_parts_works_again() -> None:
    outage = Outage()
    met(outage, 0.0, part="jobs")
    assert met(outage, 0.5, part="results") == []
    assert not outage.works(now=1.0, part="jobs")
    assert outage.reason == "refused"
    assert outage.over(now=9.0) is None
    assert outage.works(now=10.0, part="results")
    assert outage.over(now=12.0) == Word("refused", 2, 10.0)


def test_what_always_worked_is_never_over() -> None:
    outage = Outage()
    assert not outage.works(now=0.0)
    assert outage.over(now=9.0) is None
    assert outage.reason is None


def test_the_reason_is_told_from_its_beginning_to_its_end() -> None:
    outage, reasons = Outage(), []
    outage.met("refused", now=0.0)
    reasons.append(outage.reason)
    outage.met("no answer", now=1.0)
    outage.works(now=2.0)
    reasons.append(outage.reason)
    outage.over(now=4.0)
    reasons.append(outage.reason)
    assert reasons == ["refused", "no answer", None]
