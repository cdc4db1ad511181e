"""The grammar of the tracking API's parameters: one for the collector and the worker, scalar and columnar
alike.

Parameters come as a query string. Names and values are percent-encoded UTF-8 with `+` for a space; as in PHP,
which the API was made for, a broken escape stays as it is, the last duplicate wins, and a name without `=`
has an empty value. Numbers have one grammar on every path (`integer`, `decimal`): a value that does not match
is taken as missing, one that does not fit is saturated, so that no value can hurt its neighbours in a column.
"""

from __future__ import annotations

import re
from urllib.parse import unquote_plus

INT32 = (-(2**31), 2**31 - 1)
DECIMAL_LIMIT = 1e15

INTEGER_PATTERN = r"-?[0-9]+"
DECIMAL_PATTERN = r"[+-]?(?:[0-9]+(?:\.[0-9]*)?|\.[0-9]+)(?:[eE][+-]?[0-9]+)?"

_integer = re.compile(INTEGER_PATTERN, re.ASCII).fullmatch
_decimal = re.compile(DECIMAL_PATTERN, re.ASCII).fullmatch
_digits = "0123456789abcdefABCDEF"
_bytes = {(a + b).encode(): bytes.fromhex(a + b) for a in _digits for b in _digits}
_unsafe = re.compile(rb"[^\x21-\x7e]").sub


def decode(text: str) -> str:
    """Percent- and plus-decoded text; broken escapes are kept, bytes that are not UTF-8 become U+FFFD."""
    if "%" not in text:
        return text.replace("+", " ")
    if not text.isascii():
        return unquote_plus(text, errors="replace")
    # The same as unquote_plus, many times as fast. What URLs are full of goes first: none of these characters can
    # make an escape of what stands beside it.
    text = text.replace("+", " ").replace("%2F", "/").replace("%3A", ":").replace("%3F", "?")
    text = text.replace("%3D", "=").replace("%26", "&").replace("%20", " ")
    if "%" not in text:
        return text
    pieces = text.encode("ascii").split(b"%")
    out = pieces[:1]
    for piece in pieces[1:]:
        byte = _bytes.get(piece[:2])
        out.append(b"%" + piece if byte is None else byte + piece[2:])
    return b"".join(out).decode("utf-8", "replace")


def parse(query: str) -> dict[str, str]:
    """Decoded parameters of a raw query string, the last duplicate winning; parts without a name are skipped."""
    parameters: dict[str, str] = {}
    for part in query.split("&"):
        name, _, value = part.partition("=")
        if name:
            parameters[decode(name)] = decode(value)
    return parameters


def without(query: str, names: frozenset[str]) -> str:
    """The raw query string less the parameters of these (decoded) names; order and spelling are kept."""
    return "&".join(part for part in query.split("&") if part and decode(part.partition("=")[0]) not in names)


def safe(query: bytes) -> str:
    """The query string as printable ASCII: spaces, controls and bytes from 0x7f on are percent-encoded."""
    return _unsafe(lambda match: b"%%%02X" % match[0][0], query).decode("ascii")


def integer(text: str | None, default: int = 0, low: int = INT32[0], high: int = INT32[1]) -> int:
    """An integer saturated to [low, high]; `default` when missing or not of the form -?[0-9]+."""
    if not text or not _integer(text):
        return default
    if len(text) > 20:  # int() refuses thousands of digits; those that don't fit need no exact value
        digits = text.lstrip("-0")
        text = ("-" if text[0] == "-" else "") + (digits or "0")[:20]
    return max(low, min(high, int(text)))


def decimal(text: str | None, default: float = 0.0) -> float:
    """A finite decimal number; `default` when missing, malformed or not within +-1e15."""
    if not text or len(text) > 64 or not _decimal(text):
        return default
    number = float(text)
    return number if abs(number) < DECIMAL_LIMIT else default
