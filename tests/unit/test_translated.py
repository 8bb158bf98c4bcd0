"""What the broker library raises becomes ours; and whoever cancels a task can rely on it."""

from __future__ import annotations

import ast
import asyncio
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import aiormq
import pytest

import otpost
import otpost_worker
from otpost.errors import QueueRefused
from otpost.rabbitmq import ConnectionLost, NoConfirm, translated

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable


_SOURCES: Final = [
    *Path(otpost.__file__).parent.rglob("*.py"),
    *Path(otpost_worker.__file__).parent.rglob("*.py"),
]
# What the library does by asking the broker and waiting for the answer. Publishing is no such question.
_ASKING: Final = re.compile(r"declare_|get_queue|get_exchange|exchange_|queue_|basic_(qos|consume|cancel|get|recover)")


async def swallows_it() -> None:
    """Do as the library does when a channel is closed."""
    try:
        await asyncio.Event().wait()
    except asyncio.CancelledError:
        return


async def fails_of_it() -> None:
    try:
        await asyncio.Event().wait()
    except asyncio.CancelledError as error:
        raise OSError("the channel is closed") from error


@pytest.mark.parametrize("within_s", [None, 60.0])
@pytest.mark.parametrize("library", [swallows_it, fails_of_it])
async def test_a_task_that_is_cancelled_ends_as_cancelled_whatever_the_library_makes_of_it(
    library: Callable[[], Awaitable[None]], within_s: float | None
) -> None:
    async def use() -> None:
        async with translated(within_s=within_s):
            await library()

    task = asyncio.create_task(use())
    await asyncio.sleep(0)
    task.cancel()
    await asyncio.wait({task})
    assert task.cancelled()


async def test_a_timeout_around_it_stays_a_timeout_although_the_library_swallows_its_cancellation() -> None:
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.01), translated():
            await swallows_it()


async def test_its_own_timeout_is_a_confirm_that_did_not_come_although_the_library_swallows_its_cancellation() -> None:
    with pytest.raises(NoConfirm):
        async with translated(within_s=0.01):
            await swallows_it()


async def test_a_cancellation_that_is_the_librarys_own_is_a_lost_connection() -> None:
    with pytest.raises(ConnectionLost):
        async with translated():
            raise asyncio.CancelledError


async def test_the_librarys_own_cancellation_is_a_lost_connection_also_while_a_cancelled_task_clears_up() -> None:
    told: list[Exception] = []

    async def use() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            try:
                async with translated():
                    raise asyncio.CancelledError
            except ConnectionLost as error:
                told.append(error)

    task = asyncio.create_task(use())
    await asyncio.sleep(0)
    task.cancel()
    await asyncio.wait({task})
    assert task.cancelled()
    assert len(told) == 1


async def test_an_error_without_a_reason_is_a_lost_connection_and_no_confirm_in_time_is_told_apart() -> None:
    with pytest.raises(ConnectionLost):
        async with translated():
            raise Exception  # noqa: TRY002 - how the library rejects a future without a reason
    with pytest.raises(NoConfirm):
        async with translated():
            raise TimeoutError


async def test_an_error_that_is_not_the_librarys_stays_what_it_is() -> None:
    with pytest.raises(ZeroDivisionError):
        async with translated():
            raise ZeroDivisionError


async def test_any_error_of_what_is_closed_is_a_lost_connection_but_our_own_say_more_and_stay() -> None:
    wire: Any = aiormq.Connection("amqp://127.0.0.1/")
    with pytest.raises(RecursionError):
        async with translated(wire):
            raise RecursionError
    # As the library does with what its reader of frames stumbles over.
    await wire.close(RecursionError())
    with pytest.raises(ConnectionLost, match=r"^RecursionError: the connection is closed$"):
        async with translated(wire):
            await wire.closing
    with pytest.raises(QueueRefused):
        async with translated(wire):
            raise QueueRefused("there is no such queue")


@pytest.mark.parametrize("source", _SOURCES, ids=lambda source: source.name)
def test_no_question_to_the_broker_is_given_a_timeout_by_which_the_library_loses_a_cancellation(source: Path) -> None:
    given = [
        f"line {call.lineno}"
        for call in ast.walk(ast.parse(source.read_text()))
        if isinstance(call, ast.Call) and isinstance(call.func, ast.Attribute) and _ASKING.match(call.func.attr)
        if any(keyword.arg == "timeout" for keyword in call.keywords)
    ]
    assert given == []
