"""What is taken over from a foreign message's properties: only what can be written into every later copy."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final, cast

import pytest
from aiormq import spec
from aiormq.abc import DeliveredMessage
from hypothesis import given
from hypothesis import strategies as st
from pamqp import header

from job_strategies import PROPERTY
from otpost_worker.brokers.rabbitmq.messages import envelope_of, job_properties
from otpost_worker.envelope import Reply

if TYPE_CHECKING:
    from otpost_worker.envelope import Envelope

TRACE: Final = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"


def read(headers: dict[str, Any] | None = None, **properties: Any) -> Envelope:  # noqa: ANN401 - those of AMQP
    told = header.ContentHeader(properties=spec.Basic.Properties(headers=headers, **properties))
    return envelope_of(DeliveredMessage(spec.Basic.Deliver(), told, b"{}", cast("Any", None)), "default")


def encoded(envelope: Envelope) -> bytes:
    """The properties of a copy of it, as they go over the wire."""
    return job_properties(envelope, "id").marshal()


# traceparent


@pytest.mark.parametrize(
    "value",
    [
        pytest.param(TRACE, id="as W3C writes it"),
        pytest.param(TRACE.encode(), id="as bytes"),
        pytest.param("cc-" + TRACE[3:], id="a later version"),
        pytest.param("cc-" + TRACE[3:] + "-what/the~future:will.be-like", id="a later version with more in it"),
        pytest.param("cc-" + TRACE[3:] + "-" + "x" * 456, id="512 characters"),
    ],
)
def test_a_trace_goes_on(value: str | bytes) -> None:
    text = value.decode() if isinstance(value, bytes) else value
    assert read({"traceparent": value}).traceparent == text


@pytest.mark.parametrize(
    "value",
    [
        pytest.param("", id="empty"),
        pytest.param("x" * 130_800, id="nearly as long as a frame"),
        pytest.param(b"\xff" * 50_000, id="three times as long once it is decoded"),
        pytest.param("cc-" + TRACE[3:] + "-" + "x" * 457, id="513 characters"),
        pytest.param(TRACE + "-00", id="version 00 with more in it"),
        pytest.param(TRACE + "\n", id="a line's end"),
        pytest.param(TRACE.upper(), id="capitals"),
        pytest.param("ff" + TRACE[2:], id="version ff"),
        pytest.param("00-" + "0" * 32 + TRACE[35:], id="no trace"),
        pytest.param(TRACE[:36] + "0" * 16 + "-01", id="no parent"),
        pytest.param(TRACE[:-1] + "\u0661", id="a digit of another script"),
        pytest.param("cc-" + TRACE[3:] + "-ä", id="not ASCII"),
        pytest.param(7, id="a number"),
    ],
)
def test_a_trace_that_has_not_the_w3c_form_is_none(value: object) -> None:
    assert read({"traceparent": value}).traceparent is None


# Replies


def test_a_reply_is_asked_for_with_short_strings_alone() -> None:
    assert read(reply_to="mine", correlation_id="c" * 255).reply == Reply("mine", "c" * 255)
    assert read(reply_to="q" * 255).reply == Reply("q" * 255, None)
    # No client can write these, but a library may come to read what was never short.
    assert read(reply_to="q" * 256).reply is None
    assert read(reply_to="mine", correlation_id="c" * 256).reply == Reply("mine", None)
    assert read(reply_to="mine", correlation_id="ä" * 128).reply == Reply("mine", None)


# otpost-deadline


def test_a_deadline_is_read_with_its_zone() -> None:
    assert read({"otpost-deadline": "2026-01-31T13:00:00.250+01:00"}).deadline == 1769860800.25


@pytest.mark.parametrize(
    "value",
    [
        pytest.param("soon", id="no time"),
        pytest.param("9999-12-31T23:59:59-23:59", id="after the last year"),
        pytest.param("9999-12-31T23:59:59.999999Z", id="in the last microsecond"),
        pytest.param("0001-01-01T00:00:00+23:59", id="before the first year"),
    ],
)
def test_a_deadline_that_cannot_be_written_again_is_none(value: str) -> None:
    assert read({"otpost-deadline": value}).deadline is None


# All of it

NAMES: Final = ["otpost-run", "otpost-attempt", "otpost-counted", "otpost-drops", "otpost-deadline", "traceparent"]
TIMES: Final = st.datetimes().map(datetime.isoformat)
ZONES: Final = st.sampled_from(["Z", "+23:59", "-23:59", "+00:00", "+99:99"])
VALUES: Final = (
    st.none() | st.booleans() | st.integers(-(2**63), 2**63 - 1) | st.floats() | st.text() | st.binary()
    | st.lists(st.integers(0, 9), max_size=3) | st.builds("".join, st.tuples(TIMES, ZONES))
)  # fmt: skip


@PROPERTY
@given(
    st.dictionaries(st.sampled_from(NAMES), VALUES),
    st.none() | st.text(max_size=255),
    st.none() | st.text(max_size=255),
    st.none() | st.datetimes(datetime(1970, 1, 1), timezones=st.just(UTC)),  # noqa: DTZ001 - bounds carry no zone
)
def test_whatever_a_foreign_message_says_a_copy_can_be_published(
    headers: dict[str, Any], reply_to: str | None, correlation_id: str | None, timestamp: datetime | None
) -> None:
    envelope = read(headers, reply_to=reply_to, correlation_id=correlation_id, timestamp=timestamp)
    assert 0 < len(encoded(envelope)) < 2000
