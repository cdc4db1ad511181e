"""One import: a thread reads and parses while another sends, one bulk at a time and in order, so that visits are right.

A bulk is so many lines of the file, whatever is in them. It travels with an `Idempotency-Key` of the file and its place
in it, and the checkpoint is replaced before it is sent and after it was answered.
"""

from __future__ import annotations

import gzip
import http.client
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import BinaryIO, cast

import msgspec

from infra.imports.checkpoint import Checkpoint, Counts, Pending, find, save
from infra.imports.formats import Parser
from infra.imports.requests import Chosen

LINES = 2_000  # of the file in one bulk
LONGEST_LINE = 256 << 10  # bytes; what is longer is unreadable
TIMEOUT = 120.0  # seconds of one answer
GZIP = b"\x1f\x8b"

Stored = Callable[[Pending], bool]
"""Whether the hits of a bulk, sent so long ago that its key is forgotten, are in the tables."""


class ImportFailed(RuntimeError):
    """The import cannot go on; the message says why. Run again, it goes on where it was."""


@dataclass(slots=True)
class Bulk:
    """Lines of the file as requests. `offset`: bytes of the file behind them."""

    lines: int
    offset: int
    head: str
    items: list[str]
    left_out: int
    unreadable: int
    first_ms: int
    last_ms: int


def open_log(path: Path) -> BinaryIO:
    """A log, perhaps compressed by gzip. Raises OSError."""
    file = path.open("rb")
    packed = file.read(2) == GZIP
    file.seek(0)
    return cast(BinaryIO, gzip.open(file)) if packed else file


class Import:
    """The import of one file into one site."""

    def __init__(
        self,
        path: Path,
        parse: Parser,
        chosen: Chosen,
        folder: Path,
        post: Callable[[bytes, str], tuple[int, int]],
        stored: Stored,
        repeat_seconds: int,
    ) -> None:
        """`folder`: of checkpoints. `post(body, key)` returns how many were taken and refused, or raises."""
        self._path, self._parse, self._chosen, self._folder = path, parse, chosen, folder
        self._post, self._stored, self._repeat_seconds = post, stored, repeat_seconds

    def run(self, each: Callable[[Counts, int], None] = lambda _counts, _offset: None) -> Counts:
        """Imports what is not imported yet; returns the counts of the whole file, of earlier runs too.

        `each(counts, offset)` is told after every bulk. Raises ImportFailed, CheckpointError, OSError.
        """
        with closing(open_log(self._path)) as file:
            at = find(self._folder, self._chosen.site, self._path, file)
            file.seek(at.offset)
            if at.head:
                self._parse(at.head)
            with ThreadPoolExecutor(1) as sender:
                on_its_way: tuple[Bulk, Future[tuple[int, int]]] | None = None
                for bulk in self._bulks(file, at):
                    if on_its_way is not None:
                        self._settle(at, *on_its_way)
                        each(at.counts, at.offset)
                    on_its_way = bulk, sender.submit(self._send, at, bulk)
                    on_its_way[1].add_done_callback(lambda _: None)
                if on_its_way is not None:
                    self._settle(at, *on_its_way)
                    each(at.counts, at.offset)
            return at.counts

    def _bulks(self, file: BinaryIO, at: Checkpoint) -> Iterator[Bulk]:
        offset, head = at.offset, at.head
        wanted = at.pending.lines if at.pending is not None else LINES
        while raw := list(islice(file, wanted)):
            bulk = Bulk(len(raw), offset, head, [], 0, 0, 0, 0)
            for line in raw:
                bulk.offset += len(line)
                self._line(line, bulk)
            offset, head, wanted = bulk.offset, bulk.head, LINES
            yield bulk

    def _line(self, line: bytes, bulk: Bulk) -> None:
        text = line.decode("utf-8", "surrogateescape").rstrip("\r\n") if len(line) <= LONGEST_LINE else ""
        hit = self._parse(text) if text else None
        if hit is None:
            if text.startswith("#"):
                bulk.head = text if text.startswith("#Fields:") else bulk.head
                bulk.left_out += 1
            else:
                bulk.unreadable += 1
            return
        request = self._chosen.request(hit)
        if request is None:
            bulk.left_out += 1
            return
        bulk.items.append(request)
        ms = int(hit.time * 1000)
        bulk.first_ms = min(bulk.first_ms or ms, ms)
        bulk.last_ms = max(bulk.last_ms, ms)

    def _send(self, at: Checkpoint, bulk: Bulk) -> tuple[int, int]:
        """In the sender's thread, which the checkpoint belongs to until the bulk is settled."""
        if not bulk.items:
            return 0, 0
        earlier, now = at.pending, time.time_ns() // 1_000_000
        if earlier is not None and now - earlier.sent_ms > self._repeat_seconds * 1000 and self._stored(earlier):
            return len(bulk.items), 0
        if earlier is None:
            at.pending = Pending(bulk.lines, now, bulk.first_ms, bulk.last_ms, len(bulk.items))
            save(self._folder, at)
        body = msgspec.json.encode({"requests": bulk.items})
        return self._post(body, f"{at.name}-{at.offset}")

    def _settle(self, at: Checkpoint, bulk: Bulk, sent: Future[tuple[int, int]]) -> None:
        taken, refused = sent.result()
        counts = at.counts
        counts.lines += bulk.lines
        counts.hits += len(bulk.items)
        counts.left_out += bulk.left_out
        counts.unreadable += bulk.unreadable
        counts.sent += taken
        counts.invalid += refused
        at.offset, at.head, at.pending = bulk.offset, bulk.head, None
        save(self._folder, at)


class Collector:
    """Posts bulks to a collector on one connection, again and again while it is away or busy."""

    def __init__(self, host: str, port: int, token: Callable[[], str], patience: float) -> None:
        """`patience`: seconds without a good answer after which it gives up."""
        self._host, self._port, self._token, self._patience = host, port, token, patience
        self._connection: http.client.HTTPConnection | None = None

    def __call__(self, body: bytes, key: str) -> tuple[int, int]:
        """How many of a bulk were taken and refused; raises ImportFailed."""
        body = body[:-1] + b',"token_auth":' + msgspec.json.encode(self._token()) + b"}"
        given_up, pause = time.monotonic() + self._patience, 0.1
        while True:
            status, answer, why = self._once(body, key)
            if status == 200:
                found = msgspec.json.decode(answer)
                return int(found["tracked"]), int(found["invalid"])
            if status and status not in (408, 429) and status < 500:
                raise ImportFailed(f"the collector answered {status}: {answer[:200].decode('utf-8', 'replace')}")
            if time.monotonic() >= given_up:
                raise ImportFailed(f"the collector at {self._host}:{self._port} does not take anything: {why}")
            time.sleep(pause)
            pause = min(pause * 2, 5.0)

    def close(self) -> None:
        """Ends the connection."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def _once(self, body: bytes, key: str) -> tuple[int, bytes, str]:
        try:
            if self._connection is None:
                self._connection = http.client.HTTPConnection(self._host, self._port, timeout=TIMEOUT)
            headers = {"Content-Type": "application/json", "Idempotency-Key": key, "User-Agent": "veilstream import"}
            self._connection.request("POST", "/matomo.php", body, headers)
            response = self._connection.getresponse()
            return response.status, response.read(), f"status {response.status}"
        except (OSError, http.client.HTTPException) as error:
            self.close()
            return 0, b"", type(error).__name__
