"""`POST /recordings` and `hsr_*`: judged as tracking requests are, into packets of their own, answered when stored."""

from __future__ import annotations

import asyncio
import json
import secrets
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from ingest import recordings
from schemas.packets import Event, Flag, decode
from schemas.reasons import Invalid
from schemas.topics import RECORDINGS_RAW
from tests.ingest.memory import WRITER, Answer, Running, running, until

EVENTS = [{"type": 4, "timestamp": 5, "data": {"href": "https://shop.example/ü & %+\n", "width": 1}}]


def post(query: str, body: bytes, *headers: str) -> bytes:
    lines = [f"POST /recordings?{query} HTTP/1.1", "Host: c.example", f"Content-Length: {len(body)}", *headers]
    return ("\r\n".join(lines) + "\r\n\r\n").encode() + body


def told(collector: Running) -> list[tuple[Event, Any]]:
    """What is in the packets of recordings: events, and the list behind the query."""
    found = []
    for record in collector.delivery.records:
        if record.topic == RECORDINGS_RAW:
            header, columns = decode(record.value)
            for index in range(header.count):
                event = columns.event(index)
                query, _, text = event.query.partition(" ")
                event.query = query
                found.append((event, json.loads(text) if text else None))
    return found


def use(folder: Path, test: Callable[[Running], Awaitable[None]], **overrides: Any) -> None:
    """Runs a test with a collector whose sites 1 and 3 take recordings."""

    async def run() -> None:
        async with running(folder, **overrides) as collector:
            for site in (1, 3):
                with (folder / "sites.d" / f"{site}.toml").open("a") as file:
                    file.write("[recordings]\nenabled = true\n")
            collector.collector._published(collector.collector.policies.load())
            await test(collector)

    asyncio.run(run())


def test_a_recording_is_answered_once_its_packet_is_acknowledged(tmp_path: Path) -> None:
    async def test(collector: Running) -> None:
        collector.delivery.held = True
        body = json.dumps(EVENTS, ensure_ascii=False).encode()
        headers = ("Origin: https://shop.example", "DNT: 1", "User-Agent: Test", "Content-Type: application/json")
        asked = asyncio.create_task(
            collector.ask(post(f"idsite=1&session=a%20b&token_auth={WRITER}&cip=10.1.2.3", body, *headers))
        )
        await until(lambda: told(collector))
        assert not asked.done()
        collector.delivery.release()
        answer = await asked
        assert answer.status == 204
        assert answer.headers["access-control-allow-origin"] == "https://shop.example"
        ((event, events),) = told(collector)
        assert events == EVENTS
        assert (event.site, event.flags & Flag.DNT, event.agent) == (1, Flag.DNT, "Test")
        assert event.address[-4:] == bytes((10, 1, 2, 3))
        assert event.query == "idsite=1&session=a%20b"
        assert collector.delivery.events() == []

    use(tmp_path, test)


LARGE = b"[" + b"1," * recordings.EVENTS_LIMIT + b"1]"


@pytest.mark.parametrize(
    ("query", "body", "status", "reason"),
    [
        ("idsite=2", b"[1]", 404, Invalid.RECORDINGS_OFF),
        ("idsite=9", b"[1]", 400, Invalid.UNKNOWN_SITE),
        ("", b"[1]", 400, Invalid.MISSING_SITE),
        ("idsite=1&cid=1", b"[1]", 400, Invalid.BAD_PARAMETER),
        ("idsite=1", b"", 400, Invalid.UNREADABLE),
        ("idsite=1", b"{", 400, Invalid.UNREADABLE),
        ("idsite=1", b'{"events": 1}', 400, Invalid.UNREADABLE),
        ("idsite=1", b"[" * 100_000 + b"]" * 100_000, 400, Invalid.UNREADABLE),
        ("idsite=1", b"[]", 400, Invalid.EMPTY),
        ("idsite=1", LARGE, 413, Invalid.TOO_LARGE),
        ("idsite=1", b"[" + b" " * recordings.BODY_LIMIT + b"1]", 413, Invalid.TOO_LARGE),
    ],
)
def test_what_is_no_recording_is_refused(tmp_path: Path, query: str, body: bytes, status: int, reason: Invalid) -> None:
    async def test(collector: Running) -> None:
        answer = await collector.ask(post(query, body, "Origin: https://shop.example"))
        assert answer.status == status
        assert answer.headers["access-control-allow-origin"] == "https://shop.example"
        assert collector.collector.tracking.invalid == {reason: 1}
        assert told(collector) == []
        # What is wrong with one hurts no other.
        assert (await collector.ask(post("idsite=1", b'{"events": [7]}'))).status == 204
        assert [events for _, events in told(collector)] == [[7]]

    use(tmp_path, test)


def test_preflight_and_other_methods(tmp_path: Path) -> None:
    async def test(collector: Running) -> None:
        asked = (
            b"OPTIONS /recordings HTTP/1.1\r\nOrigin: https://a.example\r\nAccess-Control-Request-Method: POST\r\n\r\n"
        )
        answer = await collector.ask(asked)
        assert (answer.status, answer.headers["access-control-allow-origin"]) == (204, "https://a.example")
        assert "Content-Type" in answer.headers["access-control-allow-headers"]
        assert (await collector.ask(b"GET /recordings?idsite=1 HTTP/1.1\r\n\r\n")).status == 404

    use(tmp_path, test)


def test_requests_with_hsr_go_where_recordings_go_where_the_site_takes_them(tmp_path: Path) -> None:
    async def test(collector: Running) -> None:
        async def get(query: str) -> Answer:
            return await collector.ask(f"GET /matomo.php?{query} HTTP/1.1\r\n\r\n".encode())

        for query in ("idsite=1&rec=1&hsr_ev=%5B%5D", "idsite=2&rec=1&hsr_ev=%5B%5D", "idsite=1&rec=1&hsr_vid=x&n=1"):
            assert (await get(query)).status == 200
        assert (await get("idsite=1&send_image=0&hsr_sr=500")).status == 204
        form = b"idsite=3&rec=1&hsr_ev=%5B%7B%7D%5D"
        head = f"POST /matomo.php HTTP/1.1\r\nContent-Length: {len(form)}\r\n\r\n"
        assert (await collector.ask(head.encode() + form)).status == 200
        assert sorted(event.query for event, _ in told(collector)) == [
            "idsite=1&hsr_sr=500", "idsite=1&rec=1&hsr_ev=%5B%5D", "idsite=3&rec=1&hsr_ev=%5B%7B%7D%5D"
        ]  # fmt: skip
        assert len(collector.delivery.events()) == 2

    use(tmp_path, test)


def test_heatmaps_in_a_bulk_go_where_recordings_go_and_the_rest_where_events_do(tmp_path: Path) -> None:
    async def test(collector: Running) -> None:
        asked = [
            "idsite=1&rec=1",
            "idsite=1&rec=1&hsr_sr=5",
            "idsite=2&rec=1&hsr_sr=6",
            "idsite=1&hsr_ev=%5B%5D",
            "n=1",
        ]
        body = json.dumps({"requests": [f"?{query}" for query in asked]}).encode()
        head = f"POST /matomo.php HTTP/1.1\r\nContent-Length: {len(body)}\r\n\r\n".encode()
        answer = await collector.ask(head + body)
        assert (answer.status, json.loads(answer.body)) == (200, {"status": "success", "tracked": 4, "invalid": 1})
        assert sorted(event.query for event, _ in told(collector)) == [
            "idsite=1&hsr_ev=%5B%5D",
            "idsite=1&rec=1&hsr_sr=5",
        ]
        stored = sorted(event.query for event in collector.delivery.events())
        assert stored == ["idsite=1&rec=1", "idsite=2&rec=1&hsr_sr=6"]

    use(tmp_path, test)


def test_recordings_have_their_own_part_of_the_memory(tmp_path: Path) -> None:
    async def test(collector: Running) -> None:
        collector.delivery.held = True
        body = json.dumps([secrets.token_hex(300_000)]).encode()  # which hardly gets smaller
        asked = asyncio.create_task(collector.ask(post("idsite=1", body)))
        await until(lambda: told(collector))
        answer = await collector.ask(post("idsite=1", body, "Origin: https://shop.example"))
        assert (answer.status, answer.headers["retry-after"]) == (503, "5")
        assert answer.headers["access-control-allow-origin"] == "https://shop.example"
        assert not collector.collector.packing.full()
        collector.delivery.held = False
        collector.delivery.release()
        assert (await asked).status == 204

    use(tmp_path, test, collector_memory_bytes=1 << 20)
