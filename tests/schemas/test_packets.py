"""The packet: what goes in comes out, and nothing else is taken for one."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from schemas import packets
from schemas.packets import BadPacket, Event, Flag, Role

POLICY = bytes(range(16))
QUERY = st.text(st.characters(min_codepoint=0x21, max_codepoint=0x7E), max_size=50)
TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
EVENTS = st.lists(
    st.builds(
        Event,
        received_ms=st.integers(0, 2**62),
        site=st.integers(0, 2**32 - 1),
        address=st.binary(min_size=16, max_size=16),
        role=st.sampled_from(Role).map(int),
        flags=st.integers(0, 2**16 - 1),
        agent=TEXT,
        language=TEXT,
        hints=TEXT,
        query=QUERY,
        repeat=st.just(b"") | st.binary(min_size=16, max_size=16).map(lambda h: b"K" + h),
        items=st.integers(1, 2**32 - 1),
        index=st.integers(0, 2**32 - 1),
    ),
    min_size=1,
    max_size=20,
)


def event(query: str = "idsite=1&rec=1") -> Event:
    return Event(1_700_000_000_000, 1, packets.MAPPED_IPV4 + b"\1\2\3\4", Role.NONE, Flag.GPC, "agent", "en", "", query)


@given(EVENTS, st.integers(0, 2**64 - 1), st.integers(0, 2**64 - 1))
@settings(max_examples=50)
def test_round_trip(events: list[Event], writer: int, seq: int) -> None:
    head, columns = packets.decode(packets.encode(writer, seq, 1, POLICY, events))
    assert (head.writer, head.seq, head.count, head.routing, head.policy) == (
        writer,
        seq,
        len(events),
        1,
        POLICY,
    )
    assert [columns.event(i) for i in range(len(events))] == events


@given(st.binary(max_size=200))
def test_noise_is_not_a_packet(noise: bytes) -> None:
    with pytest.raises(BadPacket):
        packets.decode(noise)


def test_every_truncation_is_refused() -> None:
    value = packets.encode(1, 2, 1, POLICY, [event(), event()])
    for size in range(len(value)):
        with pytest.raises(BadPacket):
            packets.decode(value[:size])


def test_every_flipped_bit_is_refused_or_stays_within_its_field() -> None:
    value = packets.encode(1, 2, 1, POLICY, [event(), event()])
    for at in range(len(value)):
        for bit in range(8):
            changed = bytearray(value)
            changed[at] ^= 1 << bit
            try:
                _, columns = packets.decode(bytes(changed))
            except BadPacket:
                continue
            assert len(columns.site) == 2


def test_a_bomb_is_refused_without_being_opened() -> None:
    import zstandard

    bomb = zstandard.ZstdCompressor().compress(bytes(packets.BODY_LIMIT + 1))
    value = packets.encode(1, 2, 1, POLICY, [event()])
    with pytest.raises(BadPacket, match="larger"):
        packets.decode(value[: packets.HEADER.size] + bomb)


def test_unknown_format_codec_and_seal_are_refused() -> None:
    value = packets.encode(1, 2, 1, POLICY, [event()])
    for at in (3, 4, 5):
        with pytest.raises(BadPacket):
            packets.decode(value[:at] + b"\x09" + value[at + 1 :])
