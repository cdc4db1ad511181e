"""`veilstream test`: checks of style, types and imports, then the test suite."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Annotated

import typer

CONTEXT = {"allow_extra_args": True, "ignore_unknown_options": True}
TOP = Path(__file__).parents[2]
MEMORY = 2 << 30  # bytes for a process with a broker and an engine of its own


def processes() -> tuple[str, ...]:
    """Arguments for pytest: two processes more than there are cores, where memory allows, as many tests mostly wait.

    In the order of the files: by number of tests the slowest files would come last.
    """
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    number = max(1, min((os.cpu_count() or 1) + 2, memory // MEMORY, 6))
    return "-n", str(number), "--dist", "loadfile", "--no-loadscope-reorder"


def checks() -> dict[str, list[str]]:
    """What runs before the tests, by name."""
    tools = Path(sys.executable).parent
    return {
        "ruff check": [str(tools / "ruff"), "check"],
        "ruff format": [str(tools / "ruff"), "format", "--check"],
        "mypy --strict": [str(tools / "mypy"), "--strict"],
        "import contracts": [str(tools / "lint-imports"), "--no-cache"],
    }


def browser() -> str:
    """Sees to Chromium for the tests that need one; returns what there is. Only root can install it, by apt."""
    if found := shutil.which("chromium"):
        return f"Chromium: {found}"
    if os.geteuid() != 0 or not shutil.which("apt-get"):
        return "Chromium: none; tests in a browser are skipped. `apt-get install chromium` brings it"
    for arguments in (["update", "-qq"], ["install", "-y", "-qq", "--no-install-recommends", "chromium"]):
        quiet = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
        done = subprocess.run(["apt-get", *arguments], env=quiet, capture_output=True, text=True, check=False)
        if done.returncode:
            return (
                f"Chromium: apt-get {arguments[0]} failed, tests in a browser are skipped\n{done.stderr.strip()[-500:]}"
            )
    return "Chromium: installed by apt-get"


def command(
    context: typer.Context,
    long: Annotated[bool, typer.Option("--long", help="Also run the tests that take long.")] = False,
) -> None:
    """Check style, types and imports, then run the tests; further arguments go to pytest.

    All of it runs, whatever fails; the exit status is 0 only when nothing did. The last lines are pytest's.
    """
    env = {name: value for name, value in os.environ.items() if not name.startswith("VEILSTREAM_")}
    env.update((k, v) for k, v in os.environ.items() if k.startswith("VEILSTREAM_TEST_"))
    if long:
        print(browser(), flush=True)
    failed = []
    for name, arguments in checks().items():
        began = time.monotonic()
        done = subprocess.run(arguments, cwd=TOP, env=env, capture_output=True, text=True, check=False)
        verdict = "ok" if done.returncode == 0 else "FAILED"
        print(f"{name}: {verdict} ({time.monotonic() - began:.1f} s)", flush=True)
        if done.returncode:
            failed.append(name)
            print(done.stdout + done.stderr, flush=True)
    marks = ("-m", "long or not long") if long else ()
    pytest = [sys.executable, "-m", "pytest", *processes(), *marks, *context.args]
    if failed:
        print(f"failed before the tests: {', '.join(failed)}", flush=True)
    try:
        status = subprocess.run(pytest, cwd=TOP, env=env, check=False).returncode
    except KeyboardInterrupt:
        raise typer.Exit(130) from None
    raise typer.Exit(status or (1 if failed else 0))
