"""The job: every rule of the contract's first section, by hand-written tables."""

from __future__ import annotations

import base64
import json
import re
from datetime import UTC, datetime, timedelta, timezone
from typing import Any, Final

import pytest

from otpost.errors import InvalidJob
from otpost.job import OtpJob, new_job_id

# 2026-01-31T12:00:00Z in Unix seconds.
NOON: Final = 1769860800.0
NOON_TIME: Final = datetime(2026, 1, 31, 12, 0, 0, tzinfo=UTC)
GOOD: Final[dict[str, Any]] = {"to": "+12015553931", "code": "493817"}
# crypto_box_SEALBYTES is 48: a sealed box of a six-digit code has 54 bytes.
SEALED: Final = base64.b64encode(bytes(54)).decode()


def job(**fields: object) -> OtpJob:
    return OtpJob(**(GOOD | fields))


def broken(**fields: object) -> list[str]:
    """Make a good job with these fields; the names of the fields that it is refused for."""
    with pytest.raises(InvalidJob) as caught:
        job(**fields)
    return [problem.field for problem in caught.value.problems]


def wire(**fields: object) -> bytes:
    """A job as a foreign client writes it; a field given as ``...`` is left out."""
    whole = {"id": "job-1", "created_at": "2026-01-31T12:00:00Z", **GOOD, **fields}
    return json.dumps({name: value for name, value in whole.items() if value is not ...}).encode()


def parse(published_at: datetime | None = None, now: float = NOON, **fields: object) -> OtpJob:
    return OtpJob.parse(wire(**fields), now=now, published_at=published_at)


def refused(published_at: datetime | None = None, now: float = NOON, **fields: object) -> InvalidJob:
    with pytest.raises(InvalidJob) as caught:
        parse(published_at, now, **fields)
    return caught.value


# One field at a time


@pytest.mark.parametrize(
    "to",
    [
        "+12015553931",
        "12015553931",
        "+1 201 555 3931",
        "+1 (201) 555-3931",
        "+1.201.555.3931",
        "1-201-555-3931",
        "+1[201]5553931",
        " +12015553931 ",
        "+1\u00a0201\u202f555\u20113931",
    ],
)
def test_numbers_as_people_write_them_become_e164(to: str) -> None:
    assert job(to=to).to == "+12015553931"


@pytest.mark.parametrize(("digits", "e164"), [("1234567", "+1234567"), ("+123456789012345", "+123456789012345")])
def test_numbers_have_seven_to_fifteen_digits(digits: str, e164: str) -> None:
    assert job(to=digits).to == e164


@pytest.mark.parametrize(
    "to",
    [
        pytest.param("123456", id="six digits"),
        pytest.param("+1234567890123456", id="sixteen digits"),
        pytest.param("+02015553931", id="first digit 0"),
        pytest.param("0012015553931", id="00 in place of plus"),
        pytest.param("++12015553931", id="two plus"),
        pytest.param("1201+5553931", id="plus inside"),
        pytest.param("+12015553931,+12015553932", id="two numbers, comma"),
        pytest.param("+12015553931;+12015553932", id="two numbers, semicolon"),
        pytest.param("+12015553931 +12015553932", id="two numbers, space"),
        pytest.param("+44 (0)20 7946 0958", id="trunk prefix"),
        pytest.param("+1201555CALL", id="letters"),
        pytest.param("+1201555393\u0661", id="arabic digit"),
        pytest.param("+\uff112015553931", id="full-width digit"),
        pytest.param("+12015553931\n", id="newline"),
        pytest.param("tel:+12015553931", id="URI"),
        pytest.param("+", id="plus alone"),
        pytest.param("", id="empty"),
        pytest.param(12015553931, id="a number, no string"),
        pytest.param(["+12015553931"], id="list"),
        pytest.param(None, id="null"),
    ],
)
def test_what_is_not_one_number_is_refused(to: object) -> None:
    assert broken(to=to) == ["to"]


@pytest.mark.parametrize(
    "code",
    [
        "4",
        "493817",
        "J$FpnYnP",
        "123456789012345",
        "~!@#%^&*()_+{}|",
        '"\\"',
        "w.wa",
        "a.b/c",
        "1.23/4",
        ".ab/",
        "ab/c.de",
    ],
)
def test_a_code_is_kept_as_it_is(code: str) -> None:
    assert job(code=code).code == code


@pytest.mark.parametrize(
    "code",
    [
        pytest.param("", id="empty"),
        pytest.param("1234567890123456", id="sixteen characters"),
        pytest.param("493 817", id="space"),
        pytest.param("493817 ", id="space behind"),
        pytest.param("4938\t17", id="tab"),
        pytest.param("493817\n", id="newline"),
        pytest.param("4938\x0017", id="NUL"),
        pytest.param("4938\x7f17", id="DEL"),
        pytest.param("49381\u0667", id="arabic digit"),
        pytest.param("49\U0001f60017", id="emoji"),
        pytest.param("http://a.bc", id="link"),
        pytest.param("WWW.a.bc", id="link by www"),
        pytest.param("wa.me/1", id="link to WhatsApp"),
        pytest.param("bit.ly/abc", id="link without a scheme"),
        pytest.param("T.ME/x", id="link in capitals"),
        pytest.param("see:a-1.info/", id="link behind something else"),
        pytest.param(493817, id="a number, no string"),
        pytest.param(["493817"], id="list"),
    ],
)
def test_what_is_no_code_is_refused(code: object) -> None:
    assert broken(code=code) == ["code"]


def test_a_sealed_code_stands_in_the_place_of_the_code() -> None:
    sealed = OtpJob(to="+12015553931", sealed_code=SEALED)
    assert (sealed.code, sealed.sealed_code) == (None, SEALED)


@pytest.mark.parametrize(
    "sealed",
    [
        pytest.param("", id="empty"),
        pytest.param("493817", id="no sealed box"),
        pytest.param(base64.b64encode(bytes(48)).decode(), id="seals nothing"),
        pytest.param(base64.b64encode(bytes(64)).decode(), id="seals 16 bytes"),
        pytest.param(base64.urlsafe_b64encode(b"\xff" * 54).decode(), id="URL alphabet"),
        pytest.param(SEALED + "\n", id="newline"),
        pytest.param("A" * 4000, id="very long"),
        pytest.param(54, id="number"),
    ],
)
def test_what_is_no_sealed_code_is_refused(sealed: object) -> None:
    assert broken(code=None, sealed_code=sealed) == ["sealed_code"]


@pytest.mark.parametrize("fields", [{"sealed_code": SEALED}, {"code": None}], ids=["both", "neither"])
def test_exactly_one_of_code_and_sealed_code_is_needed(fields: dict[str, Any]) -> None:
    with pytest.raises(InvalidJob, match="exactly one of code and sealed_code"):
        job(**fields)


@pytest.mark.parametrize("id_", ["a", "A-Za-z0-9_.:-", "otp:01J9Z6.x_y", "x" * 64])
def test_an_id_is_kept_as_it_is(id_: str) -> None:
    assert job(id=id_).id == id_


@pytest.mark.parametrize("id_", ["", "x" * 65, "a b", "a/b", "a\n", "ä", "a#", 7, None, ["a"]])
def test_what_is_no_id_is_refused(id_: object) -> None:
    assert broken(id=id_) == ["id"]


def test_without_an_id_the_client_makes_a_uuid_of_version_7() -> None:
    ids = [job().id for _ in range(50)]
    pattern = r"[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}"
    assert all(re.fullmatch(pattern, id_) for id_ in ids)
    assert len(set(ids)) == 50
    # The first 48 bits are milliseconds, so that they sort by time.
    assert [id_[:13] for id_ in ids] == sorted(id_[:13] for id_ in ids)
    assert new_job_id() not in ids


@pytest.mark.parametrize("template", ["a", "verification_code", "otp_2026", "x" * 512])
def test_a_template_is_kept_as_it_is(template: str) -> None:
    assert job(template=template).template == template


@pytest.mark.parametrize("template", ["", "x" * 513, "Verification", "a-b", "a b", "a\n", "ü", 1, ["a"]])
def test_what_is_no_template_is_refused(template: object) -> None:
    assert broken(template=template) == ["template"]


@pytest.mark.parametrize("language", ["en", "en_US", "fil", "prs_AF", "zh_CN"])
def test_a_language_is_kept_as_it_is(language: str) -> None:
    assert job(language=language).language == language


@pytest.mark.parametrize("language", ["", "EN", "en-US", "en_us", "english", "en_USA", "en_US\n", 1])
def test_what_is_no_language_is_refused(language: object) -> None:
    assert broken(language=language) == ["language"]


@pytest.mark.parametrize(
    "moment",
    [
        "2026-01-31T12:00:00Z",
        "2026-01-31t12:00:00z",
        "2026-01-31T13:00:00+01:00",
        "2026-01-31T06:30:00-05:30",
        "2026-01-31T12:00:00.000Z",
        "2026-01-31T12:00:00.000000000+00:00",
        datetime(2026, 1, 31, 14, 0, tzinfo=timezone(timedelta(hours=2))),
    ],
)
def test_times_with_a_zone_are_the_same_instant_in_utc(moment: object) -> None:
    made = job(created_at=moment, ttl_s=60)
    assert (made.created_at, made.deadline) == (NOON_TIME, NOON + 60)


@pytest.mark.parametrize("field", ["created_at", "expires_at", "not_before"])
@pytest.mark.parametrize(
    "moment",
    [
        "2026-01-31T12:00:00",
        "2026-01-31",
        "2026-13-31T12:00:00Z",
        "2026-02-30T12:00:00Z",
        "2026-01-31T12:00:61Z",
        "2026-01-31T12:00:00+25:00",
        "2026-01-31T12:00:00 Z",
        "2026-01-31T12:00:00Z\n",
        "0000-01-31T12:00:00Z",
        "0001-01-01T00:00:00+23:00",
        "soon",
        "",
        1769860800,
        datetime(2026, 1, 31, 12, 0),  # noqa: DTZ001 - just that is refused
    ],
)
def test_what_is_no_time_with_a_zone_is_refused(field: str, moment: object) -> None:
    assert broken(**{field: moment}) == [field]


@pytest.mark.parametrize("ttl_s", [0.001, 1, 300, 599.5, 5400])
def test_a_ttl_counts_from_the_creation(ttl_s: float) -> None:
    assert job(created_at=NOON_TIME, ttl_s=ttl_s).deadline == NOON + ttl_s


@pytest.mark.parametrize("ttl_s", [0, -1, 5400.001, 1e300, float("nan"), float("inf"), True, "300", [300]])
def test_what_is_no_ttl_is_refused(ttl_s: object) -> None:
    assert broken(ttl_s=ttl_s) == ["ttl_s"]


def test_without_an_end_a_job_lives_ten_minutes() -> None:
    assert job(created_at=NOON_TIME).deadline == NOON + 600


def test_an_end_and_a_ttl_exclude_each_other() -> None:
    with pytest.raises(InvalidJob, match="expires_at and ttl_s exclude each other"):
        job(created_at=NOON_TIME, expires_at=NOON_TIME + timedelta(seconds=60), ttl_s=60)


def test_a_job_ends_at_most_5400_s_after_its_creation() -> None:
    assert job(created_at=NOON_TIME, expires_at=NOON_TIME + timedelta(seconds=5400)).deadline == NOON + 5400
    with pytest.raises(InvalidJob, match="expires_at: must be at most 5400 s after created_at"):
        job(created_at=NOON_TIME, expires_at=NOON_TIME + timedelta(seconds=5401))


def test_not_before_is_earlier_than_the_end() -> None:
    last = NOON_TIME + timedelta(seconds=59.999)
    assert job(created_at=NOON_TIME, ttl_s=60, not_before=last).not_before == last
    for late in (60, 61):
        with pytest.raises(InvalidJob, match="not_before: must be earlier than expires_at"):
            job(created_at=NOON_TIME, ttl_s=60, not_before=NOON_TIME + timedelta(seconds=late))


def test_a_ref_of_one_kib_is_kept_and_one_byte_more_is_refused() -> None:
    # {"k":"…"} has eight bytes around the text.
    assert job(ref={"k": "x" * 1016}).ref == {"k": "x" * 1016}
    assert broken(ref={"k": "x" * 1017}) == ["ref"]
    # As JSON in UTF-8 each of these letters has two bytes.
    assert broken(ref={"k": "ä" * 509}) == ["ref"]


def nested(depth: int) -> dict[str, object]:
    """Make an object that is `depth` deep, itself counted."""
    return {"a": nested(depth - 1)} if depth > 1 else {"a": 1}


def test_a_ref_that_is_32_deep_is_kept_and_one_deeper_is_refused() -> None:
    assert job(ref=nested(32)).ref == nested(32)
    assert job(ref={"a": [{"b": "[" * 200}, {}], "c": [[]] * 40}).ref == {"a": [{"b": "[" * 200}, {}], "c": [[]] * 40}
    for ref in (nested(33), {"a": [nested(31)]}, {"a": (nested(31),)}, nested(300)):
        [problem] = refused(ref=ref).problems
        assert str(problem).startswith("ref: ")
        assert "at most 32 deep" in str(problem)


@pytest.mark.parametrize("ref", [[], "x", 1, True, {1: "a"}, {"a": {1}}, {"a": 2**70}, {"a": "\ud800"}])
def test_what_is_no_json_object_is_no_ref(ref: object) -> None:
    assert broken(ref=ref) == ["ref"]


@pytest.mark.parametrize("version", [0, 2, "1", 1.0, True, None])
def test_a_version_that_is_not_known_is_refused(version: object) -> None:
    assert broken(version=version) == ["version"]


@pytest.mark.parametrize("name", ["expire_at", "ttl", "Code", "_x", "phone-number"])
def test_an_unknown_field_is_refused_by_its_name(name: str) -> None:
    with pytest.raises(InvalidJob, match=f"{name}: unknown field") as caught:
        job(**{name: 300})
    assert [problem.field for problem in caught.value.problems] == [name]


# Several at a time


def test_every_broken_field_is_named_at_once() -> None:
    named = broken(
        id="a b",
        to="1",
        code="",
        template="A",
        language="X",
        ttl_s=0,
        created_at=1,
        not_before=1,
        ref=1,
        version=2,
        x=1,
    )
    assert sorted(named) == sorted(
        ["id", "to", "code", "template", "language", "ttl_s", "created_at", "not_before", "ref", "version", "x"]
    )


def test_a_missing_code_is_told_together_with_a_broken_number() -> None:
    with pytest.raises(InvalidJob) as caught:
        OtpJob(to="1")
    told = str(caught.value)
    assert "to: " in told
    assert "exactly one of code and sealed_code" in told


def test_fields_that_contradict_each_other_are_told_all_at_once() -> None:
    with pytest.raises(InvalidJob) as caught:
        job(sealed_code=SEALED, created_at=NOON_TIME, expires_at=NOON_TIME + timedelta(seconds=60), ttl_s=60)
    told = str(caught.value)
    assert "exactly one of code and sealed_code" in told
    assert "expires_at and ttl_s exclude each other" in told


def test_a_job_cannot_be_changed() -> None:
    made = job()
    with pytest.raises(Exception, match="frozen"):
        made.code = "000000"  # type: ignore[misc] # on purpose
    assert made.code == "493817"


# From the wire


def test_a_foreign_job_of_the_fewest_fields_is_read() -> None:
    read = OtpJob.parse(
        b'{"id":"job-1","to":"12015553931","code":"493817","expires_at":"2026-01-31T12:05:00Z"}', now=NOON
    )
    assert (read.id, read.to, read.code, read.deadline) == ("job-1", "+12015553931", "493817", NOON + 300)
    assert (read.created_at, read.template, read.language, read.not_before, read.ref) == (None, None, None, None, None)


def test_null_is_as_good_as_left_out() -> None:
    read = parse(template=None, language=None, expires_at=None, not_before=None, ref=None, sealed_code=None)
    assert read == parse()


def test_from_the_wire_an_id_is_required() -> None:
    for missing in (..., None, ""):
        assert [problem.field for problem in refused(id=missing).problems] == ["id"]


def test_the_amqp_timestamp_stands_in_for_the_creation() -> None:
    published_at = NOON_TIME - timedelta(seconds=10)
    read = parse(published_at, created_at=...)
    assert (read.created_at, read.deadline) == (published_at, NOON + 590)
    assert parse(published_at).deadline == NOON + 600
    assert parse(published_at, created_at=None, ttl_s=30).deadline == NOON + 20


def test_without_creation_timestamp_and_end_the_age_is_unknown() -> None:
    assert "age is unknown" in str(refused(created_at=...))
    assert "age is unknown" in str(refused(created_at=None, ttl_s=60))


def test_a_job_of_unknown_age_lives_at_most_5400_s_from_now() -> None:
    assert parse(created_at=..., expires_at="2026-01-31T13:30:00Z").deadline == NOON + 5400
    # A minute is left to clocks that differ.
    assert [p.field for p in refused(created_at=..., expires_at="2026-01-31T13:31:01Z").problems] == ["expires_at"]


def test_a_creation_in_the_future_does_not_lengthen_a_life() -> None:
    assert [p.field for p in refused(created_at="2026-01-31T14:00:00Z").problems] == ["expires_at"]


@pytest.mark.parametrize(
    "body", [b"", b"null", b"[]", b'"x"', b"{", b"\xff", b'{"id":"\xff"}', b"{'id':1}", b'{"ttl_s": NaN}', b"[" * 10000]
)
def test_a_body_that_is_no_json_object_is_refused(body: bytes) -> None:
    with pytest.raises(InvalidJob, match="the body"):
        OtpJob.parse(body, now=NOON)


def test_a_body_has_at_most_16_kib() -> None:
    body = wire()
    assert OtpJob.parse(body.ljust(16384), now=NOON).id == "job-1"
    with pytest.raises(InvalidJob, match="16385 bytes; at most 16384"):
        OtpJob.parse(body.ljust(16385), now=NOON)


def test_a_job_travels_without_what_was_left_out() -> None:
    sent = json.loads(job(id="job-1", created_at=NOON_TIME, ttl_s=300).to_json())
    assert sent.pop("created_at") in ("2026-01-31T12:00:00Z", "2026-01-31T12:00:00+00:00")
    assert sent == {"id": "job-1", "to": "+12015553931", "code": "493817", "ttl_s": 300.0, "version": 1}
