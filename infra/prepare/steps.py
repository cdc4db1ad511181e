"""Steps of preparing: each runs one program, shows how long it takes, and keeps what it printed in a log file."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

QUIET = 10.0  # seconds between signs of life where standard error is no terminal
TAIL = 15  # lines of a failed program's output that are shown


class PreparationError(Exception):
    """A step failed, or something is missing that only the user can install; the message says what to do."""


class Steps:
    """Shows steps on standard error: one line each, updated in place on a terminal."""

    def __init__(self, logs: Path) -> None:
        """`logs`: folder of one log file per step."""
        self.logs = logs
        self.inherit: int | None = None  # a file descriptor that started programs keep open
        self._terminal = sys.stderr.isatty() and os.environ.get("TERM", "dumb") != "dumb"

    def say(self, text: str) -> None:
        """One line."""
        print(f"run: {text}", file=sys.stderr, flush=True)

    def run(self, name: str, command: Sequence[str | Path], *, log: str, env: Mapping[str, str] | None = None) -> None:
        """Runs a program to its end; raises PreparationError with the end of its output when it fails."""
        self.logs.mkdir(parents=True, exist_ok=True)
        path = self.logs / f"{log}.log"
        began = shown = time.monotonic()
        if not self._terminal:
            self.say(f"{name} ...")
        with path.open("wb") as output:
            try:
                process = subprocess.Popen(
                    [str(part) for part in command],
                    stdin=subprocess.DEVNULL,
                    stdout=output,
                    stderr=subprocess.STDOUT,
                    env={**os.environ, **(env or {})},
                    pass_fds=() if self.inherit is None else (self.inherit,),
                )
            except OSError as error:
                raise PreparationError(f"{name}: {command[0]}: {error.strerror}") from None
            try:
                while process.poll() is None:
                    now = time.monotonic()
                    if self._terminal:
                        print(f"\rrun: {name} ... {now - began:.0f} s\x1b[K", end="", file=sys.stderr, flush=True)
                    elif now - shown >= QUIET:
                        shown = now
                        self.say(f"{name} ... {now - began:.0f} s")
                    try:
                        process.wait(0.2)
                    except subprocess.TimeoutExpired:
                        continue
            except KeyboardInterrupt:
                if self._terminal:
                    print(file=sys.stderr)
                process.terminate()
                process.wait()
                raise
        if self._terminal:
            print("\r\x1b[K", end="", file=sys.stderr)
        if process.returncode != 0:
            lines = path.read_text(errors="replace").splitlines()[-TAIL:]
            text = "\n".join(f"    {line}" for line in lines)
            raise PreparationError(f"{name} failed (status {process.returncode}), see {path}\n{text}")
        self.say(f"{name}: done in {time.monotonic() - began:.1f} s")


def write_stamp(path: Path, text: str) -> None:
    """Writes a stamp so that it is there whole or not at all, also after a power cut."""
    draft = path.with_name(f".{path.name}.{os.getpid()}")
    with draft.open("w") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    draft.replace(path)


def read_stamp(path: Path) -> str:
    """The stamp's text, "" where there is none."""
    try:
        return path.read_text()
    except OSError:
        return ""
