from __future__ import annotations

import ipaddress
import random
from pathlib import Path

import numpy as np
import pytest

from streams.anonymize import addresses, location
from tests.streams.core.vectors import group


def packed(text: str) -> bytes:
    address = ipaddress.ip_address(text)
    return address.packed if address.version == 6 else addresses.MAPPED + address.packed


@pytest.mark.parametrize(
    ("given", "level", "expected"),
    [
        ("81.2.69.160", 0, "81.2.69.160"),
        ("81.2.69.160", 1, "81.2.69.0"),
        ("81.2.69.160", 2, "81.2.0.0"),
        ("81.2.69.160", 3, "81.0.0.0"),
        ("81.2.69.160", 4, "0.0.0.0"),
        ("81.2.69.160", 9, "0.0.0.0"),
        ("::ffff:81.2.69.160", 2, "81.2.0.0"),
        ("2001:db8:1:2:3:4:5:6", 0, "2001:db8:1:2:3:4:5:6"),
        ("2001:db8:1:2:3:4:5:6", 1, "2001:db8:1:2::"),
        ("2001:db8:1:2:3:4:5:6", 2, "2001:db8:1::"),
        ("2001:db8:1:2:3:4:5:6", 3, "2001:d00::"),
        ("2001:db8:1:2:3:4:5:6", 4, "::"),
        ("2002:5102:45a0:1::1", 1, "2002:5102:4500:1::"),
        ("2002:5102:45a0:1::1", 2, "2002:5102::"),
        ("2002:5102:45a0:1::1", 3, "2002:5100::"),
    ],
)
def test_levels(given: str, level: int, expected: str) -> None:
    assert addresses.text(addresses.mask(packed(given), level)) == expected


def test_column_equals_the_rule_on_each_row() -> None:
    r = random.Random(1)
    given = [
        r.choice([addresses.MAPPED + r.randbytes(4), b"\x20\x02" + r.randbytes(14), r.randbytes(16)])
        for _ in range(600)
    ]
    levels = [r.randint(0, 6) for _ in given]
    column = np.frombuffer(b"".join(given), np.uint8).reshape(-1, 16)
    masked = addresses.packed(addresses.mask_column(column, np.array(levels)))
    expected = [addresses.mask(address, level) for address, level in zip(given, levels, strict=True)]
    assert [row.tobytes() for row in masked] == expected


@pytest.mark.parametrize("name", ["ip_mask", "ip_mask_component"])
def test_matomo_vectors(vectors: Path, name: str) -> None:
    for case in group(vectors, name):
        level = case["input"]["mask_level"]
        expected = bytes.fromhex(case["expected"]["hex"])
        assert addresses.mask(packed(case["input"]["ip"]), level)[-len(expected) :] == expected, case["id"]


def test_location_sees_nothing_where_nothing_is_left() -> None:
    masked = addresses.mask(packed("81.2.69.160"), 2)
    assert location.visible(masked, 2) == masked
    assert location.visible(masked, 4) is None
