"""The tracker's script, `/matomo.js`: a file that the operator puts there, served with its ETag."""

from __future__ import annotations

import asyncio
import hashlib
from pathlib import Path
from time import monotonic

from ingest.exchange import Exchange
from ingest.headers import Fields

KIND = b"text/javascript; charset=utf-8"
MISSING = b"There is no tracker script here. Name its file in the setting VEILSTREAM_COLLECTOR_MATOMO_JS.\n"
UNREADABLE = b"The file that the setting VEILSTREAM_COLLECTOR_MATOMO_JS names cannot be read.\n"
CACHING = b"public, max-age=3600"
FRESH_SECONDS = 1.0  # how long a file that was read counts as unchanged
COMMON = b"X-Content-Type-Options: nosniff\r\nCross-Origin-Resource-Policy: cross-origin\r\n"


class Script:
    """Answers for the script. A new file counts within a second; it is read in a thread."""

    def __init__(self, path: Path | None) -> None:
        self._path = path
        self._body: bytes | None = None
        self._tag = b""
        self._fresh = 0.0  # until when what is in memory counts
        self._reading: asyncio.Task[None] | None = None

    def serve(self, exchange: Exchange, fields: Fields, head: bool) -> None:
        """Answers 200, 304 where the client has it, or 404."""
        mode, known = exchange.connection.mode(exchange, fields), fields.get("if-none-match", b"")
        if self._path is None or monotonic() < self._fresh:
            self._answer(exchange, mode, known, head)
            return
        if self._reading is None or self._reading.done():
            self._reading = asyncio.get_running_loop().create_task(self._read(self._path))
        self._reading.add_done_callback(lambda _: self._answer(exchange, mode, known, head))

    async def _read(self, path: Path) -> None:
        try:
            self._body = await asyncio.to_thread(path.read_bytes)
            self._tag = b'"%s"' % hashlib.sha256(self._body).hexdigest()[:32].encode()
        except OSError:
            self._body = None
        self._fresh = monotonic() + FRESH_SECONDS

    def _answer(self, exchange: Exchange, mode: int, known: bytes, head: bool) -> None:
        make = exchange.connection.server.answers.make
        if self._body is None:
            text = MISSING if self._path is None else UNREADABLE
            exchange.reply(404, make(404, text, mode=mode, head=head))
            return
        tags = [one.strip().removeprefix(b"W/") for one in known.split(b",")]
        status = 304 if self._tag in tags or b"*" in tags else 200
        extra = b"ETag: %s\r\n" % self._tag + COMMON
        answer = make(status, self._body, KIND, mode=mode, head=head or status == 304, extra=extra, caching=CACHING)
        exchange.reply(status, answer)
