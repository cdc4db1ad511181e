"""Recordings: `POST /recordings`, and tracking requests with `hsr_*`, into packets of a topic of their own.

    POST /recordings?idsite=1&session=…&sequence=0&url=…    a JSON list of rrweb's events, or {"events": [...]}

The query is judged as any tracking request's: site, token, `cip`, opt-out, consent and DNT travel with it, and the
worker decides by them. Only the form of the body is looked at here; what is in it leaves sealed, as it came. The answer
is 204 after Kafka's acknowledgement. There is no spool: while Kafka is away recordings wait in memory for as long as
requests may, then the answer is 503.

What `schemas.packets` calls the query of an event is here the request's, then a blank and the list in ASCII
(`streams.recording_rows`).
"""

from __future__ import annotations

import json
import secrets
import time
from typing import Any, NamedTuple

import msgspec

from infra.service.plain_sql import PlainSql
from infra.service.settings import Settings
from ingest import requests
from ingest.delivery import Delivery
from ingest.directory import Directory
from ingest.headers import Fields
from ingest.hours import Hours
from ingest.pace import Pace
from ingest.packing import Packing
from ingest.permissions import Refused
from ingest.reports import Books
from ingest.requests import Row
from schemas.parameters import parse
from schemas.reasons import Invalid
from schemas.recordings import TOLD
from schemas.topics import RECORDINGS_RAW

PATH = b"/recordings"
BODY_LIMIT = 2 << 20  # bytes; in ASCII it may grow threefold, and must fit into a record of Kafka
EVENTS_LIMIT = 10_000  # of one body
PACKETS = 20  # a second; they are large, and no page waits for the answer
MEMORY = 4  # the part of the memory for events that recordings may use, as 1 / MEMORY
PREFIX = "hsr_"

OFF = Refused(
    Invalid.RECORDINGS_OFF, "This site takes no recordings; `enabled` under [recordings] in its file would say so."
)
TOO_LARGE = Refused(
    Invalid.TOO_LARGE, f"A recording may have {BODY_LIMIT} bytes and {EVENTS_LIMIT} events at once. Send it in parts."
)
UNREADABLE = Refused(Invalid.UNREADABLE, 'The body must be a JSON list of events, or an object whose "events" is one.')
EMPTY = Refused(Invalid.EMPTY, "The list of events is empty.")


class Recording(NamedTuple):
    """The packets of recordings, and the hours to whose keys they are sealed, which others fetch."""

    packing: Packing
    hours: Hours | None


def packing(
    settings: Settings,
    directory: Directory,
    delivery: Delivery,
    *,
    seals: bool,
) -> Recording:
    """Under a writer of their own, as names of packets are of one topic; without a spool, and without reports."""
    writer, topic = secrets.randbits(64), settings.topic(RECORDINGS_RAW)
    hours = Hours(settings.spool, writer, topic, PlainSql(settings)) if seals else None
    longest = settings.flush_max_ms / 1000
    made = Packing(
        writer=writer,
        topic=topic,
        partitions=settings.events_partitions,
        policy=directory.version,
        policies=directory.dump,
        delivery=delivery,
        books=Books(writer, time.time_ns() // 1_000_000),
        pace=Pace(PACKETS, longest, longest),
        packet_bytes=settings.packet_bytes,
        memory_bytes=settings.collector_memory_bytes // MEMORY,
        stored=lambda _size, _seconds: None,
        hours=hours,
    )
    return Recording(made, hours)


def status(refused: Refused) -> int:
    """The HTTP status of a refusal."""
    return {Invalid.RECORDINGS_OFF: 404, Invalid.TOO_LARGE: 413}.get(refused.reason, 400)


def takes(directory: Directory, site: int) -> bool:
    """Whether a site takes recordings."""
    policy = directory.policies.of(site)
    return policy is not None and policy.recordings.enabled


def chunk(
    query: bytes, body: bytes, fields: Fields, address: bytes, received_ms: int, directory: Directory
) -> tuple[int, Row] | Refused:
    """The partition and the row of a recording's chunk."""
    if len(body) > BODY_LIMIT:
        return TOO_LARGE
    outcome = requests.single(query, fields, address, received_ms, directory)
    if isinstance(outcome, Refused):
        return outcome
    partition, row, _ = outcome
    if not takes(directory, row[1]):
        return OFF
    events = _events(body)
    if isinstance(events, Refused):
        return events
    try:
        text = json.dumps(events, ensure_ascii=True, separators=(",", ":"))
    except (ValueError, RecursionError):
        return UNREADABLE
    return partition, (*row[:8], f"{row[8]} {text}", *row[9:])


def tells(row: Row, directory: Directory) -> bool:
    """Whether a tracking request is a heatmap's, of a site that takes it."""
    return PREFIX in row[8] and takes(directory, row[1]) and not TOLD.isdisjoint(parse(row[8]))


def _events(body: bytes) -> list[Any] | Refused:
    try:
        found = msgspec.json.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return UNREADABLE
    events = found.get("events") if isinstance(found, dict) else found
    if not isinstance(events, list):
        return UNREADABLE
    if not events:
        return EMPTY
    return TOO_LARGE if len(events) > EVENTS_LIMIT else events
