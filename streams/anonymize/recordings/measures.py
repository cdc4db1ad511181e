"""Measures: numbers, colours, and words of the language of shapes and styles."""

from __future__ import annotations

import re

from streams.anonymize.recordings.texts import found, hard

_vocabulary = """
    px em rem vw vh vmin vmax pt pc cm mm in ch ex fr deg rad turn auto none inherit initial currentcolor
    transparent translate translatex translatey scale scalex scaley rotate skewx skewy matrix rgb rgba hsl hsla calc
    evenodd nonzero round butt square miter bevel black white red green blue gray grey silver left right center top
    bottom both xminymin xmidymin xmaxymin xminymid xmidymid xmaxymid xminymax xmidymax xmaxymax meet slice
    userspaceonuse objectboundingbox played paused true false screen print all and not only orientation landscape
    portrait prefers-color-scheme dark light min-width max-width min-height max-height width height
"""
VOCABULARY = frozenset(_vocabulary.split())

_measure = re.compile(r"[A-Za-z0-9 .,:%+()#\s-]*").fullmatch
_words = re.compile(r"[A-Za-z][A-Za-z-]+").findall
_colour = re.compile(r"#(?:[0-9a-fA-F]{6}|[0-9a-fA-F]{3,4})(?![0-9A-Za-z])").sub
MEASURE_LIMIT = 8192


def measure(text: str) -> bool:
    """Whether a text is made of numbers, colours and words of shapes, and of nothing that may be a value."""
    if len(text) > MEASURE_LIMIT or _measure(text) is None:
        return False
    plain = _colour("", text)
    words = (word.lower() for word in _words(plain))
    if not all(word in VOCABULARY or len(set(word)) == 1 for word in words):
        return False
    return not hard(text) and found(text) is None
