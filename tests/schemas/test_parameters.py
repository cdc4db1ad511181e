"""The grammar of parameters: decoding, duplicates, numbers."""

from __future__ import annotations

import math
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas import parameters


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a+b%20c", "a b c"),
        ("100%", "100%"),
        ("%zz%4", "%zz%4"),
        ("%E4%F6", "\ufffd\ufffd"),
        ("%C3%A4", "ä"),
        ("", ""),
    ],
)
def test_decode(text: str, expected: str) -> None:
    assert parameters.decode(text) == expected


def test_last_duplicate_wins_and_names_are_decoded() -> None:
    query = "%69dsite=1&flag&a=b=c&idsite=2&=x&&"
    assert parameters.parse(query) == {"idsite": "2", "flag": "", "a": "b=c"}


def test_without_keeps_order_and_spelling() -> None:
    query = "a=%7e&token%5Fauth=x&b=+&token_auth=y&token_auth"
    assert parameters.without(query, frozenset({"token_auth"})) == "a=%7e&b=+"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("12", 12),
        ("-3", -3),
        ("007", 7),
        ("99999999999999999999", 2**31 - 1),
        ("-99999999999999999999", -(2**31)),
        ("0" * 5000 + "5", 5),
        ("9" * 5000, 2**31 - 1),
        ("0x1F", 7777),
        ("1_000", 7777),
        ("+7", 7777),
        (" 7", 7777),
        ("7\n", 7777),
        ("٣", 7777),
        ("", 7777),
        (None, 7777),
    ],
)
def test_integer(text: str | None, expected: int) -> None:
    assert parameters.integer(text, 7777) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [("1.5", 1.5), (".5", 0.5), ("-2", -2.0), ("1e3", 1000.0), ("nan", 9.0), ("inf", 9.0), ("1e999", 9.0),
     ("1e15", 9.0), ("1,5", 9.0), ("1_0", 9.0), (None, 9.0)],
)  # fmt: skip
def test_decimal(text: str | None, expected: float) -> None:
    assert parameters.decimal(text, 9.0) == expected


@given(st.text())
def test_numbers_are_always_in_range(text: str) -> None:
    assert -(2**31) <= parameters.integer(text) < 2**31
    assert math.isfinite(parameters.decimal(text))


@given(st.binary())
def test_safe_is_printable_and_means_the_same(query: bytes) -> None:
    text = parameters.safe(query)
    assert re.fullmatch(r"[\x21-\x7e]*", text)
    if b"%" not in query and b"+" not in query:
        assert parameters.decode(text) == query.decode("utf-8", "replace")
