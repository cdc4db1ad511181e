"""Kafka's jars: resolved by Maven from the pom, complete or not there at all."""

from __future__ import annotations

import hashlib
import shutil
from pathlib import Path

from infra.prepare.steps import PreparationError, Steps, read_stamp, write_stamp


class Jars:
    """The folder `libs` under the Kafka folder."""

    def __init__(self, pom: Path, folder: Path) -> None:
        self.pom = pom
        self.folder = folder
        self.libs = folder / "libs"
        self._stamp = folder / "prepared"

    def wanted(self) -> str:
        """The stamp of jars made from the pom as it is now; `run` computes the same."""
        return hashlib.sha256(self.pom.read_bytes()).hexdigest() + "\n"

    def prepared(self) -> bool:
        """Whether they are there, from this pom."""
        return self.libs.is_dir() and read_stamp(self._stamp) == self.wanted()

    def make(self, steps: Steps) -> None:
        """Fetches them into a new folder and puts that in place."""
        wanted = self.wanted()
        self._stamp.unlink(missing_ok=True)
        draft = self.folder / "libs.new"
        shutil.rmtree(draft, ignore_errors=True)
        draft.mkdir(parents=True)
        steps.run(
            "Kafka's jars",
            [
                *("mvn", "-q", "-B", "-f", self.pom, "dependency:copy-dependencies"),
                *("-DincludeScope=runtime", f"-DoutputDirectory={draft}"),
            ],
            log="jars",
        )
        if not any(draft.glob("kafka_2.13-*.jar")):
            raise PreparationError(f"Maven copied no Kafka server into {draft}; see {self.pom}")
        shutil.rmtree(self.libs, ignore_errors=True)
        draft.rename(self.libs)
        write_stamp(self._stamp, wanted)
