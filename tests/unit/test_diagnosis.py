"""Why there is no connection: what cannot be made happen on loopback, in the words of the libraries."""

from __future__ import annotations

import ssl
from typing import Final
from urllib.parse import SplitResult, urlsplit

from aio_pika import exceptions as amqp

from otpost.diagnosis import diagnosis

URL: Final[SplitResult] = urlsplit("amqps://eve:s3cret@broker:5671/")
PORTS: Final = "RabbitMQ's port is 5672, or 5671 with amqps://; check OTPOST_BROKER_URL"


def told_of(cause: Exception) -> tuple[str, bool]:
    error = amqp.AMQPConnectionError(*cause.args)
    error.__cause__ = cause
    return diagnosis(error, URL)


def test_a_host_with_two_addresses_neither_of_which_answers() -> None:
    refused = "[Errno 111] Connect call failed"
    cause = OSError(f"Multiple exceptions: {refused} ('::1', 5671, 0, 0), {refused} ('127.0.0.1', 5671)")
    told = f"no address of 'broker' can be reached; does RabbitMQ run there? {PORTS}"
    assert told_of(cause) == (told, False)


def test_a_handshake_that_a_stopping_broker_breaks_off_is_worth_another_try() -> None:
    cause = ssl.SSLEOFError(8, "EOF occurred in violation of protocol")
    cause.reason = "UNEXPECTED_EOF_WHILE_READING"
    assert told_of(cause) == (f"the TLS handshake failed (UNEXPECTED_EOF_WHILE_READING); {PORTS}", False)


def test_a_certificate_that_nobody_vouches_for() -> None:
    cause = ssl.SSLCertVerificationError(1, "certificate verify failed")
    cause.verify_message = "self-signed certificate"
    told = "the broker's certificate is not trusted: self-signed certificate; see cafile in the URL"
    assert told_of(cause) == (told, True)
