"""What may lie among the dead letters: of a job all but its code, of anything else nothing but its id."""

from __future__ import annotations

import base64
import json
from datetime import UTC, datetime
from typing import Any, Final

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from job_strategies import PROPERTY, SECRETS, valid_fields
from otpost.job import OtpJob
from otpost_worker.burial import SealedBody, covered, read_sealed_body
from otpost_worker.envelope import Envelope, Reply
from otpost_worker.keyring import Keyring
from otpost_worker.outcome import Kind
from ports_in_memory import CODE, KEY, job_body
from sealed_letters import original

RING: Final = Keyring((KEY,))
SEALED: Final = KEY.public.seal(CODE.encode())


def reversed_text(secret: bytes) -> str:
    """Stand in for sealing where a test wants to see what was sealed."""
    return base64.b64encode(secret[::-1]).decode()


def cover(body: bytes, **fields: Any) -> bytes:  # noqa: ANN401 - those of Envelope
    return covered(Envelope(body, "default", **fields), reversed_text).body


# A body that is a job


def test_a_buried_job_keeps_everything_but_its_code() -> None:
    body = job_body(ref={"order": 7, "notes": ["ä", 1.5, None]}, template="login", not_before="2026-11-23T20:01:00Z")
    assert orjson.loads(cover(body)) == {
        "id": "job-1", "to": "+12015553931", "sealed_code": base64.b64encode(b"718394").decode(),
        "created_at": "2026-11-23T20:00:00Z", "ttl_s": 300, "template": "login", "not_before": "2026-11-23T20:01:00Z",
        "ref": {"order": 7, "notes": ["ä", 1.5, None]},
    }  # fmt: skip


@PROPERTY
@given(fields=valid_fields())
def test_any_buried_job_is_a_job_again_and_opens_to_its_code(fields: dict[str, Any]) -> None:
    job = OtpJob(**fields)
    buried = RING.cover(Envelope(job.to_json(), "default"))
    again = OtpJob.parse(buried.body, now=5e9)
    assert (again.code, RING.read(again)) == (None, fields["code"])
    assert vars(again) | {"code": job.code, "sealed_code": None} == vars(job)


def test_nothing_else_of_the_envelope_changes() -> None:
    envelope = Envelope(
        job_body(), "bank", run=2, attempt=3, counted=2, drops=1, deadline=1.5, reply=Reply("mine", "c"),
        traceparent="00-1", published_at=datetime.fromtimestamp(0, UTC),
    )  # fmt: skip
    buried = covered(envelope, reversed_text)
    kept = {name: getattr(envelope, name) for name in Envelope.__slots__ if name != "body"}
    assert kept == {name: getattr(buried, name) for name in Envelope.__slots__ if name != "body"}


def test_a_job_that_came_sealed_is_buried_as_it_came() -> None:
    body = job_body(code=None, sealed_code=SEALED)
    assert cover(body) == body
    # Also one with a null beside it, and with the spaces that its producer likes.
    spaced = json.dumps(json.loads(body) | {"code": None}, indent=2).encode()
    assert cover(spaced) == spaced


def test_of_a_code_that_stands_there_twice_neither_is_left() -> None:
    body = b'{"code":"QWERT12345asdfg",' + job_body(sealed_code=None)[1:]
    buried = cover(body)
    assert b"QWERT12345asdfg" not in buried
    assert orjson.loads(buried)["sealed_code"] == base64.b64encode(b"718394").decode()


@pytest.mark.parametrize(
    "body",
    [
        pytest.param(job_body(created_at="2099-11-23T20:00:00Z"), id="from a clock far ahead"),
        pytest.param(job_body(created_at="1999-11-23T20:00:00Z"), id="long expired"),
        pytest.param(job_body(template=None, language=None), id="without template"),
    ],
)
def test_a_job_that_only_here_and_now_is_none_can_be_replayed(body: bytes) -> None:
    assert orjson.loads(cover(body)).keys() == (orjson.loads(body).keys() - {"code"}) | {"sealed_code"}


def test_the_amqp_timestamp_may_be_what_makes_it_a_job() -> None:
    body = job_body(created_at=None)
    assert "sealed_code" in orjson.loads(cover(body, published_at=datetime.fromtimestamp(0, UTC)))
    assert "sealed_body" in orjson.loads(cover(body))


# A body that is none

NO_JOBS: Final = {
    "unknown field": job_body(otp=CODE),
    "misspelt code": job_body(code=None, coed=CODE),
    "code and sealed code": job_body(sealed_code=SEALED),
    "code that is none": job_body(code="493817 493817"),
    "code as a number": job_body(code=493817),
    "no recipient": job_body(to=None),
    "no JSON": job_body()[:-1],
    "no object": b"[" + job_body() + b"]",
    "no UTF-8": b"\xff" + job_body(),
    "nothing": b"",
    "field named self": job_body(self=1),
    "ref that is too deep": job_body()[:-1] + b',"ref":{"a":' + b"[" * 253 + b"]" * 253 + b"}}",
}


@pytest.mark.parametrize("body", NO_JOBS.values(), ids=NO_JOBS)
def test_a_body_that_is_no_job_is_sealed_as_a_whole(body: bytes) -> None:
    buried = RING.cover(Envelope(body, "default")).body
    assert CODE.encode() not in buried
    assert b"2015553931" not in buried
    assert original(buried, KEY) == body
    whole = read_sealed_body(buried)
    assert whole is not None
    assert whole.body_bytes == len(body)


def test_the_id_stays_readable_where_it_was() -> None:
    assert orjson.loads(cover(job_body(otp=1))).keys() == {"id", "sealed_body", "body_bytes"}
    for body in (job_body(id="no id!"), job_body(id=7), b'{"id":"job-1"', b"[]"):
        assert orjson.loads(cover(body)).keys() == {"sealed_body", "body_bytes"}


def test_an_id_is_readable_however_long_the_body_was() -> None:
    body = job_body(otp=1) + b" " * (16 * 1024 - len(job_body(otp=1)))
    assert read_sealed_body(cover(body)) == SealedBody("job-1", reversed_text(body), 16 * 1024)


def test_of_a_body_that_is_far_too_large_the_beginning_is_kept() -> None:
    # A broker that took the body may not take it once it is a third larger; and it is no job for its size alone.
    body = job_body(otp="x" * 20_000_000)
    buried = cover(body)
    assert orjson.loads(buried) == {"sealed_body": reversed_text(body[: 64 * 1024]), "body_bytes": len(body)}


@PROPERTY
@given(secret=SECRETS, data=st.data())
def test_no_secret_is_left_wherever_in_a_body_it_stands(secret: str, data: st.DataObject) -> None:
    filler = st.text(max_size=8) | st.none() | st.integers(-9, 9) | st.lists(st.text(max_size=3), max_size=2)
    names = ["to", "code", "sealed_code", "template", "version", "otp", "ttl_s", "id"]
    fields: dict[str, Any] = data.draw(st.dictionaries(st.sampled_from(names), filler, max_size=5))
    place = data.draw(st.sampled_from(["code", "otp", "name", "nested"]))
    elsewhere: dict[str, dict[str, Any]] = {"name": {secret: 1}, "nested": {"ref": [{"code": secret}]}}
    fields |= elsewhere.get(place, {place: secret})
    assert secret.encode() not in RING.cover(Envelope(orjson.dumps(fields), "default")).body


@pytest.mark.parametrize(
    "body",
    [
        b"", b"no JSON", b"[]", b'"sealed_body"', job_body(),
        b'{"sealed_body":"eA=="}', b'{"sealed_body":7,"body_bytes":1}',
        b'{"sealed_body":"eA==","body_bytes":"1"}', b'{"sealed_body":"eA==","body_bytes":true}',
        b'{"sealed_body":"eA==","body_bytes":1,"code":"493817"}',
    ],
)  # fmt: skip
def test_nothing_else_is_taken_for_a_sealed_body(body: bytes) -> None:
    assert read_sealed_body(body) is None


def test_an_id_in_a_sealed_body_that_can_be_none_is_left_out() -> None:
    for wrong in ('"no id!"', "7", "null", '"493817 493817"'):
        body = f'{{"id":{wrong},"sealed_body":"eA==","body_bytes":1}}'.encode()
        assert read_sealed_body(body) == SealedBody(None, "eA==", 1)


def test_a_fingerprint_is_the_same_for_the_same_body_and_key_alone() -> None:
    other_ring = Keyring((type(KEY)(b"a key of somebody else: 32 bytes"), KEY))
    told = [ring.fingerprint(body) for ring in (RING, other_ring) for body in (b"{}", job_body())]
    assert told[:2] == [Keyring((KEY,)).fingerprint(b"{}"), RING.fingerprint(job_body())]
    assert len(set(told)) == 4


# What the keys open


def test_a_code_in_the_clear_is_read_as_it_stands() -> None:
    assert RING.read(OtpJob(to="+12015553931", code=CODE)) == CODE


def test_a_code_is_read_with_whichever_key_it_was_sealed_to() -> None:
    old = type(KEY)(b"an older key that has 32 bytes..")
    ring = Keyring((KEY, old))
    for key in (KEY, old):
        assert ring.read(OtpJob(to="+12015553931", code=CODE).sealed(key.public)) == CODE
    assert original(ring.cover(Envelope(job_body(), "default")).body, KEY) == orjson.loads(job_body())


def test_a_code_that_no_key_opens_says_what_to_do() -> None:
    stranger = type(KEY)(b"a key of somebody else: 32 bytes")
    error = RING.read(OtpJob(to="+12015553931", code=CODE).sealed(stranger.public))
    assert not isinstance(error, str)
    assert error.kind is Kind.NO_KEY
    assert "add the private one to OTPOST_PRIVATE_KEYS, then replay" in str(error.detail)


@pytest.mark.parametrize(
    "secret", [b"four nine", b"", b"4938\n", "49381ß".encode(), b"\xff\xfe", b"http://a.b", b"wa.me/1"]
)
def test_what_opens_to_no_code_is_an_invalid_job_and_is_not_shown(secret: bytes) -> None:
    # The job itself would refuse a sealed text that is too short or too long to hold a code.
    job = OtpJob(to="+12015553931", code=CODE).model_copy(update={"code": None, "sealed_code": KEY.public.seal(secret)})
    error = RING.read(job)
    assert not isinstance(error, str)
    assert error.kind is Kind.INVALID_JOB
    assert str(error.detail).startswith("sealed_code: what is sealed in it is no code")
    assert not secret or secret.decode(errors="replace").strip() not in repr(error)
