"""The simulator in a process of its own, with Meta's limits: prints its URL, and runs until it is killed.

python -m chaos.children.simulator STARVED
"""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

from chaos.children.lifeline import end_with_parent
from chaos.starving import Watchman, open_record, writing_to
from otpost_worker.simulator import SimulatorOptions, serve


def _announce(url: str) -> None:
    sys.stdout.write(f"{url}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    end_with_parent()
    Watchman("simulator", writing_to(open_record(Path(sys.argv[1])))).begin()
    asyncio.run(serve(SimulatorOptions(), asyncio.Event(), _announce))
