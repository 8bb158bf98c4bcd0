"""The worker as the chaos suite runs it: the product's own, with probes around its ports.

Everything that ``chaos.children.worker`` was not told is told by OTPOST_ variables, as to ``otpost worker``.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import time
from typing import TYPE_CHECKING

import orjson

from chaos.children.probes import Probe, wrappers_for
from chaos.starving import open_record
from otpost.errors import OtpostError
from otpost_worker.app import run_worker
from otpost_worker.cli.context import read_text, run_async
from otpost_worker.ports import LedgerUnavailable
from otpost_worker.settings import load
from otpost_worker.telemetry import configure_logging

if TYPE_CHECKING:
    from argparse import Namespace

    from otpost_worker.settings import Settings
    from otpost_worker.wrapping import Wrappers


async def _work(settings: Settings, wrappers: Wrappers) -> int:
    stopping, at_once = asyncio.Event(), asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stopping.set)
    clean = await run_worker(settings, stopping=stopping, at_once=at_once, wrappers=wrappers)
    return 0 if clean else 1


def work(options: Namespace) -> int:
    """Run until SIGTERM, or until the probe's moment has come."""
    settings = load(os.environ, read_text, strict=True).settings
    configure_logging(log_format=settings.log_format, level=settings.log_level)
    deaths = {options.dies: options.nth} if options.dies else {}
    probe = Probe(options.name, open_record(options.trace), time.time, deaths)
    try:
        return run_async(_work(settings, wrappers_for(probe, options.clock, check_share=options.checks)))
    except (OtpostError, LedgerUnavailable) as error:
        ended = {"level": "critical", "event": "ended", "error": str(error)}
        sys.stderr.write(orjson.dumps(ended, option=orjson.OPT_APPEND_NEWLINE).decode())
        return 1
