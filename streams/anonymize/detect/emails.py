"""E-mail addresses: a local part, @, and a domain of at least two labels whose last is no number (RFC 5321, RFC 6531).

Names of files such as `logo@2x.png` and of packages such as `lodash@4.17.21` are none.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

LOCAL_LIMIT, DOMAIN_LIMIT = 64, 255  # characters

_domain = re.compile(r"\w[\w.-]{0,254}").match
_top_level = re.compile(
    r"xn--[a-z0-9-]{2,59}|[a-z]{2,24}(?![a-z0-9-])|(?:(?![a-z])[^\W\d_]){2,24}", re.IGNORECASE
).match
_LOCAL = frozenset("._%+-'~")
# Endings of files that are no top-level domains.
_files = """
    png jpg jpeg gif svg webp avif ico css scss less js mjs cjs jsx tsx json xml html htm xhtml php aspx jsp txt pdf csv
    woff woff2 ttf otf eot mp4 webm mp3 map min
"""
_FILES = frozenset(_files.split())


def find(text: str) -> Iterator[tuple[int, int]]:
    """Where they begin and end."""
    at = text.find("@")
    after = 0
    while at >= 0:
        end = _end(text, at + 1)
        start = _start(text, at, after) if end else at
        if start < at:
            yield start, end
            after = end
        at = text.find("@", max(at + 1, after))


def _start(text: str, at: int, after: int) -> int:
    """Where the local part begins, `at` where there is none."""
    start = at
    while start > max(after, at - LOCAL_LIMIT) and (text[start - 1].isalnum() or text[start - 1] in _LOCAL):
        start -= 1
    while start < at and not text[start].isalnum() and text[start] != "_":
        start += 1
    return start


def _end(text: str, at: int) -> int:
    """Where the domain that begins here ends, 0 where there is none."""
    found = _domain(text, at)
    if found is None:
        return 0
    labels = found[0].split(".")
    if len(labels) > 1 and labels[0].isdecimal() and labels[1][:1].isdecimal():
        return 0  # the version of a package
    while len(labels) > 1:
        last = labels.pop()
        top = _top_level(last)
        if top is not None and last.lower() not in _FILES:
            return at + sum(len(label) + 1 for label in labels) + top.end() if all(labels) else 0
    return 0
