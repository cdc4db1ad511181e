"""Where a job's video comes from, as a file that the decoder can open."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import BinaryIO

from gpu_workers.failures import Failure
from gpu_workers.supervisor import Cancelled
from infra.service import outbound
from infra.service.outbound import Outbound, OutboundError
from infra.service.settings import Settings
from infra.service.storage import Storage, scratch_file
from schemas.videos import InFolder, Job, Reason, Uploaded, upload_key, url_key

REASONS: dict[type[OutboundError], Reason] = {
    outbound.NotAllowed: Reason.ADDRESS_REFUSED,
    outbound.BadAnswer: Reason.FETCH_FAILED,
    outbound.NoAnswer: Reason.UNREACHABLE,
    outbound.TooLarge: Reason.TOO_LARGE,
    outbound.TooSlow: Reason.TIME_LIMIT,
}


@contextmanager
def source(
    job: Job, settings: Settings, storage: Storage, outbound: Outbound, cancel: threading.Event
) -> Iterator[tuple[str, str | None]]:
    """The path of the job's video, and the folder that it must lie in, links resolved; whether it is there at all is
    for the decoder to find out. Raises Failure, or Cancelled once `cancel` is set."""
    if isinstance(job.origin, InFolder):
        yield job.origin.path, str(settings.videos.absolute())
    elif isinstance(job.origin, Uploaded):
        path = storage.private.local(upload_key(job.id))
        assert path is not None
        yield str(path), str(path.parent)
    else:
        with ExitStack() as stack:
            try:
                file, path = stack.enter_context(scratch_file(settings.video_scratch.absolute()))
                _fetch(job, file, settings, storage, outbound, cancel)
            except OSError as error:
                raise Failure(Reason.STORAGE, f"what is fetched cannot be kept: {error.strerror}") from None
            yield str(path), str(path.parent)


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
