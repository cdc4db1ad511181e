"""The files of a job, with ranges and validators (RFC 9110, sections 13 and 14)."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Iterator, Mapping
from email.utils import formatdate

import msgspec
from anyio import to_thread
from starlette.responses import Response, StreamingResponse

from infra.service.storage import Stat, Store
from ingest.videos.problems import Problem
from schemas.videos import CONTENT_TYPES, RECORD, Result, State, decode_result, output_key

ALWAYS = {
    "Accept-Ranges": "bytes",
    "Cache-Control": "private, no-cache",  # a job that is deleted is gone at once
    "Content-Security-Policy": "default-src 'none'; sandbox",
    "X-Content-Type-Options": "nosniff",
}

_range = re.compile(r"bytes[ \t]*=[ \t]*(?:(\d{1,19})-(\d{1,19})?|-(\d{1,19}))[ \t]*", re.IGNORECASE).fullmatch


def record_of(outputs: Store, job: str) -> Result | None:
    """What was told of a job that is done; None where there is nothing (any more)."""
    try:
        result = decode_result(outputs.read(output_key(job, RECORD)) or b"")
    except msgspec.DecodeError:
        return None
    return result if result.job == job and result.state is State.DONE else None


def part(header: str | None, size: int) -> tuple[int, int] | None:
    """The first byte and the number of bytes that a `Range` header wants; None for the whole, also where it is
    malformed or wants several parts, which a server may ignore. Raises Problem (416)."""
    found = _range(header) if header else None
    if found is None:
        return None
    first, last, suffix = (None if text is None else int(text) for text in found.groups())
    if suffix is not None:
        start, end = max(size - suffix, 0), size
    else:
        assert first is not None
        if last is not None and last < first:
            return None
        start, end = first, size if last is None else min(last + 1, size)
    if start >= end:
        raise Problem(416, f"the file has {size} bytes", headers={"Content-Range": f"bytes */{size}"})
    return start, end - start


def answer(outputs: Store, job: str, file: str, headers: Mapping[str, str], *, head: bool) -> Response:
    """The answer to a request for a file that the job's result lists, which has been made sure of; raises Problem."""
    key = output_key(job, file)
    stat = outputs.stat(key)
    kind = CONTENT_TYPES.get(file.rpartition(".")[2])
    if stat is None or kind is None:
        raise Problem(404, "there is no such file of this job")
    tag = f'"{stat.tag}"'
    about = {**ALWAYS, "ETag": tag, "Last-Modified": formatdate(stat.modified, usegmt=True)}
    if _matches(headers.get("if-none-match"), tag):
        return Response(None, 304, about)
    wanted = part(headers.get("range"), stat.size) if _same(headers.get("if-range"), tag, stat) else None
    first, length = wanted or (0, stat.size)
    about |= {"Content-Length": str(length), "Content-Type": kind}
    if wanted:
        about["Content-Range"] = f"bytes {first}-{first + length - 1}/{stat.size}"
    status = 206 if wanted else 200
    return (
        Response(None, status, about) if head else StreamingResponse(_sent(outputs, key, first, length), status, about)
    )


def _matches(header: str | None, tag: str) -> bool:
    return header is not None and (
        header.strip() == "*" or tag in (one.strip().removeprefix("W/") for one in header.split(","))
    )


def _same(header: str | None, tag: str, stat: Stat) -> bool:
    """Whether a range holds for the file as it is (If-Range)."""
    return header is None or header.strip() in (tag, formatdate(stat.modified, usegmt=True))


async def _sent(outputs: Store, key: str, first: int, length: int) -> AsyncIterator[bytes]:
    pieces: Iterator[bytes] = outputs.pieces(key, first, length)
    while piece := await to_thread.run_sync(next, pieces, b""):
        yield piece
