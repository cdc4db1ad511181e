"""International bank account numbers: the length of their country, and check digits (ISO 13616, ISO 7064 mod 97-10)."""

from __future__ import annotations

import re
from collections.abc import Iterator

_head = re.compile(r"[0-9](?:(?<=[A-Za-z]{2}.)|(?<=[A-Za-z]{2}[ .+_-].))[0-9]").finditer  # the check digits
DIGITS = 4  # without fewer it is a word
_SEPARATORS = frozenset(" .+-_")

# Characters by country, from the registry of IBAN formats (SWIFT).
_LENGTHS = {
    country: int(length)
    for length, countries in {
        "15": "NO",
        "16": "BE",
        "18": "DK FI FK FO GL NL SD",
        "19": "MK SI",
        "20": "AT BA EE KZ LT LU MN XK",
        "21": "CH HR LI LV",
        "22": "BG BH CR DE GB GE IE ME RS VA",
        "23": "AE GI IL IQ OM SO TL",
        "24": "AD CZ ES MD PK RO SA SE SK TN VG",
        "25": "LY PT ST",
        "26": "IS TR",
        "27": "BI DJ FR GR IT MC MR SM",
        "28": "AL AZ BY CY DO GT HN HU LB NI PL SV",
        "29": "BR EG PS QA UA",
        "30": "JO KW MU YE",
        "31": "MT SC",
        "32": "LC",
        "33": "RU",
    }.items()
    for country in countries.split()
}


def find(text: str) -> Iterator[tuple[int, int]]:
    """Where they begin and end."""
    after = 0
    for match in _head(text):
        start = match.start() - (2 if text[match.start() - 1].isalpha() else 3)
        length = _LENGTHS.get(text[start : start + 2].upper())
        begins = not (text[start - 1 : start].isascii() and text[start - 1 : start].isalnum())
        if length is not None and begins and start >= after:
            end = _end(text, start, length)
            if end:
                yield start, end
                after = end


def _end(text: str, start: int, length: int) -> int:
    """Where the number of so many characters that begins here ends, 0 where it is none."""
    chars: list[str] = []
    at = start
    while len(chars) < length and at < len(text):
        char = text[at]
        if char.isascii() and char.isalnum():
            chars.append(char)
        elif char not in _SEPARATORS or text[at - 1] in _SEPARATORS:
            break
        at += 1
    whole = len(chars) == length and not (at < len(text) and text[at].isascii() and text[at].isalnum())
    number = "".join(chars)
    return at if whole and sum(map(str.isdecimal, chars)) >= DIGITS and right(number) else 0


def right(number: str) -> bool:
    """Whether the check digits are right."""
    return int("".join(str(int(char, 36)) for char in number[4:] + number[:4])) % 97 == 1
