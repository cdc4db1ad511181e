"""The sender against a server that answers, refuses, cuts, hangs and comes back: one outcome for every number."""

from __future__ import annotations

import asyncio
import json
import re
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from infra.load.answers import outcomes
from infra.load.journal import CUT, TIMED_OUT, Entries, Fate, Journal, Outcome, read
from infra.load.sender import Plan, Sender, Totals, Unreachable
from infra.load.traffic import Request, Traffic
from tests.infra.load.sink import Answer, Behaviour, Seen, collector, serving

A, R, U = int(Outcome.ACKNOWLEDGED), int(Outcome.REFUSED), int(Outcome.UNKNOWN)
STORED, REFUSED, UNWANTED = int(Fate.STORED), int(Fate.REFUSED), int(Fate.REJECTED | Fate.REFUSED)


def plan(events: int | None, **changes: float) -> Plan:
    return Plan(
        events=events,
        seconds=changes.get("seconds"),
        rate=changes.get("rate", 0),
        connections=int(changes.get("connections", 8)),
        timeout=changes.get("timeout", 20),
    )


def send(
    behaviour: Behaviour, path: Path, what: Plan, *, bulk: float = 0.3, bad: float = 0.05, repeat: float = 0.0
) -> tuple[Totals, Entries]:
    async def run() -> Totals:
        async with serving(behaviour) as port:
            traffic = Traffic(seed=1, sites=range(1, 6), host=f"127.0.0.1:{port}", bulk=bulk, bad=bad, repeat=repeat)
            journal = Journal(path, seed=1, first=0)
            try:
                return await Sender(traffic, what, journal).run("127.0.0.1", port)
            finally:
                journal.close()

    totals = asyncio.run(run())
    return totals, read([path])


def check(totals: Totals, entries: Entries) -> None:
    """Totals and journal say the same, and every number that was sent has an outcome."""
    assert totals.sent == len(entries) == totals.acknowledged + totals.refused + totals.unknown
    assert totals.in_flight == 0
    for outcome, count in ((A, totals.acknowledged), (R, totals.refused), (U, totals.unknown)):
        assert int((entries.outcome == outcome).sum()) == count


def test_all_is_acknowledged_or_refused_by_the_rules(tmp_path: Path) -> None:
    totals, entries = send(collector, tmp_path / "j", plan(3_000))
    check(totals, entries)
    assert (totals.sent, totals.unknown, totals.odd) == (3_000, 0, 0)
    assert entries.number.tolist() == list(range(3_000))
    assert set(entries.outcome[entries.expected == REFUSED]) == {R}
    assert set(entries.outcome[entries.expected == STORED]) == {A}


def test_what_was_acknowledged_is_sent_again_and_nothing_else(tmp_path: Path) -> None:
    turns = iter(range(10**9))
    taken: Counter[str] = Counter()  # the numbers that the collector took, by the page views' ids
    seen: Counter[str] = Counter()

    def behaviour(request: Seen) -> Answer:
        (number,) = re.findall(r"pv_id=(\w+)", request.target + request.body.decode())
        seen[number] += 1
        if next(turns) % 3 == 0:
            return Answer(503)
        taken[number] += 1
        return collector(request)

    totals, entries = send(behaviour, tmp_path / "j", plan(600), bulk=0, bad=0, repeat=1.0)
    check(totals, entries)
    again = int((entries.expected == Fate.REPEATED).sum())
    assert 50 < again == sum(count - 1 for count in seen.values())
    assert max(seen.values()) == 2
    assert all(taken[number] for number, count in seen.items() if count == 2)
    assert totals.sent == sum(seen.values()) == 600


@pytest.mark.parametrize("status", [503, 500, 0, 301])
def test_other_answers_and_cuts_are_unknown_and_never_sent_again(tmp_path: Path, status: int) -> None:
    seen: list[tuple[str, bytes]] = []
    turns = iter(range(10**9))

    def behaviour(request: Seen) -> Answer:
        seen.append((request.target, request.body))
        return Answer(status) if next(turns) % 3 == 0 else collector(request)

    totals, entries = send(behaviour, tmp_path / "j", plan(1_000), bulk=0, bad=0)
    check(totals, entries)
    assert totals.sent == 1_000
    assert abs(totals.unknown - 334) <= 8
    assert len(seen) == len(set(seen)) == 1_000


def test_silence_is_unknown_after_the_time_out(tmp_path: Path) -> None:
    turns = iter(range(10**9))
    totals, entries = send(
        lambda request: Answer(1) if next(turns) % 20 == 0 else collector(request),
        tmp_path / "j",
        plan(100, timeout=0.3),
        bulk=0,
        bad=0,
    )
    check(totals, entries)
    assert totals.statuses["timed out"] == totals.unknown == 5


def test_the_load_survives_a_collector_that_goes_and_comes_back(tmp_path: Path) -> None:
    async def run() -> Totals:
        traffic = Traffic(seed=1, sites=[1], host="x", bulk=0.2, bad=0)
        journal = Journal(tmp_path / "j", seed=1, first=0)
        sender = Sender(traffic, plan(None, rate=500), journal)
        async with serving(collector) as port:
            task = asyncio.create_task(sender.run("127.0.0.1", port))
            while sender.totals.acknowledged < 50:
                await asyncio.sleep(0.01)
            sender._pool.port, first = 1, port  # nothing listens there
            for connection in (*sender._pool.idle, *sender._pool.busy):
                connection.end(CUT)
            await asyncio.sleep(0.3)
            stuck = sender.totals.sent
            sender._pool.port = first
            while sender.totals.sent < stuck + 50:
                await asyncio.sleep(0.01)
            sender.stop()
            totals = await task
        journal.close()
        return totals

    check(asyncio.run(run()), read([tmp_path / "j"]))


def test_nothing_there_from_the_start_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("infra.load.sender.FIRST_CONNECTION_SECONDS", 0.2)
    traffic = Traffic(seed=1, sites=[1], host="x")
    with pytest.raises(Unreachable, match=r"127\.0\.0\.1:1"):
        asyncio.run(Sender(traffic, plan(10), None).run("127.0.0.1", 1))


def test_the_schedule_is_kept_while_answers_hang(tmp_path: Path) -> None:
    """Open loop: with connections to spare, slow answers do not slow the sending down."""
    turns = iter(range(10**9))
    totals, _ = send(
        lambda request: Answer(1) if next(turns) < 10 else collector(request),
        tmp_path / "j",
        plan(400, rate=400, connections=30, timeout=1.5),
        bulk=0,
        bad=0,
    )
    assert totals.sent == 400
    assert totals.unknown == 10


def bulk(*fates: int) -> Request:
    return Request(b"", 0, bytes(fates), True)


def body(tracked: int, invalid: int, indices: Sequence[int] | None = None) -> bytes:
    more = {} if indices is None else {"invalid_indices": indices}
    return json.dumps({"status": "success", "tracked": tracked, "invalid": invalid, **more}).encode()


@pytest.mark.parametrize(
    ("request_", "status", "answer", "became", "allowed"),
    [
        (Request(b"", 0, bytes([STORED]), False), 204, b"", [A], True),
        (Request(b"", 0, bytes([STORED]), False), 400, b"", [R], False),
        (Request(b"", 0, bytes([REFUSED]), False), 400, b"", [R], True),
        (Request(b"", 0, bytes([REFUSED]), False), 200, b"", [A], False),
        (Request(b"", 0, bytes([STORED]), False), 503, b"", [U], True),
        (Request(b"", 0, bytes([STORED]), False), CUT, b"", [U], True),
        (Request(b"", 0, bytes([STORED]), False), TIMED_OUT, b"", [U], True),
        (Request(b"", 0, bytes([UNWANTED]), False), 400, b"", [R], True),
        (Request(b"", 0, bytes([UNWANTED]), False), 204, b"", [A], True),
        (bulk(STORED, STORED), 200, body(2, 0), [A, A], True),
        (bulk(STORED, REFUSED), 200, body(1, 1), [A, R], True),
        (bulk(STORED, REFUSED), 204, b"", [A, R], True),
        (bulk(STORED, REFUSED), 503, b"", [U, U], True),
        (bulk(STORED, REFUSED), CUT, b"", [U, U], True),
        (bulk(STORED, REFUSED), 200, body(2, 0), [U, U], False),  # one too many was tracked
        (bulk(STORED, STORED), 200, body(1, 1), [U, U], False),  # one is missing, and nobody knows which
        (bulk(STORED, STORED), 200, body(1, 1, [0]), [R, A], False),
        (bulk(STORED, REFUSED), 200, body(1, 1, [1]), [A, R], True),
        (bulk(STORED, REFUSED), 200, body(2, 0, []), [A, A], False),
        (bulk(STORED, UNWANTED, REFUSED), 200, body(1, 2), [A, R, R], True),
        (bulk(STORED, UNWANTED, REFUSED), 200, body(2, 1), [A, A, R], True),
        (bulk(STORED, STORED), 200, body(1, 0), [U, U], False),  # an item is not accounted for
        (bulk(STORED, STORED), 200, b"GIF89a", [U, U], False),
        (bulk(STORED, STORED), 200, b"[]", [U, U], False),
        (bulk(REFUSED, REFUSED), 400, body(0, 2), [R, R], True),
        (bulk(STORED, STORED), 400, body(0, 2), [R, R], False),
    ],
)
def test_outcomes(request_: Request, status: int, answer: bytes, became: list[int], allowed: bool) -> None:
    found, right = outcomes(request_, status, answer)
    assert (list(found), right) == (became, allowed)


@pytest.mark.parametrize(
    "answer",
    [b"HTTP/1.1 200 OK\r\n\r\n", b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", b"SSH-2.0\r\n\r\n"],
)
def test_an_answer_that_is_not_understood_is_a_cut(answer: bytes, tmp_path: Path) -> None:
    async def run() -> Totals:
        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await reader.readuntil(b"\r\n\r\n")
            writer.write(answer)
            await reader.read()
            writer.close()

        server = await asyncio.start_server(serve, "127.0.0.1", 0, limit=1 << 20)
        async with server:
            traffic = Traffic(seed=1, sites=[1], host="x", bulk=0, bad=0)
            return await Sender(traffic, plan(3), None).run("127.0.0.1", server.sockets[0].getsockname()[1])

    totals = asyncio.run(run())
    assert (totals.sent, totals.unknown, totals.statuses["cut"]) == (3, 3, 3)


def split(chunk: int) -> Callable[[bytes], list[bytes]]:
    return lambda data: [data[n : n + chunk] for n in range(0, len(data), chunk)]


@pytest.mark.parametrize("chunk", [1, 7, 64])
def test_answers_in_pieces(chunk: int) -> None:
    async def run() -> Totals:
        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            try:
                while True:
                    await reader.readuntil(b"\r\n\r\n")
                    for piece in split(chunk)(b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nhello"):
                        writer.write(piece)
                        await asyncio.sleep(0.001)
            except asyncio.IncompleteReadError:
                writer.close()

        server = await asyncio.start_server(serve, "127.0.0.1", 0, limit=1 << 20)
        async with server:
            traffic = Traffic(seed=4, sites=[1], host="x", bulk=0, bad=0)
            traffic._single = lambda one=traffic._single: _get(one())  # type: ignore[method-assign, misc]
            return await Sender(traffic, plan(10, connections=2), None).run(
                "127.0.0.1", server.sockets[0].getsockname()[1]
            )

    assert asyncio.run(run()).acknowledged == 10


def _get(request: Request) -> Request:
    return request._replace(payload=b"GET / HTTP/1.1\r\n\r\n")
