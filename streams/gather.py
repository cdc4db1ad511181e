"""Records become packets, and the events of all first packets of a batch one set of columns."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from schemas import packets
from schemas.packets import BadPacket, Body, Header, KeyDestroyed, Repeat
from schemas.reasons import Rejected, Repeated
from schemas.sites import PolicySet
from schemas.tables import PacketKind
from streams.caches import caches
from streams.distinct import Texts
from streams.overlay import Overlay
from streams.rules import Rules
from streams.state import PartitionState
from streams.surroundings import Lookups
from streams.verdicts import EARLIEST_MS, HOW, LATEST_MS

if TYPE_CHECKING:
    from streams.batch import Record

# Identities are held for so long beyond the window, so that events a little out of order need no look-up.
REPEATS_SLACK_MS = 120_000
REPEAT_BYTES = 17  # of `Event.repeat`, where it is not empty
BAD_HEADER = Header(0, 0, 0, 0, bytes(16), 0, 0, 0, b"")


@dataclass(slots=True)
class Packet:
    """One record, decoded. `watermark_ms` and `repeats_from_ms` are those after it.

    `first_row` and `count` say where its events are among the rows; only a first packet has any.
    """

    record: Record
    kind: PacketKind
    header: Header
    body: Body | None
    policies: PolicySet | None
    watermark_ms: int = 0
    repeats_from_ms: int = 0
    first_row: int = 0
    count: int = 0
    why: Rejected = Rejected.BAD_PACKET  # of a bad one


@dataclass(frozen=True, slots=True)
class Rows:
    """Events as columns. `packet` counts the batch's packets, `index` is the event's number in its packet.

    `stamped_ms` is the collector's time, not after the broker's; `time_ms` is the same until `cdt` has been read.
    `scope` numbers the pairs of policy version and site in `scopes`; rules are None where the site is unknown.
    `query` is None once nothing will read the whole of it.
    `told`, `told_words` (shape (n, 2)) and `item` (the place in its request) are what `repeats.told` reads.
    """

    packet: npt.NDArray[np.int64]
    index: npt.NDArray[np.uint32]
    writer: npt.NDArray[np.uint64]
    seq: npt.NDArray[np.uint64]
    partition: npt.NDArray[np.uint64]
    scope: npt.NDArray[np.int64]
    scopes: Sequence[tuple[bytes, Rules | None]]
    appended_ms: npt.NDArray[np.int64]
    told: npt.NDArray[np.uint8]
    told_words: npt.NDArray[np.uint64]
    item: npt.NDArray[np.uint32]
    received_ms: npt.NDArray[np.int64]
    stamped_ms: npt.NDArray[np.int64]
    time_ms: npt.NDArray[np.int64]
    site: npt.NDArray[np.uint32]
    role: npt.NDArray[np.uint8]
    flags: npt.NDArray[np.uint16]
    address: npt.NDArray[np.uint8]
    agent: Texts
    language: Texts
    hints: Texts
    query: pa.StringArray | None

    def __len__(self) -> int:
        return len(self.packet)

    def take(self, rows: npt.NDArray[np.int64], *, query: bool = True) -> Rows:
        """These rows alone; `query`: with their query strings, the largest part of them by far."""
        return Rows(
            self.packet[rows],
            self.index[rows],
            self.writer[rows],
            self.seq[rows],
            self.partition[rows],
            self.scope[rows],
            self.scopes,
            self.appended_ms[rows],
            self.told[rows],
            self.told_words[rows],
            self.item[rows],
            self.received_ms[rows],
            self.stamped_ms[rows],
            self.time_ms[rows],
            self.site[rows],
            self.role[rows],
            self.flags[rows],
            self.address[rows],
            self.agent.take(rows),
            self.language.take(rows),
            self.hints.take(rows),
            self.query.take(pa.array(rows)) if query and self.query is not None else None,
        )


@dataclass(frozen=True, slots=True)
class Gathered:
    """A batch: its packets in the order of the records, their events, and the changes of each partition."""

    packets: list[Packet]
    rows: Rows
    overlays: dict[int, Overlay]


def valid_times(received: npt.NDArray[np.int64]) -> npt.NDArray[np.bool_]:
    """Where a collector's time can be true at all."""
    return (received >= EARLIEST_MS) & (received < LATEST_MS)


def gather(records: Sequence[Record], states: Mapping[int, PartitionState], lookups: Lookups) -> Gathered:
    """Decode the records; raises PolicyMissing, PolicyUnusable and HourKeyMissing."""
    overlays: dict[int, Overlay] = {}
    out: list[Packet] = []
    row = 0
    for record in records:
        overlay = overlays.get(record.partition)
        if overlay is None:
            overlay = overlays[record.partition] = Overlay(states[record.partition])
        packet = _packet(record, overlay, lookups)
        if packet.body is not None:
            packet.first_row, packet.count = row, packet.header.count
            row += packet.count
        out.append(packet)
    rows = _rows(out)
    _watermarks(out, rows, overlays)
    return Gathered(out, rows, overlays)


def _watermarks(out: Sequence[Packet], rows: Rows, overlays: Mapping[int, Overlay]) -> None:
    """The watermark below and after each packet: the highest of its times, each clamped to the broker's."""
    clamped = np.where(valid_times(rows.received_ms), rows.time_ms, 0)
    starts = [packet.first_row for packet in out if packet.count]
    highest = iter(np.maximum.reduceat(clamped, starts).tolist() if starts else ())
    for packet in out:
        overlay = overlays[packet.record.partition]
        if packet.count:
            overlay.watermark_ms = max(overlay.watermark_ms, next(highest))
        if packet.policies is not None:
            held = packet.policies.repeat_seconds * 1000 + REPEATS_SLACK_MS
            overlay.repeats_from_ms = max(overlay.repeats_from_ms, overlay.watermark_ms - held)
        packet.watermark_ms, packet.repeats_from_ms = overlay.watermark_ms, overlay.repeats_from_ms


def _packet(record: Record, overlay: Overlay, lookups: Lookups) -> Packet:
    try:
        header = packets.header(record.value)
        if overlay.saw(header.writer, header.seq):
            return Packet(record, PacketKind.COPY, header, None, None)
        body = packets.body(record.value, header, lookups, record.partition)
    except BadPacket as error:
        why = Rejected.KEY_DESTROYED if isinstance(error, KeyDestroyed) else Rejected.BAD_PACKET
        return Packet(record, PacketKind.BAD, BAD_HEADER, None, None, why=why)
    policies = lookups.policies(header.policy)
    overlay.see(header.writer, header.seq)
    return Packet(record, PacketKind.FIRST, header, body, policies)


def _rows(out: Sequence[Packet]) -> Rows:
    first = [(n, p, p.body) for n, p in enumerate(out) if p.body is not None]
    counts = np.array([p.count for _, p, _ in first], np.int64)
    total = int(counts.sum())

    def spread(values: Sequence[int], dtype: Any = np.int64) -> npt.NDArray[Any]:
        return np.repeat(np.array(values, dtype), counts)

    def joined(columns: Iterable[bytes], dtype: Any) -> npt.NDArray[Any]:
        return np.frombuffer(b"".join(columns), dtype)

    def texts(lists: Iterable[list[str]]) -> Texts:
        return Texts.of(chain.from_iterable(lists))

    received = joined((b.received_ms for _, _, b in first), "<i8")
    site = joined((b.site for _, _, b in first), "<u4")
    versions: dict[bytes, PolicySet] = {p.header.policy: p.policies for _, p, _ in first if p.policies}
    numbered = {version: number for number, version in enumerate(versions)}
    version = spread([numbered[p.header.policy] for _, p, _ in first])
    encoded = pc.dictionary_encode(pa.array((version << 32) | site.astype(np.int64)))
    names = list(versions)
    scopes: list[tuple[bytes, Rules | None]] = []
    remembered = caches()
    for pair in encoded.dictionary.to_pylist():
        name, number = names[pair >> 32], pair & 0xFFFFFFFF
        scopes.append((name, remembered.rules_of(name, number, versions[name])))
    starts = np.cumsum(counts) - counts
    appended = spread([p.record.appended_ms for _, p, _ in first])
    stamped = np.minimum(received, appended)
    items = joined((b.items for _, _, b in first), "<u4")
    told, told_words = _told(list(chain.from_iterable(b.repeat for _, _, b in first)), items)
    queries = "\n".join([b.query for _, _, b in first])
    return Rows(
        packet=spread([n for n, _, _ in first]),
        index=(np.arange(total) - np.repeat(starts, counts)).astype(np.uint32),
        writer=spread([p.header.writer for _, p, _ in first], np.uint64),
        seq=spread([p.header.seq for _, p, _ in first], np.uint64),
        partition=spread([p.record.partition for _, p, _ in first], np.uint64),
        scope=encoded.indices.to_numpy().astype(np.int64),
        scopes=scopes,
        appended_ms=appended,
        told=told,
        told_words=told_words,
        item=joined((b.index for _, _, b in first), "<u4"),
        received_ms=received,
        stamped_ms=stamped,
        time_ms=stamped,
        site=site,
        role=joined((b.role for _, _, b in first), np.uint8),
        flags=joined((b.flags for _, _, b in first), "<u2"),
        address=joined((b.address for _, _, b in first), np.uint8).reshape(total, 16),
        agent=texts(b.agent for _, _, b in first),
        language=texts(b.language for _, _, b in first),
        hints=texts(b.hints for _, _, b in first),
        query=pc.split_pattern(pa.array([queries]), "\n").flatten() if first else pa.array([], pa.string()),
    )


def _told(repeats: list[bytes], items: npt.NDArray[np.uint32]) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.uint64]]:
    """`repeats.told` of every event."""
    how, words = np.zeros(len(repeats), np.uint8), np.zeros((len(repeats), 2), np.uint64)
    at = [row for row, repeat in enumerate(repeats) if len(repeat) == REPEAT_BYTES]
    if at:
        rows = np.array(at)
        found = np.frombuffer(b"".join([repeats[row] for row in at]), np.uint8).reshape(-1, REPEAT_BYTES)
        key, body = found[:, 0] == ord(Repeat.KEY), (found[:, 0] == ord(Repeat.BODY)) & (items[rows] > 1)
        how[rows] = np.where(key, HOW[Repeated.KEY], np.where(body, HOW[Repeated.BODY], 0))
        words[rows] = np.where((key | body)[:, None], np.ascontiguousarray(found[:, 1:]).view("<u8"), np.uint64(0))
    return how, words
