"""Whether a Redis is fit to be a ledger, from what its INFO says [pure]."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

# Older ones replicate a script as its text, which then asks for the time once more on every replica.
MIN_VERSION: Final = (6, 2)


def refusal(info: Mapping[str, Any]) -> str | None:
    """Say why it cannot be a ledger; None where it can, or where it does not tell."""
    version = str(info.get("redis_version", ""))
    numbers = tuple(int(number) for number in re.findall(r"\d+", version)[:2])
    if numbers and numbers < MIN_VERSION:
        return f"it is Redis {version}; 6.2 is the oldest that will do"
    if info.get("role") == "slave":
        return "it is a replica, which may not be written; name the primary"
    return None


def warnings_of(info: Mapping[str, Any] | None) -> tuple[str, ...]:
    """Say what may lose the ledger's contents; *info* is None where it may not be read."""
    return tuple(_warnings(info))


def _warnings(info: Mapping[str, Any] | None) -> Iterator[str]:
    if info is None:
        yield "its user may not ask for INFO, so nobody can tell whether it keeps what it is told"
        return
    policy = info.get("maxmemory_policy")
    if policy is not None and policy != "noeviction":
        yield f"its maxmemory-policy is {policy}: short of memory, it forgets what was sent; set noeviction"
    if info.get("aof_enabled") == 0:
        yield "its appendonly is off: when it ends without warning, it forgets what was sent; set appendonly yes"
    if info.get("cluster_enabled") == 1:
        yield "it is a node of a cluster: when the keys {otpost}:* move to another node, the URL has to follow"
