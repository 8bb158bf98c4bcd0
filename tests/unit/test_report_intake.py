"""When it is looked whether something was delivered, and which names of the provider's belong to which sender."""

from __future__ import annotations

import pytest
from pydantic import SecretStr

from otpost_worker.deliver import WatchTimes
from otpost_worker.envelope import Defaults
from otpost_worker.report_intake import accounts_of, watch_of
from otpost_worker.sender_reports import Account
from otpost_worker.settings import Settings
from service import sender_settings


@pytest.mark.parametrize(("message_ttl_s", "sent_s"), [(600, 630.0), (60, 90.0)])
def test_a_delivery_is_missed_half_a_minute_after_the_messages_time_to_live_and_what_is_held_sooner(
    message_ttl_s: int, sent_s: float
) -> None:
    sender = sender_settings(
        "http://127.0.0.1:9", app_secret=SecretStr("a-secret-of-ours"), message_ttl_s=message_ttl_s
    )
    assert watch_of(sender) == WatchTimes(sent_s=sent_s, held_s=30.0)


def test_nothing_is_missed_of_a_sender_whose_reports_nobody_can_check() -> None:
    assert watch_of(sender_settings("http://127.0.0.1:9")) is None


def test_every_sender_that_is_known_has_its_account_also_where_another_worker_serves_it() -> None:
    senders = {
        "shop": sender_settings("http://127.0.0.1:9", waba_id="111", rate=40.0),
        "bank": sender_settings("http://127.0.0.1:9", phone_number_id="107", template=None, language="de"),
    }
    settings = Settings(
        broker_url=SecretStr("amqp://127.0.0.1/"), ledger_url=SecretStr("sqlite:////tmp/ledger.db"), senders=senders
    )
    # Both have the same token, and so share one quota under the first of their names.
    first, second = accounts_of(settings.serving({"shop"}))
    assert first == Account("shop", "111", "106540352242922", 40.0, "bank", Defaults("verification_code", "en_US"))
    assert second == Account("bank", None, "107", 80.0, "bank", Defaults(None, "de"))
