"""Sealing: only who holds an hour's private key reads the packets of that hour.

A collector process draws a data key (32 random bytes) for each hour and wraps it to the hour's *public* key by HPKE
(RFC 9180, base mode: X25519, HKDF-SHA256, AES-256-GCM). The wrapped key, 80 bytes, travels in the header of every
packet; the body is encrypted with AES-256-GCM under the data key. The private key lies in the vault alone, so once it
is destroyed nothing that is left opens the packet: not the broker's disk, not a spool, not the collector.

The nonce is the name of the packet within its writer, (partition, seq), which no two packets under one data key share,
so it needs neither a place nor a counter of its own. Associated data are the topic, the partition and the whole header
with writer and seq: a packet that was moved, renamed or recounted does not open.
"""

from __future__ import annotations

import secrets
import struct

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hpke import AEAD, KDF, KEM, Suite

HOUR_MS = 3_600_000
KEY_BYTES = 32
TAG_BYTES = 16
_SUITE = Suite(KEM.X25519, KDF.HKDF_SHA256, AEAD.AES_256_GCM)
_nonce = struct.Struct("<IQ").pack
_partition = struct.Struct("<I").pack


class Unsealable(ValueError):
    """Key and packet do not belong together, or the packet is not what was sealed."""


def hour_of(ms: int) -> int:
    """The hour of a moment (milliseconds since 1970 UTC): whole hours since 1970, the key id of a packet."""
    return ms // HOUR_MS


def new_private_key() -> bytes:
    """The private key of an hour, 32 bytes."""
    return X25519PrivateKey.generate().private_bytes_raw()


def public_key(private: bytes) -> bytes:
    """The public key, 32 bytes, of a private one."""
    return X25519PrivateKey.from_private_bytes(private).public_key().public_bytes_raw()


class Sealer:
    """One data key: of one collector process, one topic and one hour. wrapped: as it stands in a packet's header."""

    def __init__(self, topic: str, hour: int, public: bytes) -> None:
        """Raises ValueError where `public` is no key."""
        key = secrets.token_bytes(KEY_BYTES)
        self.hour = hour
        self.wrapped = _SUITE.encrypt(key, X25519PublicKey.from_public_bytes(public), _purpose(hour))
        self._encrypt = AESGCM(key).encrypt
        self._topic = topic.encode() + b"\0"

    def seal(self, partition: int, seq: int, head: bytes, body: bytes) -> bytes:
        """The body sealed; `head` is the packet's header with the wrapped key. Once per (partition, seq)."""
        return self._encrypt(_nonce(partition, seq), body, self._topic + _partition(partition) + head)


def unwrap(wrapped: bytes, hour: int, private: bytes) -> AESGCM:
    """The cipher of a data key; raises Unsealable where it was not wrapped to this hour's key."""
    try:
        key = _SUITE.decrypt(wrapped, X25519PrivateKey.from_private_bytes(private), _purpose(hour))
        return AESGCM(key)
    except (InvalidTag, ValueError):
        raise Unsealable("the wrapped key does not open with the key of its hour") from None


def open_body(cipher: AESGCM, topic: str, partition: int, seq: int, head: bytes, sealed: bytes) -> bytes:
    """The body that `Sealer.seal` was given; raises Unsealable."""
    try:
        return cipher.decrypt(_nonce(partition, seq), sealed, topic.encode() + b"\0" + _partition(partition) + head)
    except (InvalidTag, ValueError):
        raise Unsealable("the body is not what was sealed under this name") from None


def _purpose(hour: int) -> bytes:
    return b"veilstream packet" + struct.pack("<I", hour)
