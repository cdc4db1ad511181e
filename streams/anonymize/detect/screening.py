"""Which detectors a text may have work for: a cheap look that nearly every text of a real site passes with none.

It must never leave out a detector that would find something; a property test holds it to that.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import NamedTuple

from schemas.privacy import Detector
from streams.anonymize.detect.names import SECTIONS

DIGITS = 6  # the fewest of a number, and of a token without a capital letter
CARD_DIGITS, IBAN_DIGITS = 12, 4
OPAQUE = 16  # characters of a token in a row
ENCODED = 12  # characters in a row that may be base64 of something

# Six digits with little between them, or those of an Italian number: nothing else is a number of anybody.
_number = re.compile(r"[0-9](?:(?:[^A-Za-z0-9]{0,3}[0-9]){5}|[0-9][A-Za-z][0-9]{2} ?[A-Za-z][0-9]{3})").search
_account = re.compile(r"[A-Za-z]{2}[ .+-]?[0-9]{2}").search
_dotted = re.compile(r"\.[0-9A-Fa-f]{4}\.").search
_END = b"\n"  # of a text among several
_UNMARKED = bytes(set(range(256)) - set(b"0123456789@./:" + _END))
_NOT_DIGITS = bytes(set(range(256)) - set(b"0123456789"))
_WORD = bytearray(ord("x") if code < 128 and (chr(code).isalnum() or code in b"_+-") else 32 for code in range(256))
_WORD[_END[0]] = _END[0]
_ENCODED, _OPAQUE = b"x" * ENCODED, b"x" * OPAQUE


class Screened(NamedTuple):
    """The detectors that may find something, and whether there may be base64."""

    detectors: tuple[Detector, ...]
    encoded: bool


NOTHING = Screened((), False)
_NAMES = Screened((Detector.NAME,), False)


def screened(text: str) -> Screened:
    """What there may be in a text without encodings."""
    data = text.encode("utf-8", "replace")
    return _screened(text, data.translate(None, _UNMARKED).replace(_END, b""), data.translate(_WORD))


def screened_all(texts: Sequence[str]) -> list[Screened]:
    """The same of many texts, looked at together."""
    data = _END.decode().join(texts).encode("utf-8", "replace")
    marks, words = data.translate(None, _UNMARKED).split(_END), data.translate(_WORD).split(_END)
    if len(words) != len(texts):  # some hold ends themselves
        return [screened(text) for text in texts]
    return list(map(_screened, texts, marks, words))


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


def _named(text: str) -> bool:
    return "/~" in text or "/@" in text or not SECTIONS.isdisjoint(text.lower().split("/"))
