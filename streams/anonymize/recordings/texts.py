"""Texts: their shape where they are masked, and what of them is never shown.

A masked text keeps its length and its blanks; every other character is a star. A text that an element's mark shows is
masked as a whole all the same where it holds an @ or 7 digits in a row (Matomo masks runs of 7 to 21), in whatever
encoding, and loses the values that any detector finds, whatever the site's own list of detectors says.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable

from schemas.privacy import Detector
from streams.anonymize import detect
from streams.anonymize.detect import ALL
from streams.anonymize.detect.unfolding import unfolded
from streams.anonymize.urls import clean_text
from streams.rules import Rules

LIMIT = 8192  # characters of one text
FIXED = "********"  # what stands for a value whose length may say something

_visible = re.compile(r"\S").sub
_blank = re.compile(r"[^\S\n]").sub
_shape = re.compile(r"[*\s]*").fullmatch
_lines = re.compile(r"\s").sub
_hard = re.compile(r"@|[0-9]{7}").search


class Tally:
    """What was done to one chunk. masked: values by kind. dropped: what was left out, by kind."""

    __slots__ = ("dropped", "masked")

    def __init__(self) -> None:
        self.masked: Counter[str] = Counter()
        self.dropped: Counter[str] = Counter()


def hidden(text: str) -> str:
    """The shape of a text."""
    return _blank(" ", _visible("*", text[:LIMIT]))


def hard(text: str) -> bool:
    """Whether a text holds what is never shown, an @ or 7 digits in a row, in any encoding."""
    return _hard(unfolded(text)) is not None


def found(text: str) -> Detector | None:
    """The kind of the first value that a detector finds, None where there is none."""
    values = detect.search(text, ALL)
    return values[0][2] if values else None


def shown(text: str, rules: Rules) -> tuple[str, bool]:
    """A text of an element that is shown, and whether anything of it was masked; blanks around it stay."""
    text = text[:LIMIT]
    core = text.strip()
    if _shape(core):
        return hidden(text), False
    if hard(core):
        return hidden(text), True
    cleaned = settled(_lines(" ", core), lambda value: detect.mask(clean_text(value, rules, LIMIT)[0], ALL, LIMIT))
    if cleaned is None or hard(cleaned):  # perhaps what stood between two runs of digits is gone
        return hidden(text), True
    start = text.index(core)
    return hidden(text[:start]) + cleaned + hidden(text[start + len(core) :]), cleaned != core


def settled(text: str, step: Callable[[str], str]) -> str | None:
    """What a step makes of a text once it changes nothing more; None where that does not come soon."""
    for _ in range(detect.PASSES):
        after = step(text)
        if after == text:
            return text
        text = after
    return None
