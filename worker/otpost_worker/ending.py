"""How a task is ended that may still ask the broker for something then, which may never answer."""

from __future__ import annotations

import asyncio
from typing import Any, Final

# Ending, a task asks to close its channel, and then its connection: each answer comes soon, or never.
_LAST_ANSWER_S: Final = 0.3


async def cancel(task: asyncio.Task[Any]) -> None:
    """Cancel *task*, and each single question that it asks then; what it raises is left to its reader."""
    while not task.done():
        task.cancel()
        await asyncio.wait({task}, timeout=_LAST_ANSWER_S)
