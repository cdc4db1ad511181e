"""Where a statement's parts lie: inline data, output format, ``input()``, the condition of a KILL.

The engine parses SQL; here only the places are found that the front has to cut or fill.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

from infra.local.front.errors import (
    INTO_OUTFILE_NOT_ALLOWED,
    SYNTAX_ERROR,
    UNKNOWN_FORMAT,
    UNKNOWN_TYPE_OF_QUERY,
    FrontError,
)
from infra.local.front.lexer import Token, tokens

Span = tuple[int, int]
#: Format names by their lower-case form: ClickHouse takes them in any case.
Formats = Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Insert:
    """``head`` ends before FORMAT or VALUES, inline data begin at ``data``. ``format`` is None where none can follow.

    ``selects`` tells INSERT … SELECT; ``call`` is the span of its ``input(…)`` in ``head``, ``structure`` that of the
    arguments.
    """

    head: bytes
    format: str | None
    data: int
    selects: bool
    call: Span | None
    structure: Span | None


def insert_of(text: bytes, formats: Formats) -> Insert | None:
    """The INSERT that ``text`` begins with, or None for another statement. Reads no further than to the data."""
    stream = tokens(text)
    before: Token | None = None
    token = next(stream, None)
    if token is None or not token.is_word("INSERT", "WITH"):
        return None
    inserting, selecting = token.is_word("INSERT"), False
    call: Span | None = None
    structure: Span | None = None
    while token is not None:
        following = next(stream, None)
        if token.depth == 0 and not inserting:
            if token.is_word("SELECT", "FROM"):
                return None
            inserting = token.is_word("INSERT")
        elif token.depth == 0 and not _is_name(before):
            if token.is_word("SELECT", "WITH"):
                selecting = True
            elif token.is_word("VALUES") and not selecting:
                return Insert(text[: token.start], "Values", token.end, False, None, None)
            elif token.is_word("FROM") and not selecting and following is not None and following.is_word("INFILE"):
                raise FrontError(UNKNOWN_TYPE_OF_QUERY, "FROM INFILE reads a file of the client, send its bytes")
            elif token.is_word("FORMAT") and following is not None and following.kind == "word":
                if (name := _format(following, formats)) is not None:
                    head, data = _after_format(text, token.start, following.end)
                    return Insert(head, name, data, selecting, call, structure)
                if not selecting:
                    raise _unknown_format(following)
        if inserting and token.is_word("INPUT") and following is not None and following.is_mark("("):
            if call is not None:
                raise FrontError(SYNTAX_ERROR, "input() can stand only once in a query")
            start = token.start
            before, token = following, next(stream, None)
            first = token.start if token is not None else following.end
            while token is not None and not (token.is_mark(")") and token.depth == following.depth):
                before, token = token, next(stream, None)
            if token is None:
                raise FrontError(SYNTAX_ERROR, "input( is not closed")
            call = (start, token.end)
            structure = (first, token.start)
            before, token = token, next(stream, None)
            continue
        before, token = token, following
    if not inserting:
        return None
    if call is not None:
        raise FrontError(SYNTAX_ERROR, "input() needs a FORMAT and data after the query")
    return Insert(text, None, len(text), selecting, None, None)


def _is_name(before: Token | None) -> bool:
    """Whether the word after this one is a name, not a keyword."""
    return before is not None and (before.is_word("AS", "INTO", "TABLE") or before.is_mark(".") or before.is_mark(","))


def _format(word: Token, formats: Formats) -> str | None:
    return formats.get(word.raw.decode().lower())


def _unknown_format(word: Token) -> FrontError:
    return FrontError(UNKNOWN_FORMAT, f"Unknown format {word.raw[:64].decode()}")


def _after_format(text: bytes, head_end: int, position: int) -> tuple[bytes, int]:
    """SETTINGS may stand between the format and the data; then blanks and one line break are skipped."""
    head = text[:head_end]
    stream = tokens(text, position)
    if (token := next(stream, None)) is not None and token.is_word("SETTINGS"):
        start = token.start
        while True:
            setting = [next(stream, None) for _ in range(3)]
            if setting[1] is None or not setting[1].is_mark("=") or setting[2] is None:
                raise FrontError(SYNTAX_ERROR, "SETTINGS after FORMAT are not a list of name = value")
            position = setting[2].end
            comma = next(stream, None)
            if comma is None or not comma.is_mark(","):
                break
        head += b" " + text[start:position]
    while text[position : position + 1] in (b" ", b"\t", b"\f"):
        position += 1
    if text[position : position + 1] == b"\r":
        position += 1
    if text[position : position + 1] == b"\n":
        position += 1
    return head, position


@dataclass(frozen=True, slots=True)
class Output:
    """A statement with a result: ``before`` and ``after`` surround the place of INTO OUTFILE; ``format`` is its own."""

    before: bytes
    after: bytes
    format: str | None

    def into(self, path: str, default: str) -> str:
        """The statement writing to ``path``. The line break ends a comment that may stand last."""
        clause = self.after or b"FORMAT " + default.encode()
        return (self.before + b"\nINTO OUTFILE '" + path.encode() + b"' APPEND\n" + clause).decode()


def output_of(sql: bytes, formats: Formats) -> Output:
    """Raises FrontError for INTO OUTFILE, which would write where the front runs."""
    words = _without_end(list(tokens(sql)))
    for token, following in pairwise(words):
        if token.is_word("INTO") and following.is_word("OUTFILE"):
            raise FrontError(INTO_OUTFILE_NOT_ALLOWED, "INTO OUTFILE is not allowed")
    end = words[-1].end if words else len(sql)
    found = _format_clause(words, formats)
    if found is None:
        return Output(sql[:end], b"", None)
    place, name = found
    return Output(sql[: words[place].start], sql[words[place].start : end], name)


def _without_end(words: list[Token]) -> list[Token]:
    while words and words[-1].is_mark(";"):
        words.pop()
    return words


def _format_clause(words: Sequence[Token], formats: Formats) -> tuple[int, str] | None:
    for place in range(len(words) - 2, 0, -1):
        if (
            words[place].depth == 0
            and words[place].is_word("FORMAT")
            # Not _is_name: a column called `table` may stand before the clause.
            and not (words[place - 1].is_word("AS") or words[place - 1].is_mark(".") or words[place - 1].is_mark(","))
            and words[place + 1].kind == "word"
            and not words[place + 1].is_word("SETTINGS")
            and (place + 2 == len(words) or words[place + 2].is_word("SETTINGS"))
        ):
            if (name := _format(words[place + 1], formats)) is None:
                raise _unknown_format(words[place + 1])
            return place, name
    return None


@dataclass(frozen=True, slots=True)
class Kill:
    """KILL QUERY: which, how (SYNC, ASYNC or TEST), and the format of the list of those it meets."""

    condition: str
    how: str
    format: str | None


def kill_of(sql: bytes, formats: Formats) -> Kill | None:
    """None for another statement; KILL MUTATION is the engine's."""
    words = _without_end(list(tokens(sql)))
    if len(words) < 2 or not words[0].is_word("KILL") or not words[1].is_word("QUERY"):
        return None
    if len(words) < 4 or not words[2].is_word("WHERE"):
        raise FrontError(SYNTAX_ERROR, "KILL QUERY needs WHERE and a condition")
    found = _format_clause(words, formats)
    tail = words[: found[0]] if found else words
    how = "ASYNC"
    if tail[-1].is_word("SYNC", "ASYNC", "TEST"):
        how = tail[-1].raw.upper().decode()
        tail = tail[:-1]
    if len(tail) < 4:
        raise FrontError(SYNTAX_ERROR, "KILL QUERY needs WHERE and a condition")
    return Kill(sql[tail[3].start : tail[-1].end].decode(), how, found[1] if found else None)


def replace_tables(sql: bytes, tables: Mapping[str, str]) -> bytes:
    """Puts a subquery in the place of ``system.<name>`` for each name given."""
    words = list(tokens(sql))
    pieces: list[bytes] = []
    position = 0
    for first, dot, second in zip(words, words[1:], words[2:], strict=False):
        if first.name == "system" and dot.is_mark(".") and (table := tables.get(second.name or "")) is not None:
            pieces += [sql[position : first.start], table.encode()]
            position = second.end
    return b"".join([*pieces, sql[position:]])
