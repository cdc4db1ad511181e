"""Many connections to one collector: each sends an input, closes its half, and reads until the collector closes."""

from __future__ import annotations

import asyncio
import re
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field

from tests.fuzz.inputs import Input, make

PATIENCE = 30.0  # seconds for a connection to be over, when the collector has all that was sent
ALLOWED = frozenset((100, 200, 204, 400, 404, 405, 408, 413, 429, 431, 503, 505))

_statuses = re.compile(rb"HTTP/1\.1 (\d{3}) [^\r\n]*\r\n(?:Date: |\r\n)").findall


@dataclass(slots=True)
class Seen:
    """failures: (number of the input, what was wrong)."""

    requests: int = 0
    connections: int = 0
    statuses: Counter[int] = field(default_factory=Counter)
    failures: list[tuple[int, str]] = field(default_factory=list)
    next: int = 0  # input


async def send(
    host: str, port: int, seed: int, seen: Seen, until: int, clients: int, say: Callable[[Seen], None]
) -> None:
    """Sends inputs until there were so many requests in all."""

    async def client() -> None:
        while seen.requests < until and len(seen.failures) < 20:
            number, seen.next = seen.next, seen.next + 1
            made = make(seed, number)
            seen.requests += made.requests
            seen.connections += 1
            await _one(host, port, number, made, seen)
            if seen.connections % 500 == 0:
                say(seen)

    await asyncio.gather(*(client() for _ in range(clients)))


async def _one(host: str, port: int, number: int, made: Input, seen: Seen) -> None:
    try:
        reader, writer = await asyncio.open_connection(host, port, limit=1 << 20)
    except OSError as error:
        seen.failures.append((number, f"no connection: {error.strerror or type(error).__name__}"))
        return
    answers = b""
    try:
        async with asyncio.timeout(PATIENCE):
            reading = asyncio.ensure_future(reader.read(-1))
            try:
                for piece in made.pieces:
                    writer.write(piece)
                    await asyncio.sleep(0)
                writer.write_eof()
            except (OSError, RuntimeError):  # the latter is uvloop's for a connection that is closed
                pass  # the collector has refused the rest, as it may
            answers = await reading
    except TimeoutError:
        seen.failures.append((number, f"the connection was neither answered nor closed within {PATIENCE:g} seconds"))
    except OSError:
        seen.statuses[0] += 1  # reset: the collector closed while more was being sent
    finally:
        writer.transport.abort()
    for text in _statuses(answers):
        status = int(text)
        seen.statuses[status] += 1
        if status not in ALLOWED:
            seen.failures.append((number, f"answered {status}"))
