"""The virtual environment: every package at the version and hash of the lock file, and the project itself, editable."""

from __future__ import annotations

import hashlib
import importlib.util
import os
import shutil
import sys
from pathlib import Path

from infra.prepare.steps import Steps, read_stamp, write_stamp
from infra.prepare.system import Tool, ensure

PIP = ("-m", "pip", "--disable-pip-version-check", "--no-input")


def make_venv(folder: Path, steps: Steps) -> Path:
    """Makes an empty virtual environment in place of whatever is there, and returns its Python."""
    if importlib.util.find_spec("ensurepip") is None:
        ensure([Tool.VENV], steps)
    shutil.rmtree(folder, ignore_errors=True)
    steps.run(
        f"virtual environment ({sys.version_info.major}.{sys.version_info.minor})",
        [sys.executable, "-m", "venv", folder],
        log="venv",
    )
    return folder / "bin/python"


class Environment:
    """The virtual environment of one checkout. It knows its checkout: one that was copied along is not used.

    Two stamps lie in it: one for the packages, and one for all of it, which `run` compares before every command.
    """

    def __init__(self, top: Path, folder: Path) -> None:
        self.top = top
        self.folder = folder
        self.lock = top / "requirements.lock"
        self.python = folder / "bin/python"
        self._packages_stamp = folder / "packages"
        self._stamp = folder / "prepared"

    def wanted(self) -> str:
        """The stamp of a complete environment for the files as they are now; `run` computes the same."""
        return self._made_from(self.lock, self.top / "pyproject.toml")

    def prepared(self) -> bool:
        """Whether it is complete and belongs to these files."""
        return os.access(self.python, os.X_OK) and read_stamp(self._stamp) == self.wanted()

    def make(self, steps: Steps) -> None:
        """Makes what is missing. Packages are installed from nothing; what pip downloaded before is in its cache."""
        wanted = self.wanted()
        packages = self._made_from(self.lock)
        self._stamp.unlink(missing_ok=True)
        if not os.access(self.python, os.X_OK) or read_stamp(self._packages_stamp) != packages:
            self._packages_stamp.unlink(missing_ok=True)
            make_venv(self.folder, steps)
            self._install_packages(steps)
            write_stamp(self._packages_stamp, packages)
        self._install_project(steps)
        write_stamp(self._stamp, wanted)

    def _made_from(self, *files: Path) -> str:
        digest = hashlib.sha256(b"".join(file.read_bytes() for file in files))
        return f"{digest.hexdigest()} {self.top}\n"

    def _install_packages(self, steps: Steps) -> None:
        count = sum(1 for line in self.lock.read_text().splitlines() if line and line[0] not in "# -")
        steps.run(
            f"{count} Python packages",
            [self.python, *PIP, "install", "--require-hashes", "--no-deps", "-r", self.lock],
            log="packages",
        )

    def _install_project(self, steps: Steps) -> None:
        for path in self.folder.glob("lib/python*/site-packages/*veilstream*"):  # an interrupted installation
            if path.is_dir():
                shutil.rmtree(path)
            else:
                path.unlink()
        steps.run(
            "the project itself",
            [self.python, *PIP, "install", "--no-index", "--no-build-isolation", "--no-deps", "-e", self.top],
            log="project",
        )
