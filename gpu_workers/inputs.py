"""Hostile input: which files are opened at all, and how far they may go.

A path is opened once, without following it anywhere afterwards: all checks are made on the open file, and the demuxer
reads it through its descriptor, so what was checked is what is decoded. Only containers of the allow-list are probed
for, and no protocol but the local file is known to them, so a playlist or a reference to another file leads nowhere.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import msgspec

from gpu_workers.failures import Failure
from infra.service.settings import Settings
from schemas.videos import Reason

# Names of FFmpeg's demuxers. Playlists, image sequences, devices and raw streams are not among them.
FORMATS = (
    *("mov", "mp4", "m4a", "3gp", "3g2", "mj2"),
    *("matroska", "webm"),
    *("avi", "asf", "flv", "mpeg", "mpegts", "mxf", "ogg"),
)
PROBE_BYTES = 16 << 20
PROBE_MICROSECONDS = 10_000_000


class Limits(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How far one video may go: bytes of the file, pixels of a picture, seconds of video, streams."""

    bytes: int
    pixels: int
    seconds: float
    streams: int

    @property
    def coded_pixels(self) -> int:
        """What a decoder may allocate: pictures are coded in whole blocks, so larger than they are."""
        return 2 * self.pixels + 65536

    def options(self) -> dict[str, str]:
        """The same for FFmpeg: options of the container and of every codec."""
        return {
            "protocol_whitelist": "file",
            "format_whitelist": ",".join(FORMATS),
            "probesize": str(PROBE_BYTES),
            "analyzeduration": str(PROBE_MICROSECONDS),
            "max_streams": str(self.streams + 1),
            "max_pixels": str(self.coded_pixels),
            "enable_drefs": "0",
        }


def limits_of(settings: Settings) -> Limits:
    """The limits that an installation sets."""
    return Limits(
        bytes=settings.video_max_bytes,
        pixels=settings.video_max_pixels,
        seconds=settings.video_max_seconds,
        streams=settings.video_max_streams,
    )


@contextmanager
def regular_file(path: str, folder: str | None, limits: Limits) -> Iterator[int]:
    """The descriptor of a regular file, which lies under `folder` (links resolved) unless that is None.

    Raises Failure. A pipe or a device is not opened for reading, so none can block the caller.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC)
    except OSError as error:
        raise _refused(error) from None
    except ValueError:
        raise Failure(Reason.NOT_FOUND, "no file can have such a path") from None
    try:
        found = os.fstat(descriptor)
        if not stat.S_ISREG(found.st_mode):
            raise Failure(Reason.NOT_A_FILE, f"it is a {_kind(found.st_mode)}, not a regular file")
        if folder is not None:
            real = Path(os.readlink(f"/proc/self/fd/{descriptor}"))
            if not real.is_relative_to(Path(folder).resolve()):
                raise Failure(Reason.NOT_ALLOWED, "it lies outside the folder that videos are taken from")
        if found.st_size > limits.bytes:
            raise Failure(Reason.TOO_LARGE, f"{found.st_size} bytes, at most {limits.bytes}")
        if found.st_size == 0:
            raise Failure(Reason.UNSUPPORTED_FORMAT, "the file is empty")
        yield descriptor
    finally:
        os.close(descriptor)


def _refused(error: OSError) -> Failure:
    if error.errno in (errno.ENOENT, errno.ENOTDIR, errno.ENAMETOOLONG, errno.ELOOP):
        return Failure(Reason.NOT_FOUND, "there is no such file")
    if error.errno in (errno.EACCES, errno.EPERM):
        return Failure(Reason.NOT_ALLOWED, "the worker may not read it")
    if error.errno in (errno.ENXIO, errno.ENODEV):  # a socket, a device without a driver
        return Failure(Reason.NOT_A_FILE, "it is no regular file")
    return Failure(Reason.STORAGE, f"it cannot be read: {error.strerror}")


def _kind(mode: int) -> str:
    names = {stat.S_IFDIR: "folder", stat.S_IFIFO: "pipe", stat.S_IFCHR: "device", stat.S_IFBLK: "device"}
    return names.get(stat.S_IFMT(mode), "special file")
