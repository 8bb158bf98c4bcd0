"""How control endpoints read and answer: JSON in, JSON out, and a refusal that says what to write instead."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Final

import orjson
from aiohttp import web

from .control import ControlError, parse_body

MAX_BODY_BYTES: Final = 1024 * 1024
JSON: Final = "application/json; charset=UTF-8"

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


def explained(handler: Handler) -> Handler:
    """A control handler whose refusals become an answer: 400, and what to do instead."""

    async def explained(request: web.Request) -> web.StreamResponse:
        try:
            return await handler(request)
        except ControlError as error:
            return as_json({"error": str(error)}, 400)

    return explained


async def payload(request: web.Request) -> object:
    """The JSON that a control request brings.

    Raises:
        ControlError: there is none, or too much of it.
    """
    try:
        body = await request.read()
    except web.HTTPRequestEntityTooLarge:
        raise ControlError(f"the body is larger than {MAX_BODY_BYTES} bytes; send less.") from None
    except web.RequestPayloadError:
        raise ControlError("the body cannot be decoded; send plain JSON.") from None
    return parse_body(body)


def as_json(value: object, status: int = 200) -> web.Response:
    """An answer in JSON."""
    return web.Response(status=status, body=orjson.dumps(value), headers={"Content-Type": JSON})


def plain(text: str) -> str:
    """A piece of an address for JSON and the journal: short, without the marks of bytes that are no text."""
    return text[:200].encode("utf-8", "replace").decode()
