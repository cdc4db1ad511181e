"""The storage of the video path: objects under keys, which appear whole or not at all and are durable when told so.

It has two parts: `outputs`, which other servers may serve, and `private`, for uploads and what is remembered of jobs.
Keys are made by `schemas.videos` of ids and of closed lists of names; a key that leads elsewhere is refused all the
same. Every method may wait, and raises OSError when the storage fails.
"""

from __future__ import annotations

import errno
import fcntl
import os
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Protocol

from infra.service.files import DRAFT, PIECE, draft, replace, sync
from infra.service.settings import Settings

REMOVALS = 10  # of a folder that somebody writes into meanwhile


@dataclass(frozen=True, slots=True)
class Stat:
    """An object: its size in bytes, what changes when its content does, and when it was written (seconds)."""

    size: int
    tag: str
    modified: float


class Store(Protocol):
    """One part of the storage."""

    def put(self, key: str, content: bytes) -> None:
        """Writes an object, in place of an earlier one."""

    def create(self, key: str, content: bytes) -> bool:
        """Writes an object unless there is one; whether it did. Of many at once, one does."""

    def take(self, key: str, file: Path) -> None:
        """Makes a local file an object, in place of an earlier one; the file may be gone afterwards."""

    def read(self, key: str) -> bytes | None:
        """An object's content; None when there is none."""

    def stat(self, key: str) -> Stat | None:
        """What is known of an object; None when there is none."""

    def pieces(self, key: str, first: int, length: int) -> Iterator[bytes]:
        """A part of an object, piece by piece, which must lie in it; FileNotFoundError when there is none."""

    def local(self, key: str) -> Path | None:
        """The object as a file, where objects are files."""

    def remove(self, prefix: str) -> None:
        """Removes the object of this key, or all whose keys begin so where it ends with a slash."""

    def check(self) -> None:
        """Raises SettingsError where it is clear that it can never be used."""

    def old(self, prefix: str, before: float) -> Iterator[str]:
        """Keys below a prefix, which ends with a slash, of objects last written before a time (seconds)."""


class Folder:
    """A part of the storage as a local folder; with `private` only its owner may look into it."""

    def __init__(self, root: Path, *, private: bool) -> None:
        self._root = root.absolute()
        self._mode = 0o600 if private else 0o644
        self._folder_mode = 0o700 if private else 0o755

    def put(self, key: str, content: bytes) -> None:
        path = self._place(key)
        replace(path, content, self._mode)

    def create(self, key: str, content: bytes) -> bool:
        path = self._place(key)
        with draft(path, content, self._mode) as made:
            try:
                os.link(made, path)
            except FileExistsError:
                return False
        sync(path.parent)
        return True

    def take(self, key: str, file: Path) -> None:
        path = self._place(key)
        file.chmod(self._mode)
        with file.open("rb") as whole:
            os.fsync(whole.fileno())
        try:
            file.replace(path)
        except OSError:  # another file system
            with file.open("rb") as source, draft(path, source, self._mode) as made:
                made.replace(path)
        sync(path.parent)

    def read(self, key: str) -> bytes | None:
        try:
            return self._path(key).read_bytes()
        except (FileNotFoundError, NotADirectoryError):
            return None

    def stat(self, key: str) -> Stat | None:
        try:
            found = self._path(key).stat()
        except (FileNotFoundError, NotADirectoryError):
            return None
        return Stat(found.st_size, f"{found.st_mtime_ns:x}-{found.st_size:x}", found.st_mtime)

    def pieces(self, key: str, first: int, length: int) -> Iterator[bytes]:
        with self._path(key).open("rb") as file:
            file.seek(first)
            while length > 0 and (piece := file.read(min(length, PIECE))):
                length -= len(piece)
                yield piece

    def local(self, key: str) -> Path | None:
        return self._path(key)

    def remove(self, prefix: str) -> None:
        path = self._path(prefix.removesuffix("/"))
        if prefix.endswith("/"):
            for _ in range(REMOVALS):
                try:
                    shutil.rmtree(path)
                except FileNotFoundError:
                    break
                except OSError as error:
                    if error.errno != errno.ENOTEMPTY:
                        raise
        else:
            path.unlink(missing_ok=True)
        if path.parent.is_dir():
            sync(path.parent)

    def old(self, prefix: str, before: float) -> Iterator[str]:
        with suppress(FileNotFoundError):
            for entry in list(os.scandir(self._path(prefix.removesuffix("/")))):
                with suppress(FileNotFoundError):  # another process was faster
                    if not entry.name.endswith(DRAFT) and entry.stat().st_mtime < before:
                        yield prefix + entry.name

    def check(self) -> None:
        """A folder is made where it is missing."""

    def _path(self, key: str) -> Path:
        return self._root / checked_key(key)

    def _place(self, key: str) -> Path:
        path = self._path(key)
        self._root.mkdir(mode=self._folder_mode, parents=True, exist_ok=True)
        path.parent.mkdir(mode=self._folder_mode, parents=True, exist_ok=True)
        return path


@dataclass(frozen=True, slots=True)
class Storage:
    """Both parts. `remote`: objects are no local files."""

    outputs: Store
    private: Store
    remote: bool = False


def checked_key(key: str) -> str:
    """The key; raises ValueError where it could lead anywhere else."""
    if not key or any(part in ("", ".", "..") for part in key.split("/")) or "\0" in key:
        raise ValueError("no object can have such a key")
    return key


def storage(settings: Settings) -> Storage:
    """The storage of an installation."""
    if settings.video_storage:
        from infra.service.s3 import Bucket

        return Storage(Bucket(settings, "outputs"), Bucket(settings, "private"), remote=True)
    return Storage(Folder(settings.thumbnails, private=False), Folder(settings.video_private, private=True))


@contextmanager
def scratch_folder(folder: Path) -> Iterator[Path]:
    """A new folder for files under way, gone at the end with all that is in it. It is locked as long as its process
    lives, so `sweep` can tell what a process that was killed has left."""
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    while True:
        path = folder / f"{secrets.token_hex(16)}{DRAFT}"
        path.mkdir(mode=0o700)
        try:
            handle = os.open(path, os.O_RDONLY)
        except FileNotFoundError:
            continue  # a sweep came between the making and the lock
        try:
            fcntl.flock(handle, fcntl.LOCK_EX)
            if path.exists():
                yield path
                return
        finally:
            os.close(handle)
            shutil.rmtree(path, ignore_errors=True)


@contextmanager
def scratch_file(folder: Path) -> Iterator[tuple[BinaryIO, Path]]:
    """A new file under way, in a folder of its own, gone at the end unless it was taken elsewhere."""
    with scratch_folder(folder) as own:
        path = own / "file"
        with open(os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600), "w+b", buffering=0) as file:
            yield file, path


def sweep(folder: Path) -> int:
    """Removes folders of files under way whose processes are gone; returns how many."""
    swept = 0
    for path in folder.glob(f"*{DRAFT}"):
        with suppress(FileNotFoundError, BlockingIOError):
            handle = os.open(path, os.O_RDONLY)
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
                shutil.rmtree(path)
                swept += 1
            finally:
                os.close(handle)
    return swept


def write_all(file: BinaryIO, content: bytes) -> None:
    """Writes all of it, also where a file takes a part at a time."""
    left = memoryview(content)
    while left:
        left = left[file.write(left) :]
