"""The way to one Redis: what is asked for while an answer is on its way shares the next round trip.

A few connections take turns, so that hundreds of jobs are asked for at once with a handful of round trips, and one
slow answer does not hold up all. Every wait has an end; what could not be had is ``LedgerUnavailable``, and the next
call tries anew.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Self

from redis.asyncio import ConnectionPool, Redis
from redis.asyncio.connection import Connection, parse_url
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import NoPermissionError, NoScriptError, RedisError

from otpost.urls import UNREADABLE, read_url
from otpost_worker.ledger.redis.remedies import describe
from otpost_worker.ledger.redis.scripts import PATIENCE_S
from otpost_worker.ports import LedgerUnavailable

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from types import TracebackType

    from otpost_worker.ledger.redis.scripts import Script

Command = tuple[str | bytes | int, ...]

# A connection is there in milliseconds, and so is an answer; the URL can name others (socket_timeout).
_TIMEOUT_S: Final = 2.0
_CONNECTIONS: Final = 4
# One round trip carries as many calls at most: enough to make it worth while, too few to make the others wait.
_GROUP: Final = 64


@dataclass(frozen=True, slots=True)
class _Call:
    """What is asked for in one go, and who waits for it."""

    commands: tuple[Command, ...]
    waiter: asyncio.Future[list[Any]]


class Link:
    """Asks one Redis; an async context manager. *scripts* are loaded where Redis does not know them."""

    def __init__(self, url: str, scripts: Sequence[Script]) -> None:
        self.where = _where(url)
        self._redis = Redis(connection_pool=_pool(url, self.where))
        self._scripts = {script.digest: script for script in scripts}
        self._calls: asyncio.Queue[_Call | None] = asyncio.Queue()
        self._tasks: list[asyncio.Task[None]] = []

    async def __aenter__(self) -> Self:
        """Begin to take calls; nothing is asked yet."""
        # No task group: what whoever holds the ledger raises would come out of it in a group of its own.
        self._tasks = [asyncio.create_task(self._exchange_for_ever()) for _ in range(_CONNECTIONS)]
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Finish what was asked for."""
        self._calls.put_nowait(None)
        await asyncio.gather(*self._tasks)
        await self._redis.aclose()
        await self._redis.connection_pool.disconnect()

    async def ask(self, *commands: Command) -> list[Any]:
        """Have these commands done, one right after the other; returns what Redis says to each.

        :raises LedgerUnavailable: they could not be done, or the answer was lost.
        """
        call = _Call(commands, asyncio.get_running_loop().create_future())
        self._calls.put_nowait(call)
        try:
            async with asyncio.timeout(PATIENCE_S):
                return await call.waiter
        except TimeoutError as error:
            raise self.unavailable(error) from error

    async def run(self, script: Script, keys: Sequence[str], arguments: Sequence[str | bytes]) -> list[bytes]:
        """Run a script; returns its reply.

        :raises LedgerUnavailable: as ``ask``.
        """
        (reply,) = await self.ask(("EVALSHA", script.digest, len(keys), *keys, *arguments))
        assert isinstance(reply, list)  # noqa: S101 - every script's is
        return reply

    async def info(self) -> Mapping[str, Any] | None:
        """Ask what this Redis says of itself; None where it may not be asked.

        :raises LedgerUnavailable: as ``ask``.
        """
        try:
            ((answer),) = await self.ask(("INFO",))
        except LedgerUnavailable as error:
            if isinstance(error.__cause__, NoPermissionError):
                return None
            raise
        info: Mapping[str, Any] = answer
        return info

    def unavailable(self, error: BaseException) -> LedgerUnavailable:
        """Say what keeps this Redis from being used."""
        unavailable = LedgerUnavailable(
            f"the ledger {self.where} cannot be used: {describe(error)} (OTPOST_LEDGER_URL)"
        )
        unavailable.__cause__ = error
        return unavailable

    # One connection's part

    async def _exchange_for_ever(self) -> None:
        while (group := await self._next_group()) is not None:
            waiting = [call for call in group if not call.waiter.done()]
            try:
                replies = await self._exchange(waiting) if waiting else []
            except Exception as error:  # noqa: BLE001 - whoever waits has to be told; this task must live
                replies = [error for _ in waiting]
            for call, reply in zip(waiting, replies, strict=True):
                self._tell(call, reply)

    async def _next_group(self) -> list[_Call] | None:
        group: list[_Call] = []
        call = await self._calls.get()
        while call is not None:
            group.append(call)
            if len(group) == _GROUP or self._calls.empty():
                return group
            call = self._calls.get_nowait()
        # The end, for the other connections too.
        self._calls.put_nowait(None)
        return group or None

    async def _exchange(self, calls: Sequence[_Call]) -> list[list[Any] | Exception]:
        replies = await self._send([command for call in calls for command in call.commands])
        answers: list[list[Any] | Exception] = []
        for call in calls:
            own, replies = replies[: len(call.commands)], replies[len(call.commands) :]
            failure = next((reply for reply in own if isinstance(reply, Exception)), None)
            answers.append(failure or own)
        again = [number for number, answer in enumerate(answers) if isinstance(answer, NoScriptError)]
        if again:
            for number, answer in zip(again, await self._teach([calls[number] for number in again]), strict=True):
                answers[number] = answer
        return answers

    async def _teach(self, calls: Sequence[_Call]) -> list[list[Any] | Exception]:
        """Load the scripts of these calls, which did nothing for want of them, and make the calls again."""
        digests = {str(command[1]) for call in calls for command in call.commands}
        lessons: list[Command] = [("SCRIPT", "LOAD", self._scripts[digest].text) for digest in digests]
        replies = await self._send([*lessons, *(command for call in calls for command in call.commands)])
        return [reply if isinstance(reply, Exception) else [reply] for reply in replies[len(lessons) :]]

    async def _send(self, commands: Sequence[Command]) -> list[Any]:
        """Make one round trip; an error that concerns one command stands in its place."""
        async with self._redis.pipeline(transaction=False) as pipeline:
            for command in commands:
                pipeline.execute_command(*command)
            return await pipeline.execute(raise_on_error=False)

    def _tell(self, call: _Call, reply: list[Any] | Exception) -> None:
        if call.waiter.done():  # it was given up meanwhile
            return
        if isinstance(reply, Exception):
            call.waiter.set_exception(self.unavailable(reply))
        else:
            call.waiter.set_result(reply)


def _where(url: str) -> str:
    """Show a URL without its secrets."""
    parsed = read_url(url)
    if parsed is None:
        return UNREADABLE
    host = f"[{parsed.hostname}]" if ":" in (parsed.hostname or "") else parsed.hostname
    return f"{parsed.scheme}://{host}:{parsed.port or 6379}/{parsed.path.strip('/') or 0}"


def _pool(url: str, where: str) -> ConnectionPool:
    try:
        options: dict[str, Any] = {
            "socket_timeout": _TIMEOUT_S,
            "socket_connect_timeout": _TIMEOUT_S,
            "socket_keepalive": True,
            **parse_url(url),
            # What can be asked once more is asked once more by whoever knows that it can.
            "retry": Retry(NoBackoff(), 0),
            "decode_responses": False,
            "protocol": 2,
        }
        kind = options.pop("connection_class", Connection)
        pool = ConnectionPool(connection_class=kind, max_connections=_CONNECTIONS, **options)
        # Tells of an option that there is not; it does not connect.
        pool.make_connection()  # type: ignore[no-untyped-call] # redis-py leaves it so
    except (TypeError, ValueError, RedisError) as error:
        raise LedgerUnavailable(
            f"the ledger {where} cannot be used: its URL has an option that is not known, or has a value that cannot "
            f"be: {error} (OTPOST_LEDGER_URL)"
        ) from error
    return pool
