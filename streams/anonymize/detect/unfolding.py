"""What a text says once its encodings are taken off, and where in the text each character of that is from.

Taken off, up to three times over: percent-escapes of UTF-8 in either case, HTML entities; and characters are folded:
full-width and other digits to ASCII (Unicode, NFKC), spaces and dashes of any kind to one, invisible ones to nothing.
A plus sign stays: in a query it may be a space, in a number or a mailbox it is itself.
"""

from __future__ import annotations

import html
import re
import unicodedata
from collections.abc import Sequence
from typing import NamedTuple

from streams.decoding import unescape_all

ROUNDS = 3
REMEMBERED = 20_000  # characters whose folding is kept

_escapes = re.compile(r"(?:%[0-9a-fA-F]{2})+|&(?:#[0-9]{1,10};?|#[xX][0-9a-fA-F]{1,10};?|[A-Za-z][A-Za-z0-9]{1,11};)")
_MINUS = frozenset("\u2212\u207b\u208b")  # of mathematics, raised and lowered
_DOTS = frozenset("\u3002\uff61")  # which domains may have for dots (UTS 46)
# Not shown, though of other categories than Cf (Unicode, Default_Ignorable_Code_Point).
_UNSEEN = frozenset((0x034F, 0x115F, 0x1160, 0x17B4, 0x17B5, 0x3164, 0xFFA0, *range(0x180B, 0x1810)))
_UNSEEN |= frozenset((*range(0xFE00, 0xFE10), *range(0xE0100, 0xE01F0)))
_ERRORS = "surrogateescape"  # a byte that is not UTF-8 becomes one lone surrogate, so that lengths stay countable


class _Folding(dict[int, str | None]):
    """What `str.translate` makes of a character."""

    def __missing__(self, code: int) -> str | None:
        folded = _folded(chr(code))
        if len(self) < REMEMBERED:
            self[code] = folded
        return folded


def _folded(char: str) -> str | None:
    kind = unicodedata.category(char)
    if kind == "Cf" or ord(char) in _UNSEEN:
        return None
    if kind == "Nd":
        return str(unicodedata.decimal(char))
    if kind == "Pd" or char in _MINUS:
        return "-"
    if char in _DOTS:
        return "."
    if kind == "Zs":
        return " "
    plain = unicodedata.normalize("NFKC", char)
    return plain if len(plain) == 1 else char


_FOLDING = _Folding()


class Unfolded(NamedTuple):
    """`text`, and for each of its characters the place in the original where it begins and ends."""

    text: str
    starts: list[int]
    ends: list[int]


def unfolded(text: str) -> str:
    """The text without its encodings."""
    return _unfolded(text, ROUNDS)


def unfolded_all(texts: Sequence[str]) -> list[str]:
    """The same of many texts: what nearly all of them need, of all together."""
    out = _fold_all(texts)
    escaped = []
    for at, text in enumerate(out):
        if "&" in text or ("%" in text and not text.isascii()):
            out[at] = unfolded(texts[at])
        elif "%" in text:
            escaped.append(at)
    if escaped:
        given = [out[at] for at in escaped]
        plain = _fold_all(unescape_all(given, "\n".join(given), _ERRORS))
        for at, text in zip(escaped, plain, strict=True):
            out[at] = _unfolded(text, ROUNDS - 1) if "&" in text or "%" in text else text
    return out


def _fold_all(texts: Sequence[str]) -> list[str]:
    joined = "\n".join(texts)
    if joined.isascii():
        return list(texts)
    if joined.count("\n") != len(texts) - 1:
        return [text if text.isascii() else text.translate(_FOLDING) for text in texts]
    for char in set(joined):
        if (folded := _FOLDING[ord(char)]) != char:
            joined = joined.replace(char, folded or "")
    return joined.split("\n")


def _unfolded(text: str, rounds: int) -> str:
    for _ in range(rounds):
        if not text.isascii():
            text = text.translate(_FOLDING)
        if "%" not in text and "&" not in text:
            return text
        before = text
        text = _escapes.sub(_decoded, text)
        if text == before:
            return text
    return text if text.isascii() else text.translate(_FOLDING)


def traced(text: str) -> Unfolded:
    """The same with places; some hundred times slower."""
    found = Unfolded(text, list(range(len(text))), list(range(1, len(text) + 1)))
    for _ in range(ROUNDS):
        found = _fold(found)
        before = found.text
        found = _decode(found)
        if found.text == before:
            return found
    return _fold(found)


def _decoded(match: re.Match[str]) -> str:
    escape = match[0]
    if escape[0] == "&":
        return html.unescape(escape)
    return bytes.fromhex(escape.replace("%", "")).decode("utf-8", _ERRORS)


def _fold(found: Unfolded) -> Unfolded:
    if found.text.isascii():
        return found
    kept = [(folded, at) for at, char in enumerate(found.text) if (folded := _FOLDING[ord(char)]) is not None]
    places = [at for _, at in kept]
    text = "".join(folded for folded, _ in kept)
    return Unfolded(text, [found.starts[at] for at in places], [found.ends[at] for at in places])


def _decode(found: Unfolded) -> Unfolded:
    pieces: list[str] = []
    starts: list[int] = []
    ends: list[int] = []
    after = 0
    for match in _escapes.finditer(found.text):
        first, last = match.span()
        pieces.append(found.text[after:first])
        starts += found.starts[after:first]
        ends += found.ends[after:first]
        after = last
        chars = _decoded(match)
        pieces.append(chars)
        if match[0][0] == "&":
            starts += [found.starts[first]] * len(chars)
            ends += [found.ends[last - 1]] * len(chars)
            continue
        for char in chars:
            size = 3 * len(char.encode("utf-8", _ERRORS))
            starts.append(found.starts[first])
            ends.append(found.ends[first + size - 1])
            first += size
    pieces.append(found.text[after:])
    return Unfolded("".join(pieces), starts + found.starts[after:], ends + found.ends[after:])
