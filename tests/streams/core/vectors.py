"""Cases of Matomo's own tests, from the folder that VEILSTREAM_TEST_VECTORS names (fixture `vectors`)."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from typing import Any


@cache
def _all(path: Path) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads(path.read_text("utf-8"))["vectors"]
    return found


def group(folder: Path, name: str) -> list[dict[str, Any]]:
    """The cases of a group; there is at least one."""
    found = [case for case in _all(folder / "matomo.json") if case["group"] == name]
    assert found, f"no vectors of group {name}"
    return found
