"""The signature of a webhook: right under any of our secrets, wrong in every other way, and nothing raises."""

from __future__ import annotations

import random
from typing import Final

import pytest
from hypothesis import given
from hypothesis import strategies as st

from job_strategies import PROPERTY
from otpost_worker.webhook_signature import is_one_of, is_signed

# printf '%s' '{"object":"whatsapp_business_account"}' | openssl dgst -sha256 -hmac app-secret
BODY: Final = b'{"object":"whatsapp_business_account"}'
SIGNATURE: Final = "sha256=0bf7374433906636bed1653bc7c64affb42fa5da9a39e251ab95c2e3a9c06923"
# printf '{"name":"\\u00e4 %s"}' 'ä' | openssl dgst -sha256 -hmac app-secret: the bytes as they came, escaped or not.
FOREIGN_BODY: Final = '{"name":"\\u00e4 ä"}'.encode()
FOREIGN_SIGNATURE: Final = "sha256=95ac16938329bb736f90cc561eff36b774bc1c7bd49ab7eb6a3ce80b640903dd"
SECRET: Final = b"app-secret"
# RFC 4231, test cases 1, 2, 3 and 6: key, data, and what HMAC-SHA-256 makes of them.
RFC: Final = [
    (b"\x0b" * 20, b"Hi There", "b0344c61d8db38535ca8afceaf0bf12b881dc200c9833da726e9376c2e32cff7"),
    (b"Jefe", b"what do ya want for nothing?", "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843"),
    (b"\xaa" * 20, b"\xdd" * 50, "773ea91e36800e46854db8ebd09181a72959098b3ef8c122d9635514ced565fe"),
    (
        b"\xaa" * 131,
        b"Test Using Larger Than Block-Size Key - Hash Key First",
        "60e431591ee0b67f0d8a26aacbf5b77f8e0bc6213728c5140546040f0ee37f54",
    ),
]


@pytest.mark.parametrize(("key", "data", "digest"), RFC, ids=["1", "2", "3", "6"])
def test_the_vectors_of_the_rfc_are_right(key: bytes, data: bytes, digest: str) -> None:
    assert is_signed(data, f"sha256={digest}", [key])


def test_what_openssl_signs_is_signed_whatever_is_in_it() -> None:
    assert is_signed(BODY, SIGNATURE, [SECRET])
    assert is_signed(FOREIGN_BODY, FOREIGN_SIGNATURE, [SECRET])


def test_any_of_several_secrets_will_do_in_any_place() -> None:
    assert is_signed(BODY, SIGNATURE, [b"new", SECRET])
    assert is_signed(BODY, SIGNATURE, [SECRET, b"old"])
    assert not is_signed(BODY, SIGNATURE, [b"new", b"old"])
    assert not is_signed(BODY, SIGNATURE, [])


@pytest.mark.parametrize(
    "header",
    [
        None,
        "",
        "sha256=",
        SIGNATURE.removeprefix("sha256="),
        SIGNATURE.replace("sha256", "sha1"),
        SIGNATURE[:-1],
        SIGNATURE + "0",
        SIGNATURE + ", " + SIGNATURE,
        SIGNATURE.upper(),
        " " + SIGNATURE,
        SIGNATURE[:-1] + "é",
        SIGNATURE[:-1] + "\udce9",
        "\ud800",
        "sha256=" + "0" * 64,
        "x" * 100_000,
    ],
)
def test_every_other_header_is_wrong(header: str | None) -> None:
    assert not is_signed(BODY, header, [SECRET])


def test_a_body_that_was_altered_or_written_anew_is_not_signed() -> None:
    assert not is_signed(BODY + b"\n", SIGNATURE, [SECRET])
    assert not is_signed(BODY.replace(b":", b": "), SIGNATURE, [SECRET])
    assert not is_signed(b"", SIGNATURE, [SECRET])


def test_a_verify_token_is_compared_as_it_is() -> None:
    tokens = [b"old-token", b"new-token"]
    assert is_one_of("old-token", tokens)
    assert is_one_of("new-token", tokens)
    for other in (None, "", "new-toke", "new-token ", "NEW-TOKEN", "new-tokén", "\ud800", "old-token,new-token"):
        assert not is_one_of(other, tokens)
    assert not is_one_of("new-token", [])


def test_a_token_that_is_not_given_is_none_of_ours_even_where_one_of_ours_is_empty() -> None:
    assert not is_one_of(None, [b""])


def test_text_outside_ascii_is_no_question_mark() -> None:
    assert not is_one_of("to\u20acen", [b"to?en"])
    assert not is_one_of("to\ud800en", [b"to?en"])


ANY_TEXT: Final = st.text(st.characters(exclude_categories=()))


def nothing_raises(body: bytes, header: str | None, secrets: list[bytes]) -> None:
    assert not is_signed(body, header, secrets)
    assert not is_one_of(header, secrets) or (header or "").encode() in secrets


@PROPERTY
@given(st.binary(), st.none() | ANY_TEXT, st.lists(st.binary(max_size=80)))
def test_nothing_raises(body: bytes, header: str | None, secrets: list[bytes]) -> None:
    nothing_raises(body, header, secrets)


@pytest.mark.parametrize("count", [5_000, pytest.param(100_000, marks=pytest.mark.long)])
def test_nothing_raises_for_many_spoilt_signatures(count: int) -> None:
    rng = random.Random(7)  # noqa: S311 - to be repeated, not to be secret
    for _ in range(count):
        header = list(SIGNATURE)
        for _ in range(rng.randrange(1, 4)):
            at = rng.randrange(len(header) + 1)
            header[at : at + rng.randrange(3)] = chr(rng.choice((rng.randrange(256), rng.randrange(0x110000))))
        given_header = "".join(header)
        assert is_signed(BODY, given_header, [b"new", SECRET]) is (given_header == SIGNATURE)
