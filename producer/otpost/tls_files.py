"""What is wrong with the files that a broker's URL names for TLS: the library's errors name none of them."""

from __future__ import annotations

import os
import ssl
from typing import TYPE_CHECKING, Final
from urllib.parse import parse_qsl

if TYPE_CHECKING:
    from collections.abc import Callable
    from urllib.parse import SplitResult

_NO_CERTIFICATE: Final = "it holds no certificate (PEM)"
_NO_KEY: Final = "it holds no private key (PEM, without a passphrase)"
_ANOTHER_KEY: Final = "it is not the key of the certificate in certfile"


def wrong_tls_file(url: SplitResult) -> str | None:
    """Name the first file that cannot be used, with what is wrong with it; None where all can be."""
    # Of a name that is there twice, the library takes the first.
    named = dict(reversed(parse_qsl(url.query)))
    certfile, keyfile = named.get("certfile"), named.get("keyfile")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)

    def load_pair(_: str) -> None:
        assert certfile is not None  # noqa: S101 - it is a step below only where there is one
        # Without a password OpenSSL would ask for one at the terminal.
        context.load_cert_chain(certfile, keyfile, password="")

    steps: list[tuple[str, Callable[[str], object], str]] = [
        ("cafile", context.load_verify_locations, _NO_CERTIFICATE),
        ("capath", os.listdir, ""),
        ("certfile", context.load_verify_locations, _NO_CERTIFICATE),
    ]
    if certfile is not None:
        steps.append(("keyfile", load_pair, _NO_KEY) if keyfile else ("certfile", load_pair, f"{_NO_KEY}; see keyfile"))
    for name, load, nothing_in_it in steps:
        if name in named and (why := _trouble(load, named[name], nothing_in_it)):
            return f"{name} in the URL names {named[name]!r}, which cannot be used: {why}; check OTPOST_BROKER_URL"
    return None


def _trouble(load: Callable[[str], object], file: str, nothing_in_it: str) -> str | None:
    try:
        load(file)
    except ssl.SSLError as error:
        return _ANOTHER_KEY if error.reason == "KEY_VALUES_MISMATCH" else nothing_in_it
    except OSError as error:
        return error.strerror or type(error).__name__
    return None
