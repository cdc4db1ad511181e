"""What a job leaves: the record beside its outputs, a dead letter where it failed, and no source."""

from __future__ import annotations

import time
from typing import Any

import msgspec

from gpu_workers.failures import Failure
from infra.service.logs import describe, logger
from infra.service.storage import Storage
from schemas.videos import (
    RECORD,
    SITE_HEADER,
    Fetched,
    Job,
    Reason,
    Result,
    State,
    Uploaded,
    decode_result,
    encode,
    output_key,
    upload_key,
    url_key,
)

log = logger(__name__)


def told_before(storage: Storage, job: Job) -> Result | None:
    """What was told of a job whose outputs are complete already; None when they are not."""
    try:
        result = decode_result(storage.outputs.read(output_key(job.id, RECORD)) or b"")
    except (OSError, msgspec.DecodeError):
        return None
    return result if result.job == job.id and result.state is State.DONE else None


def finish(storage: Storage, job: Job, result: Result) -> None:
    """Says that a job's outputs are complete. Raises Failure."""
    try:
        storage.outputs.put(output_key(job.id, RECORD), encode(result))
    except OSError as error:
        raise Failure(Reason.STORAGE, f"the outputs cannot be written: {error.strerror}") from None


def forget(storage: Storage, job: Job, *, keep_uploads: bool) -> None:
    """Deletes the source of a job that has ended and is committed: whoever might do it again would need it."""
    match job.origin:
        case Fetched():
            key = url_key(job.id)
        case Uploaded() if not keep_uploads:
            key = upload_key(job.id)
        case _:
            return
    try:
        storage.private.remove(key)
    except OSError as error:
        log.warning("source_not_removed", job=job.id, **describe(error))  # the API removes URLs in time


def unreadable(key: str, record: Any, worker: str) -> Result:
    """What is told of a record that is no job, but whose key is the id of one."""
    site = next((value for name, value in record.headers if name == SITE_HEADER), b"")
    return Result(
        key,
        State.FAILED,
        int(time.time() * 1000),
        record.timestamp,
        worker=worker,
        reason=Reason.BAD_JOB,
        detail="the record is not a job of this version",
        site=int(site) if site.isdigit() else 0,
    )
