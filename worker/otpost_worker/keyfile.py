"""Where a worker's keys come from: its settings, and a file beside the ledger's."""

from __future__ import annotations

import os
import secrets
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Final

from otpost.errors import InvalidKey, OtpostError
from otpost.sealing import PrivateKey

if TYPE_CHECKING:
    from collections.abc import Callable

_SQLITE: Final = "sqlite:///"
_IN_MEMORY: Final = ":memory:"


class KeyUnavailable(OtpostError):
    """A worker has no key, and can neither read nor make one."""


def keys_in_force(
    given: str | None, ledger_url: str, *, random: Callable[[int], bytes] = secrets.token_bytes
) -> tuple[PrivateKey, ...]:
    """Give the keys that a worker of these settings holds, the one that seals first.

    Those of the settings, *given* as text, come first. The one beside the ledger's file comes last: it is read
    wherever it is, as older dead letters may be sealed with it, and made where no other was given.

    :raises KeyUnavailable: there is none, or its file cannot be used. :raises InvalidKey: one of *given* is none.
    """
    configured = PrivateKey.parse_all(given) if given is not None else ()
    ledger = ledger_file(ledger_url)
    if ledger is None:
        if not configured:
            raise KeyUnavailable(
                "OTPOST_PRIVATE_KEYS is needed: a worker makes a key of its own only beside a ledger that is a file; "
                "'otpost keys generate' makes one for all workers"
            )
        return configured
    file = key_file_of(ledger)
    beside = read_key(file)
    if beside is None and not configured:
        beside = _make_key(file, PrivateKey(random(32)))
    return configured if beside is None or beside in configured else (*configured, beside)


def ledger_file(ledger_url: str) -> Path | None:
    """The ledger's file; None where it is none."""
    path = ledger_url.removeprefix(_SQLITE)
    return Path(path) if ledger_url.startswith(_SQLITE) and path != _IN_MEMORY else None


def key_file_of(ledger: Path) -> Path:
    """The file of the key beside a ledger's."""
    return ledger.with_name(f"{ledger.name}.key")


def read_key(file: Path) -> PrivateKey | None:
    """Read the one key in *file*; None where there is no such file.

    :raises KeyUnavailable: it cannot be read, or holds no key.
    """
    try:
        return PrivateKey.parse(file.read_text(encoding="ascii"))
    except FileNotFoundError:
        return None
    except OSError as error:
        reason = f"{error.strerror}; let the worker's user read it"
    except UnicodeDecodeError:
        reason = "it is no text"
    except InvalidKey as error:
        reason = f"{error}; move it away, or restore it: dead letters may be sealed with it"
    raise KeyUnavailable(f"the key file {file} cannot be used: {reason}")


def _make_key(file: Path, key: PrivateKey) -> PrivateKey:
    """Write *key* into *file*, unless somebody else was quicker; either way, give what is there now."""
    try:
        write_private(file, key.reveal() + "\n")
    except FileExistsError:
        pass
    except OSError as error:
        raise KeyUnavailable(
            f"the key file {file} cannot be made: {error.strerror}; "
            "let the worker's user write to its folder, or set OTPOST_PRIVATE_KEYS"
        ) from error
    found = read_key(file)
    if found is None:
        raise KeyUnavailable(f"the key file {file} was taken away while it was made; start again")
    return found


def write_private(file: Path, text: str) -> None:
    """Make *file*, for its owner alone, with all of *text* in it at once.

    :raises FileExistsError: there is one already, which is left as it is. :raises OSError: it cannot be written.
    """
    # Written under another name first: whoever finds the file finds a whole key in it, and a link replaces nothing.
    draft = file.with_name(f"{file.name}.{secrets.token_hex(8)}.new")
    try:
        with os.fdopen(os.open(draft, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600), "w", encoding="ascii") as written:
            written.write(text)
            written.flush()
            os.fsync(written.fileno())
        os.link(draft, file)
    finally:
        with suppress(FileNotFoundError):
            draft.unlink()
    _keep_name(file.parent)


def _keep_name(folder: Path) -> None:
    """Let the file's name survive a power failure too: what is sealed with a key outlives it on the broker."""
    with suppress(OSError):  # not every system lets a folder be opened
        number = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(number)
        finally:
            os.close(number)
