"""A query's request: its parameters, its body, and what a form adds to them."""

from __future__ import annotations

import re
import threading
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace

from infra.local.front.encodings import Decoder
from infra.local.front.errors import (
    BAD_ARGUMENTS,
    MEMORY_LIMIT_EXCEEDED,
    NOT_IMPLEMENTED,
    SOCKET_TIMEOUT,
    TOO_MANY_BYTES,
    UNEXPECTED_END_OF_FILE,
    FrontError,
)
from infra.local.front.lexer import identifier, tokens
from infra.local.front.wire import BodyEndedEarly, Connection, Head, Malformed, TooSlow

MIB = 1 << 20
_BOUNDARY = re.compile(r'boundary="?([^";,]{1,200})"?')
_DISPOSITION = re.compile(r'(name|filename)="((?:[^"\\]|\\.)*)"')
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")


class Budget:
    """Bytes that all bodies together may hold in memory."""

    def __init__(self, limit: int) -> None:
        self._left = limit
        self._lock = threading.Lock()

    def take(self, count: int) -> None:
        with self._lock:
            if count > self._left:
                raise FrontError(
                    MEMORY_LIMIT_EXCEEDED,
                    "The bodies being received fill the memory kept for them, try again",
                    close=True,
                )
            self._left -= count

    def give_back(self, count: int) -> None:
        with self._lock:
            self._left += count


class Body:
    """A complete request body, counted in the budget until the ``with`` is left."""

    def __init__(self, budget: Budget) -> None:
        self._budget = budget
        self._taken = 0
        self.data = b""

    def __enter__(self) -> Body:
        return self

    def __exit__(self, *_: object) -> None:
        self.data = b""
        self._budget.give_back(self._taken)

    def read(self, connection: Connection, head: Head, limit: int, check: Callable[[], None]) -> None:
        """Reads to the end that was announced; less than that is an error, and so is more than ``limit``."""
        if head.length is not None and head.length > limit:
            raise FrontError(
                TOO_MANY_BYTES, f"The body is larger than {limit // MIB} MiB, send it in parts", close=True
            )
        decoder = Decoder(head.headers.get("content-encoding", ""), limit)
        if head.expects_continue and head.has_body:
            connection.send(b"HTTP/1.1 100 Continue\r\n\r\n")
        pieces: list[bytes] = []
        try:
            for raw in connection.body(head):
                for piece in decoder.feed(raw):
                    self._budget.take(len(piece))
                    self._taken += len(piece)
                    pieces.append(piece)
        except BodyEndedEarly as problem:
            check()  # a killed query ends its own body
            raise FrontError(
                UNEXPECTED_END_OF_FILE, f"The body ended early: {problem}. Nothing was inserted", close=True
            ) from None
        except Malformed as problem:
            raise FrontError(BAD_ARGUMENTS, f"The body is malformed: {problem}", status=400, close=True) from None
        except TooSlow:
            check()
            raise FrontError(
                SOCKET_TIMEOUT, "The body did not come in time. Nothing was inserted", status=408, close=True
            ) from None
        decoder.finish()
        self.data = b"".join(pieces)


@dataclass(frozen=True, slots=True)
class ExternalTable:
    """Data sent beside a query, to be read in it under a name."""

    name: str
    format: str
    structure: str
    data: bytes


@dataclass(frozen=True, slots=True)
class Request:
    """What is asked. ``sql`` is the text before the body, ``body`` its continuation or the data."""

    parameters: Mapping[str, str]
    sql: bytes
    body: bytes
    external: tuple[ExternalTable, ...] = field(default=())

    def with_parameter(self, name: str, value: str) -> Request:
        return replace(self, parameters={**self.parameters, name: value})


def request_of(head: Head, parameters: Mapping[str, str], body: bytes) -> Request:
    """Takes a form apart. Raises FrontError for what the front does not speak."""
    for name in ("compress", "decompress"):
        if parameters.get(name, "0") not in ("0", "false", ""):
            raise FrontError(
                NOT_IMPLEMENTED,
                f"{name}=1 (ClickHouse's blocks) is not spoken here, use Content-Encoding, enable_http_compression=1",
            )
    content_type = head.headers.get("content-type", "")
    external: list[ExternalTable] = []
    merged = dict(parameters)
    if content_type.lower().startswith("multipart/form-data"):
        files: list[tuple[str, bytes]] = []
        for name, is_file, content in _parts(content_type, body):
            if is_file:
                files.append((name, content))
            else:
                merged[name] = _text(name, content)
        external = [_external(name, content, merged) for name, content in files]
        for table in external:
            for suffix in ("format", "structure", "types"):
                merged.pop(f"{table.name}_{suffix}", None)
        body = b""
    return Request(merged, merged.get("query", "").encode(), body, tuple(external))


def _parts(content_type: str, body: bytes) -> Iterable[tuple[str, bool, bytes]]:
    found = _BOUNDARY.search(content_type)
    if found is None:
        raise FrontError(BAD_ARGUMENTS, "the form's Content-Type has no boundary")
    mark = b"--" + found[1].encode()
    pieces = (b"\r\n" + body).split(b"\r\n" + mark)
    if not pieces[-1].startswith(b"--"):
        raise FrontError(UNEXPECTED_END_OF_FILE, "The form ended early: its last boundary is missing")
    for piece in pieces[1:-1]:
        header, separator, content = piece.partition(b"\r\n\r\n")
        names = dict(_DISPOSITION.findall(header.decode(errors="replace")))
        if not separator or "name" not in names:
            raise FrontError(BAD_ARGUMENTS, "a part of the form has no name")
        yield names["name"], "filename" in names, content


def _text(name: str, content: bytes) -> str:
    try:
        return content.decode()
    except UnicodeDecodeError:
        raise FrontError(BAD_ARGUMENTS, f"the form's field {name[:64]} is not UTF-8") from None


def _external(name: str, content: bytes, parameters: Mapping[str, str]) -> ExternalTable:
    if _NAME.fullmatch(name) is None:
        raise FrontError(BAD_ARGUMENTS, f"{name[:64]!r} is no name for an external table")
    structure = parameters.get(f"{name}_structure")
    if structure is None:
        types = parameters.get(f"{name}_types")
        if types is None:
            raise FrontError(
                BAD_ARGUMENTS, f"external table {name}: neither {name}_structure nor {name}_types is given"
            )
        structure = ", ".join(f"{identifier(f'_{place}')} {type_}" for place, type_ in enumerate(_types(types), 1))
    return ExternalTable(name, parameters.get(f"{name}_format", "TabSeparated"), structure, content)


def _types(text: str) -> list[str]:
    """A list of types, cut at the commas outside brackets."""
    encoded = text.encode()
    commas = [token.start for token in tokens(encoded) if token.is_mark(",") and token.depth == 0]
    starts, ends = [0, *(comma + 1 for comma in commas)], [*commas, len(encoded)]
    return [encoded[start:end].decode().strip() for start, end in zip(starts, ends, strict=True)]
