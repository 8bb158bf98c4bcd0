"""Sealed codes: what one key seals only its counterpart opens, keys say what they are, and secrets stay hidden."""

from __future__ import annotations

import base64
import secrets
from typing import Final

import pytest
from hypothesis import given
from hypothesis import strategies as st

from job_strategies import CODES, PROPERTY, valid_fields
from otpost import InvalidKey, OtpJob
from otpost.job import is_code
from otpost.sealing import Opener, PrivateKey, PublicKey

# Made with libsodium's own crypto_box_keypair and crypto_box_seal, by libsodium-wrappers 0.8.4 under Node 20.
PUBLIC: Final = "otpost-public:s9RvziSHlyiZRqUdFYEkK+H9FRZGGRDQzfj89UzgYlo="
PRIVATE: Final = "otpost-private:HcSGG9ad/vTBzCyiaOX/fEKjhMsy+9f6cfp/D4rDwpg="
SEALED_ELSEWHERE: Final = "yFhI8+YzuRH1EfIo+qc48WUGe9zr896ZO9hr7hhrChXKU+qc/XiC6z509SqCIupPc7pskaZJ"
KEYS: Final = st.binary(min_size=32, max_size=32).map(PrivateKey)
OURS: Final = PrivateKey.parse(PRIVATE)
CODE: Final = "806274"


def job(**fields: object) -> OtpJob:
    return OtpJob(**({"id": "job-1", "to": "+12025550187", "code": CODE} | fields))


@PROPERTY
@given(secret=st.binary(max_size=300), keys=st.lists(KEYS, min_size=1, max_size=4), data=st.data())
def test_what_is_sealed_to_any_of_the_keys_is_opened(
    secret: bytes, keys: list[PrivateKey], data: st.DataObject
) -> None:
    one = data.draw(st.sampled_from(keys))
    assert Opener(keys).open(one.public.seal(secret)) == secret


@PROPERTY
@given(secret=st.binary(max_size=30), key=KEYS, others=st.lists(KEYS, max_size=3))
def test_no_other_key_opens_it(secret: bytes, key: PrivateKey, others: list[PrivateKey]) -> None:
    # Two texts may be the same key: five bits of a private key do not count.
    strangers = [other for other in others if other.public != key.public]
    assert Opener(strangers).open(key.public.seal(secret)) is None


@PROPERTY
@given(position=st.integers(0, 53), change=st.integers(1, 255))
def test_a_sealed_text_with_one_byte_changed_is_not_opened(position: int, change: int) -> None:
    box = bytearray(base64.b64decode(OURS.public.seal(b"493817")))
    box[position] ^= change
    spoilt = base64.b64encode(box).decode()
    # The highest bit of the point that it begins with does not count, by the curve's own rules.
    assert Opener([OURS]).open(spoilt) in ((None, b"493817") if (position, change) == (31, 128) else (None,))


@pytest.mark.parametrize(
    "garbage",
    [
        "",
        "493817",
        "not base64!",
        "ümlaut",
        base64.b64encode(b"x" * 40).decode(),
        base64.b64encode(b"x" * 56).decode(),
        base64.b64encode(bytes(54)).decode(),
        base64.b64encode(b"\xff" * 4000).decode(),
    ],
)
def test_garbage_is_opened_by_nobody(garbage: str) -> None:
    assert Opener([OURS]).open(garbage) is None


@PROPERTY
@given(fields=valid_fields(), key=KEYS)
def test_a_sealed_job_differs_from_the_job_in_nothing_but_its_code(fields: dict[str, object], key: PrivateKey) -> None:
    clear = OtpJob(**fields)
    sealed = clear.sealed(str(key.public))
    assert (sealed.code, clear.code) == (None, fields["code"])
    assert OtpJob.parse(sealed.to_json(), now=5e9) == sealed
    assert sealed.sealed_code is not None
    assert Opener([key]).open(sealed.sealed_code) == str(fields["code"]).encode()
    kept = {name: value for name, value in vars(sealed).items() if name not in ("code", "sealed_code")}
    assert kept == {name: value for name, value in vars(clear).items() if name not in ("code", "sealed_code")}


def test_a_job_that_is_sealed_already_is_left_alone() -> None:
    sealed = job().sealed(OURS.public)
    assert sealed.sealed(PrivateKey(secrets.token_bytes(32)).public) is sealed


def test_the_same_code_sealed_twice_gives_two_texts() -> None:
    assert OURS.public.seal(b"493817") != OURS.public.seal(b"493817")


def test_the_code_is_nowhere_in_a_sealed_job() -> None:
    sealed = job(code="QWERT12345asdfg").sealed(OURS.public)
    assert "QWERT12345asdfg" not in f"{sealed!r} {vars(sealed)} {sealed.model_dump()} {sealed.to_json()!r}"
    assert sealed.sealed_code is not None
    assert sealed.sealed_code not in repr(sealed)


@PROPERTY
@given(code=CODES)
def test_what_a_sealed_code_opens_to_can_be_told_from_what_is_no_code(code: str) -> None:
    assert is_code(code)
    assert not any(map(is_code, (f"{code} ", f" {code}", f"{code}\n", code * 16, "", "http://x.de", b"493817", None)))


# Keys as text


def test_keys_are_written_as_what_they_are() -> None:
    assert (str(PublicKey.parse(PUBLIC)), OURS.reveal()) == (PUBLIC, PRIVATE)
    assert OURS.public == PublicKey.parse(f" {PUBLIC}\n")


def test_a_private_key_shows_itself_only_where_it_is_asked_to() -> None:
    for shown in (repr(OURS), str(OURS), f"{OURS}", repr([OURS])):
        assert shown.strip("[]") == "PrivateKey()"


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("", "one is otpost-public: and the base64 of 32 bytes; 'otpost keys generate' makes a pair"),
        (PUBLIC.removeprefix("otpost-public:"), "one is otpost-public: and the base64 of 32 bytes"),
        (PUBLIC[:-1], "one is otpost-public: and the base64 of 32 bytes"),
        (PUBLIC[:-2] + "p=", "one is otpost-public: and the base64 of 32 bytes"),
        (f"{PUBLIC} {PUBLIC}", "one is otpost-public: and the base64 of 32 bytes"),
        ("otpost-public:" + base64.b64encode(b"x" * 31).decode(), "one is otpost-public: and the base64 of 32 bytes"),
        (PRIVATE, "that is a private key, and one that begins with otpost-public: is needed"),
    ],
    ids=["empty", "bare", "cut", "last bits", "two", "31 bytes", "private"],
)
def test_what_is_no_public_key_is_refused_without_being_shown(text: str, told: str) -> None:
    with pytest.raises(InvalidKey, match=told) as refused:
        PublicKey.parse(text)
    assert len(text) < 14 or text[14:40] not in f"{refused.value!r} {vars(refused.value)}"


def test_several_private_keys_stand_between_commas_or_white_space() -> None:
    keys = [PrivateKey(secrets.token_bytes(32)) for _ in range(4)]
    a, b, c, d = (key.reveal() for key in keys)
    assert PrivateKey.parse_all(f"  {a},{b} ,\n{c}\t\n{d}\n,") == tuple(keys)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        (" ,\n", "not a private key: there is none; one is otpost-private: and the base64 of 32 bytes"),
        ("secret-of-mine", "not a private key: one is otpost-private: and the base64 of 32 bytes"),
        (f"{PRIVATE},secret-of-mine", "not a private key number 2: one is otpost-private: and the base64 of 32 bytes"),
        (f"{PUBLIC} {PRIVATE}", "not a private key number 1: that is a public key"),
    ],
    ids=["none", "garbage", "second", "public"],
)
def test_which_of_several_keys_is_none_is_told_without_showing_any(text: str, told: str) -> None:
    with pytest.raises(InvalidKey) as refused:
        PrivateKey.parse_all(text)
    assert str(refused.value).startswith(told)
    for secret in ("secret-of-mine", PRIVATE[15:40]):
        assert secret not in f"{refused.value!r} {vars(refused.value)}"


def test_a_key_has_32_bytes() -> None:
    with pytest.raises(InvalidKey, match="not a private key: one has 32 bytes, and this has 31"):
        PrivateKey(b"x" * 31)
    with pytest.raises(InvalidKey, match="not a public key: one has 32 bytes, and this has 33"):
        PublicKey(b"x" * 33)


def test_nothing_is_sealed_to_a_key_that_would_let_everybody_open_it() -> None:
    with pytest.raises(InvalidKey, match="to which nothing can be sealed"):
        PublicKey(bytes(32)).seal(b"493817")


def test_what_another_implementation_sealed_is_opened() -> None:
    assert OURS.public == PublicKey.parse(PUBLIC)
    assert Opener([OURS]).open(SEALED_ELSEWHERE) == b"806274"
