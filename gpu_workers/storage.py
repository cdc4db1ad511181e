"""Where outputs go: files that appear whole or not at all, under names that depend on the job alone."""

from __future__ import annotations

import os
from pathlib import Path

from gpu_workers.failures import Failure
from schemas.videos import Reason

DRAFT = ".part"


class Folder:
    """The outputs of one job: `name` is the folder's, below `root`; "" is `root` itself."""

    def __init__(self, root: Path, name: str) -> None:
        self._name = name
        self.path = root / name if name else root
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            if name:
                for draft in self.path.glob(f".*{DRAFT}"):  # of a process that was killed
                    draft.unlink(missing_ok=True)
        except OSError as error:
            raise _unwritten(error) from None

    def write(self, file: str, content: bytes) -> str:
        """Writes a file whole, in place of an earlier one, and returns its path below `root`. Raises Failure.

        The content is on disk before the name is, so no crash leaves a part of a file under the name.
        """
        draft = self.path / f".{file}.{os.getpid()}{DRAFT}"
        try:
            try:
                self._place(draft, file, content)
            except FileNotFoundError:  # another process at the same job took the draft for a dead one's
                self._place(draft, file, content)
        except OSError as error:
            draft.unlink(missing_ok=True)
            raise _unwritten(error) from None
        return f"{self._name}/{file}" if self._name else file

    def _place(self, draft: Path, file: str, content: bytes) -> None:
        with draft.open("wb") as out:
            out.write(content)
            out.flush()
            os.fsync(out.fileno())
        draft.replace(self.path / file)

    def read(self, file: str) -> bytes | None:
        """A file's content; None when it is not there."""
        try:
            return (self.path / file).read_bytes()
        except OSError:
            return None


def _unwritten(error: OSError) -> Failure:
    return Failure(Reason.STORAGE, f"the outputs cannot be written: {error.strerror}")
