"""What the health servers of the crew say: while the run goes on, and whether all is well when it is over."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, Final

import aiohttp

if TYPE_CHECKING:
    from pathlib import Path

    from chaos.crew import Crew, Hand

_EVERY_S: Final = 2.0
# A worker that a probe has just killed has to start first, and an outage may be noticed a while after it is over.
_READY_WITHIN_S: Final = 20.0
_POLL_S: Final = 0.25
_PAGES: Final = ("metrics", "readyz")


async def scrape(crew: Crew, folder: Path) -> None:
    """Keep in *folder* what scrapes and probes are told, now and then, for ever."""
    async with _session() as session:
        while True:
            for hand in crew.hands:
                for page in _PAGES:
                    _, text = await _ask(session, crew, hand, page)
                    with (folder / f"{hand.name}-{page}.txt").open("a", encoding="utf-8") as kept:
                        kept.write(text)
            await asyncio.sleep(_EVERY_S)


async def unready(crew: Crew) -> dict[str, str]:
    """Give everybody a while to be ready, and tell who is not, with its own words."""
    until = time.monotonic() + _READY_WITHIN_S
    async with _session() as session:
        while True:
            told = {hand.name: await _ask(session, crew, hand, "readyz") for hand in crew.hands}
            waiting = {name: text for name, (status, text) in told.items() if status != 200}
            if not waiting or time.monotonic() > until:
                return waiting
            await asyncio.sleep(_POLL_S)


def _session() -> aiohttp.ClientSession:
    return aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=_EVERY_S))


async def _ask(session: aiohttp.ClientSession, crew: Crew, hand: Hand, page: str) -> tuple[int, str]:
    port = crew.health_port(hand)
    if port is None:
        return 0, ""
    try:
        async with session.get(f"http://127.0.0.1:{port}/{page}") as answer:
            return answer.status, await answer.text()
    except (aiohttp.ClientError, TimeoutError):
        return 0, ""
