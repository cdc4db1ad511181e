"""A head that was met before is not parsed again; nothing else may follow from that."""

from __future__ import annotations

import asyncio
import re
from contextlib import suppress
from pathlib import Path

import msgspec
import pytest
import uvloop

from ingest.headers import Heads
from schemas.packets import Event, Flag
from tests.ingest.memory import Running, running

GOOD = b"/matomo.php?idsite=1&rec=1&url=http%3A%2F%2Fa.example%2F"
HEADS = {
    "plain": b"Host: a\r\n",
    "agent": b"Host: a\r\nUser-Agent: Mozilla/5.0 \xc3\xa9\xff\r\nAccept-Language: de\r\n",
    "signals": b"Host: a\r\nDNT: 1\r\nSec-GPC: 1\r\nCookie: x=1; matomo_ignore=1\r\nPurpose: prefetch\r\n",
    "hints": b'Host: a\r\nSec-CH-UA: "Chromium";v="1"\r\nSec-CH-UA-Mobile: ?0\r\n',
    "referer": b"Host: a\r\nReferer: https://ref.example/p?q=1\r\nOrigin: https://a.example\r\n",
    "idempotent": b"Host: a\r\nIdempotency-Key: abc\r\n",
    "authorized": b"Host: a\r\nAuthorization: Bearer abc\r\n",
    "keep": b"Host: a\r\nConnection: keep-alive\r\n",
    "close": b"Host: a\r\nConnection: close\r\n",
    "empty body": b"Host: a\r\nContent-Length: 0\r\n",
    "body": b"Host: a\r\nContent-Length: 3\r\n",
    "h2c": b"Host: a\r\nConnection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMA\r\n",
    "expect": b"Host: a\r\nExpect: 100-continue\r\n",
    "twice": b"Host: a\r\nUser-Agent: one\r\nUser-Agent: two\r\n",
}
TARGETS = [
    GOOD,
    b"/matomo.php?idsite=1&rec=1&send_image=0",
    b"/matomo.php?idsite=1&rec=1&uadata=%7B%7D&token_auth=x",
    b'/matomo.php?idsite=1&rec=1&%69dsite=2&a={|}^`<>"\\#frag?x=1',
    b"/matomo.php?idsite=99&rec=1",
    b"/matomo.php?idsite=1",
    b"/matomo.php",
    b"//matomo.php?idsite=2&rec=1",
    b"/matomo.php?url=http%3A%2F%2Fa.example%2F&idsite=1&rec=1",
    b"/piwik.php?rec=1&idsite=2&url=x",
    b"/nothing.php?idsite=1&rec=1",
    b"/nothing",
    b"/",
]


def get(target: bytes, head: bytes, version: bytes = b"1.1") -> bytes:
    return b"GET " + target + b" HTTP/" + version + b"\r\n" + head + b"\r\n"


async def exchanged(collector: Running, pieces: list[bytes]) -> tuple[bytes, list[Event]]:
    """What a connection answers to these bytes, sent apart, up to its end, and the events of them.

    Dates and moments are taken out.
    """
    client = await collector.connect()
    with suppress(RuntimeError):  # the server has closed already
        for piece in pieces:
            client.send(piece)
            await asyncio.sleep(0.001)
        client.writer.write_eof()
    answer = re.sub(rb"Date: [^\r]*\r\n", b"", await client.closed())
    client.close()
    found = [msgspec.structs.replace(event, received_ms=0) for event in collector.delivery.events()]
    collector.delivery.records.clear()
    return answer, found


@pytest.mark.parametrize("name", HEADS)
def test_answers_and_events_are_those_of_the_parser(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    head = HEADS[name]
    body = b"abc" if name == "body" else b""

    async def inside() -> None:
        async with running(tmp_path) as collector:
            heads = collector.collector.server.heads
            for target in TARGETS:
                request = get(target, head) + body
                cases = [
                    [request],
                    [request, request],
                    [request.replace(b"GET", b"POST", 1)],
                    [request + request],
                    [request[:2], request[2:]],
                    [request[:-1], request[-1:]],
                    [get(target, head, b"1.0") + body],
                    [b"\r\n", request],
                    [b"GE", get(GOOD, head)],  # not between two requests, although no target has come yet
                    [request, b"POST /matomo.php HTTP/1.1\r\nContent-Length: 14\r\n\r\nidsite=1&rec=1"],
                ]
                for pieces in cases:
                    with monkeypatch.context() as patch:
                        patch.setattr(Heads, "LIMIT", 0)
                        heads.forget()
                        expected = await exchanged(collector, pieces)
                    await exchanged(collector, [get(GOOD, head) + body])
                    assert await exchanged(collector, pieces) == expected, (target, pieces)

    uvloop.run(inside())


@pytest.mark.parametrize("lines", [(b"matomo_ignore=1", b"x=2"), (b"x=2", b"matomo_ignore=1")])
def test_a_refusal_is_heard_in_any_line_of_cookies(lines: tuple[bytes, ...], tmp_path: Path) -> None:
    """A proxy may pass the cookies of HTTP/2 on in several lines."""
    head = b"Host: a\r\n" + b"".join(b"Cookie: " + line + b"\r\n" for line in lines)

    async def inside() -> None:
        async with running(tmp_path) as collector:
            _, (event,) = await exchanged(collector, [get(GOOD, head)])
            assert event.flags == Flag.OPT_OUT

    uvloop.run(inside())


@pytest.mark.parametrize(
    ("name", "kept"),
    [(name, name not in ("idempotent", "authorized", "close", "body", "h2c", "expect")) for name in HEADS],
)
def test_which_heads_are_remembered(name: str, kept: bool, tmp_path: Path) -> None:
    async def inside() -> None:
        async with running(tmp_path) as collector:
            await exchanged(collector, [get(GOOD, HEADS[name])])
            assert (collector.collector.server.heads.get(b" HTTP/1.1\r\n" + HEADS[name] + b"\r\n") is not None) == kept

    uvloop.run(inside())


def test_memory_of_heads_is_bounded_in_entries_bytes_and_age() -> None:
    heads = Heads()
    heads.tick(0.0)
    for number in range(2 * Heads.LIMIT):
        heads.keep(b"%d" % number, {})
    heads.keep(b"x" * (Heads.BYTES + 1), {})
    assert sum(heads.get(b"%d" % number) is not None for number in range(2 * Heads.LIMIT)) == Heads.LIMIT
    heads.tick(Heads.SECONDS)
    assert heads.get(b"0") is not None
    heads.tick(Heads.SECONDS + 0.1)
    assert heads.get(b"0") is None
    heads.keep(b"x" * (Heads.BYTES + 1), {})
    assert heads.get(b"x" * (Heads.BYTES + 1)) is None
