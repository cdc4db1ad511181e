"""A stream of events for the tests of the worker's shell: deterministic by seed, and the tables it must become."""

from __future__ import annotations

import hashlib
import ipaddress
import random
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import quote_plus

import msgspec
import pyarrow as pa
from kafka import KafkaProducer

from infra.service.clickhouse import Client
from infra.service.settings import Settings
from schemas.packets import MAPPED_IPV4, Event, Repeat, encode
from schemas.privacy import PageViewIds, Privacy
from schemas.routing import ROUTING_VERSION
from schemas.sites import PolicySet, SitePolicy
from schemas.topics import EVENTS_RAW, SITE_POLICIES
from tests.databases import install

T = TypeVar("T")

NUMBERED: Any = {"page_view_ids": PageViewIds.KEEP}  # by which a test knows an event
POLICIES = PolicySet(
    {
        1: SitePolicy(domains=("shop.example",), timezone="Europe/Berlin", keep_bots=True, privacy=Privacy(**NUMBERED)),
        2: SitePolicy(privacy=Privacy(mask_bytes=1, **NUMBERED), keep_bots=True),
        3: SitePolicy(keep_bots=True, privacy=Privacy(**NUMBERED)),
    }
)
AGENTS = (
    "Mozilla/5.0 (X11; Linux x86_64; rv:128.0) Gecko/20100101 Firefox/128.0",
    "Mozilla/5.0 (iPhone; CPU iPhone OS 17_5 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) Version/17.5 "
    "Mobile/15E148 Safari/604.1",
    "Googlebot/2.1 (+http://www.google.com/bot.html)",
)
DUMPS = ("events", "rejects", "packets")


def number_text(number: int) -> str:
    """A number as six characters of base 62, as it travels in `pv_id`."""
    digits = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
    text = ""
    for _ in range(6):
        number, digit = divmod(number, 62)
        text = digits[digit] + text
    return text


def events(count: int, *, seed: int = 1, start_ms: int | None = None, first: int = 0) -> list[Event]:
    """`count` events, two a second, of some visitors who come and go; every 97th is of an unknown site."""
    draw = random.Random(seed)
    now = start_ms if start_ms is not None else time.time_ns() // 1_000_000
    found = []
    for n in range(first, first + count):
        visitor = draw.randrange(40)
        now += draw.choice((1, 200, 400, 1_500)) + (2_000_000 if draw.random() < 0.001 else 0)
        site = 9 if n % 97 == 96 else 1 + visitor % 3
        page = f"https://shop.example/p/{draw.randrange(30)}?q={n}"
        query = f"idsite={site}&rec=1&url={quote_plus(page)}&action_name=Page&_id={visitor:016x}&pv_id={number_text(n)}"
        if n % 5 == 0:
            query += f"&urlref={quote_plus('https://www.google.com/')}"
        if n % 11 == 0:
            query += "&e_c=Video&e_a=Play"
        if n % 13 == 0:
            query += "&ping=1"
        if n % 17 == 0:
            query = query.replace("rec=1", "rec=0")
        address = MAPPED_IPV4 + ipaddress.ip_address(f"198.51.100.{visitor}").packed
        found.append(Event(now, site, address, 0, 0, AGENTS[visitor % len(AGENTS)], "de-DE,de;q=0.9", "", query))
    return found


def with_repeats(found: Sequence[Event], *, seed: int = 1) -> list[Event]:
    """The events, each with something to tell a repeat by, and now and then one of them again, sooner or later."""
    draw = random.Random(seed)
    out: list[Event] = []
    for number, event in enumerate(found):
        name = hashlib.blake2b(b"%d" % (number // 3), digest_size=16).digest()
        kind = number // 3 % 4
        if kind < 2:
            event.repeat, event.items, event.index = (Repeat.KEY, Repeat.BODY)[kind] + name, 3, number % 3
        elif kind == 2:
            event.query += f"&r={number % 1000:06d}&h=1&m=2&s=3"
        out.append(event)
        while draw.random() < 0.25:
            again = draw.choice(out[-40:] if draw.random() < 0.8 else out)
            late = draw.choice((0, 0, 0, 3_000, 850_000, 7_200_000))
            out.append(msgspec.structs.replace(again, received_ms=event.received_ms - late))
    return out


def packets(
    found: Sequence[Event], *, writer: int = 7, sizes: Sequence[int] = (1, 3, 8, 2, 20), first: int = 0
) -> list[bytes]:
    """The events as packets of one partition, of the given sizes in turn."""
    out: list[bytes] = []
    at = 0
    while at < len(found):
        size = sizes[len(out) % len(sizes)]
        out.append(encode(writer, first + len(out), ROUTING_VERSION, POLICIES.version, found[at : at + size]))
        at += size
    return out


def publish(settings: Settings, partition: int, values: Iterable[bytes | None]) -> None:
    """Write records to a partition of `events.raw`; None is a record without a value."""
    producer = KafkaProducer(bootstrap_servers=settings.kafka.split(","))
    try:
        for value in values:
            producer.send(settings.topic(EVENTS_RAW), value, key=b"", partition=partition)
        producer.flush()
    finally:
        producer.close()


def prepare(settings: Settings) -> None:
    """Tables, topics, secrets, and the policies on their topic."""
    install(settings)
    publish_policies(settings, POLICIES)


def publish_policies(settings: Settings, policies: PolicySet) -> None:
    """Write a set of policies to their topic."""
    producer = KafkaProducer(bootstrap_servers=settings.kafka.split(","))
    try:
        key = policies.version.hex().encode()
        producer.send(settings.topic(SITE_POLICIES), policies.dump(), key=key).get(30)
    finally:
        producer.close()


def dump(client: Client) -> dict[str, pa.Table]:
    """All rows of the tables that a worker writes, by place and name."""
    order = {"events": "`index`", "rejects": "`index`", "packets": "seq"}
    return {
        table: client.query_arrow(f"SELECT * FROM {table} ORDER BY generation, `partition`, `offset`, {order[table]}")
        for table in DUMPS
    }


def count(client: Client, sql: str) -> int:
    """The one number that a query answers."""
    return int(client.query(sql).result_rows[0][0])


def books(client: Client) -> dict[str, int]:
    """What the ledger says, and what stands: equal where nothing is lost or doubled."""
    rows = client.query(
        "SELECT (SELECT sum(received) FROM packets), (SELECT sum(stored) FROM packets), (SELECT count() FROM events), "
        "(SELECT uniqExact(writer, `partition`, seq, `index`) FROM events), (SELECT count() FROM packets), "
        "(SELECT uniqExact(`partition`, generation, `offset`) FROM packets), "
        "(SELECT sum(rejected) FROM packets), (SELECT count() FROM rejects WHERE reason != 'bad_packet'), "
        "(SELECT sum(excluded) FROM packets), "
        "(SELECT sum(repeats_key) + sum(repeats_random) + sum(repeats_body) FROM packets), "
        "(SELECT sum(events) FROM repeats)"
    ).result_rows[0]
    names = (
        "received",
        "stored",
        "events",
        "names",
        "packets",
        "places",
        "rejected",
        "rejects",
        "excluded",
        "repeated",
        "repeats",
    )
    return dict(zip(names, (int(value) for value in rows), strict=True))


def written_since(folder: Path, moment: float) -> Iterator[bytes]:
    """The content of each file below a folder that was written since then (seconds since 1970), while it changes."""
    for path in folder.rglob("*"):
        with suppress(FileNotFoundError):  # parts go while they are looked through
            if path.is_file() and path.stat().st_mtime >= moment - 1:
                yield path.read_bytes()


def eventually(ask: Callable[[], T], holds: Callable[[T], bool], limit: float = 90.0) -> T:
    """The first answer that holds; fails with the last one when none does within `limit` seconds."""
    deadline = time.monotonic() + limit
    while True:
        answer = ask()
        if holds(answer):
            return answer
        assert time.monotonic() < deadline, f"still {answer!r}"
        time.sleep(0.1)


def total(client: Client, expected: int, limit: float = 90.0) -> dict[str, int]:
    """The books once they have received `expected` events, checked."""
    eventually(lambda: books(client), lambda b: b["received"] >= expected, limit)
    found = books(client)  # once more, as the parts of one answer are not of one moment
    assert found["received"] == expected, found
    assert found["events"] == found["stored"] == found["names"], found
    assert found["packets"] == found["places"], found
    assert found["rejects"] == found["rejected"], found
    assert found["repeats"] == found["repeated"], found
    assert found["stored"] + found["rejected"] + found["excluded"] + found["repeated"] == expected, found
    return found


def log_lines(path: Path, event: str) -> list[str]:
    """The lines of a process's log about one event."""
    return [line for line in path.read_text(errors="replace").splitlines() if f'"event": "{event}"' in line]
