"""The process beside a private RabbitMQ server: `rabbitmqctl`."""

from __future__ import annotations

import subprocess
from typing import TYPE_CHECKING

from rabbitmq_machine import PrivateRabbitMQError, find_server_folder

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

CTL_TIMEOUT_S = 60.0


def run_ctl(
    nodename: str, folder: Path, environment: Mapping[str, str], arguments: Sequence[str], timeout_s: float
) -> str:
    """Run `rabbitmqctl` against a node and return what it printed.

    :raises PrivateRabbitMQError: it failed, or took too long.
    """
    command = [str(find_server_folder() / "rabbitmqctl"), "--quiet", "--node", nodename, *arguments]
    try:
        done = subprocess.run(  # noqa: S603 - the installed tool, arguments from our own tests
            command,
            env=environment,
            cwd=folder,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=timeout_s,
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        message = f"rabbitmqctl {' '.join(arguments)} took longer than {timeout_s} s on {nodename}"
        raise PrivateRabbitMQError(message) from error
    if done.returncode != 0:
        message = (
            f"rabbitmqctl {' '.join(arguments)} on {nodename} ended with code {done.returncode}: "
            f"{(done.stderr or done.stdout).strip()}"
        )
        raise PrivateRabbitMQError(message)
    return done.stdout
