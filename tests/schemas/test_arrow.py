"""pandas, which pyarrow imports where it finds it, stays out of services."""

from __future__ import annotations

import subprocess
import sys

import pytest

USE = "import sys, {module}, pyarrow as pa; assert pa.array(['a']).to_pylist() == ['a']; print(*sys.modules)"


@pytest.mark.parametrize("module", ["streams.worker", "ingest.videos.__main__", "schemas.tables"])
def test_a_service_imports_no_pandas(module: str) -> None:
    found = subprocess.run(
        [sys.executable, "-c", USE.format(module=module)], capture_output=True, text=True, check=True
    )
    assert "pyarrow" in found.stdout.split()
    assert not {"pandas.core", "pandas.compat"} & set(found.stdout.split())
