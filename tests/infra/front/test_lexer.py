from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from infra.local.front.lexer import identifier, literal, tokens, unquote


def words(sql: str | bytes) -> list[str]:
    return [token.raw.decode() for token in tokens(sql.encode() if isinstance(sql, str) else sql)]


@pytest.mark.parametrize(
    ("sql", "expected"),
    [
        ("SELECT a,b FROM t", ["SELECT", "a", ",", "b", "FROM", "t"]),
        ("a -- b\nc", ["a", "c"]),
        ("a # b\nc", ["a", "c"]),
        ("a #!b\nc", ["a", "c"]),
        ("a // b\nc", ["a", "c"]),
        ("a /* b /* c */ d */ e", ["a", "e"]),
        ("a /* never closed", ["a"]),
        ("'a''b\\'c' d", ["'a''b\\'c'", "d"]),
        ('`a\\`b`."c""d"', ["`a\\`b`", ".", '"c""d"']),
        ("$x$ it's $x$ y", ["$x$ it's $x$", "y"]),
        ("$$a$$", ["$$a$$"]),
        ("“a b” ‘c d’", ["“a b”", "‘c d’"]),
        ("1.5e3 0x1F t1 _x", ["1.5e3", "0x1F", "t1", "_x"]),
        ("x::Int8 y->z a||b", ["x", "::", "Int8", "y", "->", "z", "a", "||", "b"]),
        ("a\u00a0b\u2003c", ["a", "b", "c"]),
        ("'open", ["'", "open"]),
        ("", []),
    ],
)
def test_words(sql: str, expected: list[str]) -> None:
    assert words(sql) == expected


def test_depth_and_places() -> None:
    sql = b"f(a, [b, (c)]) d"
    assert [(token.raw, token.depth) for token in tokens(sql)] == [
        (b"f", 0), (b"(", 0), (b"a", 1), (b",", 1), (b"[", 1), (b"b", 2), (b",", 2), (b"(", 2), (b"c", 3), (b")", 2),
        (b"]", 1), (b")", 0), (b"d", 0),
    ]  # fmt: skip
    assert all(sql[token.start : token.end] == token.raw for token in tokens(sql))


def test_names() -> None:
    found = [token.name for token in tokens(b"a `b\\x41` \"c\" 'd' 5")]
    assert found == ["a", "bA", "c", None, None]


def test_nothing_behind_the_place_is_read() -> None:
    stream = tokens(b"INSERT INTO t FORMAT Native \xff\xfe'\x00")
    assert [next(stream).raw for _ in range(5)] == [b"INSERT", b"INTO", b"t", b"FORMAT", b"Native"]


@given(st.text())
def test_a_literal_is_one_token_and_reads_back(text: str) -> None:
    quoted = literal(text).encode("utf-8", "surrogatepass")
    found = list(tokens(quoted + b" x"))
    assert [token.kind for token in found] == ["string", "word"]
    assert unquote(found[0].raw) == text.encode("utf-8", "surrogatepass").decode(errors="replace")


@given(st.text(st.characters(exclude_categories=["Cs"]), min_size=1))
def test_an_identifier_is_one_token_and_reads_back(text: str) -> None:
    (found,) = tokens(identifier(text).encode())
    assert found.name == text


@given(st.binary(max_size=200))
def test_any_bytes_end(data: bytes) -> None:
    position = 0
    for token in tokens(data):
        assert token.start >= position
        assert token.end > token.start
        position = token.end
