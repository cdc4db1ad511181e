"""Arrow without pandas: pyarrow imports it with the first `pa.array` of a list, which costs a process that has no use
for it 0.8 s of CPU time and 35 MB. It is installed where the embedded engine is, which asks for it."""

from __future__ import annotations

import sys
from importlib.abc import MetaPathFinder
from typing import Any

import pyarrow as pa


class _None(MetaPathFinder):
    def find_spec(self, fullname: str, path: Any, target: Any = None) -> None:
        """Says that there is no pandas; leaves all else to others."""
        if fullname == "pandas":
            raise ModuleNotFoundError("pandas is left out", name=fullname)


def leave_pandas_out() -> None:
    """From now on there is no pandas in this process, unless it is imported already."""
    if "pandas" in sys.modules:
        return
    finder = _None()
    sys.meta_path.insert(0, finder)
    try:
        pa.array([], pa.string())  # its Python part looks once
    finally:
        sys.meta_path.remove(finder)
    sys.modules["pandas"] = None  # type: ignore[assignment]  # the rest looks with each list, and is told so at once
