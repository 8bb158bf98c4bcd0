"""Certificates for servers that tests start."""

from __future__ import annotations

import subprocess
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path


def certificate(folder: Path, name: str, address: str) -> Path:
    """Make a certificate for an address, which is its own authority."""
    made, key = folder / f"{name}.pem", folder / f"{name}.key"
    subprocess.run(
        [
            *("openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", f"/CN={name}"),
            *("-addext", f"subjectAltName=IP:{address}", "-keyout", key, "-out", made),
        ],
        capture_output=True,
        timeout=60,
        check=True,
    )
    return made
