"""The sites in force: loaded from their folder, published before the first packet that names them, reloaded."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable
from pathlib import Path

from infra.service.logs import logger
from ingest.directory import Directory
from ingest.packing import Delivery, Record
from schemas.sites import Read, SitesError, load_sites

log = logger(__name__)

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
        self._files: Read = {}
        self._looking = asyncio.Lock()
        self.problem = ""  # what is wrong with the files; the sites in force are older then

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
            log.info("policies_published", version=directory.version.hex(), sites=len(directory.places))
            self._published(directory)

        key = directory.version.hex().encode()
        self._delivery.send(Record(self._topic, directory.policies.dump(), done, key=key, partition=0))

    async def watch(self, seconds: float) -> None:
        """Looks at the folder every `seconds` and publishes what changed, for ever; files are read in a thread."""
        while True:
            await asyncio.sleep(seconds)
            await self.look()

    async def look(self) -> None:
        """Publishes the sites if their files changed since the last look."""
        async with self._looking:
            await self._look()

    async def _look(self) -> None:
        try:
            stamp = await asyncio.to_thread(stamp_of, self._folder)
            if stamp in (self._stamp, self._refused):
                return
            directory = await asyncio.to_thread(self._read)
            if directory.version == self._version:
                # Names or tokens only: workers need not know.
                self._published(directory)
            else:
                self.publish(directory)
            self._stamp, self._refused, self.problem = stamp, (), ""
        except SitesError as error:
            self._refused = stamp
            self.problem = str(error)
            log.error("sites_refused", problem=str(error), in_force=self._version.hex())
        except OSError as error:
            log.error("sites_unreadable", problem=error.strerror or "", in_force=self._version.hex())

    def _read(self) -> Directory:
        return Directory(load_sites(self._folder, self._files), self._partitions)


def stamp_of(folder: Path) -> Stamp:
    """What tells that files of the folder changed: names, times of change (ns) and sizes."""
    try:
        with os.scandir(folder) as entries:
            found = []
            for entry in entries:
                if entry.name.endswith(".toml"):
                    status = entry.stat()
                    found.append((entry.name, status.st_mtime_ns, status.st_size, status.st_ino))
    except FileNotFoundError:
        return ()
    return tuple(sorted(found))
