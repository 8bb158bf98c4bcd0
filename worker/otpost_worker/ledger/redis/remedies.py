"""Say what is wrong with a Redis, and what to do about it."""

from __future__ import annotations

import re
import ssl
from typing import Final

from redis import exceptions

# By the code that Redis puts in front of an error; inside a script, older versions put it somewhere in the middle.
_BY_CODE: Final = {
    "WRONGPASS": "it refuses the user or the password; correct them in the URL",
    "NOAUTH": "it wants a password; put it into the URL: redis://:password@host",
    "NOPERM": "its user may not do that; let it read and write the keys {otpost}:* and run scripts",
    "LOADING": "it is still loading its data; it will be back by itself",
    "READONLY": "it is a replica, which may not be written; name the primary",
    "MASTERDOWN": "it is a replica that has lost its primary; name the primary",
    "OOM": "its memory (maxmemory) is full; give it more, and never let it evict",
    "MISCONF": "it cannot write to its disk; see its log, and make room",
    "NOREPLICAS": "too few of its replicas are up (min-replicas-to-write); bring them back",
    "MOVED": "it is a node of a cluster, and another node has the keys {otpost}:*; name that one",
    "ASK": "it is a node of a cluster that is moving the keys {otpost}:* to another one; name that one",
    "CLUSTERDOWN": "its cluster is down; see CLUSTER INFO",
    "BUSY": "a script of somebody else keeps it busy; see SCRIPT KILL",
}
_CODE: Final = re.compile(rf"\b({'|'.join(_BY_CODE)})\b")
_BY_CLASS: Final[tuple[tuple[type[Exception], str], ...]] = (
    (exceptions.NoPermissionError, "NOPERM"),
    (exceptions.BusyLoadingError, "LOADING"),
    (exceptions.ReadOnlyError, "READONLY"),
    (exceptions.MasterDownError, "MASTERDOWN"),
    (exceptions.OutOfMemoryError, "OOM"),
    (exceptions.MovedError, "MOVED"),
    (exceptions.AskError, "ASK"),
    (exceptions.ClusterDownError, "CLUSTERDOWN"),
)


def describe(error: BaseException) -> str:
    """Say what *error* means, in a sentence without a secret."""
    said = _said(error)
    code = _code(error, said)
    if code is not None:
        return f"{_BY_CODE[code]} ({said})" if said else _BY_CODE[code]
    cause = error.__context__ or error.__cause__
    if isinstance(cause, ssl.SSLError):
        return f"no secure connection comes about: {cause}; see whether it speaks TLS, and the URL's options ssl_…"
    if isinstance(error, exceptions.TimeoutError | TimeoutError):
        return "it does not answer in time; see whether it is up, and whether anything is between"
    if isinstance(error, exceptions.ConnectionError | OSError):
        return f"{said or 'the connection was lost'}; see whether it is up, and whether its address is right"
    return said or type(error).__name__


def _said(error: BaseException) -> str:
    # What Redis says of a command that it does not know goes on with the command's arguments.
    return str(error).split(", with args beginning")[0].strip().rstrip(".")


def _code(error: BaseException, said: str) -> str | None:
    if isinstance(error, exceptions.AuthenticationError):
        return "NOAUTH" if "required" in said else "WRONGPASS"
    for kind, code in _BY_CLASS:
        if isinstance(error, kind):
            return code
    found = _CODE.search(said) if isinstance(error, exceptions.ResponseError) else None
    return found.group(1) if found else None
