"""Links over real sockets: what a protocol is told, and when."""

from __future__ import annotations

import asyncio
import errno
import resource
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from types import SimpleNamespace
from typing import Any

import pytest

from ingest import transport
from ingest.transport import Link, Links

LIMIT = 20.0  # seconds
MUCH = 8 << 20  # bytes, more than two sockets hold


class Told:
    """A protocol that writes down what it is told; keeps a half-closed connection if `stays`."""

    def __init__(self, stays: bool = False, fails: bool = False) -> None:
        self.link: Link
        self.fails = fails  # from the beginning
        self.stays = stays
        self.data = bytearray()
        self.calls: list[str] = []
        self.lost: list[Exception | None] = []

    def connection_made(self, transport: Link) -> None:
        self.link = transport
        self.calls.append("made")
        if self.fails:
            raise RuntimeError

    def data_received(self, data: bytes) -> None:
        self.data += data
        if self.data.endswith(b"raise"):
            raise RuntimeError

    def eof_received(self) -> bool:
        self.calls.append("eof")
        return self.stays

    def pause_writing(self) -> None:
        self.calls.append("pause")

    def resume_writing(self) -> None:
        self.calls.append("resume")

    def connection_lost(self, exc: Exception | None) -> None:
        self.calls.append("lost")
        self.lost.append(exc)


async def until(enough: Callable[[], object]) -> None:
    async with asyncio.timeout(LIMIT):
        while not enough():
            await asyncio.sleep(0.005)


@asynccontextmanager
async def listening(make: Callable[[], Told] = Told) -> AsyncIterator[tuple[Links, int, list[Told]]]:
    made: list[Told] = []

    def one() -> Told:
        made.append(make())
        return made[-1]

    links = Links(one)
    port = await links.listen("127.0.0.1", 0)
    try:
        yield links, port, made
    finally:
        for told in made:
            told.link.abort()
        links.close()


def client(port: int) -> socket.socket:
    connected = socket.create_connection(("127.0.0.1", port), timeout=LIMIT)
    connected.setblocking(False)
    return connected


def run(test: Callable[[], Awaitable[None]]) -> None:
    async def bounded() -> None:
        await test()

    asyncio.run(bounded())


async def received(connected: socket.socket, amount: int) -> bytes:
    loop, data = asyncio.get_running_loop(), bytearray()
    async with asyncio.timeout(LIMIT):
        while len(data) < amount:
            piece = await loop.sock_recv(connected, 1 << 20)
            if not piece:
                break
            data += piece
    return bytes(data)


def test_bytes_come_and_go_and_the_end_is_told_once() -> None:
    async def test() -> None:
        async with listening() as (_, port, made):
            connected = client(port)
            connected.send(b"abc")
            await until(lambda: made and made[0].data == b"abc")
            made[0].link.write(b"def")
            assert await received(connected, 3) == b"def"
            connected.close()
            await until(lambda: made[0].lost)
            assert made[0].calls == ["made", "eof", "lost"]
            assert made[0].lost == [None]
            made[0].link.write(b"after")
            made[0].link.close()
            made[0].link.abort()
            await asyncio.sleep(0.05)
            assert made[0].lost == [None]

    run(test)


def test_what_a_client_does_not_take_waits_and_is_bounded_by_its_protocol() -> None:
    async def test() -> None:
        async with listening() as (_, port, made):
            connected = client(port)
            await until(lambda: made)
            made[0].link.set_write_buffer_limits(1 << 20)
            content = bytes(range(256)) * (MUCH // 256)
            for start in range(0, MUCH, 1 << 18):
                made[0].link.write(content[start : start + (1 << 18)])
            assert made[0].calls == ["made", "pause"]
            made[0].link.close()
            assert await received(connected, MUCH + 1) == content  # all of it, then the end
            await until(lambda: made[0].lost)
            assert made[0].calls == ["made", "pause", "lost"]

    run(test)


def test_a_protocol_goes_on_once_its_client_has_taken_what_waited() -> None:
    async def test() -> None:
        async with listening() as (_, port, made):
            connected = client(port)
            await until(lambda: made)
            made[0].link.write(bytes(MUCH))
            made[0].link.write_eof()
            assert len(await received(connected, MUCH + 1)) == MUCH
            await until(lambda: "resume" in made[0].calls)
            connected.send(b"still read")
            await until(lambda: made[0].data == b"still read")
            assert made[0].lost == []

    run(test)


def test_nothing_is_read_while_reading_is_paused() -> None:
    async def test() -> None:
        async with listening() as (_, port, made):
            connected = client(port)
            await until(lambda: made)
            made[0].link.pause_reading()
            connected.send(b"abc")
            await asyncio.sleep(0.1)
            assert made[0].data == b""
            made[0].link.resume_reading()
            await until(lambda: made[0].data == b"abc")

    run(test)


@pytest.mark.parametrize("paused", [False, True])
def test_a_client_that_breaks_off_is_noticed_whether_it_is_read_or_not(paused: bool) -> None:
    async def test() -> None:
        async with listening() as (_, port, made):
            connected = client(port)
            await until(lambda: made)
            if paused:
                made[0].link.pause_reading()
            connected.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
            connected.close()  # with a reset
            await until(lambda: made[0].lost)
            assert isinstance(made[0].lost[0], ConnectionResetError)
            assert made[0].calls == ["made", "lost"]

    run(test)


def test_a_client_that_has_sent_all_still_gets_its_answer() -> None:
    async def test() -> None:
        async with listening(lambda: Told(stays=True)) as (_, port, made):
            connected = client(port)
            connected.send(b"abc")
            connected.shutdown(socket.SHUT_WR)
            await until(lambda: made and "eof" in made[0].calls)
            await asyncio.sleep(0.05)
            assert made[0].calls == ["made", "eof"]
            made[0].link.write(b"def")
            made[0].link.close()
            assert await received(connected, 4) == b"def"
            await until(lambda: made[0].lost)

    run(test)


def test_writing_to_a_client_that_is_gone_raises_at_once_and_is_told_later() -> None:
    async def test() -> None:
        async with listening() as (_, port, made):
            connected = client(port)
            await until(lambda: made)
            connected.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
            connected.close()
            with pytest.raises(OSError):
                made[0].link.write(b"abc")
            assert made[0].lost == []
            made[0].link.abort()
            assert made[0].lost == []  # never within a call to the link
            await until(lambda: made[0].lost)

    run(test)


def test_what_a_protocol_raises_costs_its_own_connection_alone() -> None:
    async def test() -> None:
        async with listening() as (_, port, made):
            bad, good = client(port), client(port)
            await until(lambda: len(made) == 2)
            bad.send(b"raise")
            good.send(b"abc")
            await until(lambda: len(made[0].lost) + len(made[1].lost) == 1 and made[1].data + made[0].data)
            lost, kept = sorted(made, key=lambda told: not told.lost)
            await until(lambda: kept.data == b"abc")
            assert lost.data == b"raise"
            assert kept.lost == []

    run(test)


def test_a_protocol_that_fails_at_once_costs_its_own_connection_alone() -> None:
    made: list[Told] = []

    def one() -> Told:
        made.append(Told(fails=not made))
        return made[-1]

    async def test() -> None:
        async with listening(one) as (_, port, _made):
            bad, good = client(port), client(port)
            assert await received(bad, 1) == b""
            good.send(b"abc")
            await until(lambda: len(made) == 2 and made[1].data == b"abc")
            assert made[0].calls == ["made", "lost"]

    run(test)


def test_without_files_nothing_is_accepted_until_there_are_some(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(transport, "NO_FILES_SECONDS", 0.2)
    tries: list[str] = []
    monkeypatch.setattr(transport, "log", SimpleNamespace(error=lambda event, **_: tries.append(event)))
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)

    async def test() -> None:
        async with listening() as (_, port, made):
            waiting = [socket.socket() for _ in range(3)]
            resource.setrlimit(resource.RLIMIT_NOFILE, (max(one.fileno() for one in waiting) + 1, hard))
            try:
                for one in waiting:
                    one.setblocking(False)
                    with pytest.raises(BlockingIOError):
                        one.connect(("127.0.0.1", port))
                await until(lambda: tries)
                await asyncio.sleep(0.1)  # many rounds, none of which may try again
                assert made == []
                assert tries == ["nothing_accepted"]
            finally:
                resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
            await until(lambda: len(made) == 3)
            for one in waiting:
                one.close()

    run(test)


def test_a_port_that_is_taken_is_an_error_and_one_that_is_shared_is_not() -> None:
    async def test() -> None:
        async with listening() as (_, port, _made):
            other = Links(Told)
            assert await other.listen("127.0.0.1", port) == port
            other.close()
            with socket.create_server(("127.0.0.1", 0)) as taken:
                third: Any = Links(Told)
                with pytest.raises(OSError) as raised:
                    await third.listen("127.0.0.1", taken.getsockname()[1])
                assert raised.value.errno == errno.EADDRINUSE

    run(test)
