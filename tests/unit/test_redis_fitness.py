"""Which Redis will do as a ledger, what is said of one that may forget, and of one that cannot be used."""

from __future__ import annotations

import ssl
from typing import TYPE_CHECKING, Any

import pytest
from redis import exceptions
from redis._parsers.base import BaseParser

from otpost_worker.ledger.redis.fitness import refusal, warnings_of
from otpost_worker.ledger.redis.remedies import describe
from otpost_worker.ledger.redis.scripts import CONSTANTS, read_scripts

if TYPE_CHECKING:
    from collections.abc import Mapping

GOOD: Mapping[str, Any] = {
    "redis_version": "7.0.15", "role": "master", "maxmemory_policy": "noeviction", "aof_enabled": 1,
    "cluster_enabled": 0,
}  # fmt: skip


@pytest.mark.parametrize("version", ["6.2.0", "6.2.14", "7.0.15", "8.8.0", "10.1.0", "255.255.255", ""])
def test_a_version_that_is_new_enough_or_not_told_will_do(version: str) -> None:
    assert refusal({**GOOD, "redis_version": version}) is None
    assert refusal({}) is None


@pytest.mark.parametrize("version", ["2.8.24", "5.0.14", "6.0.16", "6.1.240"])
def test_an_older_version_is_refused(version: str) -> None:
    assert refusal({**GOOD, "redis_version": version}) == f"it is Redis {version}; 6.2 is the oldest that will do"


def test_a_replica_is_refused() -> None:
    assert refusal({**GOOD, "role": "slave"}) == "it is a replica, which may not be written; name the primary"


def test_one_that_keeps_what_it_is_told_is_not_warned_of() -> None:
    assert warnings_of(GOOD) == ()
    # A managed service may not tell all of it.
    assert warnings_of({"redis_version": "7.1.0"}) == ()


@pytest.mark.parametrize(
    ("setting", "value", "words"),
    [
        ("maxmemory_policy", "volatile-lru", "set noeviction"),
        ("aof_enabled", 0, "set appendonly yes"),
        ("cluster_enabled", 1, "the URL has to follow"),
    ],
)
def test_what_may_make_it_forget_is_said_with_what_to_do(setting: str, value: object, words: str) -> None:
    (told,) = warnings_of({**GOOD, setting: value})
    assert words in told


def test_one_that_tells_nothing_is_warned_of() -> None:
    (told,) = warnings_of(None)
    assert "nobody can tell" in told


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        ("OOM command not allowed when used memory > 'maxmemory'. script: 5e, on @user_script:12.", "its memory"),
        # As Redis 6.2 has it.
        ("ERR Error running script (call to f_5e): @user_script:9: -OOM command not allowed.", "its memory (maxm"),
        ("READONLY You can't write against a read only replica.", "it is a replica"),
        ("LOADING Redis is loading the dataset in memory", "it is still loading its data"),
        ("MISCONF Redis is configured to save RDB snapshots, but it's unable to persist to disk.", "to its disk"),
        ("NOREPLICAS Not enough good replicas to write.", "too few of its replicas"),
        ("MOVED 13000 10.0.0.7:6379", "another node has the keys"),
        ("CLUSTERDOWN Hash slot not served", "its cluster is down"),
        ("WRONGPASS invalid username-password pair or user is disabled.", "it refuses the user or the password"),
        ("NOAUTH Authentication required.", "it wants a password"),
        ("NOPERM this user has no permissions to run the 'evalsha' command", "its user may not do that"),
        ("BUSY Redis is busy running a script.", "a script of somebody else"),
    ],
)
def test_what_redis_answers_is_put_into_words_with_what_to_do(answer: str, words: str) -> None:
    error = BaseParser.parse_error(answer)  # type: ignore[no-untyped-call] # redis-py leaves it so
    assert words in describe(error)


def test_what_is_unknown_is_said_as_it_is_without_the_commands_arguments() -> None:
    error = exceptions.ResponseError("unknown command 'EVALSHA', with args beginning with: 'f0' '1' '+12015553931'")
    assert describe(error) == "unknown command 'EVALSHA'"
    assert describe(exceptions.ResponseError("")) == "ResponseError"


def test_a_certificate_that_is_not_trusted_is_told_as_that() -> None:
    error = exceptions.ConnectionError("Error 1 connecting to host:6380. 1.")
    error.__context__ = ssl.SSLCertVerificationError("certificate verify failed: self-signed certificate")
    assert describe(error).startswith("no secure connection comes about: ")


def test_no_answer_and_no_connection_are_two_things() -> None:
    assert describe(exceptions.TimeoutError("Timeout reading from host:6379")).startswith("it does not answer in time")
    assert describe(TimeoutError()).startswith("it does not answer in time")
    assert describe(exceptions.ConnectionError("Connection closed by server.")).startswith(
        "Connection closed by server; see whether it is up"
    )


def test_every_script_is_itself_and_has_the_constants_of_the_pure_rooms() -> None:
    scripts = read_scripts().all()
    assert len({script.digest for script in scripts}) == len(scripts) == 10
    assert CONSTANTS["PAIR_INTERVAL_S"] == 6.0
    for script in scripts:
        assert "local PAIR_INTERVAL_S = 6.0\n" in script.text
