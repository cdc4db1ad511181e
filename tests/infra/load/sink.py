"""A small HTTP server that answers as it is told: what the load meets in its own tests."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import NamedTuple
from urllib.parse import parse_qs


class Seen(NamedTuple):
    """A request as it came in."""

    method: str
    target: str
    headers: dict[str, str]
    body: bytes


class Answer(NamedTuple):
    """status 0: cut the connection; 1: say nothing at all."""

    status: int
    body: bytes = b""


Behaviour = Callable[[Seen], Answer]


def collector(seen: Seen, sites: frozenset[int] = frozenset(range(1, 100))) -> Answer:
    """Answers as the rules ask of a collector, as far as these tests need it."""
    if b'"requests"' in seen.body:
        try:
            document = json.loads(seen.body)
        except ValueError:
            return Answer(400)
        items = document["requests"]
        if not isinstance(items, list):
            return Answer(400)
        bad = sum(
            not _known(item if isinstance(item, dict) else _query(item.partition("?")[2]), sites) for item in items
        )
        if document.get("send_image") == 0:
            return Answer(204)
        return Answer(200, json.dumps({"status": "success", "tracked": len(items) - bad, "invalid": bad}).encode())
    query = _query(seen.target.partition("?")[2]) or _query(seen.body.decode("latin-1"))
    if not _known(query, sites) or "cid" in query or "cip" in query:
        return Answer(400)
    return Answer(204 if query.get("send_image") == "0" else 200, b"" if query.get("send_image") == "0" else b"GIF")


def _query(text: str) -> dict[str, str]:
    return {name: values[-1] for name, values in parse_qs(text, errors="replace").items()}


def _known(query: dict[str, str], sites: frozenset[int]) -> bool:
    site = str(query.get("idsite", ""))
    return site.isdigit() and int(site) in sites


@asynccontextmanager
async def serving(behaviour: Behaviour) -> AsyncIterator[int]:
    """Serves on a free port of loopback."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while True:
                head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
                method, target, _ = head[0].split(" ")
                pairs = (line.partition(":") for line in head[1:] if line)
                headers = {name.lower(): value.strip() for name, _, value in pairs}
                body = await reader.readexactly(int(headers.get("content-length", 0)))
                answer = behaviour(Seen(method, target, headers, body))
                if answer.status == 1:
                    await asyncio.sleep(3600)
                if answer.status == 0:
                    writer.transport.abort()
                    return
                close = headers.get("connection") == "close"
                length = "" if answer.status == 204 else f"Content-Length: {len(answer.body)}\r\n"
                ending = "Connection: close\r\n" if close else ""
                writer.write(f"HTTP/1.1 {answer.status} X\r\n{length}{ending}\r\n".encode() + answer.body)
                if close:
                    await writer.drain()
                    return
        except (asyncio.IncompleteReadError, ConnectionError, asyncio.CancelledError):
            pass
        finally:
            writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0, limit=1 << 20)
    async with server:
        yield server.sockets[0].getsockname()[1]
