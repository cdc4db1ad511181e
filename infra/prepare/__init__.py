"""What `./run` does before the first command: virtual environment, system packages, Kafka's jars.

Standard library only, since it runs before anything is installed. Every part is stamped with the hash of what it was
made from, by a rename after it succeeded; a part without its stamp is made anew, so an interruption leaves no trap.
"""

from __future__ import annotations

import fcntl
import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from infra.prepare.environment import Environment
from infra.prepare.jars import Jars
from infra.prepare.lockfile import renew
from infra.prepare.steps import PreparationError, Steps
from infra.prepare.system import Tool, ensure

STACK_COMMANDS = frozenset({"up", "demo", "test", "fault", "soak", "bench", "prepare"})  # the same as in `run`


@contextmanager
def _alone(folder: Path, steps: Steps) -> Iterator[int]:
    """Holds the lock of all preparing in this checkout; the system releases it when the holders have died.

    The programs that a step starts hold it too: after a kill of `run` the next one waits for its orphaned pip to end.
    """
    folder.mkdir(parents=True, exist_ok=True)
    lock = os.open(folder, os.O_RDONLY)
    try:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            steps.say("another ./run is preparing this checkout, waiting for it")
            fcntl.flock(lock, fcntl.LOCK_EX)
        yield lock
    finally:
        os.close(lock)


def prepare(top: Path, command: str, steps: Steps) -> Path:
    """Makes what `command` needs and returns the Python to run it with; raises PreparationError."""
    state = top / ".veilstream"
    environment = Environment(top, state / "venv")
    jars = Jars(top / "infra/local/kafka/pom.xml", state / "kafka")
    with _alone(state / "prepare", steps) as lock:
        steps.inherit = lock
        if command == "lock":
            renew(top, state / "prepare/uv", steps)
            return environment.python
        if not environment.prepared():
            environment.make(steps)
        if command in STACK_COMMANDS:
            ensure([Tool.JAVA, Tool.FFMPEG], steps)
            if not jars.prepared():
                ensure([Tool.MAVEN], steps)
                jars.make(steps)
        if command == "bench":
            ensure([Tool.WRK], steps)
        if command == "thumbnail":
            ensure([Tool.FFMPEG], steps)
    return environment.python


def main(top: str, arguments: Sequence[str]) -> int:
    """Prepares, then becomes `veilstream` with these arguments. Exit status 2: something is missing, as it says."""
    command = arguments[0] if arguments else ""
    steps = Steps(Path(top) / ".veilstream/prepare")
    try:
        python = prepare(Path(top), command, steps)
    except PreparationError as error:
        steps.say(str(error))
        return 2
    except KeyboardInterrupt:
        steps.say("interrupted; the next ./run goes on from here")
        return 130
    if command in ("prepare", "lock"):
        return 0
    sys.stdout.flush()
    os.execv(python, [str(python), "-P", "-m", "infra.cli", *arguments])
