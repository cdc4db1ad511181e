"""The rows of a batch, put together for the tables `events`, `rejects` and `packets`."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from schemas.reasons import Excluded, Repeated
from schemas.tables import PacketKind
from streams import masked, visits
from streams.description import Description
from streams.gather import Gathered, Packet
from streams.verdicts import NUMBER, REPEATS, VERDICTS, Verdict
from streams.visits import Followed

LATEST_MS = 4_102_444_800_000
FATES = ("stored", "excluded", "rejected", *(f"repeats_{reason}" for reason in Repeated))


def events(
    gathered: Gathered, pieces: Sequence[Description], followed: Sequence[Followed], schema: pa.Schema
) -> pa.Table:
    """One row per stored event."""
    parts = [
        _events(gathered, piece, steps, schema)
        for piece, steps in zip(pieces, followed, strict=True)
        if len(steps.stored)
    ]
    if not parts:
        return schema.empty_table()
    if len(parts) == 1:
        return parts[0]
    return pa.concat_tables(parts).unify_dictionaries().combine_chunks()


def _events(gathered: Gathered, piece: Description, steps: Followed, schema: pa.Schema) -> pa.Table:
    columns = piece.columns
    stored = steps.stored
    if len(stored) < len(piece.kept):
        keep = pa.array(stored)
        columns = {name: column.take(keep) for name, column in columns.items()}
    rows = piece.kept[stored]
    table = gathered.rows
    packet = table.packet[rows]
    per_packet = [
        ("partition", [p.record.partition for p in gathered.packets]),
        ("generation", [p.record.generation for p in gathered.packets]),
        ("offset", [p.record.offset for p in gathered.packets]),
        ("writer", [p.header.writer for p in gathered.packets]),
        ("seq", [p.header.seq for p in gathered.packets]),
    ]
    out = dict(columns)
    for name, values in per_packet:
        out[name] = pa.array(np.array(values, _dtype(schema.field(name).type))[packet])
    versions = pa.array([p.header.policy for p in gathered.packets], pa.binary(16))
    out["policy_version"] = versions.take(pa.array(packet))
    out["index"] = pa.array(table.index[rows])
    out["site_id"] = pa.array(table.site[rows])
    out["received_at"] = _moment(table.received_ms[rows])
    out["time"] = _moment(np.array(piece.time, np.int64)[stored])
    n = len(rows)
    out["shard"] = pa.array(np.zeros(n, np.uint16))
    out["repeat_id"] = piece.repeats.take(stored).packed()
    for name, column in visits.columns(steps).items():
        kind = schema.field(name).type
        if pa.types.is_dictionary(kind):
            out[name] = pa.array(column, pa.string()).dictionary_encode().cast(kind)
        elif pa.types.is_timestamp(kind):
            out[name] = _moment(np.array(column, np.int64))
        else:
            out[name] = pa.array(np.array(column, _dtype(kind)))
    return pa.Table.from_arrays([out[field.name] for field in schema], schema=schema)


def _dtype(kind: pa.DataType) -> npt.DTypeLike:
    """Numpy's type of a number; Arrow's own answer would ask for pandas."""
    return np.dtype(str(kind))


def _moment(values: npt.NDArray[np.int64]) -> pa.Array:
    return pa.array(values).view(pa.timestamp("ms", "UTC"))


def rejects(
    gathered: Gathered, pieces: Sequence[Description], followed: Sequence[Followed], schema: pa.Schema
) -> pa.Table:
    """One row per rejected event and per record that is not a packet: reasons, never content."""
    found: list[tuple[int, int, tuple[object, ...]]] = []
    for number, packet in enumerate(gathered.packets):
        if packet.kind == PacketKind.BAD:
            size = min(len(packet.record.value), 2**32 - 1)
            at = packet.record.appended_ms
            name = (0, packet.record.partition, packet.record.offset, 0)
            found.append((number, 0, _reject(packet, name, 0, at, packet.why, "", size)))
    rows = gathered.rows
    for piece in pieces:
        for position in np.flatnonzero(piece.verdict).tolist():
            verdict = VERDICTS[piece.verdict[position]]
            if verdict is None or not verdict.rejected:
                continue
            row = int(piece.rows[position])
            number, index = int(rows.packet[row]), int(rows.index[row])
            packet = gathered.packets[number]
            name = (packet.header.writer, packet.record.partition, packet.header.seq, index)
            assert rows.query is not None
            size = pc.binary_length(rows.query[row]).as_py()
            at = int(rows.received_ms[row])
            reject = _reject(packet, name, int(rows.site[row]), at, verdict.reason, verdict.field, size)
            found.append((number, index, reject))
    found.sort(key=lambda entry: entry[:2])
    columns = list(zip(*(values for _, _, values in found), strict=True)) or [()] * len(schema)
    arrays = [pa.array(values, field.type) for values, field in zip(columns, schema, strict=True)]
    return pa.Table.from_arrays(arrays, schema=schema)


def _reject(
    packet: Packet, name: tuple[int, int, int, int], site: int, at: int, reason: str, field: str, size: int
) -> tuple[object, ...]:
    writer, partition, seq, index = name
    record = packet.record
    received = max(0, min(LATEST_MS, at))
    return writer, partition, seq, index, record.generation, record.offset, site, received, reason, field, size


def packets(gathered: Gathered, pieces: Sequence[Description], stored: pa.Table, schema: pa.Schema) -> pa.Table:
    """One row per record: the ledger. `stored`: the rows of `events`."""
    n = len(gathered.packets)
    counts = np.zeros((len(FATES), n), np.int64)
    fate = np.array([FATES.index(_fate(verdict)) for verdict in VERDICTS])
    by_site = _repeats(gathered, pieces)
    hidden = masked.counts(stored)
    for piece in pieces:
        where = gathered.rows.packet[piece.rows]
        np.add.at(counts, (fate[piece.verdict], where), 1)
    rows = []
    for number, packet in enumerate(gathered.packets):
        record, header = packet.record, packet.header
        sites = by_site.get(number, {})
        bad = packet.kind == PacketKind.BAD
        rows.append(
            {
                "partition": record.partition,
                "generation": record.generation,
                "offset": record.offset,
                "writer": header.writer,
                "seq": record.offset if bad else header.seq,
                "kind": int(packet.kind),
                "routing": header.routing,
                "policy_version": header.policy,
                "appended_at": record.appended_ms,
                "watermark": packet.watermark_ms,
                "received": packet.count,
                **dict(zip(FATES, counts[:, number].tolist(), strict=True)),
                "repeats_from": packet.repeats_from_ms,
                "repeats_site": [site for site, _ in sites],
                "repeats_reason": [reason for _, reason in sites],
                "repeats_count": list(sites.values()),
                **masked.columns(hidden.get((record.partition, record.offset), {})),
            }
        )
    return pa.Table.from_pylist(rows, schema=schema)


def _fate(verdict: Verdict | None) -> str:
    """The column of `packets` in which an event is counted."""
    if verdict is None:
        return "stored"
    if isinstance(verdict.reason, Repeated):
        return f"repeats_{verdict.reason}"
    return "excluded" if isinstance(verdict.reason, Excluded) else "rejected"


def _repeats(gathered: Gathered, pieces: Sequence[Description]) -> dict[int, dict[tuple[int, str], int]]:
    """Of each packet that has any: how many repeats by site and reason, in this order."""
    found: dict[tuple[int, int, str], int] = {}
    for reason, verdict in REPEATS.items():
        for piece in pieces:
            rows = piece.rows[piece.verdict == NUMBER[verdict]]
            names = gathered.rows.packet[rows].tolist(), gathered.rows.site[rows].tolist()
            for number, site in zip(*names, strict=True):
                name = (number, site, str(reason))
                found[name] = found.get(name, 0) + 1
    out: dict[int, dict[tuple[int, str], int]] = {}
    for (number, site, reason_), count in sorted(found.items()):
        out.setdefault(number, {})[site, reason_] = count
    return out
