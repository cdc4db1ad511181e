"""The front as Grafana's ClickHouse data source uses it: clickhouse-go over HTTP with gzip."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.infra.front.conftest import DASHBOARD, DASHBOARD_PASSWORD, PASSWORD, USER, RunningFront

SOURCE = Path(__file__).parent / "go"


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The client, built."""
    go = shutil.which("go")
    if go is None:
        pytest.skip("go is not installed, so the front is not tested with clickhouse-go")
    environment = {**os.environ, "GOFLAGS": "-mod=readonly", "GOTOOLCHAIN": "local"}
    if _run([go, "mod", "download"], environment).returncode:
        pytest.skip("Go's module proxy does not answer, so the front is not tested with clickhouse-go")
    target = tmp_path_factory.mktemp("go") / "client"
    built = _run([go, "build", "-o", str(target), "."], environment)
    assert built.returncode == 0, built.stdout.decode()
    return target


def _run(command: list[str], environment: dict[str, str]) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run(
        command,
        cwd=SOURCE,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        timeout=280,
        check=False,
    )


@pytest.mark.parametrize("reads_only", [False, True], ids=["service", "dashboard"])
def test_clickhouse_go(front: RunningFront, program: Path, table: str, reads_only: bool) -> None:
    user, password = (DASHBOARD, DASHBOARD_PASSWORD) if reads_only else (USER, PASSWORD)
    environment = {
        "FRONT_ADDRESS": f"127.0.0.1:{front.port}",
        "FRONT_DATABASE": "veilstream",
        "FRONT_USER": user,
        "FRONT_PASSWORD": password,
        "FRONT_TABLE": "" if reads_only else table,
    }
    found = _run([str(program)], environment)
    assert found.returncode == 0, found.stdout.decode()
    expected = ["scalars", "noRows", "manyRows", "failures", *([] if reads_only else ["batch"])]
    assert found.stdout.decode().split() == [
        word for method in ("gzip", "none") for name in expected for word in ("ok", method, name)
    ]
