"""Which bodies are JSON objects: all that are by its grammar, and nothing raises for the others."""

from __future__ import annotations

import math
import random
from typing import Final

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from job_strategies import PROPERTY
from otpost_worker.updates import Ignored
from otpost_worker.webhook_bodies import read_updates
from otpost_worker.webhook_json import json_object

DEEP: Final = 10_000


def test_an_object_is_read() -> None:
    assert json_object(b' {"entry": [], "time": 1751247548} ') == {"entry": [], "time": 1751247548}


def test_half_an_emoji_costs_nothing_else() -> None:
    # A profile's name, cut after the first half of a pair.
    read = json_object(b'{"name": "Pablo \\ud83d", "id": "wamid.1"}')
    assert read is not None
    assert read["id"] == "wamid.1"


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"null",
        b"[]",
        b'"text"',
        b"7",
        b"{",
        b'{"a": 1}{"a": 1}',
        b"{'a': 1}",
        b'{"a": NaN}',
        b'{"a": -Infinity}',
        b'{"a": "\xff"}',
        b"\xef\xbb\xbf{}",
        '{"a": 1}'.encode("utf-16"),
        b"\x00" * 100,
        b'{"a": ' * DEEP + b"1" + b"}" * DEEP,
        b'{"a": ' + b"[" * DEEP + b"]" * DEEP + b"}",
        # Refused by the fast reader for its half of a pair, and too deep for the patient one.
        b'{"a": "\\ud83d", "b": ' + b"[" * DEEP + b"]" * DEEP + b"}",
        b'{"a": "\\ud83d", "b": ' + b"[" * 3_000_000,
        b'{"a": "\\ud83d", "b": NaN}',
        b"object=whatsapp&entry=1",
    ],
    ids=lambda body: repr(body[:20]),
)
def test_what_is_no_object_or_too_deep_is_refused(body: bytes) -> None:
    assert json_object(body) is None


@pytest.mark.parametrize(
    ("number", "read"),
    [
        (b"9" * 10_000, math.inf),
        (b"-" + b"9" * 10_000, -math.inf),
        (b"1e999", math.inf),
        (b"9" * 19, 9_999_999_999_999_999_999),
        (b"1" + b"0" * 24, 1e24),
    ],
    ids=["more digits than Python reads", "hugely negative", "huge exponent", "of 64 bits", "of 25 digits"],
)
def test_a_number_that_is_too_large_is_still_a_number(number: bytes, read: float) -> None:
    assert json_object(b'{"a": "\\ud83d", "b": %b}' % number) == {"a": "\ud83d", "b": read}


def nested(depth: int, beside: bytes) -> bytes:
    """An object of *depth* levels, itself among them."""
    inner = depth - 1
    # With brackets in a string, which make nothing deeper.
    return b'{"a": %b, "c": "\\"[[{{\\\\", "b": ' % beside + b"[" * inner + b"]" * inner + b"}"


@pytest.mark.parametrize(
    ("beside", "deepest"), [(b'"even"', 1024), (b'"\\ud83d"', 500), (b"1e999", 500)], ids=["even", "half", "huge"]
)
def test_how_deep_is_read_depends_on_the_body_alone(beside: bytes, deepest: int) -> None:
    def read_from(stack: int, body: bytes) -> bool:
        return read_from(stack - 1, body) if stack else json_object(body) is not None

    for stack in (0, 200):
        assert read_from(stack, nested(deepest, beside))
        assert not read_from(stack, nested(deepest + 1, beside))


JSON: Final = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**63) | st.text() | st.floats(allow_nan=False, width=32),
    lambda inner: st.lists(inner, max_size=5) | st.dictionaries(st.text(), inner, max_size=5),
)
BODIES: Final = st.binary() | st.text().map(str.encode) | JSON.map(orjson.dumps)


@st.composite
def broken(draw: st.DrawFn) -> bytes:
    """JSON with one part of it cut out, or another byte put in."""
    body = draw(JSON.map(orjson.dumps))
    begin = draw(st.integers(0, len(body)))
    end = draw(st.integers(begin, len(body)))
    return body[:begin] + draw(st.binary(max_size=3)) + body[end:]


SOUND: Final = (
    b'{"object":"whatsapp_business_account","entry":[{"id":"1","time":1751247548,"changes":[{"field":"messages"}]}]}',
    b'{"value":{"statuses":[{"id":"wamid.1","status":"sent","timestamp":"1750030073","recipient_id":"16505551234"}]}}',
    b'{"a":"\\ud83d\\ude00 \\u00e4","b":[1,-2.5e3,true,false,null,{}],"c":{"d":[[],[[]]]}}',
    '{"name":"ä€😀"}'.encode(),
    b"{}",
)
SPOILING: Final = (
    b"", b'"', b"{", b"}", b"[", b"]", b",", b":", b"\\", b"\\ud83d", b"\\u", b"NaN", b"-", b"1e999", b"9" * 5000,
    b"\x00", b"\xff", b"\xc3", b"null", b'"a":', b"[" * 2000, b"\xef\xbb\xbf", b" ", b"/*",
)  # fmt: skip


def is_an_object_or_none(body: bytes) -> None:
    read = json_object(body)
    assert isinstance(read, dict | None)
    # Who reads the stored bodies can read just those that the receiver takes.
    assert (read_updates(body) == [Ignored("no JSON object")]) is (read is None)


@PROPERTY
@given(BODIES | broken())
def test_nothing_raises(body: bytes) -> None:
    is_an_object_or_none(body)


@pytest.mark.parametrize("count", [5_000, pytest.param(100_000, marks=pytest.mark.long)])
def test_nothing_raises_for_many_spoilt_bodies(count: int) -> None:
    rng = random.Random(7)  # noqa: S311 - to be repeated, not to be secret
    objects = 0
    for _ in range(count):
        body = bytearray(rng.choice(SOUND))
        for _ in range(rng.randrange(4)):
            at = rng.randrange(len(body) + 1)
            body[at : at + rng.randrange(6)] = rng.choice(SPOILING)
        is_an_object_or_none(bytes(body))
        objects += json_object(bytes(body)) is not None
    # Both happen, often.
    assert 0.2 < objects / count < 0.9


@PROPERTY
@given(st.dictionaries(st.text(), JSON, max_size=5))
def test_every_object_is_read(value: dict[str, object]) -> None:
    assert json_object(orjson.dumps(value)) is not None
