"""A worker of the chaos suite, watched from its very beginning: on a busy machine it takes seconds to load.

python -m chaos.children.worker --name w1 --trace FILE --starved FILE --clock FILE [--dies "before record" --nth 3]
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from chaos.children.lifeline import end_with_parent
from chaos.starving import Watchman, open_record, writing_to

if TYPE_CHECKING:
    from collections.abc import Sequence


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


def main(arguments: Sequence[str]) -> int:
    """Begin to watch, then load and run the worker."""
    options = _parse(arguments)
    end_with_parent()
    Watchman(options.name, writing_to(open_record(options.starved))).begin()
    from chaos.children.working import work  # noqa: PLC0415 - as said above

    return work(options)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
