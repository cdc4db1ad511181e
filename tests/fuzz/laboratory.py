"""A real collector before a real broker, and what must hold of both while anything at all is sent.

requests -> collector -> events.raw -> every packet is decoded and goes through the worker's stages
"""

from __future__ import annotations

import hashlib
import http.client
import re
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import uvloop
from kafka import KafkaConsumer, TopicPartition

from infra.load.sites import write_sites
from infra.local.stack import Stack, isolated
from infra.service.settings import Settings
from schemas.packets import Header, header
from schemas.reasons import Rejected
from schemas.sites import PolicySet
from schemas.topics import EVENTS_RAW, SITE_POLICIES
from streams.batch import PartitionState, Record, process
from streams.surroundings import Asked, AskedVisits, PolicyMissing
from streams.window import Run
from tests.fuzz.clients import Seen, send
from tests.fuzz.inputs import SITES, make

CLIENTS = 64
WARM = 0.25  # of the requests, before memory is looked at
GROWTH = 64 << 20  # bytes of memory that may come after that: remembered heads, arenas
BATCH = 64  # packets that go through the stages together
KEPT = 5  # failing inputs that are written to files


@dataclass(slots=True)
class Findings:
    """problems: what did not hold. Sizes are bytes, times seconds."""

    seed: int
    requests: int = 0
    connections: int = 0
    statuses: dict[str, int] = field(default_factory=dict)
    events: int = 0
    packets: int = 0
    rejected: dict[str, int] = field(default_factory=dict)
    rss_warm: int = 0
    rss_end: int = 0
    files_warm: int = 0
    files_end: int = 0
    seconds: float = 0.0
    worker_seconds: float = 0.0
    problems: list[str] = field(default_factory=list)


class World:
    """Look-ups of the stages: the policies of the topic, and a secret for every date."""

    def __init__(self, sets: dict[bytes, PolicySet]) -> None:
        self._sets = sets

    def policies(self, version: bytes) -> PolicySet:
        """See `streams.surroundings`."""
        try:
            return self._sets[version]
        except KeyError:
            raise PolicyMissing(version) from None

    def open(self, value: bytes, head: Header, partition: int) -> bytes:
        """See `streams.surroundings`."""
        raise AssertionError("no packet here is sealed")

    def day_secret(self, day: date) -> bytes:
        """See `streams.surroundings`."""
        return day.isoformat().encode().ljust(32, b"-")

    def site_key(self, site: int) -> bytes:
        """See `streams.surroundings`."""
        return str(site).encode().ljust(32, b"+")

    def identities(self, asked: Sequence[Asked]) -> list[Run]:
        """Nothing was stored before these packets."""
        return [Run(np.zeros(0, np.uint64), np.zeros(0, np.uint64), np.zeros(0, np.int64)) for _ in asked]

    def visits(self, asked: Sequence[AskedVisits]) -> list[list[tuple[object, ...]]]:
        """Nothing was stored before these packets."""
        return [[] for _ in asked]


def run(folder: Path, requests: int, seed: int, say: Callable[[str], None]) -> Findings:
    """One run in an empty folder; failing inputs are kept in it. The stack is gone when this returns."""
    found = Findings(seed)
    settings = isolated(folder / "state", events_partitions=2, collector_seal=False)
    write_sites(settings.sites, range(1, SITES + 1))
    stack = Stack(settings, ("kafka", "front", "collector"), owned=True, say=say)
    try:
        stack.start()
        _traffic(stack, requests, found, folder, say)
        _stages(settings, found, folder)
    finally:
        stack.stop()
    return found


def _traffic(stack: Stack, requests: int, found: Findings, folder: Path, say: Callable[[str], None]) -> None:
    settings, began = stack.settings, time.monotonic()
    pid = _listener(settings)
    process_ = psutil.Process(pid)
    seen = Seen()

    def tell(seen: Seen) -> None:
        rate = seen.requests / (time.monotonic() - began)
        if seen.connections % 5000 == 0:
            say(f"{seen.requests:,} requests, {rate:,.0f}/s, {len(seen.failures)} failures")

    warm = int(requests * WARM)
    address = ("127.0.0.1", settings.collector_port)
    uvloop.run(send(*address, found.seed, seen, warm, CLIENTS, tell))
    try:
        found.files_warm, found.rss_warm = _at_rest(process_), process_.memory_info().rss
        uvloop.run(send(*address, found.seed, seen, requests, CLIENTS, tell))
        found.files_end, found.rss_end = _at_rest(process_), process_.memory_info().rss
    except psutil.NoSuchProcess:
        found.problems.append("the collector has ended; its log is in the folder")
        return
    found.seconds = time.monotonic() - began
    found.requests, found.connections = seen.requests, seen.connections
    found.statuses = {str(status): count for status, count in sorted(seen.statuses.items())}
    for number, problem in seen.failures[:KEPT]:
        found.problems.append(f"{problem}: {_keep(make(found.seed, number).data, folder)}, input {number}")
    if found.rss_end > found.rss_warm + GROWTH:
        found.problems.append(f"memory grew by {(found.rss_end - found.rss_warm) >> 20} MiB after warm-up")
    if found.files_end > found.files_warm:
        found.problems.append(f"{found.files_end - found.files_warm} more files are open than after warm-up")
    connection = http.client.HTTPConnection(*address, timeout=30)
    connection.request("GET", f"/matomo.php?idsite=1&rec=1&last={found.seed}")
    if (status := connection.getresponse().status) != 200:
        found.problems.append(f"a request in order was answered {status} afterwards")
    connection.close()
    if _listener(settings) != pid:
        found.problems.append("the collector was started anew meanwhile")
    numbers = _metrics(settings)
    found.events = int(numbers["collector_accepted_events_total"])
    if (stored := int(numbers["collector_acknowledged_events_total"])) != found.events:
        found.problems.append(f"{found.events} events were accepted and {stored} acknowledged")


def _stages(settings: Settings, found: Findings, folder: Path) -> None:
    began = time.monotonic()
    world = World(
        {PolicySet.load(value).version: PolicySet.load(value) for _, value in _records(settings, SITE_POLICIES)}
    )
    states = {number: PartitionState() for number in range(settings.events_partitions)}
    names: set[tuple[int, int, int]] = set()
    events = 0
    records: list[Record] = []
    offsets = dict.fromkeys(states, 0)
    for partition, value in _records(settings, EVENTS_RAW):
        head = header(value)
        if (head.writer, head.routing, head.seq) not in names:
            names.add((head.writer, head.routing, head.seq))
            events += head.count
        records.append(Record(partition, offsets[partition], 1, int(time.time() * 1000), value))
        offsets[partition] += 1
    found.packets = len(records)
    for start in range(0, len(records), BATCH):
        batch = records[start : start + BATCH]
        try:
            outcome = process(batch, states, world)
        except Exception as error:
            data = b"".join(record.value for record in batch)
            found.problems.append(f"the stages failed with {type(error).__name__}: packets {_keep(data, folder)}")
            return
        outcome.apply()
        for row in outcome.rejects.select(["reason", "partition", "offset"]).to_pylist():
            reason = str(row["reason"])
            found.rejected[reason] = found.rejected.get(reason, 0) + 1
            if reason in (Rejected.INTERNAL_ERROR, Rejected.BAD_PACKET):
                (record,) = [r for r in batch if (r.partition, r.offset) == (row["partition"], row["offset"])]
                found.problems.append(f"{reason}: packet {_keep(record.value, folder)}")
    if events != found.events:
        found.problems.append(f"{found.events} events were acknowledged and {events} are in events.raw")
    found.worker_seconds = time.monotonic() - began


def _records(settings: Settings, topic: str) -> list[tuple[int, bytes]]:
    name = settings.topic(topic)
    consumer = KafkaConsumer(bootstrap_servers=settings.kafka, enable_auto_commit=False, check_crcs=False)
    try:
        partitions = [TopicPartition(name, number) for number in sorted(consumer.partitions_for_topic(name) or ())]
        consumer.assign(partitions)
        consumer.seek_to_beginning(*partitions)
        ends = consumer.end_offsets(partitions)
        found: list[tuple[int, bytes]] = []
        while any(consumer.position(partition) < end for partition, end in ends.items()):
            for batch in consumer.poll(timeout_ms=500).values():
                found += [(record.partition, record.value) for record in batch]
        return found
    finally:
        consumer.close()


def _listener(settings: Settings) -> int:
    for one in psutil.process_iter(["cmdline"]):
        if "ingest.collector" in (one.info["cmdline"] or ()) and one.environ().get("VEILSTREAM_COLLECTOR_PORT") == str(
            settings.collector_port
        ):
            return int(one.pid)
    return 0


def _at_rest(process_: psutil.Process) -> int:
    """The process's open files once clients' connections are closed: the least that is seen within three seconds."""
    least = process_.num_fds()
    deadline = time.monotonic() + 3.5
    while time.monotonic() < deadline:
        time.sleep(0.1)
        least = min(least, process_.num_fds())
    return int(least)


def _metrics(settings: Settings) -> dict[str, float]:
    connection = http.client.HTTPConnection("127.0.0.1", settings.collector_admin_port, timeout=30)
    connection.request("GET", "/metrics")
    text = connection.getresponse().read().decode()
    connection.close()
    return {name: float(value) for name, value in re.findall(r"^veilstream_(\w+) ([0-9.e+]+)$", text, re.MULTILINE)}


def _keep(data: bytes, folder: Path) -> str:
    """Writes failing bytes to a file; returns the hash that names it."""
    digest = hashlib.sha256(data).hexdigest()[:16]
    (folder / f"{digest}.bin").write_bytes(data)
    return digest


def as_json(found: Findings) -> dict[str, Any]:
    """The findings as plain values."""
    return {name: getattr(found, name) for name in Findings.__slots__}
