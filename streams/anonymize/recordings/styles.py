"""Style sheets: rules as they are, but for texts, comments and addresses in them.

Strings become their shape (`content`), but for short names that a selector or `format()` compares with; comments go;
`url()` keeps what `links` keeps, a property of the page's own (--x) keeps measures. A rule that holds a value, escapes
that could hide one, or words in a row as no style has them, is left out.
"""

from __future__ import annotations

import re

from streams.anonymize import detect
from streams.anonymize.detect import ALL
from streams.anonymize.detect.unfolding import unfolded
from streams.anonymize.recordings.links import link
from streams.anonymize.recordings.measures import measure
from streams.anonymize.recordings.names import name
from streams.anonymize.recordings.texts import Tally, hidden
from streams.rules import Rules

LIMIT = 1 << 20  # characters of a sheet

_special = re.compile(
    r"/\*.*?(?:\*/|\Z)"
    r"|(?i:url)\(\s*(?:\"(?P<double>[^\"]*)(?:\"|\Z)|'(?P<single>[^']*)(?:'|\Z)|(?P<bare>[^)]*))\s*(?:\)|\Z)"
    r"|(?P<before>=|\bformat\()?\s*(?P<string>\"(?:[^\"\\\n]|\\.)*(?:\"|\n|\Z)|'(?:[^'\\\n]|\\.)*(?:'|\n|\Z))",
    re.DOTALL,
).sub
_masks = re.compile(r"[*\s]*").fullmatch
_escape = re.compile(r"\\[0-9a-fA-F\n]|\\\Z").search
_at = re.compile(r"[^\s{};]@|@[^A-Za-z-]|@\Z").search
_digits = re.compile(r"[0-9]{7}").search
_prose = re.compile(r"(?:[^\W\d_]+\s+){5,}[^\W\d_]|[^\W\d_\x00-\x7f]").search  # words as no style has them
_custom = re.compile(r"(?<![\w-])--(?P<property>[\w-]+)\s*:(?P<value>[^;{}]*)").sub
_ends = re.compile(r"(?<=[};])")


def sheet(text: str, rules: Rules, tally: Tally) -> str:
    """A style sheet, or the declarations of one element."""

    def replaced(match: re.Match[str]) -> str:
        if match[0].startswith("/*"):
            return " "
        if (string := match["string"]) is None:
            address = link(match["double"] or match["single"] or match["bare"] or "", rules)
            return f'url("{address}")'
        before, inner = match["before"] or "", string[1:].rstrip("\n").removesuffix(string[0])
        if _masks(inner) or (before and name(inner)):
            return f'{before}"{hidden(inner) if not before else inner}"'
        tally.masked["style"] += 1
        return f'{before}"{hidden(inner)}"'

    plain = _custom(_own_property, _special(replaced, text[:LIMIT]))
    pieces = _ends.split(plain)
    clear = detect.clear(pieces)
    return "".join(
        piece if fine and _fine(piece) else _left(piece, fine, tally) for piece, fine in zip(pieces, clear, strict=True)
    )


def _fine(piece: str) -> bool:
    plain = unfolded(piece)
    return not (_digits(plain) or _at(plain) or _escape(plain) or _prose(plain))


def _own_property(match: re.Match[str]) -> str:
    """A property that a page made up: with its value where that is a measure."""
    return match[0] if measure(match["value"]) else f"--{match['property']}:0"


def _left(piece: str, clear: bool, tally: Tally) -> str:
    """What is left of a piece: all where no detector is right about it, or only its braces, so that others hold."""
    if not clear and _fine(piece) and not detect.search(piece, ALL):
        return piece
    tally.dropped["style"] += 1
    return "x{" * piece.count("{") + "}" * piece.count("}")
