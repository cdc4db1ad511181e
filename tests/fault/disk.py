"""The disk of the collector's spool: a small one of its own, which can be filled."""

from __future__ import annotations

import contextlib
import errno
import os
import subprocess
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from random import Random

from tests.fault.field import FaultError, Field

DISK_BYTES = 1 << 30
LEFT_BYTES = 256 << 10  # what the full disk still has room for, so that it fills up while it is written to
FULL = 10.0  # seconds for which there is neither Kafka nor room
TAKES = "veilstream_collector_spool_takes_ratio"


@contextlib.contextmanager
def spool_disk(place: Path) -> Iterator[None]:
    """A tmpfs there; raises FaultError where none may be mounted."""
    place.mkdir(parents=True, exist_ok=True)
    command = ["mount", "-t", "tmpfs", "-o", f"size={DISK_BYTES},mode=700", "tmpfs", str(place)]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        raise FaultError(f"a disk for the spool cannot be mounted, which needs root: {done.stderr.strip()}")
    try:
        yield
    finally:
        subprocess.run(["umount", "-l", str(place)], check=False)


class FullDisk:
    """Kafka is away, and the spool's disk has no room: nothing may be acknowledged until there is some again."""

    name = "full-disk"
    kinds = ("kafka",)
    outage = True
    workers = 1

    def strike(self, field: Field, kind: str, random: Random) -> Mapping[str, int]:
        """See `faults.Fault`."""
        (name,) = field.names("collector")
        spool = field.stack.settings.spool
        filler = spool / ".filler"
        field.stack.stop_part("kafka")
        try:
            _fill(filler, spool)
            field.until("the spool's disk is full", lambda: not field.metric(name, TAKES))
            time.sleep(1.0)
            before = field.acknowledged()
            time.sleep(FULL)
            acknowledged = field.acknowledged() - before
            filler.unlink()
            if acknowledged:
                raise FaultError(f"{acknowledged} events were acknowledged with neither Kafka nor room on the disk")
            field.until("the spool takes packets again", lambda: bool(field.metric(name, TAKES)))
            before = field.acknowledged()
            field.until("events are acknowledged again", lambda: field.acknowledged() > before + 100)
            _fill(filler, spool)
            time.sleep(FULL)
        finally:
            filler.unlink(missing_ok=True)
            field.stack.start_part("kafka")
        field.whole()
        field.drained()
        return {"acknowledged_on_a_full_disk": acknowledged}


def _fill(filler: Path, disk: Path) -> None:
    with filler.open("wb") as file:
        while True:
            room = os.statvfs(disk)
            size = room.f_bavail * room.f_frsize - LEFT_BYTES
            if size <= 0:
                return
            try:
                os.posix_fallocate(file.fileno(), 0, size)
            except OSError as error:  # the collector was quicker, and took some of the room
                if error.errno != errno.ENOSPC:
                    raise
            else:
                return
