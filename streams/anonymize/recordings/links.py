"""Addresses in a document: as the site's rules for URLs leave them, absolute or not."""

from __future__ import annotations

import re

from streams.anonymize import detect
from streams.anonymize.detect import ALL
from streams.anonymize.recordings.texts import found, hard, settled
from streams.anonymize.urls import LIMIT, clean, split, tidy
from streams.rules import Rules

HERE = "https://here.invalid"  # what a relative address is relative to while it is cleaned (RFC 2606)
CANDIDATES = 20  # of a srcset

_scheme = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*:").match
_pictured = re.compile(r"(?:^|[\s,])(?!https?:)[A-Za-z][A-Za-z0-9+.-]*:", re.IGNORECASE).search
_quoted = str.maketrans({char: f"%{ord(char):02X}" for char in "\"'()\\<> \n,"})
_descriptor = re.compile(r"[0-9]{1,5}(?:\.[0-9]{1,3})?[wxh]").fullmatch


def link(text: str, rules: Rules) -> str:
    """An address as it may be kept; "" where it is none of a page or a file (data:, javascript:, mailto:)."""
    return settled(text, lambda value: _link(value, rules)) or ""


def srcset(text: str, rules: Rules) -> str:
    """The candidates of a srcset, each with its address as `link` leaves it; "" for what is no srcset.

    Of one with a picture in it (data:), whose commas and blanks are anywhere, nothing is left.
    """
    if _pictured(text):
        return ""
    out = []
    for candidate in text[: 4 * LIMIT].split(",")[:CANDIDATES]:
        address, _, descriptor = candidate.strip().partition(" ")
        descriptor = descriptor.strip()
        if descriptor and not _descriptor(descriptor):
            return ""
        if kept := link(address, rules):
            out.append(f"{kept} {descriptor}".strip())
    return ", ".join(out)


def _link(text: str, rules: Rules) -> str:
    text = tidy(text)
    if not text or text.startswith("#") or "\\" in text:
        return ""
    absolute = text.startswith("//")
    if _scheme(text):
        if not text.lower().startswith(("http://", "https://")):
            return ""
        absolute = True
    parts = split(text if absolute else f"{HERE}/{text.lstrip('/')}")
    if parts is None or hard(parts.host) or found(parts.host):
        return ""
    path = "/".join("" if hard(part) or found(part) else part for part in parts.path.split("/"))
    whole, _ = clean(parts._replace(path=path), rules)
    if not absolute:
        whole = whole.removeprefix(HERE)
    front, _, query = whole.partition("?")
    if hard(query):
        whole = front
    if hard(whole):
        whole = "/".join("" if hard(part) else part for part in whole.partition("?")[0].split("/"))
        if hard(whole):
            return ""
    return detect.mask(whole, ALL, LIMIT).translate(_quoted)
