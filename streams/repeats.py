"""Repeats: clients send again what was stored, and a repeat must be told from a second event that looks the same.

    the request has                               identity                                           reason
    an Idempotency-Key header                     key, site, token, index in the body                key
    `r` or `rand`, and `h,m,s` or `pv_id`         all parameters but `send_image`, address, agent    random
    a bulk body of two items or more              hash of the body, index in it                      body
    none of these                                 none: it is always a second event

The first line that holds counts. An event is a repeat when a stored event of its partition with the same identity lies
before it in the log, and the two were received at most the site's window apart, either way. A repeat touches no state.

The identity is a 128-bit hash under the site's key of the UTC date of `received_at`; within one window of midnight the
identity under the neighbour's key is looked for as well. Parameters count as texts in their order; what a browser
encodes in a URL and leaves alone in a form is taken as encoded, since matomo.js sends a failed POST again as GET.

An event whose collector's clock is more than AHEAD_MS ahead of the broker's, or that comes more than BEHIND_MS late,
has no identity: the one would stay in memory for as long, the other be compared with what is being emptied.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, timedelta
from hashlib import blake2b
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from xxhash import xxh3_128_digest

from schemas.packets import Repeat
from streams import keyed
from streams.columns import Query, text_bytes
from streams.distinct import encode
from streams.gather import Gathered, Rows
from streams.keyed import Kind
from streams.surroundings import Asked, Lookups
from streams.verdicts import HOW, NUMBER, REPEATS
from streams.window import U64, Mask, Moments, Run, Window

DAY_MS = 86_400_000
AHEAD_MS = 900_000
BEHIND_MS = 7 * DAY_MS

PARAMETERS = ("r", "rand", "h", "m", "s", "pv_id")
KEY, RANDOM, BODY = HOW.values()
VERDICT = np.array([0, *(NUMBER[REPEATS[reason]] for reason in HOW)], np.uint8)  # by HOW

_MARKS = {mark: f"%{ord(mark):02X}" for mark in "\"'<>"}


class Identities(NamedTuple):
    """One entry per event. `how`: a number of HOW, 0 for none; `high`, `low`: the identity, 0 for none.

    `near_high`, `near_low`: the identity under the key of the day that is less than `within` (ms) away, 0 where there
    is none.
    """

    how: npt.NDArray[np.uint8]
    high: U64
    low: U64
    near_high: U64
    near_low: U64
    within: Moments

    @classmethod
    def none(cls, count: int) -> Identities:
        """Events without an identity."""
        high, low, near_high, near_low = np.zeros((4, count), np.uint64)
        return cls(np.zeros(count, np.uint8), high, low, near_high, near_low, np.zeros(count, np.int64))

    def take(self, rows: npt.NDArray[np.int64]) -> Identities:
        """Those of these rows."""
        return Identities._make(column[rows] for column in self)

    def packed(self) -> pa.Array:
        """The column `repeat_id`: high, then low, little-endian."""
        words = pa.py_buffer(np.stack([self.high, self.low], axis=1).astype("<u8").tobytes())
        return pa.FixedSizeBinaryArray.from_buffers(pa.binary(16), len(self.high), [None, words])


def unpacked(ids: bytes) -> tuple[U64, U64]:
    """High and low halves of identities as they lie in `repeat_id`, one after the other."""
    words = np.frombuffer(ids, "<u8").reshape(-1, 2)
    return words[:, 0].astype(np.uint64), words[:, 1].astype(np.uint64)


def told(repeat: bytes, items: int) -> tuple[int, int, int]:
    """What the collector told of a request: KEY, BODY or 0, and the two words of its hash."""
    how = {Repeat.KEY: KEY, Repeat.BODY: BODY if items > 1 else 0}.get(repeat[:1], 0)
    if not how or len(repeat) != 17:
        return 0, 0, 0
    return how, int.from_bytes(repeat[1:9], "little"), int.from_bytes(repeat[9:], "little")


def text_words(query: str) -> tuple[int, int]:
    """The two words of all parameters of a request."""
    for mark, escape in _MARKS.items():
        query = query.replace(mark, escape)
    digest = xxh3_128_digest(query.encode())
    return int.from_bytes(digest[:8], "little"), int.from_bytes(digest[8:], "little")


def agent_word(agent: str) -> int:
    """The word of an agent."""
    return int.from_bytes(blake2b(agent.encode("utf-8", "replace"), digest_size=8).digest(), "little")


def identify(rows: Rows, query: Query, some: npt.NDArray[np.int64], lookups: Lookups) -> Identities:
    """The identities of all rows; only `some` may have one. Raises SecretMissing."""
    out = Identities.none(len(rows))
    within = np.array([rules.repeat_ms if rules else 0 for _, rules in rows.scopes], np.int64)[rows.scope]
    early = rows.received_ms - rows.appended_ms
    may = np.zeros(len(rows), np.bool_)
    may[some] = True
    may &= (within > 0) & (early <= AHEAD_MS) & (early >= -BEHIND_MS)
    given = {name: query.filled(name) for name in PARAMETERS}
    random = (given["r"] | given["rand"]) & ((given["h"] & given["m"] & given["s"]) | given["pv_id"])
    how = np.where(rows.told == KEY, KEY, np.where(random, RANDOM, rows.told)) * may
    at = np.flatnonzero(how)
    if not len(at):
        return out
    words = np.zeros((5, len(rows)), np.uint64)  # of the request: two; of the place or of the sender: three
    words[:2] = rows.told_words.T
    words[2] = rows.item
    by_text = np.flatnonzero(how == RANDOM)
    if len(by_text):
        assert rows.query is not None
        texts = rows.query if len(by_text) == len(rows) else rows.query.take(pa.array(by_text))
        digests = b"".join([xxh3_128_digest(text.encode()) for text in _encoded(texts)])
        words[:2, by_text] = np.frombuffer(digests, "<u8").reshape(-1, 2).T
        agents, agent_at = rows.agent
        words[2, by_text] = np.array([agent_word(agent) for agent in agents], np.uint64)[agent_at][by_text]
        words[3:, by_text] = rows.address[by_text].view("<u8").T
    message = (how[at].astype(np.uint64), *(words if len(at) == len(rows) else words[:, at]))
    received, window = rows.received_ms[at], within[at]
    day = received // DAY_MS
    keys = _Keys(rows, lookups)
    high, low = keys.hash(rows.scope[at], day, message)
    out.how[at], out.high[at], out.low[at], out.within[at] = how[at], high, low, window
    into = received % DAY_MS
    side = np.where(into < window, -1, np.where(DAY_MS - into <= window, 1, 0))
    if side.any():
        near = np.flatnonzero(side)
        pair = keys.hash(rows.scope[at][near], (day + side)[near], tuple(word[near] for word in message))
        out.near_high[at[near]], out.near_low[at[near]] = pair
    return out


def _encoded(texts: pa.StringArray) -> list[str]:
    out: list[str] = texts.to_pylist()
    whole = text_bytes(texts)[0].tobytes()
    for mark, escape in _MARKS.items():
        if mark.encode() in whole:
            out = [text.replace(mark, escape) for text in out]
    return out


class _Keys:
    """Hashes under the key of each row's site and day."""

    def __init__(self, rows: Rows, lookups: Lookups) -> None:
        self._sites = [rules.site if rules else 0 for _, rules in rows.scopes]
        self._lookups = lookups

    def hash(self, scope: npt.NDArray[np.int64], day: Moments, message: Sequence[U64]) -> tuple[U64, U64]:
        """The two halves; `day` counts days since 1970."""
        distinct, at = encode(pa.array((scope << 32) | day))
        epoch = date(1970, 1, 1)
        made = []
        for pair in distinct:
            secret = self._lookups.day_secret(epoch + timedelta(days=pair & 0xFFFFFFFF))
            made.append(keyed.key_words(keyed.site_day_key(secret, self._sites[pair >> 32])))
        words = np.array(made, np.uint64)
        k0, k1 = words[at, 0], words[at, 1]
        zero = np.zeros(len(at), np.uint64)
        high = keyed.hash_columns(k0, k1, Kind.REPEAT, zero, *message)
        return high, keyed.hash_columns(k0, k1, Kind.REPEAT, zero + np.uint64(1), *message)


class Earlier:
    """The events before the batch: those in memory, and those in the tables where memory does not reach back."""

    def __init__(self, gathered: Gathered, lookups: Lookups) -> None:
        self._lookups = lookups
        packets = gathered.packets
        self._partition = np.array([packet.record.partition for packet in packets], np.int64)
        self._windows = {number: overlay.state.repeats for number, overlay in gathered.overlays.items()}
        self._first: dict[int, tuple[int, int]] = {}
        for packet in packets:
            self._first.setdefault(packet.record.partition, (packet.record.generation, packet.record.offset))

    def repeated(self, rows: Rows, ids: Identities) -> Mask:
        """Which rows repeat a stored event; raises RepeatsMissing."""
        out = np.zeros(len(rows), np.bool_)
        at = np.flatnonzero(ids.high)
        partition = self._partition[rows.packet[at]]
        late: list[tuple[Asked, npt.NDArray[np.int64]]] = []
        for number in np.unique(partition).tolist():
            mine = at[partition == number]
            window = self._windows[number]
            out[mine] = _found(window, rows, ids, mine)
            mine = mine[~out[mine] & (rows.received_ms[mine] - ids.within[mine] <= window.from_ms)]
            if len(mine):
                late.append((self._asked(number, rows, ids, mine), mine))
        if late:
            answers = self._lookups.identities([asked for asked, _ in late])
            for (_, mine), run in zip(late, answers, strict=True):
                out[mine] = _found(Window.of(-(2**62), *run), rows, ids, mine)
        return out

    def _asked(self, partition: int, rows: Rows, ids: Identities, mine: npt.NDArray[np.int64]) -> Asked:
        near = mine[ids.near_high[mine] > 0]
        high = np.unique(np.concatenate([ids.high[mine], ids.near_high[near]]))
        received, within = rows.received_ms[mine], ids.within[mine]
        generation, offset = self._first[partition]
        return Asked(
            partition,
            generation,
            offset,
            frozenset(np.unique(rows.site[mine]).tolist()),
            frozenset(high.tolist()),
            int((received - within).min()),
            int((received + within).max()),
        )


def _found(window: Window, rows: Rows, ids: Identities, mine: npt.NDArray[np.int64]) -> Mask:
    at, within = rows.received_ms[mine], ids.within[mine]
    found = window.find(ids.high[mine], ids.low[mine], at, within)
    near = np.flatnonzero(ids.near_high[mine])
    if len(near):
        rest = mine[near]
        found[near] |= window.find(ids.near_high[rest], ids.near_low[rest], at[near], within[near])
    return found


Name = tuple[int, int, int]  # partition, high, low


class Doubt(NamedTuple):
    """An event that looks like another one of its batch: its names, when it was received, its verdict if it repeats."""

    own: Name
    near: Name
    at: int
    within: int
    verdict: int


@dataclass(slots=True)
class Doubts:
    """The events of a piece about which only the events before them in their batch decide, once it is known which of
    these are stored. `stored` is shared by the pieces of a batch."""

    rows: Mapping[int, Doubt] = field(default_factory=dict)  # by position among the kept rows
    stored: dict[Name, list[int]] = field(default_factory=dict)

    def verdict(self, position: int) -> int:
        """The event's verdict, 0 where it repeats nothing."""
        doubt = self.rows.get(position)
        if doubt is not None:
            for name in (doubt.own, doubt.near):
                if any(abs(doubt.at - at) <= doubt.within for at in self.stored.get(name, ())):
                    return doubt.verdict
        return 0

    def keep(self, position: int) -> None:
        """The event is stored."""
        doubt = self.rows.get(position)
        if doubt is not None:
            self.stored.setdefault(doubt.own, []).append(doubt.at)


def among(gathered: Gathered, pieces: Iterable[tuple[npt.NDArray[np.int64], Identities]]) -> list[Doubts]:
    """The doubts of each piece, given by the numbers of its kept rows and their identities."""
    pieces = list(pieces)
    high = np.sort(np.concatenate([ids.high[ids.high > 0] for _, ids in pieces]))
    doubtful = np.unique(high[1:][high[1:] == high[:-1]])
    near = np.concatenate([ids.near_high[ids.near_high > 0] for _, ids in pieces])
    if len(near):
        met = near[high[np.minimum(np.searchsorted(high, near), len(high) - 1)] == near]
        doubtful = np.union1d(doubtful, met)
    stored: dict[Name, list[int]] = {}
    if not len(doubtful):
        return [Doubts(stored=stored) for _ in pieces]
    return [Doubts(_doubts(gathered, kept, ids, doubtful), stored) for kept, ids in pieces]


def _doubts(gathered: Gathered, kept: npt.NDArray[np.int64], ids: Identities, doubtful: U64) -> dict[int, Doubt]:
    out = {}
    rows = gathered.rows
    for position in np.flatnonzero(np.isin(ids.high, doubtful) | np.isin(ids.near_high, doubtful)).tolist():
        row = int(kept[position])
        partition = gathered.packets[int(rows.packet[row])].record.partition
        out[position] = Doubt(
            (partition, int(ids.high[position]), int(ids.low[position])),
            (partition, int(ids.near_high[position]), int(ids.near_low[position])),
            int(rows.received_ms[row]),
            int(ids.within[position]),
            int(VERDICT[ids.how[position]]),
        )
    return out


def remember(gathered: Gathered, pieces: Iterable[tuple[npt.NDArray[np.int64], Identities]]) -> None:
    """Put the identities of the stored rows into the overlays; `pieces` as for `among`, of stored rows alone."""
    partitions = np.array([packet.record.partition for packet in gathered.packets], np.int64)
    for rows, ids in pieces:
        at = np.flatnonzero(ids.high)
        rows = rows[at]
        of_row = partitions[gathered.rows.packet[rows]]
        received = gathered.rows.received_ms[rows]
        for number in np.unique(of_row).tolist():
            mine = of_row == number
            run = Run(ids.high[at][mine], ids.low[at][mine], received[mine])
            gathered.overlays[number].repeats.append(run)
