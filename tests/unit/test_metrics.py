"""Metrics: what a scrape shows of what happened, and that no label can give anybody away or grow without bound."""

from __future__ import annotations

from typing import Final

from prometheus_client import generate_latest

from otpost_worker.metrics import Metrics
from otpost_worker.outcome import Accepted, Error, Kind, Refused, Unknown
from otpost_worker.pacing import Hold
from otpost_worker.ports import HoldReport, Notice, SenderReport
from otpost_worker.standing import Topic

WAMID: Final = "wamid.HBgLMTIwMTU1NTM5MzEVAgARGBI4Qzc5QUJDREVGMTIzNDU2AA=="


def scrape(metrics: Metrics) -> list[str]:
    return generate_latest(metrics.registry).decode().splitlines()


def refused(code: int | None, kind: Kind = Kind.BAD_REQUEST) -> Refused:
    return Refused(Error(kind, code=code, title="to +12015553931", detail="493817", provider_trace_id="Az+12015553931"))


def test_before_anything_happened_the_counters_of_every_sender_are_there_at_zero() -> None:
    page = scrape(Metrics(["bank", "default"]))
    for sender in ("bank", "default"):
        for line in (
            f'otpost_jobs_received_total{{sender="{sender}"}} 0.0',
            f'otpost_send_attempts_total{{code="",kind="",outcome="accepted",sender="{sender}"}} 0.0',
            f'otpost_results_total{{sender="{sender}",status="accepted"}} 0.0',
            f'otpost_results_total{{sender="{sender}",status="failed"}} 0.0',
            f'otpost_results_total{{sender="{sender}",status="expired"}} 0.0',
            f'otpost_results_total{{sender="{sender}",status="retrying"}} 0.0',
            f'otpost_unknown_outcomes_total{{sender="{sender}"}} 0.0',
            f'otpost_unlisted_answers_total{{sender="{sender}"}} 0.0',
        ):
            assert line in page
    assert 'otpost_reconnects_total{connection="jobs"} 0.0' in page
    assert 'otpost_reconnects_total{connection="results"} 0.0' in page
    assert "otpost_inflight 0.0" in page
    assert "otpost_ready 0.0" in page
    assert any(line.startswith('otpost_build_info{python="3.') for line in page)
    assert any(line.startswith("process_resident_memory_bytes ") for line in page)


def test_a_job_that_is_refused_once_and_then_accepted_is_one_job_two_attempts_two_results() -> None:
    metrics = Metrics(["default"])
    metrics.job_begun("default")
    metrics.request_begun("default", waited_s=0.2, left_s=290.0)
    metrics.request_ended("default", refused(131000, Kind.UNAVAILABLE), duration_s=0.31, retry_in_s=0.75)
    metrics.result_published("default", "retrying", again=False)
    metrics.request_begun("default", waited_s=None, left_s=288.5)
    metrics.request_ended("default", Accepted(WAMID), duration_s=0.12, retry_in_s=None)
    metrics.result_published("default", "accepted", again=False)
    page = scrape(metrics)
    for line in (
        'otpost_jobs_received_total{sender="default"} 1.0',
        'otpost_send_attempts_total{code="131000",kind="unavailable",outcome="refused",sender="default"} 1.0',
        'otpost_send_attempts_total{code="",kind="",outcome="accepted",sender="default"} 1.0',
        'otpost_results_total{sender="default",status="retrying"} 1.0',
        'otpost_results_total{sender="default",status="accepted"} 1.0',
        'otpost_send_duration_seconds_count{outcome="refused",sender="default"} 1.0',
        'otpost_send_duration_seconds_sum{outcome="refused",sender="default"} 0.31',
        'otpost_send_duration_seconds_bucket{le="0.1",outcome="accepted",sender="default"} 0.0',
        'otpost_send_duration_seconds_bucket{le="0.2",outcome="accepted",sender="default"} 1.0',
        'otpost_queue_wait_seconds_count{sender="default"} 1.0',
        'otpost_queue_wait_seconds_sum{sender="default"} 0.2',
        'otpost_deadline_remaining_seconds_count{sender="default"} 2.0',
        'otpost_deadline_remaining_seconds_sum{sender="default"} 578.5',
        'otpost_retry_delay_seconds_count{kind="unavailable",sender="default"} 1.0',
        'otpost_retry_delay_seconds_sum{kind="unavailable",sender="default"} 0.75',
    ):
        assert line in page, line
    assert not [line for line in page if "_created" in line]


def test_a_recorded_end_that_is_published_again_is_counted_apart() -> None:
    metrics = Metrics(["default"])
    metrics.result_published("default", "failed", again=False)
    metrics.result_published("default", "failed", again=True)
    page = scrape(metrics)
    assert 'otpost_results_total{sender="default",status="failed"} 1.0' in page
    assert 'otpost_results_repeated_total{sender="default",status="failed"} 1.0' in page


def test_outcomes_that_nobody_knows_are_counted_whoever_finds_out() -> None:
    metrics = Metrics(["default"])
    metrics.request_ended("default", Unknown(Error(Kind.UNKNOWN, title="Answer lost")), duration_s=5.0, retry_in_s=5.0)
    metrics.request_lapsed("default")
    page = scrape(metrics)
    assert 'otpost_unknown_outcomes_total{sender="default"} 2.0' in page
    # Of the second one no request ended here.
    assert 'otpost_send_attempts_total{code="",kind="unknown",outcome="unknown",sender="default"} 1.0' in page


def test_dead_letters_are_counted_by_their_reason_and_reconnects_by_their_connection() -> None:
    metrics = Metrics(["default"])
    metrics.job_buried("default", "recipient")
    metrics.job_buried("default", "recipient")
    metrics.job_buried("default", "exhausted")
    metrics.reconnected("jobs")
    page = scrape(metrics)
    assert 'otpost_dead_letters_total{reason="recipient",sender="default"} 2.0' in page
    assert 'otpost_dead_letters_total{reason="exhausted",sender="default"} 1.0' in page
    assert 'otpost_reconnects_total{connection="jobs"} 1.0' in page
    assert 'otpost_reconnects_total{connection="results"} 0.0' in page


def test_senders_that_nobody_configured_share_one_label() -> None:
    metrics = Metrics(["default"])
    for sender in ("+12015553931", "typo", "493817"):
        metrics.job_begun(sender)
        metrics.result_published(sender, "failed", again=False)
        metrics.job_buried(sender, "no_sender")
    page = "\n".join(scrape(metrics))
    assert 'otpost_jobs_received_total{sender="other"} 3.0' in page
    assert 'otpost_results_total{sender="other",status="failed"} 3.0' in page
    assert 'otpost_dead_letters_total{reason="no_sender",sender="other"} 3.0' in page
    for leak in ("2015553931", "typo", "493817"):
        assert leak not in page


def test_nothing_of_an_error_but_its_kind_and_code_is_a_label() -> None:
    metrics = Metrics(["default"])
    metrics.request_ended("default", refused(131009), duration_s=0.1, retry_in_s=None)
    metrics.request_ended("default", Accepted(WAMID), duration_s=0.1, retry_in_s=None)
    page = "\n".join(scrape(metrics))
    for leak in ("2015553931", "493817", "wamid", "HBgL", "Az+"):
        assert leak not in page


def test_a_code_as_long_as_a_phone_number_is_no_label() -> None:
    metrics = Metrics(["default"])
    metrics.request_ended("default", refused(12015553931), duration_s=0.1, retry_in_s=None)
    metrics.request_ended("default", refused(2388091), duration_s=0.1, retry_in_s=None)
    page = scrape(metrics)
    assert 'otpost_send_attempts_total{code="other",kind="bad_request",outcome="refused",sender="default"} 1.0' in page
    assert (
        'otpost_send_attempts_total{code="2388091",kind="bad_request",outcome="refused",sender="default"} 1.0' in page
    )
    assert "12015553931" not in "\n".join(page)


def test_a_provider_that_makes_codes_up_gets_a_hundred_labels_and_no_more() -> None:
    metrics = Metrics(["default"])
    for code in range(5000):
        metrics.request_ended("default", refused(code), duration_s=0.1, retry_in_s=None)
    lines = [line for line in scrape(metrics) if line.startswith("otpost_send_attempts_total{") and "bad_req" in line]
    assert len(lines) == 101
    assert (
        'otpost_send_attempts_total{code="other",kind="bad_request",outcome="refused",sender="default"} 4900.0' in lines
    )


def test_codes_that_the_table_does_not_know_are_counted_apart() -> None:
    metrics = Metrics(["default"])
    unlisted = Refused(Error(Kind.BAD_REQUEST, code=138000), listed=False)
    metrics.request_ended("default", unlisted, duration_s=0.1, retry_in_s=None)
    metrics.request_ended("default", refused(131009), duration_s=0.1, retry_in_s=None)
    assert [line for line in scrape(metrics) if line.startswith("otpost_unlisted_codes_total{")] == [
        'otpost_unlisted_codes_total{code="138000",sender="default"} 1.0'
    ]
    assert 'otpost_unlisted_answers_total{sender="default"} 1.0' in scrape(metrics)
    metrics.failure_reported("default", unlisted)
    metrics.failure_reported("default", refused(131026))
    assert 'otpost_unlisted_codes_total{code="138000",sender="default"} 2.0' in scrape(metrics)
    assert 'otpost_unlisted_answers_total{sender="default"} 2.0' in scrape(metrics)
    assert 'otpost_reported_failures_total{code="138000",kind="bad_request",sender="default"} 1.0' in scrape(metrics)


def test_jobs_in_hand_are_read_when_they_are_asked_for() -> None:
    metrics = Metrics([])
    hand = ["job-1", "job-2"]
    metrics.watch_in_flight(lambda: len(hand))
    assert "otpost_inflight 2.0" in scrape(metrics)
    hand.clear()
    assert "otpost_inflight 0.0" in scrape(metrics)


def test_how_a_sender_is_doing_is_shown_without_the_names_of_its_templates() -> None:
    metrics = Metrics(["default"])
    hold = Hold(1000.0, 1005.0)
    templates = (HoldReport(hold, "login", "en", None, None), HoldReport(hold, "login", "de", None, None))
    metrics.set_standing("default", SenderReport(40.0, 1060.0, (HoldReport(hold, None, None, None, None), *templates)))
    page = scrape(metrics)
    for line in (
        'otpost_sender_held{sender="default",what="sender"} 1.0',
        'otpost_sender_held{sender="default",what="templates"} 2.0',
        'otpost_sender_held{sender="default",what="quota"} 1.0',
        'otpost_sender_rate{sender="default"} 40.0',
    ):
        assert line in page, line
    assert "login" not in "\n".join(page)
    notice = Notice(Topic.QUALITY, "login", "en_US", "its quality is RED", 1000.0)
    metrics.set_standing("default", SenderReport(80.0, None, templates, (notice,)))
    assert 'otpost_sender_notices{sender="default"} 1.0' in scrape(metrics)
    page = scrape(metrics)
    for line in (
        'otpost_sender_held{sender="default",what="sender"} 0.0',
        'otpost_sender_held{sender="default",what="templates"} 2.0',
        'otpost_sender_held{sender="default",what="quota"} 0.0',
        'otpost_sender_rate{sender="default"} 80.0',
    ):
        assert line in page, line


def test_a_clock_that_was_not_compared_yet_is_not_shown_as_right() -> None:
    metrics = Metrics([])
    told: list[float | None] = [None]
    metrics.watch_clock("redis", lambda: told[0])
    assert 'otpost_clock_offset_seconds{clock="redis"} NaN' in scrape(metrics)
    told[0] = -2.5
    assert 'otpost_clock_offset_seconds{clock="redis"} -2.5' in scrape(metrics)
