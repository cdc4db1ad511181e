"""Nothing imports backwards; the three services never import one another."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from infra.local.kafka import TOP

LINT = str(Path(sys.executable).parent / "lint-imports")


def lint(folder: Path) -> subprocess.CompletedProcess[str]:
    env = {**os.environ, "PYTHONPATH": str(folder)}
    return subprocess.run([LINT, "--no-cache"], cwd=folder, env=env, capture_output=True, text=True, check=False)


def test_the_contracts_hold() -> None:
    done = lint(TOP)
    assert done.returncode == 0, done.stdout


@pytest.mark.parametrize(
    ("module", "line"),
    [
        ("schemas/routing.py", "import infra.service.settings"),
        ("ingest/__init__.py", "import streams"),
        ("streams/__init__.py", "import gpu_workers"),
        ("gpu_workers/__init__.py", "import infra.local.stack"),
        ("infra/service/metrics.py", "import infra.cli"),
    ],
)
def test_a_backward_import_breaks_them(tmp_path: Path, module: str, line: str) -> None:
    shutil.copy(TOP / "pyproject.toml", tmp_path)
    for package in ("schemas", "ingest", "streams", "gpu_workers", "infra"):
        shutil.copytree(TOP / package, tmp_path / package, ignore=shutil.ignore_patterns("__pycache__"))
    path = tmp_path / module
    path.write_text(path.read_text() + f"\n{line}\n")
    done = lint(tmp_path)
    assert done.returncode == 1, done.stdout
    assert line.removeprefix("import ").split(".")[0] in done.stdout


def test_every_module_of_infra_has_its_layer() -> None:
    settings = tomllib.loads((TOP / "pyproject.toml").read_text())
    (contract,) = settings["tool"]["importlinter"]["contracts"]
    layered = set(re.findall(r"[\w.]+", " ".join(contract["layers"])))
    there = {f"infra.{path.stem}" for path in (TOP / "infra").glob("*.py") if path.stem != "__init__"}
    there |= {f"infra.{path.parent.name}" for path in (TOP / "infra").glob("*/__init__.py")}
    assert there <= layered
