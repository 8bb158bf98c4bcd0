"""What an operator is told to do about a refusal that halts a sender."""

from __future__ import annotations

import pytest

from otpost_worker.outcome import Kind
from otpost_worker.providers.cloud_api_codes import CODES, remedy_of


@pytest.mark.parametrize(
    ("code", "remedy"),
    [
        (190, "the access token is expired, revoked or wrong: put a new one into /run/token; then restart the workers"),
        (0, "the access token is expired, revoked or wrong: put a new one into /run/token; then restart the workers"),
        (10, "the access token lacks a permission: give its system user the permission whatsapp_business_messaging"),
        (200, "the access token lacks a permission: give its system user the permission whatsapp_business_messaging"),
        (100, "check the sender's phone_number_id, and that the token from /run/token may see that number"),
        (131042, "add or renew the means of payment of the WhatsApp account in Meta's billing settings"),
        (133010, "the phone number is not registered for the Cloud API: register it with its PIN"),
        (None, "check OTPOST_API_BASE, OTPOST_API_VERSION and the token from /run/token"),
        (368, "see the account and its phone number in Meta's WhatsApp Manager"),
    ],
)
def test_what_halts_a_sender_comes_with_a_remedy(code: int | None, remedy: str) -> None:
    assert remedy_of(code, token_source="/run/token").startswith(remedy)


def test_every_code_that_halts_a_sender_has_a_remedy() -> None:
    halting = [code for code, rule in CODES.items() if rule.kind is Kind.SENDER_HALTED]
    assert len(halting) > 100
    assert all(remedy_of(code, token_source="/run/token") for code in halting)


def test_a_file_that_is_read_again_needs_no_restart() -> None:
    assert remedy_of(190, token_source="/run/token", read_again=True) == (
        "the access token is expired, revoked or wrong: put a new one into /run/token; it is read again by itself"
    )
