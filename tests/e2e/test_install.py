"""The light client and the whole service are one distribution."""

from __future__ import annotations

import subprocess
import sys

WORKERS_OWN = ("aiohttp", "click", "rich", "structlog", "uvloop")


def run_python(script: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60, check=False)


def test_importing_the_client_loads_none_of_the_workers_packages() -> None:
    loaded = run_python("import sys, otpost, otpost.testing; print(*{name.split('.')[0] for name in sys.modules})")
    assert loaded.returncode == 0, loaded.stderr
    assert not {*WORKERS_OWN, "otpost_worker"} & set(loaded.stdout.split())


def test_the_command_without_the_extra_says_in_one_line_what_is_missing() -> None:
    # None in sys.modules is how Python is told that a package is not there.
    missing = f"import sys; sys.modules.update(dict.fromkeys({WORKERS_OWN!r}))"
    ended = run_python(f"{missing}; from otpost.__main__ import main; sys.exit(main())")
    assert ended.returncode == 1
    assert ended.stdout == ""
    assert ended.stderr == (
        "otpost: the package 'click' is missing; "
        'the command line comes with the worker: pip install "otpost[worker]"\n'
    )
