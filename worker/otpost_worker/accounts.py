"""From a sender's settings to the account that its provider sends with."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from otpost_worker.providers.cloud_api import CloudApiAccount

if TYPE_CHECKING:
    from otpost_worker.settings import SenderSettings


def account_of(name: str, one: SenderSettings) -> CloudApiAccount:
    """Describe the account of the sender *name*."""
    return CloudApiAccount(
        phone_number_id=one.phone_number_id,
        access_token=one.access_token.get_secret_value(),
        api_base=one.api_base,
        api_version=one.api_version,
        token_source=one.access_token_file or f"OTPOST_ACCESS_TOKEN (sender {name})",
        token_file=Path(one.access_token_file) if one.access_token_file else None,
    )
