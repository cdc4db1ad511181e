"""Where a job's video comes from, as a file that the decoder can open, and where its outputs go to.

The decoder works on hostile input, so it knows neither the storage nor the network: files only.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from gpu_workers.failures import Failure
from gpu_workers.parts import Fetch
from gpu_workers.supervisor import Cancelled
from infra.service import outbound
from infra.service.outbound import Outbound, OutboundError
from infra.service.settings import Settings
from infra.service.storage import Storage, scratch_file, scratch_folder, write_all
from schemas.videos import InFolder, Job, Output, Reason, Uploaded, upload_key, url_key

IN_PARTS_FROM = 16 << 20  # bytes; less than that is brought here as a whole

REASONS: dict[type[OutboundError], Reason] = {
    outbound.NotAllowed: Reason.ADDRESS_REFUSED,
    outbound.BadAnswer: Reason.FETCH_FAILED,
    outbound.NoAnswer: Reason.UNREACHABLE,
    outbound.TooLarge: Reason.TOO_LARGE,
    outbound.TooSlow: Reason.TIME_LIMIT,
}


@dataclass(frozen=True, slots=True)
class Found:
    """A video's path, and the folder that it must lie in, links resolved. `fetch`: brings what is read of it, where it
    is a file in parts (`gpu_workers.parts`)."""

    path: str
    folder: str
    fetch: Fetch | None = None


@contextmanager
def source(
    job: Job, settings: Settings, storage: Storage, outbound: Outbound, cancel: threading.Event
) -> Iterator[Found]:
    """The job's video; whether it is there at all is for the decoder to find out. Raises Failure, or Cancelled once
    `cancel` is set."""
    if isinstance(job.origin, InFolder):
        yield Found(job.origin.path, str(settings.videos.absolute()))
    elif isinstance(job.origin, Uploaded) and (path := storage.private.local(upload_key(job.id))) is not None:
        yield Found(str(path), str(path.parent))
    else:
        fetch: Fetch | None = None
        with ExitStack() as stack:
            try:
                file, path = stack.enter_context(scratch_file(settings.video_scratch.absolute()))
                if isinstance(job.origin, Uploaded):
                    fetch = _copy(job, file, storage, cancel)
                else:
                    _fetch(job, file, settings, storage, outbound, cancel)
            except OSError as error:
                raise Failure(Reason.STORAGE, f"it cannot be brought here: {error.strerror}") from None
            yield Found(str(path), str(path.parent), fetch)


def _copy(job: Job, file: BinaryIO, storage: Storage, cancel: threading.Event) -> Fetch | None:
    """What was uploaded, to this machine; of a large one only the size, and what brings its parts."""
    key = upload_key(job.id)
    stat = storage.private.stat(key)
    if stat is None:
        raise Failure(Reason.NOT_FOUND, "there is no such file")

    def bring(first: int, last: int) -> None:
        file.seek(first)
        for piece in storage.private.pieces(key, first, last - first):
            if cancel.is_set():
                raise Cancelled
            write_all(file, piece)

    if stat.size < IN_PARTS_FROM:
        bring(0, stat.size)
        return None
    file.truncate(stat.size)
    left = stat.size  # bytes that may still be asked for: each is, once

    def fetch(first: int, last: int) -> None:
        nonlocal left
        if not 0 <= first < last <= stat.size or last - first > left:
            raise Failure(Reason.INTERNAL_ERROR, "parts were asked for that the file does not have, or twice")
        left -= last - first
        try:
            bring(first, last)
        except OSError as error:
            raise Failure(Reason.STORAGE, f"it cannot be brought here: {error.strerror}") from None

    return fetch


def _fetch(
    job: Job, file: BinaryIO, settings: Settings, storage: Storage, outbound: Outbound, cancel: threading.Event
) -> None:
    try:
        url = storage.private.read(url_key(job.id))
        if url is None:
            raise Failure(Reason.NOT_FOUND, "its URL is not kept any more")
        outbound.download(
            url.decode(),
            file,
            largest=settings.video_fetch_bytes,
            seconds=settings.video_fetch_seconds,
            idle=settings.video_fetch_idle_seconds,
            cancelled=cancel.is_set,
        )
    except OutboundError as error:
        if (reason := REASONS.get(type(error))) is None:
            raise Cancelled from None
        raise Failure(reason, str(error)) from None


@contextmanager
def destination(settings: Settings, storage: Storage) -> Iterator[tuple[Path, Callable[[Iterable[Output]], None]]]:
    """The folder that the decoder writes below, and what brings outputs from there to the storage; it raises Failure.
    Where the storage is a folder, it is that one."""
    if not storage.remote:
        yield settings.thumbnails.absolute(), lambda _: None
        return

    def keep(outputs: Iterable[Output]) -> None:
        try:
            for output in outputs:
                storage.outputs.take(output.path, root / output.path)
        except OSError as error:
            raise _unwritten(error) from None

    with ExitStack() as stack:
        try:
            root = stack.enter_context(scratch_folder(settings.video_scratch.absolute()))
        except OSError as error:
            raise _unwritten(error) from None
        yield root, keep


def _unwritten(error: OSError) -> Failure:
    return Failure(Reason.STORAGE, f"the outputs cannot be written: {error.strerror}")
