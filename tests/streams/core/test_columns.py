from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas import parameters
from streams.columns import Query
from streams.distinct import Cache, each, encode, low, plain

NAMES = {"a": 1, "b": 2, "x[]": 3}
PART = st.one_of(
    st.sampled_from(
        ["a=1", "a", "a=", "b=2", "%61=3", "x%5B%5D=1", "x[]=2", "", "=", "=1", "hsr_a=1", "fa_", "%66a_b=2", "a=1=2"]
    ),
    st.text(st.sampled_from("ab=%61+&x"), max_size=6),
)
QUERIES = st.lists(st.lists(PART, max_size=6).map("&".join), min_size=1, max_size=6)


@given(QUERIES, st.data())
def test_parameters_are_those_of_the_grammar(queries: list[str], data: st.DataObject) -> None:
    query = Query(pa.array(queries), NAMES)
    if data.draw(st.booleans()):
        kept = data.draw(st.lists(st.sampled_from(range(len(queries))), min_size=1, unique=True).map(sorted))
        query.keep(np.array(kept))
        queries = [queries[n] for n in kept]
    expected = [parameters.parse(text) for text in queries]
    for name in NAMES:
        texts, rows = query.texts(name)
        assert dict(zip(rows, texts, strict=True)) == {n: one[name] for n, one in enumerate(expected) if name in one}
        assert [parameters.decode(text) for text in query.full(name).to_pylist()] == [
            one.get(name, "") for one in expected
        ]
        assert query.is_one(name).tolist() == [parameters.integer(one.get(name)) == 1 for one in expected]
    names = [[parameters.decode(part.partition("=")[0]) for part in text.split("&")] for text in queries]
    assert query.recorded().tolist() == [sum(name.startswith(("hsr_", "fa_")) for name in row) for row in names]


NUMBERS = """
0 -0 7 -7 007 0x1F 0X1f 1_0 +7 %2B7 %31 1.0 1e3 . - -- ٣ nan inf
9223372036854775807 9223372036854775808 -9223372036854775809
"""
NUMBER = st.one_of(
    st.sampled_from(NUMBERS.split()),
    st.text(st.sampled_from("0123456789-+.exX_ %"), max_size=24),
    st.integers(-(2**70), 2**70).map(str),
)


@given(st.lists(NUMBER, min_size=1, max_size=5))
def test_numbers_do_not_depend_on_their_neighbours(texts: list[str]) -> None:
    texts = [parameters.safe(text.encode()) for text in texts]
    query = Query(pa.array([f"a={text}" for text in texts] + ["b=1"]), NAMES)
    decoded = [parameters.parse(f"a={text}").get("a") for text in texts] + [None]
    assert query.integers("a", -1, -5, 1000).tolist() == [parameters.integer(text, -1, -5, 1000) for text in decoded]
    assert query.integers("a").tolist() == [parameters.integer(text) for text in decoded]
    assert query.decimals("a").tolist() == [parameters.decimal(text) for text in decoded]


def test_a_cache_is_bounded_in_entries_bytes_and_age() -> None:
    calls: list[str] = []

    def rule(text: str) -> str:
        calls.append(text)
        return text.upper()

    cache: Cache[str, str] = Cache(each(rule), entries=10, size=1000, age=10**9)
    for n in range(1000):
        assert cache.of([f"v{n}", f"v{n}"]) == [f"V{n}"] * 2
        assert len(cache) <= 20
    assert len(calls) == 1000
    assert cache.of(["v999"]) == ["V999"]
    assert len(calls) == 1000
    for n in range(100):
        cache.of(["x" * 300 + str(n)])
        assert n < 8 or len(cache) <= 8
    aged: Cache[str, str] = Cache(each(rule), age=100)
    calls.clear()
    for _ in range(10):
        aged.of(["a"], served=60)
    assert calls == ["a"]  # what is in use stays
    aged.of(["b"], served=60)
    for _ in range(6):
        aged.of(["a"], served=60)
    aged.of(["b"])
    assert calls == ["a", "b", "b"]
    aged.clear()
    assert len(aged) == 0


def test_a_rule_that_fails_leaves_nothing_behind() -> None:
    def rule(text: str) -> int:
        return int(text)

    cache: Cache[str, int] = Cache(each(rule))
    with pytest.raises(ValueError):
        cache.of(["1", "x"])
    assert cache.of(["2", "1"]) == [2, 1]


@given(st.lists(st.sampled_from(["", "a", "b", "é"])))
def test_text_columns(texts: list[str]) -> None:
    distinct, codes = encode(pa.array(texts, pa.string()))
    doubled, shifted = distinct + distinct, codes + len(distinct) * (codes % 2)
    column: Any = low(doubled, shifted)
    assert column.to_pylist() == texts
    assert len(set(column.dictionary.to_pylist())) == len(column.dictionary)
    assert plain(doubled, shifted).to_pylist() == texts


def test_a_rule_that_fails_on_several_values_alone_is_asked_for_each() -> None:
    def rule(texts: Sequence[str]) -> list[str]:
        if len(texts) > 1:
            raise MemoryError
        return [texts[0].upper()]

    cache: Cache[str, str] = Cache(rule)
    assert cache.of(["a", "b", "a"]) == ["A", "B", "A"]
