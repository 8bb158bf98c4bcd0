"""The simulator in a process of its own, with Meta's limits: prints its URL, and runs until it is killed."""

from __future__ import annotations

import asyncio
import sys

from chaos.children.lifeline import end_with_parent
from otpost_worker.simulator import SimulatorOptions, serve


def _announce(url: str) -> None:
    sys.stdout.write(f"{url}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    end_with_parent()
    asyncio.run(serve(SimulatorOptions(), asyncio.Event(), _announce))
