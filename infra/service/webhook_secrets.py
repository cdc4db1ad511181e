"""The secrets that webhooks are signed with: a file for each site, named by its number, which only its owner may read.

A file holds a secret a line, as Standard Webhooks writes them (`whsec_` and base64), the newest first. All of them
sign, so that a receiver can change from one to the next.
"""

from __future__ import annotations

import base64
import binascii
import secrets
from pathlib import Path

from infra.service.files import replace

PREFIX = "whsec_"
BYTES = 32
LIVE = 2  # secrets of a site


class SecretError(ValueError):
    """A file of secrets is wrong; the message names it and what is expected, never a secret."""


def read(folder: Path, site: int) -> list[bytes]:
    """The keys of a site, none where it has no file. Raises SecretError, OSError."""
    path = folder / str(site)
    try:
        lines = path.read_text("ascii").split()
    except FileNotFoundError:
        return []
    except UnicodeDecodeError:
        lines = [""]
    try:
        keys = [base64.b64decode(line.removeprefix(PREFIX), validate=True) for line in lines]
    except binascii.Error:
        keys = [b""]
    # Lengths as Standard Webhooks has them.
    if not all(line.startswith(PREFIX) for line in lines) or not all(24 <= len(key) <= 64 for key in keys):
        raise SecretError(f"{path}: each line must be {PREFIX} and the base64 of 24 to 64 bytes")
    return keys


def add(folder: Path, site: int) -> str:
    """Makes a new secret for a site and returns it; the one before it goes on to sign. Raises SecretError, OSError."""
    secret = PREFIX + base64.b64encode(secrets.token_bytes(BYTES)).decode()
    kept = [PREFIX + base64.b64encode(key).decode() for key in read(folder, site)][: LIVE - 1]
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    replace(folder / str(site), "\n".join([secret, *kept, ""]).encode(), 0o600)
    return secret


def remove(folder: Path, site: int) -> bool:
    """Takes all secrets of a site out; whether there was any."""
    try:
        (folder / str(site)).unlink()
    except FileNotFoundError:
        return False
    return True
