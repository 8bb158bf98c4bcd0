"""What the text of a setting has to be like [pure].

Each rule raises ``ValueError`` with what is wrong, and without what was written, which may be secret.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from otpost.errors import InvalidKey
from otpost.sealing import PrivateKey, PublicKey
from otpost.urls import read_url

if TYPE_CHECKING:
    from pydantic import SecretStr


def fits_a_header(secret: SecretStr) -> SecretStr:
    """Take what an HTTP header can carry."""
    if not re.fullmatch(r"[!-~]+", secret.get_secret_value()):
        raise ValueError("must be printable ASCII without spaces or line breaks, as it goes into a header")
    return secret


def are_secrets(secret: SecretStr) -> SecretStr:
    """Take one or several secrets, see ``each_secret``."""
    found = each_secret(secret)
    if not found or not all(re.fullmatch(r"[!-~]+", one) for one in found):
        raise ValueError("must be printable ASCII; several go between commas or white space")
    return secret


def each_secret(secret: SecretStr | None) -> tuple[str, ...]:
    """Take apart what stands between commas or white space: while one is changed for another, both hold."""
    return () if secret is None else tuple(one for one in re.split(r"[\s,]+", secret.get_secret_value()) if one)


def is_an_address(url: str) -> str:
    """Take a URL whose host and port one can connect to."""
    try:
        parsed = urlsplit(url)
        named = all((parsed.hostname or "").rstrip(".").split(".")) and parsed.port != 0
    except ValueError:
        named = False
    if not named:
        raise ValueError("must be a URL with a host and, if need be, a port up to 65535")
    return url


def is_a_public_key(text: str) -> str:
    """Take a key that seals."""
    try:
        return str(PublicKey.parse(text))
    except InvalidKey as error:
        raise ValueError(str(error)) from None


def are_private_keys(secret: SecretStr) -> SecretStr:
    """Take keys that open."""
    try:
        PrivateKey.parse_all(secret.get_secret_value())
    except InvalidKey as error:
        raise ValueError(str(error)) from None
    return secret


def names_a_ledger(secret: SecretStr) -> SecretStr:
    """Take the URL of a file or of a Redis."""
    url = secret.get_secret_value()
    if re.fullmatch(r"sqlite:///.+", url):
        return secret
    if not re.match(r"rediss?://", url):
        raise ValueError("must begin with sqlite:///, redis:// or rediss://")
    if read_url(url) is None:
        raise ValueError(
            "must be redis://user:password@host:port/0; in the password / ? # @ have to be written %2F %3F %23 %40"
        )
    is_an_address(url)
    if not re.fullmatch(r"/?[0-9]*", urlsplit(url).path):
        raise ValueError("must end in the number of a database, such as /0, or in nothing")
    return secret
