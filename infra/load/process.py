"""`veilstream load` as a process of its own, for those who watch it: the demo, the fault laboratory, benchmarks."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

from infra.load.journal import Watch
from infra.service.settings import PREFIX

STOP_SECONDS = 15.0


class LoadError(RuntimeError):
    """The load ended otherwise than it should; the message holds the last lines that it said."""


class LoadProcess:
    """Runs from construction on. `watch` counts what it has journalled; its words go to a file beside the journal."""

    def __init__(self, url: str, journal: Path, **options: object) -> None:
        self.watch = Watch(journal)
        self._words = journal.with_suffix(".log")
        self._answer = journal.with_suffix(".json")
        arguments = [f"--{name}={value}" for name, value in options.items() if value is not None]
        command = (sys.executable, "-m", "infra.cli", "load", f"--url={url}", f"--journal={journal}", "--json")
        environment = {name: value for name, value in os.environ.items() if not name.startswith(PREFIX)}
        with self._words.open("wb") as words, self._answer.open("wb") as answer:
            self._process = subprocess.Popen(
                [*command, *arguments],
                stdin=subprocess.DEVNULL,
                stdout=answer,
                stderr=words,
                env=environment,
                cwd=Path(__file__).parents[2],
                start_new_session=True,  # Ctrl-C reaches whoever started it, and they stop it in order
            )

    def running(self) -> bool:
        """Whether it still runs."""
        return self._process.poll() is None

    def stop(self) -> None:
        """Let it end in order; kill it where it does not within STOP_SECONDS."""
        if self.running():
            self._process.send_signal(signal.SIGINT)
            try:
                self._process.wait(STOP_SECONDS)
            except subprocess.TimeoutExpired:
                self.kill()

    def kill(self) -> None:
        """End it at once."""
        self._process.kill()
        self._process.wait()

    def result(self) -> dict[str, Any]:
        """What it printed at its end, for which this waits; raises LoadError where it printed nothing."""
        self._process.wait()
        lines = self._answer.read_text().splitlines()
        if not lines:
            said = self._words.read_text(errors="replace").splitlines()[-5:]
            raise LoadError(f"load ended with status {self._process.returncode}: {' / '.join(said)}")
        found: dict[str, Any] = json.loads(lines[-1])
        return found
