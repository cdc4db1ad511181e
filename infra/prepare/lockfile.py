"""Renews requirements.lock from pyproject.toml: every package, runtime and development, with hashes.

One file serves Python 3.11 and newer on every Linux platform that the packages have wheels for. It names no index.
"""

from __future__ import annotations

import os
import re
from pathlib import Path

from infra.prepare.environment import PIP, make_venv
from infra.prepare.steps import PreparationError, Steps

UV = "uv>=0.9"
HEADER = "# Every package with its hashes, made from pyproject.toml by `./run lock`. Do not edit.\n"


def renew(top: Path, folder: Path, steps: Steps) -> None:
    """Writes the lock file anew, each package at the newest version that pyproject.toml allows."""
    python = make_venv(folder, steps)
    steps.run("uv", [python, *PIP, "install", UV], log="uv")
    draft = top / ".veilstream/prepare/requirements.lock"
    draft.unlink(missing_ok=True)
    steps.run(
        "versions and hashes",
        [
            *(folder / "bin/uv", "pip", "compile", top / "pyproject.toml", "--group", f"{top / 'pyproject.toml'}:dev"),
            *("--universal", "--python-version", "3.11", "--fork-strategy", "fewest", "--generate-hashes"),
            *("--no-header", "--no-annotate", "--no-emit-index-url", "--no-emit-find-links", "-o", draft),
        ],
        log="lock",
    )
    text = draft.read_text()
    if found := re.search(r"://|^-", text, re.MULTILINE):
        raise PreparationError(f"{draft} holds {found[0]!r}: an address or an option; it was not taken over")
    draft.write_text(HEADER + text)
    os.replace(draft, top / "requirements.lock")
