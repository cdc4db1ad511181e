"""The sites in force: loaded from their folder, published before the first packet that names them, reloaded."""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import Callable
from pathlib import Path

from infra.service.logs import describe, logger
from ingest.delivery import Delivery, Record
from ingest.directory import Directory
from schemas.sites import Known, SitesError, file_names, load_sites

log = logger(__name__)

GLANCE_SECONDS = 0.25  # between looks at the folder itself, which tell that a file was put there or replaced

Stamp = tuple[tuple[str, int, int, int], ...]


class Policies:
    """Publishes a version to `site.policies` and tells when it is there.

    `published(directory)` is called in the loop, once per version, after the acknowledgement.
    """

    def __init__(
        self,
        folder: Path,
        partitions: int,
        topic: str,
        delivery: Delivery,
        published: Callable[[Directory], None],
    ) -> None:
        self._folder = folder
        self._partitions = partitions
        self._topic = topic
        self._delivery = delivery
        self._published = published
        self._stamp: Stamp = ()
        self._refused: Stamp = ()
        self._version = b""
        self._acknowledged = b""  # the version that Kafka has last acknowledged
        self._files: Known = {}
        self._looking = asyncio.Lock()
        self.problem = ""  # what is wrong with the files; the sites in force are older then
        self.broken = 0  # files that are wrong

    def load(self) -> Directory:
        """The sites at start; raises SitesError."""
        stamp = stamp_of(self._folder)
        directory = self._read()
        self._stamp = stamp
        return directory

    def publish(self, directory: Directory) -> None:
        """Sends a version on its way."""
        self._version = directory.version

        def done() -> None:
            self._acknowledged = directory.version
            log.info("policies_published", version=directory.version.hex(), sites=len(directory.places))
            self._published(directory)

        self.send(directory.version, directory.dump, done)

    def send(self, version: bytes, policies: bytes, done: Callable[[], None]) -> None:
        """Sends a policy set to `site.policies`; `done` is called when it is there."""
        self._delivery.send(Record(self._topic, policies, done, key=version.hex().encode(), partition=0))

    async def watch(self, seconds: float) -> None:
        """Publishes what changed, for ever; files are read in a thread.

        All files are looked at every `seconds`, and at once when the folder's time tells that one came or went.
        """
        loop = asyncio.get_running_loop()
        folder, due = 0, loop.time()
        while True:
            try:
                now = await asyncio.to_thread(_time_of, self._folder)
                if now != folder or loop.time() >= due:
                    folder, due = now, loop.time() + seconds
                    await self.look()
            except Exception as error:
                log.error("sites_look_failed", **describe(error))
            await asyncio.sleep(GLANCE_SECONDS)

    async def look(self) -> None:
        """Publishes the sites if their files changed since the last look."""
        async with self._looking:
            await self._look()

    async def _look(self) -> None:
        try:
            stamp = await asyncio.to_thread(stamp_of, self._folder)
        except (SitesError, OSError) as error:
            # The folder itself: away for a moment, or for good.
            problem = str(error)
            if problem != self.problem:
                log.error("sites_unreadable", problem=problem, in_force=self._version.hex())
            self._refused, self.problem, self.broken = (), problem, 1
            return
        if stamp in (self._stamp, self._refused) and not (stamp == self._stamp and self.problem):
            return
        try:
            directory = await asyncio.to_thread(self._read)
        except SitesError as error:
            self._refused, self.problem, self.broken = stamp, str(error), len(error.problems)
            log.error("sites_refused", problem=self.problem, files=self.broken, in_force=self._version.hex())
            return
        if directory.version == self._version == self._acknowledged:
            # Names or tokens only: workers need not know.
            self._published(directory)
        else:
            self.publish(directory)
        self._stamp, self._refused, self.problem, self.broken = stamp, (), "", 0

    def _read(self) -> Directory:
        return Directory(load_sites(self._folder, self._files), self._partitions)


def stamp_of(folder: Path) -> Stamp:
    """What tells that files of the folder changed: names, times of change (ns), sizes and inodes; raises SitesError."""
    found = []
    for name in file_names(folder):
        with contextlib.suppress(FileNotFoundError):  # it left just now
            status = os.stat(folder / name)
            found.append((name, status.st_mtime_ns, status.st_size, status.st_ino))
    return tuple(found)


def _time_of(folder: Path) -> int:
    try:
        return folder.stat().st_mtime_ns
    except OSError:
        return 0
