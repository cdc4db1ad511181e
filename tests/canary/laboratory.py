"""The scan on a real stack: once under the default rules and sealed, once with no rule and nothing sealed.

The second run proves that the scan finds what is there. Under the rules nothing of a person may be left anywhere: in
topics, tables, files of columns (with parts that were replaced, projections and mutations), logs, spools, metrics,
rejects, temporary files.
"""

from __future__ import annotations

import http.client
import os
import socket
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kafka import KafkaConsumer, TopicPartition

from infra import topics
from infra.demo import database
from infra.load.lag import Lag
from infra.load.sql import Sql, SqlError
from infra.local.stack import Stack, isolated
from infra.service.settings import Settings
from infra.sites import add
from schemas.topics import EVENTS_RAW
from tests.canary.marks import Maker, Mark
from tests.canary.requests import HOST, LEADING_AWAY, RECORDED, SITE, requests
from tests.canary.search import Searcher, search_all, search_folder, search_inside

REQUESTS = 160
WITHOUT_KAFKA = 24  # of them, so that the spool holds some
PATIENCE = 120.0  # seconds until all is stored
ROLES = ("kafka", "front", "collector", "worker")
RECORDINGS = """
[recordings]
enabled = true
"""
NO_RULES = """
[privacy]
preset = "matomo-default"
mask_bytes = 0
detectors = []
excluded_lists = []
keep_fragment = true
"""


@dataclass(frozen=True, slots=True)
class Scan:
    """One run. found: places by number of mark."""

    marks: Sequence[Mark]
    found: dict[int, set[str]]
    bytes: int
    files: int

    def of(self, kind: str) -> dict[int, Mark]:
        """The marks of a class."""
        return {number: mark for number, mark in enumerate(self.marks) if mark.kind == kind}


class CanaryError(RuntimeError):
    """The stack did not do what a scan needs; the message says what."""


def run(folder: Path, seed: int, say: Callable[[str], None]) -> dict[str, Any]:
    """Both runs, in an empty folder; what `veilstream canary --json` prints."""
    began = time.monotonic()
    say("with no rules, to see that everything is found")
    without = scan(folder / "none", seed, say, rules=False)
    say("with the default rules")
    ruled = scan(folder / "all", seed, say, rules=True)
    unseen = [mark for number, mark in enumerate(without.marks) if mark.carried and number not in without.found]
    # What no rule removes stands in the tables; recordings are masked whatever the rules are, an outlink has no title.
    never = (RECORDED, LEADING_AWAY)
    loose = {number: mark for number, mark in without.of("b").items() if not mark.field.startswith(never)}
    unseen += [mark for number, mark in loose.items() if not _stored(without.found.get(number, set()))]
    found = {kind: [n for n in ruled.of(kind) if n in ruled.found] for kind in "abc"}
    missing = [mark for number, mark in ruled.of("c").items() if not _stored(ruled.found.get(number, set()))]
    places = sorted({(ruled.marks[n].field, place) for kind in "ab" for n in found[kind] for place in ruled.found[n]})
    return {
        "seed": seed,
        "planted": len(ruled.marks),
        "planted_a": len(ruled.of("a")),
        "planted_b": len(ruled.of("b")),
        "planted_c": len(ruled.of("c")),
        "found_a": len(found["a"]),
        "found_b": len(found["b"]),
        "missing_c": len(missing),
        "without_rules": {
            "planted": sum(mark.carried for mark in without.marks),
            "missing": len(unseen),
            "missing_fields": sorted({mark.field for mark in unseen}),
            "seen_in": {place: sum(map(test, without.found.values())) for place, test in PLACES.items()},
        },
        "found": [{"field": field, "place": place} for field, place in places],
        "missing_fields": sorted({mark.field for mark in missing}),
        "files": ruled.files,
        "bytes": ruled.bytes,
        "seconds": round(time.monotonic() - began, 1),
    }


def right(figures: dict[str, Any]) -> bool:
    """Nothing of a person is left, all that is neutral is there, and the scan is able to find."""
    wrong = figures["found_a"] or figures["found_b"] or figures["missing_c"]
    control = figures["without_rules"]
    return not wrong and not control["missing"] and all(control["seen_in"].values())


def _stored(places: set[str]) -> bool:
    return any(place.startswith("table") for place in places)


# Where the scan without rules must have seen marks, so that nothing found there under the rules says something.
PLACES: dict[str, Callable[[set[str]], bool]] = {
    "topics": lambda places: any(place.startswith("topic") for place in places),
    "tables": _stored,
    "columns": lambda places: any("/store/" in place and place.endswith("decompressed") for place in places),
    "spools": lambda places: any(".segment" in place for place in places),
}


def scan(folder: Path, seed: int, say: Callable[[str], None], *, rules: bool) -> Scan:
    """Plants and searches, on a stack of its own that is gone when this returns."""
    temporary = folder / "tmp"
    temporary.mkdir(parents=True)
    settings = isolated(
        folder / "state", events_partitions=2, collector_proxies="127.0.0.1", collector_seal=rules, upkeep_seconds=5.0
    )
    add(settings.sites, name="Shop", domains=(HOST,), number=SITE)
    with (settings.sites / f"{SITE}.toml").open("a") as file:
        file.write(RECORDINGS if rules else RECORDINGS + NO_RULES)
    maker = Maker(seed)
    planned = list(requests(maker, REQUESTS))
    searcher = Searcher(maker.marks)
    with _temporary(temporary):
        stack = Stack(settings, ROLES, owned=True, say=say)
        try:
            stack.start()
            place = ("127.0.0.1", stack.settings.collector_port)
            answered = sum(_send(place, payload) for payload in planned[WITHOUT_KAFKA:])
            stack.stop_part("kafka")
            answered += sum(_send(place, payload) for payload in planned[:WITHOUT_KAFKA])
            if not any(stack.settings.spool.glob("*/*.segment")):
                raise CanaryError("nothing went into the spool while Kafka was away")
            search_folder(searcher, stack.settings.spool)
            stack.start_part("kafka")
            say(f"{len(planned)} requests with {len(maker.marks)} marks, {answered} answered 2xx")
            sql = database(stack)
            _settle(stack, sql, sum(payload.startswith(b"POST /recordings") for payload in planned))
            _disturb(sql)
            _topics(stack.settings, searcher)
            _tables(sql, searcher)
            _metrics(stack, searcher)
            files = search_folder(searcher, folder)
        finally:
            stack.stop()
    # What is written at the end, too.
    files += search_folder(searcher, folder)
    say(f"{files} files and {searcher.bytes >> 20} MiB were searched")
    return Scan(maker.marks, searcher.found, searcher.bytes, files)


@contextmanager
def _temporary(folder: Path) -> Iterator[None]:
    """Processes that are started within put their temporary files here."""
    before = os.environ.get("TMPDIR")
    os.environ["TMPDIR"] = str(folder)
    try:
        yield
    finally:
        if before is None:
            del os.environ["TMPDIR"]
        else:
            os.environ["TMPDIR"] = before


def _send(place: tuple[str, int], payload: bytes) -> bool:
    """Sends a request and reads what comes; whether it was answered 2xx."""
    with socket.create_connection(place, 30.0) as connection:
        connection.sendall(payload)
        connection.shutdown(socket.SHUT_WR)
        answer = b""
        try:
            while piece := connection.recv(65_536):
                answer += piece
        except ConnectionResetError:
            pass
    return answer[9:10] == b"2"


def _settle(stack: Stack, sql: Sql, recordings: int) -> None:
    lag = Lag(stack.settings.kafka, stack.settings.topic(EVENTS_RAW), sql)
    end = time.monotonic() + PATIENCE
    while time.monotonic() < end:
        spooled = any(stack.settings.spool.glob("*/*.segment"))
        try:
            (packets,) = sql.numbers("SELECT count() FROM packets")
            (recorded,) = sql.numbers("SELECT count() FROM recordings FINAL")
            if lag() == 0 and not spooled and packets and recorded == recordings:
                return
        except SqlError:
            pass
        time.sleep(0.3)
    raise CanaryError(f"not everything was stored within {PATIENCE:.0f} s")


def _disturb(sql: Sql) -> None:
    """Makes parts that are replaced, and mutations, so that there are files of those."""
    sql.raw("OPTIMIZE TABLE events FINAL")
    sql.raw("ALTER TABLE events UPDATE title = concat(title, '') WHERE site_id = 1 SETTINGS mutations_sync = 1")


def _topics(settings: Settings, searcher: Searcher) -> None:
    consumer = KafkaConsumer(bootstrap_servers=settings.kafka, enable_auto_commit=False)
    try:
        for topic in topics.wanted(settings):
            places = [TopicPartition(topic.name, n) for n in consumer.partitions_for_topic(topic.name) or ()]
            consumer.assign(places)
            consumer.seek_to_beginning(*places)
            ends = consumer.end_offsets(places)
            while any(consumer.position(place) < end for place, end in ends.items()):
                for batch in consumer.poll(timeout_ms=500).values():
                    values = [part for record in batch for part in (record.key, record.value) if part]
                    search_all(searcher, f"topic {topic.name}", values)
    finally:
        consumer.close()


def _tables(sql: Sql, searcher: Searcher) -> None:
    """Every table that has rows, those of the engine itself too."""
    named = sql.rows(
        "SELECT database, name FROM system.tables WHERE engine LIKE '%MergeTree%' OR engine LIKE '%Log' "
        "OR (database = 'system' AND name IN ('processes', 'mutations', 'errors', 'query_cache', 'parts', 'columns'))"
    )
    for name_of_database, name in named:
        data = sql.raw(f"SELECT * FROM `{name_of_database}`.`{name}` FORMAT TSVRaw")
        searcher.look(f"table {name_of_database}.{name}", data)
        search_inside(searcher, f"table {name_of_database}.{name}", data)


def _metrics(stack: Stack, searcher: Searcher) -> None:
    for part in stack.parts:
        if part.role in ("collector", "worker"):
            connection = http.client.HTTPConnection("127.0.0.1", part.ports[-1].number, timeout=30)
            connection.request("GET", "/metrics")
            searcher.look(f"metrics of {part.name}", connection.getresponse().read())
            connection.close()
