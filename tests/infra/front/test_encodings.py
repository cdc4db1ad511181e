from __future__ import annotations

import gzip
import random
import zlib
from collections.abc import Callable

import lz4.frame
import pytest
import zstandard

from infra.local.front.encodings import Decoder, encoder
from infra.local.front.errors import FrontError

PACK: dict[str, Callable[[bytes], bytes]] = {
    "gzip": gzip.compress,
    "deflate": zlib.compress,
    "lz4": lz4.frame.compress,
    "zstd": zstandard.compress,
}
UNPACK: dict[str, Callable[[bytes], bytes]] = {
    "gzip": gzip.decompress,
    "deflate": zlib.decompress,
    "lz4": lz4.frame.decompress,
    "zstd": lambda data: zstandard.ZstdDecompressor().decompressobj().decompress(data),
}
SEEDED = random.Random(3)
DATA = SEEDED.randbytes(300_000) + bytes(5_000_000) + b"x"


def decode(encoding: str, data: bytes, piece: int, limit: int = 1 << 30) -> bytes:
    decoder = Decoder(encoding, limit)
    found = [one for start in range(0, len(data), piece) for one in decoder.feed(data[start : start + piece])]
    decoder.finish()
    return b"".join(found)


@pytest.mark.parametrize("encoding", PACK)
@pytest.mark.parametrize("piece", [7001, 1 << 20, 1 << 30])
def test_decoding(encoding: str, piece: int) -> None:
    pack = PACK[encoding]
    assert decode(encoding, pack(DATA), piece) == DATA
    assert decode(encoding, pack(DATA[:1000]) + pack(b"") + pack(DATA[1000:]), piece) == DATA
    assert decode(encoding, b"", piece) == b""


@pytest.mark.parametrize("encoding", PACK)
def test_an_early_end_is_seen_at_every_byte(encoding: str) -> None:
    packed = PACK[encoding](b"some text " * 20)
    for cut in range(1, len(packed)):
        with pytest.raises(FrontError) as caught:
            decode(encoding, packed[:cut], 10)
        assert caught.value.code in (3, 271), cut


@pytest.mark.parametrize("encoding", [*PACK, "identity", ""])
def test_the_limit(encoding: str) -> None:
    packed = PACK.get(encoding, bytes)(bytes(3_000_000))
    assert len(decode(encoding, packed, 1 << 16, limit=3_000_000)) == 3_000_000
    with pytest.raises(FrontError) as caught:
        decode(encoding, packed, 1 << 16, limit=2_999_999)
    assert (caught.value.code, caught.value.status) == (307, 413)


@pytest.mark.parametrize("encoding", PACK)
def test_damage(encoding: str) -> None:
    with pytest.raises(FrontError) as caught:
        decode(encoding, b"this is not compressed", 100)
    assert (caught.value.code, caught.value.status) == (271, 400)


def test_an_unknown_encoding() -> None:
    with pytest.raises(FrontError) as caught:
        Decoder("br", 10)
    assert (caught.value.code, caught.value.status) == (89, 415)


@pytest.mark.parametrize("encoding", PACK)
def test_encoding(encoding: str) -> None:
    one = encoder(encoding, {"enable_http_compression": "1"})
    assert one is not None
    packed = b"".join([one.feed(DATA[:10]), one.feed(DATA[10:]), one.finish()])
    assert UNPACK[encoding](packed) == DATA
    empty = encoder(encoding, {"enable_http_compression": "1"})
    assert empty is not None
    assert UNPACK[encoding](empty.finish()) == b""


@pytest.mark.parametrize(
    ("accepted", "chosen"),
    [
        ("gzip", "gzip"),
        ("gzip, deflate, br, zstd", "zstd"),
        ("GZIP;q=0.5, lz4;q=0", "gzip"),
        ("br", None),
        ("", None),
        ("identity", None),
    ],
)
def test_the_choice(accepted: str, chosen: str | None) -> None:
    found = encoder(accepted, {"enable_http_compression": "1"})
    assert (found.name if found is not None else None) == chosen
    assert encoder(accepted, {}) is None
    assert encoder(accepted, {"enable_http_compression": "0"}) is None
