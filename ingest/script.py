"""The tracker's script, `/matomo.js`: a file that the operator puts there, served with its ETag."""

from __future__ import annotations

import asyncio
import hashlib
from pathlib import Path

from ingest.exchange import Exchange
from ingest.headers import Fields

KIND = b"application/javascript; charset=utf-8"
MISSING = b"There is no tracker script here; name its file in VEILSTREAM_COLLECTOR_MATOMO_JS.\n"
CACHING = b"public, max-age=3600"


class Script:
    """Answers for the script. The file is read in a thread at every request, so that a new one counts at once."""

    def __init__(self, path: Path | None) -> None:
        self._path = path
        self._tasks: set[asyncio.Task[None]] = set()

    def serve(self, exchange: Exchange, fields: Fields, head: bool) -> None:
        """Answers 200, 304 where the client has it, or 404."""
        task = asyncio.get_running_loop().create_task(self._answer(exchange, fields, head))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _answer(self, exchange: Exchange, fields: Fields, head: bool) -> None:
        make = exchange.connection.server.answers.make
        mode = exchange.connection.mode(exchange, fields)
        try:
            if self._path is None:
                raise FileNotFoundError
            body = await asyncio.to_thread(self._path.read_bytes)
        except OSError:
            exchange.reply(404, make(404, MISSING, mode=mode, head=head))
            return
        tag = b'"%s"' % hashlib.sha256(body).hexdigest()[:32].encode()
        known = [one.strip().removeprefix(b"W/") for one in (fields.get("if-none-match") or b"").split(b",")]
        status = 304 if tag in known or b"*" in known else 200
        extra = b"ETag: %s\r\n" % tag
        answer = make(status, body, KIND, mode=mode, head=head or status == 304, extra=extra, caching=CACHING)
        exchange.reply(status, answer)
