"""Where a job's video comes from, as a file that the decoder can open."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from infra.service.settings import Settings
from infra.service.storage import Storage
from schemas.videos import InFolder, Job, upload_key


@contextmanager
def source(job: Job, settings: Settings, storage: Storage) -> Iterator[tuple[str, str | None]]:
    """The path of the job's video, and the folder that it must lie in, links resolved. Whether it is there at all is
    for the decoder to find out."""
    if isinstance(job.origin, InFolder):
        yield job.origin.path, str(settings.videos.absolute())
        return
    path = storage.private.local(upload_key(job.id))
    assert path is not None
    yield str(path), str(path.parent)
