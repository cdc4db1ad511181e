"""Which detectors a text may have work for: a cheap look that nearly every text of a real site passes with none.

It must never leave out a detector that would find something; a property test holds it to that.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from schemas.privacy import Detector
from streams.anonymize.detect.names import SECTIONS

DIGITS = 6  # the fewest of a number, and of a token without a capital letter
CARD_DIGITS, IBAN_DIGITS = 12, 4
OPAQUE = 16  # characters of a token in a row
ENCODED = 12  # characters in a row that may be base64 of something

# Six digits with little between them, or those of an Italian number: nothing else is a number of anybody.
_number = re.compile(r"[0-9](?:(?:[^A-Za-z0-9]{0,4}[0-9]){5}|[0-9][A-Za-z][0-9]{2}[ +]?[A-Za-z][0-9]{3})").search
# The shortest number of an account has 15 characters.
_account = re.compile(r"[A-Za-z]{2}[ .+_-]?[0-9]{2}(?:[ .+_-]?[A-Za-z0-9]){11}").search
_dotted = re.compile(r"\.[0-9A-Fa-f]{4}\.").search
_named = re.compile(_NAMED := rf"/(?:[~@]|(?:{'|'.join(sorted(SECTIONS))})/)", re.IGNORECASE | re.ASCII).search
_all_named = re.compile(_NAMED.encode(), re.IGNORECASE).finditer
_harmless = re.compile(r"(?:[A-Za-z_+-]{1,11}+(?:[ ,|!?()]++|\Z))*+").fullmatch  # short words, and nothing of note
_END = b"\n"  # of a text among several
_UNMARKED = bytes(set(range(256)) - set(b"0123456789@./:"))
_NOT_DIGITS = bytes(set(range(256)) - set(b"0123456789"))
_WORD = bytes(ord("x") if code < 128 and (chr(code).isalnum() or code in b"_+-") else 32 for code in range(256))
_ENCODED, _OPAQUE = b"x" * ENCODED, b"x" * OPAQUE

# For texts looked at together: what a byte counts for, each in so many bits of its own, and whether it is of a word.
_BITS = 16
_AT, _DOTS, _COLONS = (1 << shift * _BITS for shift in (1, 2, 3))
_COUNTS = np.zeros(256, np.uint64)
_COUNTS[np.frombuffer(b"0123456789", np.uint8)] = 1
_COUNTS[np.frombuffer(b"@.:", np.uint8)] = _AT, _DOTS, _COLONS
_IN_WORD = np.frombuffer(_WORD, np.uint8) == ord("x")


class Screened(NamedTuple):
    """The detectors that may find something, and whether there may be base64."""

    detectors: tuple[Detector, ...]
    encoded: bool


NOTHING = Screened((), False)
_NAMES = Screened((Detector.NAME,), False)


def screened(text: str) -> Screened:
    """What there may be in a text without encodings."""
    if _harmless(text):
        return NOTHING
    data = text.encode("utf-8", "replace")
    return _screened(text, data.translate(None, _UNMARKED), data.translate(_WORD))


def screened_all(texts: Sequence[str]) -> list[Screened]:
    """The same of many texts: what most of them need, of all together."""
    end = _END.decode()
    data = "".join([text + end for text in texts]).encode("utf-8", "replace")
    codes = np.frombuffer(data, np.uint8)
    ends = np.flatnonzero(codes == _END[0])
    if len(ends) != len(texts):  # some hold ends themselves
        return list(map(screened, texts))
    starts = np.append(0, ends[:-1] + 1)
    if not texts or (ends - starts).max() >> _BITS:
        return list(map(screened, texts))
    counts = np.add.reduceat(_COUNTS[codes], starts)
    digits, at, dots, colons = (
        (counts >> np.uint64(shift * _BITS)) & np.uint64((1 << _BITS) - 1) for shift in range(4)
    )
    breaks = np.flatnonzero(~_IN_WORD[codes])
    busy = (digits >= IBAN_DIGITS) | (at > 0) | (dots > 1) | (colons > 1)
    busy[np.searchsorted(ends, breaks[np.diff(breaks, prepend=-1) > ENCODED])] = True
    out = [NOTHING] * len(texts)
    for place in np.searchsorted(ends, [match.start() for match in _all_named(data)]).tolist():
        out[place] = _NAMES
    for place in np.flatnonzero(busy).tolist():
        out[place] = screened(texts[place])
    return out


def _screened(text: str, marks: bytes, words: bytes) -> Screened:
    long = _ENCODED in words
    digits = len(marks.translate(None, _NOT_DIGITS))
    dots, colons = marks.count(b"."), marks.count(b":")
    if not long and digits < IBAN_DIGITS and dots < 2 and colons < 2 and b"@" not in marks:
        return _NAMES if b"/" in marks and _named(text) else NOTHING
    out: list[Detector] = []
    encoded = False
    if b"@" in marks:
        out.append(Detector.EMAIL)
    if long:
        encoded = not text.islower()
        if (encoded or digits >= DIGITS) and _OPAQUE in words:
            out.append(Detector.TOKEN)
    if digits >= IBAN_DIGITS and _account(text):
        out.append(Detector.IBAN)
    if digits >= DIGITS and _number(text):
        out += Detector.NATIONAL_ID, Detector.PHONE
        if digits >= CARD_DIGITS:
            out.append(Detector.CARD)
    if colons > 1 or (dots > 2 and digits > 3):
        out.append(Detector.IP)
    if colons > 4 or (long and text.count("-") > 4) or (dots > 1 and _dotted(text)):
        out.append(Detector.MAC)
    if b"/" in marks and _named(text):
        out.append(Detector.NAME)
    return Screened(tuple(out), encoded) if out or encoded else NOTHING
