"""Sealed packets: they open under their own name with their hour's private key, and under nothing else."""

from __future__ import annotations

import pytest

from schemas import packets
from schemas.packets import HEADER, BadPacket, Event, Header
from schemas.sealing import Sealer, hour_of, new_private_key, open_body, public_key, unwrap

HOUR = hour_of(1_700_000_000_000)
PRIVATE = new_private_key()
EVENT = Event(1_700_000_000_000, 1, bytes(16), 0, 0, "some agent", "de", "", "idsite=1&rec=1&uid=somebody")


class Keys:
    """Opens with one private key, of whatever hour the packet says."""

    def __init__(self, private: bytes = PRIVATE, topic: str = "events.raw") -> None:
        self.private, self.topic = private, topic

    def open(self, value: bytes, head: Header, partition: int) -> bytes:
        start = HEADER.size + len(head.wrapped_key)
        try:
            cipher = unwrap(head.wrapped_key, head.key_id, self.private)
            return open_body(cipher, self.topic, partition, head.seq, value[:start], value[start:])
        except ValueError as error:
            raise BadPacket(str(error)) from None


def sealed(seq: int = 5, partition: int = 3, sealer: Sealer | None = None) -> bytes:
    sealer = sealer or Sealer("events.raw", HOUR, public_key(PRIVATE))
    return packets.encode(7, seq, 1, bytes(16), [EVENT], sealer, partition)


def test_a_sealed_packet_opens_under_its_name() -> None:
    value = sealed()
    head, columns = packets.decode(value, Keys(), 3)
    assert (head.writer, head.seq, head.key_id, len(head.wrapped_key)) == (7, 5, HOUR, 80)
    assert columns.event(0) == EVENT
    plain = packets.encode(7, 5, 1, bytes(16), [EVENT])
    assert len(value) == len(plain) + 80 + 16


def test_nothing_of_the_content_stands_in_it_and_no_two_are_alike() -> None:
    sealer = Sealer("events.raw", HOUR, public_key(PRIVATE))
    one, other = sealed(5, 3, sealer), sealed(6, 3, sealer)
    assert all(word not in one for word in (b"somebody", b"agent", b"idsite"))
    body = HEADER.size + 80
    assert one[body:] != other[body:]
    assert sealed()[HEADER.size : body] != one[HEADER.size : body]


def test_it_opens_with_no_other_key_topic_partition_or_header() -> None:
    value = sealed()
    for keys, partition in ((Keys(new_private_key()), 3), (Keys(topic="other"), 3), (Keys(), 2)):
        with pytest.raises(BadPacket):
            packets.decode(value, keys, partition)
    for at in (*range(6, HEADER.size), HEADER.size, HEADER.size + 79, len(value) - 1):
        with pytest.raises(BadPacket):
            packets.decode(value[:at] + bytes([value[at] ^ 1]) + value[at + 1 :], Keys(), 3)
    with pytest.raises(BadPacket, match="nobody here opens it"):
        packets.decode(value)
