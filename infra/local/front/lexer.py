"""The words of ClickHouse SQL, as its own lexer cuts them (src/Parsers/Lexer.cpp).

Works on bytes, because inline data may follow a statement in any encoding, and lazily, so that such data is not read.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

Kind = Literal["word", "quoted", "string", "heredoc", "number", "mark"]

_SKIP = re.compile(
    rb"(?:[\s\x00]|\xc2\xa0|\xe2\x80[\x80-\x8b]|\xe3\x80\x80|\xef\xbb\xbf|--[^\n]*+|#[ !][^\n]*+|//[^\n]*+)++"
)
_TOKEN = re.compile(
    rb"""
    (?P<string>'(?:[^'\\]++|\\.|'')*+'|\xe2\x80\x98.*?\xe2\x80\x99)
  | (?P<quoted>`(?:[^`\\]++|\\.|``)*+`|"(?:[^"\\]++|\\.|"")*+"|\xe2\x80\x9c.*?\xe2\x80\x9d)
  | (?P<heredoc>(?P<tag>\$[A-Za-z0-9_]*\$).*?(?P=tag))
  | (?P<number>[0-9][0-9A-Za-z_]*(?:\.[0-9][0-9A-Za-z_]*)?|\.[0-9][0-9A-Za-z_]*)
  | (?P<word>[A-Za-z_$][A-Za-z0-9_$]*)
  | (?P<mark>::|->|\|\||<=>|[<>=!]=|<>|.)
    """,
    re.VERBOSE | re.DOTALL,
)
_ESCAPE = re.compile(rb"\\(x[0-9A-Fa-f]{2}|.)", re.DOTALL)
_ESCAPED = {b"b": b"\b", b"f": b"\f", b"r": b"\r", b"n": b"\n", b"t": b"\t", b"0": b"\0", b"a": b"\a", b"v": b"\v"}


@dataclass(frozen=True, slots=True)
class Token:
    """``raw`` is the text from ``start`` to ``end``; ``depth`` counts the open round brackets around it."""

    kind: Kind
    raw: bytes
    start: int
    end: int
    depth: int

    def is_word(self, *words: str) -> bool:
        """A keyword, in any case."""
        return self.kind == "word" and self.raw.upper().decode() in words

    def is_mark(self, mark: str) -> bool:
        return self.kind == "mark" and self.raw == mark.encode()

    @property
    def name(self) -> str | None:
        """The identifier that this is, without its quotes, or None."""
        if self.kind == "word":
            return self.raw.decode()
        return unquote(self.raw) if self.kind == "quoted" else None


def tokens(sql: bytes, start: int = 0) -> Iterator[Token]:
    """From ``start`` to the end; a byte that opens nothing is a mark of its own, as is an unclosed quote."""
    position, depth = start, 0
    while True:
        position = _skip(sql, position)
        found = _TOKEN.match(sql, position)
        if found is None:
            return
        kind: Kind = next(kind for kind in _KINDS if found[kind] is not None)
        raw = found[kind]
        if raw in (b")", b"]", b"}"):
            depth = max(0, depth - 1)
        yield Token(kind, raw, position, found.end(), depth)
        if raw in (b"(", b"[", b"{"):
            depth += 1
        position = found.end()


_KINDS: tuple[Kind, ...] = ("word", "mark", "string", "quoted", "number", "heredoc")


def _skip(sql: bytes, position: int) -> int:
    while True:
        if found := _SKIP.match(sql, position):
            position = found.end()
        if not sql.startswith(b"/*", position):
            return position
        position = _after_comment(sql, position)


def _after_comment(sql: bytes, position: int) -> int:
    """Comments nest."""
    depth = 0
    for found in re.compile(rb"/\*|\*/").finditer(sql, position):
        depth += 1 if found[0] == b"/*" else -1
        if depth == 0:
            return found.end()
    return len(sql)


def unquote(raw: bytes) -> str:
    """The text inside '…', "…", `…` or their typographic forms, escapes and doubled quotes resolved."""
    if raw[:1] == b"\xe2":
        return raw[3:-3].decode(errors="replace")
    quote, inner = raw[:1], raw[1:-1]
    inner = inner.replace(quote + quote, b"\\" + quote)
    return _ESCAPE.sub(_unescape, inner).decode(errors="replace")


def _unescape(found: re.Match[bytes]) -> bytes:
    escape = found[1]
    if len(escape) == 3:
        return bytes([int(escape[1:], 16)])
    return _ESCAPED.get(escape, escape)


def literal(text: str) -> str:
    """A string literal that the engine reads back as this text, whatever is in it."""
    return "'" + text.replace("\\", "\\\\").replace("'", "\\'").replace("\0", "\\0") + "'"


def identifier(name: str) -> str:
    return "`" + name.replace("\\", "\\\\").replace("`", "\\`").replace("\0", "\\0") + "`"
