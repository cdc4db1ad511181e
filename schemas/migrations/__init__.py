"""The numbered SQL files that make ClickHouse's tables, in the order in which they are applied.

A file is `NNNN_name.sql`; statements end with `;` at the end of a line. A file that was applied anywhere is
never changed: what comes later is a new file.
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from importlib import resources

_file = re.compile(r"(\d{4})_([a-z0-9_]+)\.sql").fullmatch


@dataclass(frozen=True, slots=True)
class Migration:
    """One file; `checksum` is the sha256 of its text, in hex."""

    number: int
    name: str
    statements: tuple[str, ...]
    checksum: str


def migrations() -> list[Migration]:
    """All migrations by rising number; raises ValueError when a number is missing or stands twice."""
    found = []
    for entry in sorted(resources.files(__name__).iterdir(), key=lambda entry: entry.name):
        if match := _file(entry.name):
            text = entry.read_text("utf-8")
            lines = "\n".join(line for line in text.splitlines() if not line.lstrip().startswith("--"))
            statements = tuple(s.strip() for s in re.split(r";\s*(?:\n|$)", lines) if s.strip())
            checksum = hashlib.sha256(text.encode()).hexdigest()
            found.append(Migration(int(match[1]), match[2], statements, checksum))
    if [m.number for m in found] != list(range(1, len(found) + 1)):
        raise ValueError("migrations must be numbered from 1 without gaps")
    return found
