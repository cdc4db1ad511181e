"""A short run of the fuzzer, and that it sees what it is there to see."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from tests.fuzz import clients
from tests.fuzz.clients import Seen, send
from tests.fuzz.inputs import make
from tests.fuzz.laboratory import run

Serve = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


@pytest.mark.timeout(300)
def test_a_short_run_finds_nothing(tmp_path: Path) -> None:
    found = run(tmp_path, 3000, 1, print)
    assert found.problems == []
    assert found.requests >= 3000
    assert found.events > 250
    assert {"200", "204", "400", "404"} <= found.statuses.keys()
    assert found.packets > 0


def test_the_same_seed_makes_the_same_inputs() -> None:
    assert [make(3, n) for n in range(200)] == [make(3, n) for n in range(200)]
    assert make(3, 1) != make(4, 1)
    assert all(b"".join(made.pieces) == made.data for made in (make(5, n) for n in range(50)))


def test_a_failure_and_a_connection_that_hangs_are_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(clients, "PATIENCE", 0.3)

    async def fails(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(1)
        writer.write(b"HTTP/1.1 200 OK\r\nDate: x\r\n\r\nHTTP/1.1 500 Internal Server Error\r\nDate: x\r\n\r\n")
        writer.close()

    async def hangs(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await asyncio.sleep(5)

    async def seen(serve: Serve) -> list[tuple[int, str]]:
        server = await asyncio.start_server(serve, "127.0.0.1", 0)
        found = Seen()
        await send("127.0.0.1", server.sockets[0].getsockname()[1], 1, found, 1, 1, lambda seen: None)
        server.close()
        return found.failures

    assert asyncio.run(seen(fails)) == [(0, "answered 500")]
    ((number, problem),) = asyncio.run(seen(hangs))
    assert number == 0
    assert "neither answered nor closed" in problem
