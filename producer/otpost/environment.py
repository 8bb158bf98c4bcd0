"""What the environment tells a producer: where the broker is, and the workers' public key."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final

from otpost.errors import BrokerUnreachable, InvalidKey
from otpost.sealing import PublicKey
from otpost.topology import DEFAULT_BROKER_URL

BROKER_URL_VARIABLE: Final = "OTPOST_BROKER_URL"
BROKER_URL_FILE_VARIABLE: Final = "OTPOST_BROKER_URL_FILE"
PUBLIC_KEY_VARIABLE: Final = "OTPOST_PUBLIC_KEY"


def broker_url() -> str:
    """Take the environment's URL, or that of the file it names, else that of RabbitMQ on this machine.

    :raises BrokerUnreachable: there are both, or the file holds none; waiting does not mend it.
    """
    url = os.environ.get(BROKER_URL_VARIABLE, "").strip()
    file = os.environ.get(BROKER_URL_FILE_VARIABLE, "")
    if url and file:
        both = f"{BROKER_URL_VARIABLE} and {BROKER_URL_FILE_VARIABLE} exclude each other: keep one of them"
        raise BrokerUnreachable(both, permanent=True)
    return _url_in(file) if file else url or DEFAULT_BROKER_URL


def _url_in(file: str) -> str:
    where = f"{BROKER_URL_FILE_VARIABLE}: {file}"
    try:
        url = Path(file).read_text(encoding="utf-8").strip()
    except (OSError, ValueError) as error:
        # A UnicodeDecodeError holds what it could not read, which may be the password.
        reason = error.strerror if isinstance(error, OSError) else "it is no text in UTF-8"
        trouble = f"{where} cannot be read: {reason}; check the path and its permissions"
    else:
        if url:
            return url
        trouble = f"{where} is empty; write the broker's URL into it"
    raise BrokerUnreachable(trouble, permanent=True)


def sealing_key(given: PublicKey | str | None) -> PublicKey | None:
    """Take the public key that was given, else the environment's, and try it: rather now than at the first job.

    :raises InvalidKey: it is none. :raises SealingUnavailable: there is one, but PyNaCl is missing.
    """
    if isinstance(given, PublicKey):
        key = given
    elif given:
        key = PublicKey.parse(given)
    elif named := os.environ.get(PUBLIC_KEY_VARIABLE, "").strip():
        try:
            key = PublicKey.parse(named)
        except InvalidKey as error:
            raise InvalidKey(error.kind, f"{error.reason} ({PUBLIC_KEY_VARIABLE})") from None
    else:
        return None
    key.seal(b"0")
    return key
