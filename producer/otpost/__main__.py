"""The ``otpost`` command. The commands themselves come with the worker."""

from __future__ import annotations

import sys


def main() -> int:
    """Run the command line, or say in one line what is missing for it."""
    try:
        from otpost_worker.cli import run  # noqa: PLC0415 - the client must not need the worker's packages
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] in ("otpost", "otpost_worker"):
            raise
        sys.stderr.write(
            f"otpost: the package {error.name!r} is missing; "
            'the command line comes with the worker: pip install "otpost[worker]"\n'
        )
        return 1
    return run()


if __name__ == "__main__":
    sys.exit(main())
