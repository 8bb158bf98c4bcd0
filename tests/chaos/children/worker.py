"""The worker as the chaos suite runs it: the product's own, with probes around its ports.

python -m chaos.children.worker --name w1 --trace FILE --starved FILE --clock FILE --checks 0.1 \
    [--dies "before record" --nth 3]

Everything else is told by OTPOST_ variables, as to ``otpost worker``.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import signal
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import orjson

from chaos.children.lifeline import end_with_parent
from chaos.children.probes import Probe, wrappers_for
from chaos.starving import Watchman, open_record, writing_to
from otpost.errors import OtpostError
from otpost_worker.app import run_worker
from otpost_worker.cli.context import read_text, run_async
from otpost_worker.ports import LedgerUnavailable
from otpost_worker.settings import load
from otpost_worker.telemetry import configure_logging

if TYPE_CHECKING:
    from collections.abc import Sequence

    from otpost_worker.settings import Settings
    from otpost_worker.wrapping import Wrappers


def _parse(arguments: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="chaos.children.worker")
    parser.add_argument("--name", required=True)
    parser.add_argument("--trace", required=True, type=Path)
    parser.add_argument("--starved", required=True, type=Path)
    parser.add_argument("--clock", required=True, type=Path)
    parser.add_argument("--checks", type=float, default=1.0, help="how much of the time until a check is waited")
    parser.add_argument("--dies", default=None)
    parser.add_argument("--nth", type=int, default=1)
    return parser.parse_args(arguments)


async def _work(settings: Settings, wrappers: Wrappers) -> int:
    stopping, at_once = asyncio.Event(), asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stopping.set)
    clean = await run_worker(settings, stopping=stopping, at_once=at_once, wrappers=wrappers)
    return 0 if clean else 1


def main(arguments: Sequence[str]) -> int:
    """Run until SIGTERM, or until the probe's moment has come."""
    options = _parse(arguments)
    end_with_parent()
    settings = load(os.environ, read_text, strict=True).settings
    configure_logging(log_format=settings.log_format, level=settings.log_level)
    Watchman(options.name, writing_to(open_record(options.starved))).begin()
    deaths = {options.dies: options.nth} if options.dies else {}
    probe = Probe(options.name, open_record(options.trace), time.time, deaths)
    try:
        return run_async(_work(settings, wrappers_for(probe, options.clock, check_share=options.checks)))
    except (OtpostError, LedgerUnavailable) as error:
        ended = {"level": "critical", "event": "ended", "error": str(error)}
        sys.stderr.write(orjson.dumps(ended, option=orjson.OPT_APPEND_NEWLINE).decode())
        return 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
