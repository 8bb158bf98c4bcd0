"""The files and the environment of a private RabbitMQ node, all in one folder."""

from __future__ import annotations

import os
import secrets
from dataclasses import dataclass
from typing import TYPE_CHECKING

from free_ports import HOST
from rabbitmq_machine import Ports, search_path

DEAD_LETTERING_AGAIN_MS = 5000

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@dataclass(frozen=True)
class NodeOptions:
    """What differs from node to node; see `PrivateRabbitMQ`."""

    management: bool
    quick_stats: bool
    extra_config: tuple[str, ...]


def write_files(folder: Path, ports: Ports, options: NodeOptions) -> None:
    """Write the node's configuration; its data and its cookie stay as they are."""
    for name in ("home", "mnesia", "log", "plugins"):
        (folder / name).mkdir(exist_ok=True)
    cookie = folder / "home" / ".erlang.cookie"
    if not cookie.exists():
        cookie.write_text(secrets.token_hex(20), encoding="ascii")
        # Erlang refuses a cookie that others can read.
        cookie.chmod(0o400)
    plugins = "[rabbitmq_management]." if options.management else "[]."
    (folder / "enabled_plugins").write_text(f"{plugins}\n", encoding="ascii")
    (folder / "rabbitmq.conf").write_text("\n".join(_config_lines(ports, options)) + "\n", encoding="utf-8")
    (folder / "advanced.config").write_text(_advanced_config(options), encoding="ascii")
    # Keeps the machine's own rabbitmq-env.conf out.
    (folder / "rabbitmq-env.conf").touch()


def _config_lines(ports: Ports, options: NodeOptions) -> Iterator[str]:
    yield f"listeners.tcp.local = {HOST}:{ports.amqp}"
    yield "vm_memory_high_watermark.absolute = 1GB"
    yield "disk_free_limit.absolute = 20MB"
    # The default of 512 MB per write-ahead log is more than a test's temporary folder should hold.
    yield "raft.wal_max_size_bytes = 64000000"
    if options.management:
        yield f"management.tcp.ip = {HOST}"
        yield f"management.tcp.port = {ports.management}"
    if options.quick_stats:
        yield "collect_statistics_interval = 500"
    yield from options.extra_config


def _advanced_config(options: NodeOptions) -> str:
    """What rabbitmq.conf has no key for: the ladder after a restart, and how often the counts are reported."""
    # At-least-once dead lettering tries again what had no confirm, only 3 minutes later by default: a message that
    # fell from one level of the ladder while the level below had not come up yet would be that late.
    rabbit = [f"{{dead_letter_worker_publisher_confirm_timeout, {DEAD_LETTERING_AGAIN_MS}}}"]
    if options.quick_stats:
        rabbit.append("{quorum_tick_interval, 500}")
    applications = [f"{{rabbit, [{', '.join(rabbit)}]}}"]
    if options.management and options.quick_stats:
        # (seconds kept, seconds between two looks): 5 s between two looks is the default.
        policies = ", ".join(f"{{{policy}, [{{60, 1}}]}}" for policy in ("global", "basic", "detailed"))
        applications += [
            f"{{{application}, [{{sample_retention_policies, [{policies}]}}]}}"
            for application in ("rabbitmq_management", "rabbitmq_management_agent")
        ]
    return f"[{', '.join(applications)}].\n"


def node_environment(folder: Path, ports: Ports, nodename: str) -> dict[str, str]:
    """Environment for every process of the node: all of the caller's but what steers another RabbitMQ."""
    foreign = ("RABBITMQ_", "ERL_", "NOTIFY_SOCKET")
    kept = {key: value for key, value in os.environ.items() if not key.startswith(foreign)}
    loopback_only = "-kernel inet_dist_use_interface {127,0,0,1}"
    return kept | {
        "PATH": search_path(),
        "HOME": str(folder / "home"),
        "LANG": "C.UTF-8",
        "LC_ALL": "C.UTF-8",
        "ERL_EPMD_ADDRESS": HOST,
        "ERL_EPMD_PORT": str(ports.epmd),
        "ERL_CRASH_DUMP": str(folder / "erl_crash.dump"),
        # Makes the start script become the server instead of staying as its parent; the name is odd
        # but the effect is plain: the process we started is the process to signal.
        "RUNNING_UNDER_SYSTEMD": "true",
        "RABBITMQ_NODENAME": nodename,
        "RABBITMQ_DIST_PORT": str(ports.distribution),
        "RABBITMQ_CONF_ENV_FILE": str(folder / "rabbitmq-env.conf"),
        "RABBITMQ_CONFIG_FILE": str(folder / "rabbitmq.conf"),
        "RABBITMQ_ADVANCED_CONFIG_FILE": str(folder / "advanced.config"),
        "RABBITMQ_ENABLED_PLUGINS_FILE": str(folder / "enabled_plugins"),
        "RABBITMQ_MNESIA_BASE": str(folder / "mnesia"),
        "RABBITMQ_GENERATED_CONFIG_DIR": str(folder / "generated"),
        "RABBITMQ_SCHEMA_DIR": str(folder / "schema"),
        "RABBITMQ_PLUGINS_EXPAND_DIR": str(folder / "plugins"),
        "RABBITMQ_LOG_BASE": str(folder / "log"),
        "RABBITMQ_PID_FILE": str(folder / "server.pid"),
        # Schedulers that sleep instead of spinning leave the cores to what is being tested.
        "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS": f"+sbwt none +sbwtdcpu none +sbwtdio none {loopback_only}",
        "RABBITMQ_CTL_ERL_ARGS": loopback_only,
    }
