"""A collector without a broker, for tests of HTTP and of packing only; what crosses to Kafka is tested with Kafka."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from infra.local.ports import free
from infra.service.settings import Settings
from ingest.collector import Collector
from ingest.delivery import Record
from schemas.packets import Event, decode, header
from schemas.tokens import token_hash
from schemas.topics import EVENTS_RAW

SUPERUSER, WRITER = "superuser-token", "writer-token"
SECONDS = 60.0  # longest wait of a test for anything


class MemoryDelivery:
    """Keeps records, and acknowledges each in the next turn of the loop unless `held`."""

    def __init__(self, resume: Callable[[], None]) -> None:
        self.records: list[Record] = []
        self.held = False
        self._waiting: list[Record] = []
        self._resume = resume

    def send(self, *records: Record) -> None:
        self.records += records
        self._waiting += records
        asyncio.get_running_loop().call_soon(self._acknowledge)

    def release(self, partition: int | None = None) -> None:
        """Acknowledges what waits, of one partition or of all."""
        chosen = [record for record in self._waiting if partition in (None, record.partition)]
        self._waiting = [record for record in self._waiting if record not in chosen]
        for record in chosen:
            record.done()
        self._resume()

    def packets(self) -> list[Record]:
        """The records on events.raw."""
        return [record for record in self.records if record.topic.endswith(EVENTS_RAW)]

    def events(self) -> list[Event]:
        """All events in the packets, by partition and seq."""
        found = []
        for record in sorted(self.packets(), key=lambda record: (record.partition, header(record.value).seq)):
            _, columns = decode(record.value)
            found += [columns.event(i) for i in range(len(columns.site))]
        return found

    def _acknowledge(self) -> None:
        if not self.held:
            self.release()


@dataclass
class Running:
    """A collector that listens."""

    collector: Collector
    delivery: MemoryDelivery
    port: int

    async def connect(self) -> Client:
        """A new connection."""
        return Client(*await asyncio.open_connection("127.0.0.1", self.port))

    async def ask(self, request: bytes) -> Answer:
        """The answer to one request on a connection of its own."""
        client = await self.connect()
        client.send(request)
        answer = await client.answer()
        client.close()
        return answer


@dataclass(frozen=True)
class Answer:
    """An HTTP answer; names of headers are in lower case."""

    status: int
    headers: dict[str, str]
    body: bytes


class Client:
    """The other end of a connection, which sends bytes as they are."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    def send(self, data: bytes) -> None:
        """Sends bytes."""
        self.writer.write(data)

    async def answer(self, *, head: bool = False) -> Answer:
        """Reads one answer; `head`: the request was HEAD, so no body follows."""
        async with asyncio.timeout(SECONDS):
            lines = (await self.reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
            status = int(lines[0].split()[1])
            headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in lines[1:] if line)}
            length = 0 if head else int(headers.get("content-length", "0"))
            return Answer(status, headers, await self.reader.readexactly(length))

    async def closed(self) -> bytes:
        """What still comes until the server closes."""
        async with asyncio.timeout(SECONDS):
            try:
                return await self.reader.read()
            except ConnectionResetError:
                return b""

    def close(self) -> None:
        """Closes."""
        self.writer.close()


def write_sites(folder: Path, *sites: int) -> Path:
    """A folder of sites; site 1 knows both tokens."""
    folder.mkdir(parents=True, exist_ok=True)
    for site in sites:
        text = f'name = "Site {site}"\n'
        if site == 1:
            text += f'[tokens]\n"{token_hash(SUPERUSER)}" = "superuser"\n"{token_hash(WRITER)}" = "write"\n'
        (folder / f"{site}.toml").write_text(text)
    return folder


@asynccontextmanager
async def running(folder: Path, **overrides: Any) -> AsyncIterator[Running]:
    """A collector with sites 1, 2 and 3 over a MemoryDelivery."""
    settings = Settings(
        state=folder,
        sites_dir=write_sites(folder / "sites.d", 1, 2, 3),
        collector_port=free(1)[0],
        **{"collector_seal": False, **overrides},
    )
    made: list[MemoryDelivery] = []

    def make(resume: Callable[[], None]) -> MemoryDelivery:
        made.append(MemoryDelivery(resume))
        return made[0]

    collector = Collector(settings, make)
    port = await collector.start()
    await until(lambda: not collector.ready())
    try:
        yield Running(collector, made[0], port)
    finally:
        made[0].held = False
        made[0].release()
        await collector.stop(1.0)


async def until(condition: Callable[[], object]) -> None:
    """Returns when the condition holds; fails after `SECONDS`."""
    async with asyncio.timeout(SECONDS):
        while not condition():
            await asyncio.sleep(0.005)
