"""How far a file was imported: a small file beside the installation's state, replaced after every bulk.

A file is known by its beginning, whatever it is called, so one that has grown goes on where it ended, one that was
renamed is not imported again. `pending` is the bulk that was sent and not answered yet: if the import ends meanwhile,
the same lines are sent again first, under the same key; the collector and the worker know it for as long as the site's
`repeat_seconds`, and after that the tables are asked whether its lines are there.
"""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import BinaryIO

import msgspec

from infra.service.files import replace

BEGINNING = 64 << 10  # bytes


class Pending(msgspec.Struct):
    """A bulk on its way: lines from the file's `lines` on, when it was first sent and of when its hits are (ms)."""

    lines: int
    sent_ms: int
    first_ms: int
    last_ms: int
    hits: int


class Counts(msgspec.Struct):
    """What the lines were. `invalid`: hits that the collector refused."""

    lines: int = 0
    hits: int = 0
    left_out: int = 0
    unreadable: int = 0
    sent: int = 0
    invalid: int = 0


class Checkpoint(msgspec.Struct):
    """`size`, `digest`: the beginning by which the file is known. `offset`: bytes that are imported."""

    site: int
    file: str
    size: int
    digest: str
    offset: int = 0
    head: str = ""  # the last `#Fields:` line before the offset
    counts: Counts = msgspec.field(default_factory=Counts)
    pending: Pending | None = None

    @property
    def name(self) -> str:
        """Of this file's import; bulks are numbered behind it."""
        return f"{self.site}-{self.digest[:32]}"


class CheckpointError(RuntimeError):
    """A checkpoint cannot be read."""


def beginning(file: BinaryIO, size: int = BEGINNING) -> tuple[int, str]:
    """How many bytes a file begins with, at most `size`, and their digest."""
    file.seek(0)
    data = file.read(size)
    return len(data), hashlib.blake2b(data, digest_size=32).hexdigest()


def find(folder: Path, site: int, path: Path, file: BinaryIO) -> Checkpoint:
    """The checkpoint of a file's import, a new one where there is none."""
    for known in sorted(folder.glob(f"{site}-*.json")) if folder.is_dir() else ():
        try:
            found = msgspec.json.decode(known.read_bytes(), type=Checkpoint)
        except (OSError, msgspec.DecodeError) as error:
            raise CheckpointError(
                f"{known}: cannot be read ({type(error).__name__}); move it away to import anew"
            ) from None
        if found.size and beginning(file, found.size) == (found.size, found.digest):
            return found
    size, digest = beginning(file)
    return Checkpoint(site, path.name, size, digest)


def save(folder: Path, checkpoint: Checkpoint) -> None:
    """Replaces the file of a checkpoint."""
    folder.mkdir(parents=True, exist_ok=True)
    replace(folder / f"{checkpoint.name}.json", msgspec.json.encode(checkpoint), 0o600)
