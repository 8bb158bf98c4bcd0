"""Run a private RabbitMQ node of the installed server, for tests, the demo and benchmarks.

Everything the node needs lives in one temporary folder, and it listens on loopback only, so it
neither sees nor disturbs a RabbitMQ that the machine already runs::

    with PrivateRabbitMQ(management=True) as node:
        print(node.amqp_url, node.management_url)

From a shell::

    python tools/private_rabbitmq.py --foreground --management
    python tools/private_rabbitmq.py --port 5699 -- some-command with arguments

The command finds the addresses in ``OTPOST_BROKER_URL`` and ``MANAGEMENT_URL``.
"""

from __future__ import annotations

import argparse
import os
import signal
import subprocess
import sys
import threading
from typing import TYPE_CHECKING

from free_ports import HOST, NoFreePortError
from rabbitmq_machine import PASSWORD, USER, PrivateRabbitMQError, RabbitMQNotFoundError
from rabbitmq_node import PrivateRabbitMQ

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["HOST", "PASSWORD", "USER", "PrivateRabbitMQ", "PrivateRabbitMQError", "RabbitMQNotFoundError"]


def _parse(arguments: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Run a private RabbitMQ node on loopback.")
    parser.add_argument("--port", type=int, default=None, help="AMQP port (default: a free one)")
    parser.add_argument("--management", action="store_true", help="also run the management plugin")
    parser.add_argument("--foreground", action="store_true", help="run until Ctrl-C (the default)")
    parser.add_argument("command", nargs="*", help="after `--`: run this command, then end the node")
    options = parser.parse_args(arguments)
    if options.foreground and options.command:
        parser.error("--foreground and a command exclude each other; leave one out")
    return options


def _run_command(node: PrivateRabbitMQ, command: Sequence[str], urls: dict[str, str]) -> int:
    try:
        return subprocess.call(list(command), env=os.environ | urls)  # noqa: S603 - the developer's own command
    except OSError as error:
        sys.stderr.write(f"cannot run {command[0]!r} next to RabbitMQ node {node.nodename}: {error}\n")
        return 127


def _wait_for_signal(node: PrivateRabbitMQ) -> int:
    done = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: done.set())
    while not done.wait(0.5):
        if not node.is_running:
            sys.stderr.write(f"RabbitMQ node {node.nodename} ended by itself:\n{node.log_tail()}\n")
            return 1
    return 0


def main(arguments: Sequence[str]) -> int:
    """Run a node around a command, or until a signal."""
    options = _parse(arguments)
    try:
        with PrivateRabbitMQ(port=options.port, management=options.management) as node:
            urls = {"OTPOST_BROKER_URL": node.amqp_url}
            if options.management:
                urls["MANAGEMENT_URL"] = node.management_url
            sys.stderr.writelines(f"{key}={value}\n" for key, value in urls.items())
            if options.command:
                return _run_command(node, options.command, urls)
            sys.stderr.write("RabbitMQ runs; Ctrl-C ends it.\n")
            return _wait_for_signal(node)
    except (PrivateRabbitMQError, NoFreePortError) as error:
        sys.stderr.write(f"{error}\n")
        return 1
    except KeyboardInterrupt:
        return 130


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
