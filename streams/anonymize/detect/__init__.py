"""Detectors: personal data that is known by its value alone, wherever it stands in a text.

A module per kind gives the places of its values in a text without encodings (`unfolding`). Each is replaced by a
placeholder that says its kind, such as [email], in the text as it came, so that what stands around it stays as it is.
Base64 of a text that holds a value is replaced as a whole.

Every expression is bounded, and starts at places that don't overlap, so that the time is linear in the length of a
text; and no text is longer than `split.RAW_LIMIT`.
"""

from __future__ import annotations

import binascii
import re
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from types import MappingProxyType

from schemas.privacy import Detector
from streams.anonymize.detect import cards, emails, ibans, names, national, network, phones, tokens
from streams.anonymize.detect.screening import NOTHING, screened, screened_all
from streams.anonymize.detect.unfolding import traced, unfolded, unfolded_all
from streams.anonymize.split import cut

Span = tuple[int, int]

# Of two kinds that overlap the first counts.
FINDERS: Mapping[Detector, Callable[[str], Iterator[Span]]] = MappingProxyType(
    {
        Detector.EMAIL: emails.find,
        Detector.TOKEN: tokens.find,
        Detector.IBAN: ibans.find,
        Detector.NATIONAL_ID: national.find,
        Detector.CARD: cards.find,
        Detector.PHONE: phones.find,
        Detector.IP: network.find_ip,
        Detector.MAC: network.find_mac,
        Detector.NAME: names.find,
    }
)
ALL = frozenset(Detector)
PLACEHOLDERS = MappingProxyType({kind: f"[{kind}]" for kind in Detector})
PASSES = 8  # over one text: what stood beside a value may be one itself once that is gone

_RANK = {kind: rank for rank, kind in enumerate(FINDERS)}
_base64 = re.compile(r"(?<![A-Za-z0-9+/_-])[A-Za-z0-9+/_-]{12,8192}={0,2}").finditer
_pieces = tuple(
    re.compile(rf"[{of}]{{12,8192}}={{0,2}}").finditer for of in ("A-Za-z0-9+_-", "A-Za-z0-9/", "A-Za-z0-9")
)


def mask(text: str, kinds: Collection[Detector], limit: int) -> str:
    """The text in at most `limit` bytes with placeholders instead of values of these kinds.

    Masking what it returns changes nothing. A text that was made so that values never end becomes one placeholder.
    """
    if not kinds:
        return cut(text, limit)
    kind = None
    for _ in range(PASSES):
        found = search(text, kinds)
        masked = cut(_replaced(text, found) if found else text, limit)
        if masked == text:
            return text
        kind = found[0][2] if found else kind
        text = masked
    return text if kind is None else PLACEHOLDERS[kind]


def clear(texts: Sequence[str]) -> list[bool]:
    """Which texts surely hold no value of any kind: a look at all of them at once, that most pass."""
    return [seen is NOTHING for seen in screened_all(unfolded_all(texts))]


def search(text: str, kinds: Collection[Detector]) -> list[tuple[int, int, Detector]]:
    """Where in a text values begin and end, and of which kind they are; in order, without overlaps."""
    plain = unfolded(text)
    found = _found(plain, kinds)
    if not found:
        return []
    if len(plain) == len(text) and "%" not in text and "&" not in text:
        return found  # at most folded, character by character
    _, starts, ends = traced(text)
    return [(starts[first], ends[last - 1], kind) for first, last, kind in found]


def _found(plain: str, kinds: Collection[Detector]) -> list[tuple[int, int, Detector]]:
    seen = screened(plain)
    if seen is NOTHING:
        return []
    found = [(*span, kind) for kind in seen.detectors if kind in kinds for span in FINDERS[kind](plain)]
    if seen.encoded:
        found += _encoded(plain, kinds)
    return _merged(found) if found else found


def _encoded(plain: str, kinds: Collection[Detector]) -> Iterator[tuple[int, int, Detector]]:
    for match in _base64(plain):
        kind = _kind_within(match[0], kinds)
        if kind is not None:
            yield *match.span(), kind
            continue
        for pieces in _pieces:  # as it may stand in a path, or behind a sign that joins words
            for part in pieces(plain, *match.span()):
                kind = _kind_within(part[0], kinds) if part[0] != match[0] else None
                if kind is not None:
                    yield *part.span(), kind


def _kind_within(text: str, kinds: Collection[Detector]) -> Detector | None:
    """The first kind of which the text that this is base64 of holds a value."""
    inner = _decoded(text)
    possible = screened(inner).detectors if inner else ()
    return next((kind for kind in FINDERS if kind in possible and kind in kinds and any(FINDERS[kind](inner))), None)


def _decoded(text: str) -> str:
    """The text that this is base64 of, in either alphabet, without its encodings; "" where it is of none."""
    digits = text.rstrip("=").replace("-", "+").replace("_", "/")
    try:
        inner = binascii.a2b_base64(digits + "=" * (-len(digits) % 4)).decode()
    except ValueError:
        return ""
    inner = " ".join(inner.split())  # lines end as those of files do
    return unfolded(inner) if inner.isprintable() else ""


def _merged(found: Iterable[tuple[int, int, Detector]]) -> list[tuple[int, int, Detector]]:
    out: list[tuple[int, int, Detector]] = []
    for first, last, kind in sorted(found, key=lambda span: (span[0], -span[1])):
        if out and first < out[-1][1]:
            start, end, other = out[-1]
            out[-1] = start, max(end, last), min(kind, other, key=_RANK.__getitem__)
        else:
            out.append((first, last, kind))
    return out


def _replaced(text: str, found: Iterable[tuple[int, int, Detector]]) -> str:
    pieces: list[str] = []
    after = 0
    for first, last, kind in found:
        pieces += text[after:first], PLACEHOLDERS[kind]
        after = last
    return "".join(pieces) + text[after:]
