"""Uploads: `multipart/form-data` (RFC 7578) with a part `file` and, perhaps, a part `request` of JSON.

The file goes to disk as it comes, so memory does not grow with it, and is gone unless it was taken to the storage.
"""

from __future__ import annotations

import hashlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import anyio
from anyio import to_thread
from multipart import MultipartError, MultipartSegment, ParserLimitReached, PushMultipartParser, parse_options_header
from starlette.requests import ClientDisconnect, Request

from infra.service.files import PIECE
from infra.service.settings import Settings
from infra.service.storage import scratch_file, write_all
from ingest.videos.problems import RETRY_SECONDS, Problem, storage_problem
from ingest.videos.requests import LONGEST_BODY

FILE, REQUEST = "file", "request"
MOST_AROUND = 2 * LONGEST_BODY  # bytes of a body that are not the file's


@dataclass(frozen=True, slots=True)
class Received:
    """A whole upload: `request` is JSON, `digest` the sha256 of the file under `path`."""

    request: bytes
    path: Path
    digest: bytes


class Uploads:
    """Takes uploads, so many at once."""

    def __init__(self, settings: Settings) -> None:
        self._folder = settings.video_scratch.absolute()
        self._largest = settings.video_upload_bytes
        self._idle = settings.video_upload_idle_seconds
        self._free = settings.video_uploads

    @asynccontextmanager
    async def receive(self, request: Request) -> AsyncIterator[Received]:
        """The upload that a request is; raises Problem. Its file is gone afterwards unless it was taken elsewhere."""
        if not self._free:
            raise Problem(503, "too many uploads are under way; try again later", retry_after=RETRY_SECONDS)
        self._free -= 1
        try:
            boundary = parse_options_header(request.headers["content-type"])[1].get("boundary")
            if not boundary:
                raise Problem(400, "the content type names no boundary")
            length = request.headers.get("content-length", "")
            if length.isdigit() and int(length) > self._largest + MOST_AROUND:
                raise self._too_large()
            try:
                with scratch_file(self._folder) as (file, path):
                    form = _Form(file, self._largest)
                    await self._read(request, boundary, form)
                    yield form.received(path)
            except OSError as error:
                raise storage_problem(error) from None
        finally:
            self._free += 1

    async def _read(self, request: Request, boundary: str, form: _Form) -> None:
        pieces = aiter(request.stream())
        try:
            with PushMultipartParser(boundary, max_segment_count=2, strict=True) as parser:
                while True:
                    with anyio.fail_after(self._idle):
                        piece = await anext(pieces, b"")
                    if not piece:
                        break
                    for found in parser.parse(piece):
                        form.take(found)
                    if form.waiting >= PIECE:
                        await to_thread.run_sync(form.write)
                parser.parse(b"")
            await to_thread.run_sync(form.write)
        except TimeoutError:
            raise Problem(408, f"nothing came for {self._idle:g} seconds in the middle of the upload") from None
        except ClientDisconnect:
            raise Problem(400, "the upload was cut off") from None
        except TooLarge:
            raise self._too_large() from None
        except ParserLimitReached:
            raise Problem(400, "a form of the parts file and request is wanted, each once") from None
        except MultipartError:
            raise Problem(400, "the body is not multipart/form-data as its content type says") from None

    def _too_large(self) -> Problem:
        return Problem(413, f"at most {self._largest} bytes of a video are taken")


class TooLarge(Exception):
    """The file is larger than uploads may be."""


class _Form:
    """What has come of a form so far; of the file no more than a piece waits in memory."""

    def __init__(self, file: BinaryIO, largest: int) -> None:
        self._file = file
        self._left = largest
        self._digest = hashlib.sha256()
        self._parts: set[str] = set()
        self._name = ""
        self._waiting: list[bytes] = []
        self._request = bytearray()
        self.waiting = 0  # bytes of the file that are not written yet

    def take(self, found: MultipartSegment | bytearray | bytes | None) -> None:
        """What the parser has found: the head of a part, a piece of it, or its end."""
        if isinstance(found, MultipartSegment):
            self._name = found.name or ""
            if self._name not in (FILE, REQUEST):
                raise Problem(422, f"the parts {FILE} and {REQUEST} are known, no others", field=self._name[:100])
            if self._name in self._parts:
                raise Problem(422, "the part comes twice", field=self._name)
            self._parts.add(self._name)
        elif found and self._name == FILE:
            self._left -= len(found)
            if self._left < 0:
                raise TooLarge
            self._waiting.append(bytes(found))
            self.waiting += len(found)
        elif found:
            self._request += found
            if len(self._request) > LONGEST_BODY:
                raise Problem(413, f"the part {REQUEST} is longer than {LONGEST_BODY} bytes")

    def write(self) -> None:
        """Puts what waits on disk."""
        waiting, self._waiting, self.waiting = b"".join(self._waiting), [], 0
        self._digest.update(waiting)
        write_all(self._file, waiting)

    def received(self, path: Path) -> Received:
        """The whole; raises Problem where the file is missing."""
        if FILE not in self._parts:
            raise Problem(422, "the form has no such part; it holds the video", field=FILE)
        return Received(bytes(self._request) or b"{}", path, self._digest.digest())
