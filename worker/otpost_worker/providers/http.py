"""One bounded request over a pooled session: what can go wrong on the way becomes an outcome here."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import aiohttp

from otpost_worker.outcome import Error, Kind, Refused, Unknown

if TYPE_CHECKING:
    from collections.abc import Mapping

    from multidict import CIMultiDictProxy
    from yarl import URL

# An answer to a send has a few hundred bytes, an error page a few thousand; what is larger is not read.
MAX_REPLY_BYTES: Final = 64 * 1024
# An idle connection that the provider has just closed looks like a request whose answer was lost,
# so idle ones are given up early.
_KEEPALIVE_S: Final = 15.0


@dataclass(frozen=True, slots=True)
class Reply:
    """An HTTP answer: *body* is None where it was longer than is read."""

    status: int
    headers: CIMultiDictProxy[str]
    body: bytes | None


def open_session(*, connections: int, connect_timeout_s: float, timeout_s: float) -> aiohttp.ClientSession:
    """Open the pool: at most *connections* at once, each request bounded by the two timeouts (seconds)."""
    return aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(limit=connections, keepalive_timeout=_KEEPALIVE_S, ttl_dns_cache=60),
        timeout=aiohttp.ClientTimeout(total=timeout_s, connect=connect_timeout_s),
        cookie_jar=aiohttp.DummyCookieJar(),
        # No proxy or netrc from the environment: neither may see the token.
        trust_env=False,
    )


async def post(
    session: aiohttp.ClientSession, url: URL, body: bytes, headers: Mapping[str, str]
) -> Reply | Refused | Unknown:
    """POST once, follow no redirect, and read at most 64 KiB of the answer.

    A connection that never came to be is a refusal: nothing was sent. Whatever breaks after that leaves open
    whether the message was taken.
    """
    return await _request(session, "POST", url, headers, body)


async def get(session: aiohttp.ClientSession, url: URL, headers: Mapping[str, str]) -> Reply | Refused | Unknown:
    """GET once, under the same rules as ``post``."""
    return await _request(session, "GET", url, headers, None)


async def _request(
    session: aiohttp.ClientSession, method: str, url: URL, headers: Mapping[str, str], body: bytes | None
) -> Reply | Refused | Unknown:
    try:
        async with session.request(method, url, data=body, headers=headers, allow_redirects=False) as response:
            return Reply(response.status, response.headers, await _bounded_body(response))
    except aiohttp.ConnectionTimeoutError:
        return _not_sent("no connection to the provider in time")
    except aiohttp.ClientConnectorError as error:
        return _not_sent(f"no connection to the provider: {error.strerror or type(error.os_error).__name__}")
    except TimeoutError:
        return _lost("the provider did not answer in time")
    except (aiohttp.ClientError, OSError) as error:
        return _lost(f"the connection to the provider broke before its answer was read ({type(error).__name__})")


async def _bounded_body(response: aiohttp.ClientResponse) -> bytes | None:
    body = bytearray()
    async for chunk in response.content.iter_any():
        body += chunk
        if len(body) > MAX_REPLY_BYTES:
            response.close()
            return None
    return bytes(body)


def _not_sent(detail: str) -> Refused:
    return Refused(Error(Kind.UNAVAILABLE, title="Provider not reachable", detail=detail))


def _lost(detail: str) -> Unknown:
    return Unknown(Error(Kind.UNKNOWN, title="Answer lost", detail=detail))
