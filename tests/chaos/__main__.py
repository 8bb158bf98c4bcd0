"""``make chaos``: seeded runs under fire, a verdict on each, and a table of what struck.

Exit status 0: every promise was kept; 1: one was not, with the seed and the evidence; 2: misused; 130: interrupted.
"""

from __future__ import annotations

import argparse
import asyncio
import logging
import shutil
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console

from chaos.run import LEDGERS, Orders, check_share_of, play
from chaos.telling import in_short, read_told, sum_up, told, what_broke
from private_rabbitmq import PrivateRabbitMQ

if TYPE_CHECKING:
    from collections.abc import Sequence


def _parse(arguments: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="chaos", description="Runs otpost under fire and judges it.")
    parser.add_argument("--seed", type=int, default=1, help="of the first run; the next ones count on (default 1)")
    parser.add_argument("--runs", type=int, default=50, help="how many (default 50)")
    parser.add_argument("--jobs", type=int, default=260, help="of each run, beside a crowd (default 260)")
    parser.add_argument("--workers", type=int, default=3, help="of each run (default 3)")
    parser.add_argument("--short", action="store_true", help="fewer jobs and workers, as in the tests")
    parser.add_argument("--ledger", choices=LEDGERS, default=None, help="only this one (default: in turn)")
    parser.add_argument("--lanes", type=int, default=1, help="so many runs at a time, each with a broker of its own")
    parser.add_argument("--keep", type=Path, help="keep the evidence of all runs there (default: of broken ones)")
    # A lane is this program once more.
    parser.add_argument("--seeds", help=argparse.SUPPRESS)
    parser.add_argument("--into", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    if min(options.runs, options.jobs, options.workers, options.lanes) < 1:
        parser.error("--runs, --jobs, --workers and --lanes have to be 1 or more")
    return options


async def _play(options: argparse.Namespace, seeds: Sequence[int], folder: Path) -> None:
    """Play one run after the other, on one node where none of them kills it."""
    out = Console(highlight=False, soft_wrap=True)
    async with PrivateRabbitMQ(management=True) as node:
        for seed in seeds:
            place = folder / f"seed-{seed}"
            place.mkdir(parents=True)
            ledger = options.ledger or LEDGERS[seed % len(LEDGERS)]
            orders = Orders(seed, ledger, options.jobs, options.workers, check_share=check_share_of(seed))
            report = await play(Orders.short(seed, ledger) if options.short else orders, place, node)
            for line in (in_short(report), *what_broke(report)):
                out.print(line, markup=False)
            if not report.violations and not options.keep:
                shutil.rmtree(place)
            told(report, folder)


async def _side_by_side(arguments: Sequence[str], lanes: Sequence[Sequence[int]], folder: Path) -> None:
    """Play the lanes as processes of their own, so that the verdict on one run does not hold up another."""
    processes = [
        await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "chaos", *arguments, "--into", str(folder)),
            *("--seeds", ",".join(map(str, seeds))),
            stdin=asyncio.subprocess.DEVNULL,
        )
        for seeds in lanes
    ]
    for process in processes:
        await process.wait()


def main(arguments: Sequence[str]) -> int:
    """Play, judge and tell."""
    options = _parse(arguments)
    # That connections break is what all this is about.
    logging.disable(logging.CRITICAL)
    if options.seeds:
        asyncio.run(_play(options, [int(seed) for seed in options.seeds.split(",")], options.into))
        return 0
    folder = options.keep or Path(tempfile.mkdtemp(prefix="otpost-chaos-"))
    seeds = range(options.seed, options.seed + options.runs)
    if options.lanes > 1:
        lanes = [seeds[lane :: options.lanes] for lane in range(min(options.lanes, options.runs))]
        asyncio.run(_side_by_side(arguments, lanes, folder))
    else:
        asyncio.run(_play(options, seeds, folder))
    kept = sum_up(read_told(folder), folder, seeds)
    if kept and not options.keep:
        shutil.rmtree(folder)
    return 0 if kept else 1


if __name__ == "__main__":
    try:
        sys.exit(main(sys.argv[1:]))
    except KeyboardInterrupt:
        sys.exit(130)
