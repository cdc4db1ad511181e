"""Check digits and what stands before a number: shared by the detectors of numbers."""

from __future__ import annotations

import re
from collections.abc import Sequence

LOOK_BACK = 40  # characters before a number that may say what it is

_other = re.compile(r"[^0-9]+").sub
_article = re.compile(
    r"(?:isbn|ean|gtin|upc|imei|issn|asin)[-_ 0-9]{0,4}[^A-Za-z0-9]{0,4}$"
    r"|(?<![A-Za-z0-9])(?:t|ts|time|timestamp|_|cb|v|ver|rnd|rand|random|cache|nocache|cachebuster)=$",
    re.IGNORECASE,
).search


def digits_of(text: str) -> str:
    """Its ASCII digits."""
    return _other("", text)


def luhn(digits: str) -> bool:
    """Whether the last digit checks the others (ISO/IEC 7812-1, annex B)."""
    total = sum(map(int, digits[-1::-2]))
    total += sum(sum(divmod(2 * int(digit), 10)) for digit in digits[-2::-2])
    return total % 10 == 0


def ean(digits: str) -> bool:
    """Whether the last digit of the number of an article checks the others (GS1)."""
    return (sum(map(int, digits[-1::-2])) + 3 * sum(map(int, digits[-2::-2]))) % 10 == 0


def weighted(digits: str, weights: Sequence[int]) -> int:
    """The sum of the digits times their weights; what is beyond the shorter of both is left out."""
    return sum(int(digit) * weight for digit, weight in zip(digits, weights, strict=False))


def after_plus(text: str, at: int) -> bool:
    """Whether a plus sign stands before this place that joins nothing: then a telephone number begins here."""
    return text[at - 1 : at] == "+" and not text[at - 2 : at - 1].isalnum()


def is_article(text: str, at: int) -> bool:
    """Whether the words before this place say that a number names a book, an article, a device, a moment or nothing."""
    return _article(text, max(0, at - LOOK_BACK), at) is not None
