"""Programs that come from the system: installed with apt where that is allowed, else named with the exact command."""

from __future__ import annotations

import importlib.util
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Sequence
from enum import Enum

from infra.prepare.steps import PreparationError, Steps

OLDEST_JAVA = 17  # Kafka 4 (KIP-1013)


class Tool(Enum):
    """What may be needed: a name for people, and the Debian packages that bring it, the preferred first."""

    JAVA = ("Java 17 or newer", ("openjdk-17-jre-headless", "openjdk-21-jre-headless", "openjdk-25-jre-headless"))
    MAVEN = ("Maven", ("maven",))
    FFMPEG = ("ffmpeg", ("ffmpeg",))
    WRK = ("wrk", ("wrk",))
    VENV = ("Python's venv", (f"python3.{sys.version_info.minor}-venv", "python3-venv"))

    def __init__(self, label: str, packages: tuple[str, ...]) -> None:
        self.label = label
        self.packages = packages

    def present(self) -> bool:
        """Whether it can be used."""
        if self is Tool.VENV:
            importlib.invalidate_caches()
            return importlib.util.find_spec("ensurepip") is not None
        if self is Tool.JAVA:
            return _java_version() >= OLDEST_JAVA
        return shutil.which("mvn" if self is Tool.MAVEN else self.label) is not None

    def package(self) -> str:
        """The package that this system's apt has."""
        for name in self.packages:
            found = subprocess.run(["apt-cache", "policy", name], capture_output=True, text=True, check=False)
            if re.search(r"Candidate: (?!\(none\))", found.stdout):
                return name
        return self.packages[0]


def _java_version() -> int:
    try:
        shown = subprocess.run(["java", "-version"], capture_output=True, text=True, check=False)
    except OSError:
        return 0
    match = re.search(r'version "(\d+)', shown.stderr)
    return int(match[1]) if match else 0


def ensure(tools: Sequence[Tool], steps: Steps) -> None:
    """Installs what is missing, or raises PreparationError that says how to install it."""
    missing = [tool for tool in tools if not tool.present()]
    if not missing:
        return
    names = ", ".join(tool.label for tool in missing)
    if shutil.which("apt-get") is None:
        raise PreparationError(f"missing: {names}. Install it with this system's package manager, then run again.")
    if os.geteuid() != 0:
        packages = " ".join(tool.package() for tool in missing)
        raise PreparationError(
            f"missing: {names}. Install it, then run again:\n"
            f"    sudo apt-get update && sudo apt-get install -y {packages}"
        )
    env = {"DEBIAN_FRONTEND": "noninteractive"}
    wait = ("-o", "DPkg::Lock::Timeout=300")
    steps.run("package lists", ["apt-get", *wait, "update"], log="apt-update", env=env)
    packages = " ".join(tool.package() for tool in missing)
    # An installation that was interrupted is finished first; where there is none this does nothing.
    steps.run("unfinished installations", ["dpkg", "--configure", "-a"], log="dpkg", env=env)
    steps.run(
        f"system packages ({packages})",
        ["apt-get", *wait, "install", "-y", "--no-install-recommends", *packages.split()],
        log="apt-install",
        env=env,
    )
    if still := [tool.label for tool in missing if not tool.present()]:
        raise PreparationError(f"{', '.join(still)} is still missing after installing {packages}")
