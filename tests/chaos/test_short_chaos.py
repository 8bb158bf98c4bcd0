"""The short form of ``make chaos``, with fixed seeds: enough to notice when a promise or the suite itself breaks."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final

import pytest

from chaos.run import Orders, Report, play
from chaos.telling import what_broke

if TYPE_CHECKING:
    from pathlib import Path

    from private_rabbitmq import PrivateRabbitMQ

# None of these kills the broker, so that they can share a node.
RUNS: Final = (Orders.short(13, "sqlite"), Orders.short(37, "redis"))


# A busy machine starts forty processes in a minute.
@pytest.mark.timeout(600)
async def test_every_promise_is_kept_in_short_runs_under_fire(broker_node: PrivateRabbitMQ, tmp_path: Path) -> None:
    async def in_short(orders: Orders) -> Report:
        folder = tmp_path / str(orders.seed)
        folder.mkdir()
        return await play(orders, folder, broker_node)

    reports = await asyncio.gather(*map(in_short, RUNS))
    assert [line for report in reports for line in what_broke(report)] == []
    for report in reports:
        assert len(report.struck) >= 5, "hardly anything went wrong, so nothing was proved"
        assert len(report.evidence.requests) >= 60
        assert sum(one.answered > 0 for one in report.evidence.reports) >= 30
        assert any(name.startswith(("receiver", "webhooks")) for name in report.struck), "no report was in danger"
