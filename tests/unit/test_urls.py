"""URLs are shown without their passwords, however those are written."""

from __future__ import annotations

from typing import Final

import pytest

from otpost.urls import UNREADABLE, visible_url
from otpost_worker.ledger.redis.link import Link
from otpost_worker.settings import InvalidSettings, load
from otpost_worker.telemetry import redact_text

SHOWN: Final = {
    "amqp://otpost:s3cret@host:5672/orders": "amqp://otpost@host:5672/orders",
    "amqps://otpost:s3cret@host/?cafile=/a@b&heartbeat=5": "amqps://otpost@host/",
    "amqp://otpost:s3%2Fcr%3Fe%23t@host/a%40b?name=%40": "amqp://otpost@host/a%40b",
    "amqp://otpost:s3c@ret@host/": "amqp://otpost@host/",
    "amqp://otpost:s3cret@[::1]:5672/": "amqp://otpost@[::1]:5672/",
    "rediss://:s3cret@host:6380/1?ssl_ca_certs=/a@b": "rediss://host:6380/1",
    "sqlite:////var/lib/o@post.db": "sqlite:////var/lib/o@post.db",
}
NOT_SHOWN: Final = (
    "amqp://otpost:/s3cret@host/",
    "amqp://otpost:8/s3cret@host/",
    "amqp://otpost:12?s3cret@host/",
    "amqp://otpost:12?s3=cret@host/",
    "amqp://otpost:12?cafile=s3&cret@host/",
    "amqp://otpost:12#s3cret@host/",
    "amqp://otpost:s3/cret@host/",
    "amqp:/otpost:s3cret@host/",
    "otpost:s3cret@host",
    "amqp://otpost:s3cret@/",
    "amqp://otpost:s3cret@host:port/",
    "amqp://",
    "",
)


@pytest.mark.parametrize("url", SHOWN)
def test_a_url_is_shown_without_its_password_and_its_query(url: str) -> None:
    assert visible_url(url) == SHOWN[url]


@pytest.mark.parametrize("url", NOT_SHOWN)
def test_of_a_url_whose_password_cannot_be_told_for_certain_nothing_is_shown_but_how_to_write_it(url: str) -> None:
    assert visible_url(url) == UNREADABLE


@pytest.mark.parametrize("password", ["/s3cret", "8/s3cret", "8?s3cret", "8#s3cret", "s3cret/1"])
def test_a_password_of_redis_that_is_not_encoded_is_refused_with_the_remedy_and_not_shown(password: str) -> None:
    url = f"redis://otpost:{password}@host:6379/0"
    with pytest.raises(InvalidSettings) as raised:
        load({"OTPOST_LEDGER_URL": url}, lambda name: name)
    [problem] = raised.value.problems
    assert "in the password / ? # @ have to be written %2F %3F %23 %40" in problem
    assert "s3cret" not in problem


def test_the_ledgers_own_name_for_such_a_redis_does_not_show_it_either() -> None:
    assert Link("redis://otpost:8?s3cret@host", []).where == UNREADABLE


@pytest.mark.parametrize("scheme", ["amqp", "amqps", "redis", "rediss"])
def test_a_password_in_a_url_that_gets_into_a_log_line_is_hidden(scheme: str) -> None:
    assert redact_text(f"no answer from {scheme}://otpost:s3/cr@et@host/") == (
        f"no answer from {scheme}://otpost:***@host/"
    )
