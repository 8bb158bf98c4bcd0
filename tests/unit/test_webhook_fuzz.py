"""Whatever a webhook's body is: it is read without an error, and what comes out keeps every promise of the union."""

from __future__ import annotations

import json
import re
from random import Random
from typing import Any, Final, get_args

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from job_strategies import PROPERTY
from otpost_worker.updates import Ignored, MessageReport, NotRequested, Update
from otpost_worker.webhook_bodies import attempt_of, minimal_body, read_updates
from webhook_mutations import mutated_body
from webhook_samples import body_of, body_of_statuses

UNION: Final = get_args(Update)
LOG_WORDS: Final = re.compile(r"[a-zA-Z0-9_ ]{1,80}")
JSON: Final = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(st.characters(categories=None), max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=15,
)


def check_all(body: bytes) -> list[Update]:
    """Read *body* and check all that holds for every list of updates."""
    updates = read_updates(body)
    assert updates
    assert all(isinstance(update, UNION) for update in updates)
    ignored = [update.what for update in updates if isinstance(update, Ignored)]
    assert len(ignored) == len(set(ignored)) <= 21
    assert all(LOG_WORDS.fullmatch(what) for what in ignored)
    # It can be written, so there are no halves of characters in it; and nothing that a terminal would obey.
    told = orjson.loads(orjson.dumps(updates))
    for fields in told:
        for name, value in fields.items():
            check_field(name, value)
    for update in updates:
        if isinstance(update, MessageReport):
            assert update.message_id or update.callback
            assert read_updates(minimal_body(update)) == [update]
            attempt_of(update.callback or "")
        if isinstance(update, NotRequested):
            assert read_updates(minimal_body(update)) == [update]
    return updates


def check_field(name: str, value: Any) -> None:  # noqa: ANN401 - of any field
    match value:
        case None | bool():
            pass
        case str():
            assert value
            assert value.isprintable()
            assert len(value) <= (300 if name in ("title", "detail", "what") else 512)
        case float():
            assert name in ("at", "until")
            assert 1_000_000_000 <= value <= 4_102_444_800
        case int():
            assert name == "code"
        case dict():
            assert name == "error"
            for inner_name, inner in value.items():
                check_field(inner_name, inner)
        case _:
            pytest.fail(f"{name} is a {type(value).__name__}")


def check_many(count: int, seed: int) -> dict[str, int]:
    """Check *count* mutations and tell how often each kind of update came out of them."""
    random = Random(seed)  # noqa: S311 - the same bodies each time
    kinds: dict[str, int] = {}
    for _ in range(count):
        body = mutated_body(random)
        try:
            updates = check_all(body)
        except Exception as error:
            raise AssertionError(f"this body broke it: {body[:3000]!r}") from error
        for kind in {type(update).__name__ for update in updates}:
            kinds[kind] = kinds.get(kind, 0) + 1
    return kinds


def test_thousands_of_mutated_samples_are_read_and_still_say_something_of_every_kind_they_held() -> None:
    kinds = check_many(4000, seed=5)
    # A reader that ignored everything would pass the checks above.
    assert kinds["MessageReport"] > 300
    assert kinds["AccountChange"] > 300
    assert kinds["TemplateStatus"] > 50
    assert kinds.keys() >= {"TemplateCategory", "TemplateQuality", "NumberChange", "Preference", "Ignored"}


@pytest.mark.long
@pytest.mark.timeout(900)
def test_a_hundred_and_twenty_thousand_mutated_samples_are_read() -> None:
    assert check_many(120_000, seed=55)["Ignored"] > 10_000


@PROPERTY
@given(JSON)
def test_any_json_is_read(anything: object) -> None:
    check_all(json.dumps(anything).encode())


@PROPERTY
@given(JSON, JSON)
def test_any_json_is_read_where_a_value_belongs(value: object, field: object) -> None:
    check_all(body_of(value, field))
    check_all(body_of_statuses(value, {"status": "failed", "id": value, "errors": [value]}, {"errors": value}))


@PROPERTY
@given(st.binary(max_size=200))
def test_any_bytes_are_read(body: bytes) -> None:
    check_all(body)
