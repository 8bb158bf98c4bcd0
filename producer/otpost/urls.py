"""URLs with a password in them: shown without it, or not at all."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final
from urllib.parse import urlsplit

if TYPE_CHECKING:
    from urllib.parse import SplitResult

UNREADABLE: Final = (
    "(a URL that cannot be read: it has to be scheme://user:password@host:port/…, and in its password "
    "/ ? # @ have to be written %2F %3F %23 %40)"
)
# It has no password, and its path may hold anything.
_FILE: Final = "sqlite:///"
# What may hold an "@" behind the host: a file's name, for AMQP and for Redis, or a client's.
_MAY_HOLD_AN_AT: Final = frozenset(
    {"cafile", "capath", "certfile", "keyfile", "name"}
    | {"ssl_ca_certs", "ssl_ca_path", "ssl_certfile", "ssl_keyfile", "client_name", "username", "password"}
)


def visible_url(url: str) -> str:
    """Show a URL without its password; where it cannot be told which part that is, only how to write it."""
    if url.startswith(_FILE):
        return url
    parsed = read_url(url)
    if parsed is None:
        return UNREADABLE
    host = f"[{parsed.hostname}]" if ":" in (parsed.hostname or "") else parsed.hostname
    port = f":{parsed.port}" if parsed.port else ""
    user = f"{parsed.username}@" if parsed.username else ""
    return f"{parsed.scheme}://{user}{host}{port}{parsed.path}"


def read_url(url: str) -> SplitResult | None:
    """Take a URL apart; None where it has no host, or none that can be told for certain.

    A "/", "?" or "#" in a password ends what is read as user, password and host: the rest of the password with the
    host stands in the path, the query or the fragment then, and its "@" gives it away. In a query an "@" is taken for
    what it seems to be in the value of a parameter that is known to name a file or a client: ``?cafile=/a@b``.
    """
    try:
        parsed = urlsplit(url)
        strange = not parsed.hostname or parsed.port == 0
    except ValueError:
        return None
    rest = parsed.path + parsed.fragment + "".join(_unexplained(parsed.query))
    return None if strange or "@" in rest else parsed


def _unexplained(query: str) -> list[str]:
    named = (parameter.partition("=") for parameter in query.split("&"))
    return [name + ("" if name in _MAY_HOLD_AN_AT else value) for name, _, value in named]
