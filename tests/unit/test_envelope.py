"""Envelopes: what of a delivery is a job, what a sender fills in, and what the ledger keeps."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final

import pytest
from hypothesis import given
from hypothesis import strategies as st

from job_strategies import PROPERTY
from otpost_worker.envelope import (
    Defaults,
    Envelope,
    Event,
    Letter,
    Next,
    Parcel,
    Reply,
    Step,
    Unreadable,
    open_envelope,
)

if TYPE_CHECKING:
    from collections.abc import Callable

NOW: Final = 1769860800.0  # 2026-01-31T12:00:00Z
BOTH: Final = Defaults("verification_code", "en_US")
SECRET: Final = "QWERT12345asdfg"


def body(**fields: object) -> bytes:
    job = {"id": "job-1", "to": "+12015553931", "code": SECRET, "created_at": "2026-01-31T12:00:00Z", **fields}
    return json.dumps({name: value for name, value in job.items() if value is not ...}).encode()


def opened(content: bytes, defaults: Defaults = BOTH, reply: Reply | None = None) -> Parcel | Unreadable:
    return open_envelope(Envelope(content, "default", reply=reply), defaults, now=NOW)


def parcel(content: bytes, defaults: Defaults = BOTH) -> Parcel:
    found = opened(content, defaults)
    assert isinstance(found, Parcel)
    return found


def unreadable(content: bytes, defaults: Defaults = BOTH, reply: Reply | None = None) -> Unreadable:
    found = opened(content, defaults, reply)
    assert isinstance(found, Unreadable)
    return found


def test_a_jobs_own_template_and_language_come_before_the_senders() -> None:
    own = parcel(body(template="other", language="de"))
    assert (own.template, own.language) == ("other", "de")
    filled = parcel(body())
    assert (filled.template, filled.language) == ("verification_code", "en_US")
    mixed = parcel(body(language="de"))
    assert (mixed.template, mixed.language) == ("verification_code", "de")


@pytest.mark.parametrize(
    ("defaults", "missing"),
    [
        (Defaults(), ["template", "language"]),
        (Defaults(template="a"), ["language"]),
        (Defaults(language="en"), ["template"]),
    ],
)
def test_what_neither_the_job_nor_its_sender_names_is_told(defaults: Defaults, missing: list[str]) -> None:
    found = unreadable(body(), defaults)
    assert ([problem.field for problem in found.problems], found.job_id) == (missing, "job-1")


@pytest.mark.parametrize("queue", ["otpost.jobs.default", "otpost.dead", "otpost."])
def test_replies_do_not_go_to_our_own_queues(queue: str) -> None:
    found = unreadable(body(), Defaults(language="en"), Reply(queue, None))
    assert [problem.field for problem in found.problems] == ["template", "reply_to"]


@pytest.mark.parametrize("queue", ["amq.gen-x", "my-app.otpost.results", "otpost-results"])
def test_replies_go_to_any_other_queue(queue: str) -> None:
    assert isinstance(opened(body(), reply=Reply(queue, "c")), Parcel)


@pytest.mark.parametrize(
    ("content", "job_id"),
    [
        (b"no json", None),
        (b"[]", None),
        (body(id=...), None),
        (body(id=7), None),
        (body(id="a b"), None),
        (body(id="x" * 65), None),
        (body(to="1"), "job-1"),
        (body(x=1), "job-1"),
        (body(created_at=...), "job-1"),
        (body(pad="x" * 17000), None),
    ],
)
def test_what_is_no_job_keeps_the_id_it_gives_itself_if_it_can_be_one(content: bytes, job_id: str | None) -> None:
    found = unreadable(content)
    assert found.job_id == job_id
    assert found.problems
    assert SECRET not in repr(found.problems)


def test_the_amqp_timestamp_gives_a_job_its_age() -> None:
    envelope = Envelope(body(created_at=...), "default", published_at=datetime(2026, 1, 31, 11, 59, tzinfo=UTC))
    found = open_envelope(envelope, BOTH, now=NOW)
    assert isinstance(found, Parcel)
    assert found.deadline == NOW + 540


def test_the_deadline_of_a_replay_overrides_the_bodys() -> None:
    found = open_envelope(Envelope(body(ttl_s=60), "default", run=2, deadline=NOW + 3600), BOTH, now=NOW)
    assert isinstance(found, Parcel)
    assert found.deadline == NOW + 3600
    assert parcel(body(ttl_s=60)).deadline == NOW + 60


def test_a_deadline_beyond_what_a_replay_can_give_is_refused() -> None:
    # otpost dead replay --ttl gives 5400 s at the most; a minute is left to clocks that differ.
    assert isinstance(open_envelope(Envelope(body(), "default", deadline=NOW + 5460), BOTH, now=NOW), Parcel)
    found = open_envelope(Envelope(body(), "default", deadline=NOW + 5461), BOTH, now=NOW)
    assert isinstance(found, Unreadable)
    [problem] = found.problems
    assert (problem.field, found.job_id) == ("otpost-deadline", "job-1")
    assert problem.rule.startswith("(AMQP header) must be at most 5400 s from now")


def test_a_job_is_held_until_its_not_before() -> None:
    assert parcel(body(not_before="2026-01-31T12:01:00Z")).hold_until == NOW + 60
    assert parcel(body()).hold_until == 0


@pytest.mark.parametrize(
    "show",
    [
        repr,
        str,
        lambda envelope: f"{[envelope]}",
        lambda envelope: repr(open_envelope(envelope, BOTH, now=NOW)),
        lambda envelope: repr(open_envelope(envelope, Defaults(), now=NOW)),
    ],
)
def test_an_envelope_shows_neither_code_nor_number(show: Callable[[Envelope], str]) -> None:
    shown = show(Envelope(body(), "default", reply=Reply("q", "c")))
    assert SECRET not in shown
    assert "2015553931" not in shown
    assert "default" in shown


# The step as the ledger keeps it

TEXTS: Final = st.text(max_size=20)
EVENTS: Final = st.builds(
    Event, id=TEXTS, status=st.sampled_from(["accepted", "retrying"]), body=TEXTS.map(lambda text: text.encode())
)
NEXTS: Final = st.builds(Next, attempt=st.integers(1, 1000), counted=st.integers(0, 1000), due_at=st.floats(0, 4e9))
LETTERS: Final = st.builds(Letter, reason=TEXTS, error=TEXTS, attempt=st.integers(1, 1000), died_at=TEXTS)


@PROPERTY
@given(st.builds(Step, event=st.none() | EVENTS, next=st.none() | NEXTS, letter=st.none() | LETTERS))
def test_a_step_comes_back_from_the_ledger_as_it_was(step: Step) -> None:
    assert Step.from_json(step.to_json()) == step


@pytest.mark.parametrize(
    ("status", "ends"), [("accepted", True), ("failed", True), ("expired", True), ("retrying", False), ("sent", False)]
)
def test_a_step_ends_the_job_where_its_event_does(status: str, *, ends: bool) -> None:
    assert Step(Event("e", status, b"{}")).ends_job is ends
    assert not Step(None, letter=Letter("invalid_job", "{}", 1, "")).ends_job
