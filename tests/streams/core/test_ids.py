"""Visitor ids, user ids, order ids and the keyed hashes they become."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from siphash24 import siphash24

from schemas.privacy import PageViewIds
from streams import keyed
from streams.anonymize import order_ids, page_view_ids, recordings, user_ids, visitor_ids
from streams.columns import text_bytes
from streams.keyed import Kind
from tests.streams.core.vectors import group

KEY = bytes(range(16))


def test_siphash_of_its_authors_vector() -> None:
    # Aumasson and Bernstein, "SipHash", appendix A: key 00..0f, message 00..0e
    assert siphash24(bytes(range(15)), key=KEY).intdigest() & keyed.MASK == 0xA129CA6149BE45E5


@pytest.mark.parametrize("words", range(1, 6))
def test_columns_equal_values(words: int) -> None:
    r = np.random.default_rng(words)
    keys = [r.bytes(16) for _ in range(50)]
    halves = np.array([keyed.key_words(key) for key in keys], np.uint64)
    table = r.integers(0, 2**64 - 1, (words, 50), np.uint64)
    column = keyed.hash_columns(halves[:, 0], halves[:, 1], Kind.CONFIG, *table)
    expected = [keyed.hash_words(key, Kind.CONFIG, *map(int, table[:, n])) for n, key in enumerate(keys)]
    assert column.tolist() == expected


def test_a_hash_depends_on_key_kind_site_and_day() -> None:
    day, other_day = b"a" * 32, b"b" * 32
    keys = [keyed.site_day_key(day, 1), keyed.site_day_key(day, 2), keyed.site_day_key(other_day, 1)]
    hashes = {keyed.hash_text(key, kind, "x") for key in keys for kind in Kind}
    assert len(hashes) == len(keys) * len(Kind)
    assert keyed.site_day_key(day, 1) == keyed.site_day_key(day, 1)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("76d1f50cbfda087a", 0x76D1F50CBFDA087A),
        ("76D1F50CBFDA087A", 0x76D1F50CBFDA087A),
        ("76d1f50cbfda087a99", 0x76D1F50CBFDA087A),
        ("0000000000000000", 0),
        ("76d1f50cbfda087", None),
        ("x6d1f50cbfda087a", None),
        ("", None),
        ("٠٠٠٠٠٠٠٠٠٠٠٠٠٠٠٠", None),
    ],
)
def test_cookie_ids(text: str, expected: int | None) -> None:
    assert visitor_ids.cookie(text) == expected
    data, starts, lengths = text_bytes(pa.array(["before", text, "76d1f50cbfda087a"]))
    numbers, good = visitor_ids.cookie_column(data, starts, lengths)
    assert good.tolist() == [False, expected is not None, True]
    assert numbers.tolist() == [0, expected or 0, 0x76D1F50CBFDA087A]


def test_matomo_visitor_id_vectors(vectors: Path) -> None:
    for case in group(vectors, "visitor_id"):
        assert visitor_ids.cookie(case["input"]["_id"]) == int(case["expected"], 16)


def test_a_forced_id_goes_before_the_cookies_and_must_be_exact() -> None:
    cookie, forced = "76d1f50cbfda087a", "0123456789abcdef"
    assert visitor_ids.named({"_id": cookie, "cid": forced}) == int(forced, 16)
    assert visitor_ids.named({"_id": cookie}) == int(cookie, 16)
    assert visitor_ids.named({"_id": cookie}, cookieless=True) is visitor_ids.named({}) is None
    assert visitor_ids.named({"_id": cookie, "cid": forced}, cookieless=True) == int(forced, 16)
    assert visitor_ids.visitor_hash(KEY, 1) != visitor_ids.visitor_hash(KEY, 2)
    assert visitor_ids.visitor_hash(KEY, None) == 0
    for text in ("0123456789abcde", "0123456789abcdef0", "0123456789abcdeg", "0123456789abcdef\n"):
        assert visitor_ids.forced(text) is None


def test_the_config_id_changes_with_each_of_its_parts() -> None:
    base = (KEY, bytes(16), "Linux|Firefox|99|desktop|", "de")
    others = [(b"k" * 16, *base[1:]), (KEY, b"\1" * 16, *base[2:]), (*base[:2], "x", "de"), (*base[:3], "fr")]
    assert len({visitor_ids.config_hash(*parts) for parts in (base, *others)}) == 5


def test_user_and_order_ids_are_compared_after_cleaning() -> None:
    assert user_ids.user_hash(KEY, " jo\0e ") == user_ids.user_hash(KEY, "joe") != 0
    assert user_ids.user_hash(KEY, " \n") == order_ids.order_hash(KEY, "\0") == 0
    assert user_ids.user_hash(KEY, "x" * 200 + "a") == user_ids.user_hash(KEY, "x" * 200 + "b")
    assert user_ids.user_hash(KEY, "joe") != order_ids.order_hash(KEY, "joe")


def test_page_view_ids_of_a_column_are_those_of_each_and_hold_together_for_a_day_and_a_site() -> None:
    texts = ["abc123", "", "Z", "abc123", "000000", "0", "abc123"]
    keys = [KEY, KEY, KEY, b"k" * 16, KEY, KEY, KEY]
    words = np.array([keyed.key_words(key) for key in keys], np.uint64)
    found = page_view_ids.page_views(words[:, 0], words[:, 1], pa.array(["cut", *texts])[1:]).to_pylist()
    made = zip(keys, texts, strict=True)
    assert found == [page_view_ids.page_view(key, text, PageViewIds.DAY) for key, text in made]
    assert found[0] == found[6] != found[3]
    assert len({*found}) == 6
    assert [len(text) for text in found] == [6, 0, 6, 6, 6, 6, 6]
    assert not {*found[:1], *found[2:]} & {*texts}
    nothing = page_view_ids.page_views(words[:2, 0], words[:2, 1], pa.array(["", ""]))
    assert nothing.to_pylist() == ["", ""]


def test_recordings_are_found_by_decoded_name() -> None:
    assert recordings.count("a=1&hsr_x=1&fa_y&%66a_z=1&xfa_=1&b=hsr_") == 3
    assert recordings.count("a=1") == 0
