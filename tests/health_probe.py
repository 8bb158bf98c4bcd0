"""A worker's health as a probe and a scraper see it.

async with probe(worker) as health:
    await health.until(lambda status, checks: status == 200)
"""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any, Final

import aiohttp

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Mapping

    from worker_process import WorkerProcess

PATIENCE_S: Final = 60.0
ALL_WELL: Final = {"running": "ok", "broker": "ok", "consumers": "ok", "publishing": "ok", "ledger": "ok"}


class Probe:
    """Asks one worker."""

    def __init__(self, url: str, session: aiohttp.ClientSession) -> None:
        self._url = url
        self._session = session

    async def get(self, path: str, **options: Any) -> tuple[int, str, Mapping[str, str]]:  # noqa: ANN401 - aiohttp's
        async with self._session.get(self._url + path, **options) as answer:
            return answer.status, await answer.text(), answer.headers

    async def readiness(self) -> tuple[int, dict[str, Any]]:
        async with self._session.get(f"{self._url}/readyz") as answer:
            return answer.status, await answer.json()

    async def until(self, is_so: Callable[[int, dict[str, str]], bool]) -> dict[str, str]:
        """Ask again until readiness is as it should be, and return its checks."""
        status, body = 0, dict[str, Any]()
        try:
            async with asyncio.timeout(PATIENCE_S):
                while True:
                    status, body = await self.readiness()
                    if is_so(status, body["checks"]):
                        return dict(body["checks"])
                    await asyncio.sleep(0.05)
        except TimeoutError:
            raise AssertionError(f"readiness stays at {status} {body}") from None

    async def counter(self, name: str) -> float:
        """Sum one metric over its labels."""
        page = (await self.get("/metrics"))[1]
        lines = [line for line in page.splitlines() if line.startswith((f"{name} ", f"{name}{{"))]
        assert lines, f"no metric {name}"
        return sum(float(line.rsplit(" ", 1)[1]) for line in lines)


@asynccontextmanager
async def probe(worker: WorkerProcess) -> AsyncIterator[Probe]:
    await worker.logged("health.listening")
    (told,) = [entry for entry in worker.log if entry["event"] == "health.listening"]
    async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=10)) as session:
        yield Probe(f"http://{told['host']}:{told['port']}", session)
