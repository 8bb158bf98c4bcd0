"""What is wrong where no connection to a broker comes about, and what to do about it."""

from __future__ import annotations

import asyncio
import os
import re
import socket
import ssl
from typing import TYPE_CHECKING, Final
from urllib.parse import unquote

from aio_pika import exceptions as amqp
from aiormq.exceptions import ConnectionNotAllowed

from otpost.tls_files import wrong_tls_file

if TYPE_CHECKING:
    from collections.abc import Mapping
    from urllib.parse import SplitResult

# The first with a time-to-live and at-least-once dead-lettering on quorum queues, which the delay ladder is made of.
OLDEST_RABBITMQ: Final = (3, 10)
# A first frame that claims more bytes than this is no frame, but another protocol's text.
_MAX_HANDSHAKE_BYTES: Final = 1 << 20
# How loading a file for TLS fails; a handshake may fail with some of them too.
_OF_FILES: Final = (FileNotFoundError, PermissionError, IsADirectoryError, NotADirectoryError, ssl.SSLError)


def diagnosis(error: Exception, url: SplitResult) -> tuple[str, bool]:
    """Tell what is wrong and what to do about it; and whether waiting will not mend it."""
    rights = "check the virtual host at the end of the URL (OTPOST_BROKER_URL), and the user's permission for it"
    if isinstance(error.__cause__ or error, _OF_FILES) and (wrong := wrong_tls_file(url)) is not None:
        return wrong, True
    match error:
        case amqp.AuthenticationError():
            return "the broker refuses the login; check user and password in OTPOST_BROKER_URL", True
        case amqp.ProbableAuthenticationError():
            own = "RabbitMQ lets 'guest' in from its own machine only"
            return f"the broker refuses the login; check user and password in OTPOST_BROKER_URL ({own})", True
        case amqp.ConnectionClosed():
            detail = str(error.args[1]) if len(error.args) > 1 else "the broker closed the connection"
            return f"{detail}; {rights}", isinstance(error, ConnectionNotAllowed)
        case amqp.InvalidFrameError():
            # How the library tells of a Connection.Close in place of Connection.OpenOk.
            vhost = unquote(url.path[1:]) or "/"
            return f"the broker does not let us into the virtual host {vhost!r}; {rights}", True
        case _:
            return _no_handshake(error.__cause__ or error, url)


def _no_handshake(error: BaseException, url: SplitResult) -> tuple[str, bool]:
    """The same, where nothing came that a broker would say."""
    ports = "RabbitMQ's port is 5672, or 5671 with amqps://; check OTPOST_BROKER_URL"
    match error:
        case socket.gaierror():
            return f"the host name {url.hostname!r} cannot be resolved; check OTPOST_BROKER_URL", False
        case ssl.SSLError():
            return _no_tls(error, ports)
        case asyncio.IncompleteReadError(partial=b""):
            # A broker that is only starting may do the same.
            return f"what listens there hangs up without a word; if it is another service: {ports}", False
        case asyncio.IncompleteReadError(expected=int(expected)) if expected > _MAX_HANDSHAKE_BYTES:
            return f"what listens there is no RabbitMQ, but another service; {ports}", True
        case amqp.IncompatibleProtocolError():
            return f"what listens there does not speak AMQP 0-9-1; {ports}", True
        case OSError() if error.errno is not None:
            # asyncio's own text repeats the address.
            return f"{os.strerror(error.errno)}; does RabbitMQ run there? If not: check OTPOST_BROKER_URL", False
        case OSError() if str(error).startswith("Multiple exceptions"):
            # One for each address of the host.
            return f"no address of {url.hostname!r} can be reached; does RabbitMQ run there? {ports}", False
        case _:
            return f"what listens there does not answer as RabbitMQ does; {ports}", False


def _no_tls(error: ssl.SSLError, ports: str) -> tuple[str, bool]:
    match error:
        case ssl.SSLCertVerificationError():
            return f"the broker's certificate is not trusted: {error.verify_message}; see cafile in the URL", True
        case ssl.SSLError(reason="WRONG_VERSION_NUMBER"):
            return f"what listens there does not speak TLS; {ports}", True
        case _:
            # A broker that is only starting, or stopping, may break a handshake off.
            return f"the TLS handshake failed ({error.reason}); {ports}", False


def product_of(server_properties: Mapping[str, object]) -> tuple[str, str]:
    """Read which product it is, and which version; "?" for what it does not say."""
    return _text(server_properties.get("product", "?")), _text(server_properties.get("version", "?"))


def too_old(product: str, version: str) -> str | None:
    """Tell what is wrong with the server's version; None where nothing is, or where it does not say."""
    numbers = re.match(r"(\d+)\.(\d+)", version)
    # Other brokers that speak AMQP 0-9-1 count their versions in their own way.
    if product != "RabbitMQ" or numbers is None or (int(numbers[1]), int(numbers[2])) >= OLDEST_RABBITMQ:
        return None
    needed = ".".join(map(str, OLDEST_RABBITMQ))
    return f"RabbitMQ {version} is too old: otpost needs {needed} or later; upgrade the broker, or use another one"


def _text(value: object) -> str:
    return value.decode(errors="replace") if isinstance(value, (bytes, bytearray)) else str(value)
