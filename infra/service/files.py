"""Files that appear whole or not at all, and last once they are there; and files that one process holds."""

from __future__ import annotations

import fcntl
import os
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

DRAFT = ".part"
PIECE = 1 << 20  # bytes that are in memory at once


@contextmanager
def draft(path: Path, content: bytes | BinaryIO, mode: int) -> Iterator[Path]:
    """A synced file beside `path`, to be renamed or linked; gone at the end unless it was. Raises OSError."""
    made = path.with_name(f".{path.name}.{secrets.token_hex(8)}{DRAFT}")
    try:
        with open(os.open(made, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode), "wb") as file:
            if isinstance(content, bytes):
                file.write(content)
            else:
                shutil.copyfileobj(content, file, PIECE)
            file.flush()
            os.fsync(file.fileno())
        yield made
    finally:
        made.unlink(missing_ok=True)


def replace(path: Path, content: bytes, mode: int) -> None:
    """Writes a file, in place of an earlier one; returns when both content and name are on the disk. Raises OSError."""
    with draft(path, content, mode) as made:
        made.replace(path)
    sync(path.parent)


def sync(folder: Path) -> None:
    """Makes names in a folder last. Raises OSError."""
    handle = os.open(folder, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def locked(path: Path) -> int | None:
    """The file, made if need be and locked until it is closed or the process ends; None where another one holds it.

    Raises OSError where it cannot be opened.
    """
    file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(file)
        return None
    return file
