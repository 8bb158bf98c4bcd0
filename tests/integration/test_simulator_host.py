"""`otpost simulator --host`: in containers its callers are elsewhere."""

from __future__ import annotations

import asyncio
import re

import aiohttp
import pytest

from command import started_otpost
from service import PATIENCE_S


@pytest.mark.parametrize(
    ("arguments", "announced"),
    [([], "127.0.0.1"), (["--host", "0.0.0.0"], "0.0.0.0")],  # noqa: S104 - as meant
    ids=["by default", "everywhere"],
)
async def test_it_listens_where_it_is_told_to_and_says_so(arguments: list[str], announced: str) -> None:
    async with started_otpost("simulator", "--port", "0", *arguments) as process:
        assert process.stdout is not None
        async with asyncio.timeout(PATIENCE_S):
            line = (await process.stdout.readline()).decode().strip()
        found = re.fullmatch(r"http://([0-9.]+):(\d+)", line)
        assert found
        assert found[1] == announced
        async with (
            aiohttp.ClientSession() as session,
            session.get(f"http://127.0.0.1:{found[2]}/_simulator/health") as answer,
        ):
            assert answer.status == 200
