"""The history of a laboratory run: one JSON object per operation, appended and flushed as it happens.

Every operation on the stack is ok, failed or unknown; what became of the events is in the load's journals beside it.
"""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any


class History:
    """Appends to a file. at: seconds since its making; clock: seconds since 1970, as in the load's journals."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._file = path.open("a", encoding="utf-8")
        self._began = time.monotonic()

    def note(self, operation: str, outcome: str = "ok", **details: Any) -> None:
        """outcome: ok, failed, unknown, or begun where another note says how it ended."""
        moment = {"at": round(time.monotonic() - self._began, 3), "clock": round(time.time(), 3)}
        self._file.write(json.dumps(moment | {"operation": operation, "outcome": outcome, **details}) + "\n")
        self._file.flush()

    def close(self) -> None:
        """Close the file."""
        self._file.close()
