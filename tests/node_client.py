"""Foreign clients that tests publish and seal with, installed where they are missing: Node's, and amqp-publish."""

from __future__ import annotations

import fcntl
import subprocess
from pathlib import Path
from typing import Final

import pytest

ROOT: Final = Path(__file__).parents[1]
NODE: Final = ROOT / "tests" / "node"
_INSTALL_TIMEOUT_S: Final = 600


def node_modules() -> Path:
    """Return the folder of the Node packages, as tests/node asks for them; the test fails where they cannot be had."""
    ensure("ensure_node.sh")
    modules = NODE / "node_modules"
    # Of tests that run at the same time, one installs.
    with (NODE / "package.json").open(encoding="utf-8") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not all((modules / name / "package.json").is_file() for name in ("amqplib", "libsodium-wrappers")):
            _run_or_fail(["npm", "ci", "--no-audit", "--no-fund"], "packages of Node's", folder=NODE)
    return modules


def ensure(script: str) -> None:
    """Run one of the scripts of tools that install a program where it is missing."""
    _run_or_fail(["sh", str(ROOT / "tools" / script)], "a foreign client", folder=ROOT)


def _run_or_fail(command: list[str], what: str, *, folder: Path) -> None:
    try:
        done = subprocess.run(
            command, cwd=folder, capture_output=True, text=True, timeout=_INSTALL_TIMEOUT_S, check=False
        )
    except subprocess.TimeoutExpired:
        pytest.fail(f"This test needs {what}; '{' '.join(command)}' took over {_INSTALL_TIMEOUT_S} s", pytrace=False)
    if done.returncode != 0:
        pytest.fail(f"This test needs {what}; '{' '.join(command)}' failed:\n{done.stdout}{done.stderr}", pytrace=False)
