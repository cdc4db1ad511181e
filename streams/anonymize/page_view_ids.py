"""Page view ids (`pv_id`) and ids of playings (`ma_id`), by the rule `page_view_ids`.

A tracker makes one for each page that is opened and sends it with all that happens there. So one that is stored as it
came links the two days of a page that is open over midnight, and the two sites of a tracker that reports to both.
Hashed by the site's key of the day, it holds together what it is there for.
"""

from __future__ import annotations

import string

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from schemas.privacy import PageViewIds
from streams import keyed
from streams.columns import text_bytes
from streams.keyed import Kind

LENGTH = 6  # characters of a page view id at most; a hash is cut to as many, as it stands for no more than these
_LETTERS = string.digits + string.ascii_letters
_ALPHABET = np.frombuffer(_LETTERS.encode(), np.uint8)

U64 = npt.NDArray[np.uint64]


def page_view(key: bytes, text: str, rule: PageViewIds) -> str:
    """What is stored of a page view id of at most LENGTH letters and digits; `key`: the site's of the day."""
    if rule is PageViewIds.KEEP or not text:
        return text
    if rule is PageViewIds.DROP:
        return ""
    number = keyed.hash_words(key, Kind.PAGE_VIEW, int.from_bytes(text.encode("ascii"), "little"))
    return "".join(_LETTERS[number // len(_LETTERS) ** place % len(_LETTERS)] for place in range(LENGTH))


def page_views(k0: U64, k1: U64, texts: pa.StringArray) -> pa.StringArray:
    """As `page_view` under `day`, each text by a key of its own, given as the two halves of `keyed.key_words`."""
    data, starts, lengths = text_bytes(texts)
    given = lengths > 0
    if not given.any():
        return texts
    packed = np.zeros((len(starts), 8), np.uint8)
    for place in range(LENGTH):
        there = lengths > place
        packed[there, place] = data[starts[there] + place]
    hashes = keyed.hash_columns(k0, k1, Kind.PAGE_VIEW, packed.view("<u8").ravel().astype(np.uint64, copy=False))
    letters = np.empty((len(starts), LENGTH), np.uint8)
    for place in range(LENGTH):
        hashes, digits = np.divmod(hashes, np.uint64(len(_LETTERS)))
        letters[:, place] = _ALPHABET[digits]
    bounds = np.zeros(len(starts) + 1, np.int32)
    np.cumsum(np.where(given, LENGTH, 0), out=bounds[1:])
    kept = letters if given.all() else letters[given]
    return pa.StringArray.from_buffers(len(starts), pa.py_buffer(bounds), pa.py_buffer(np.ascontiguousarray(kept)))


def playing(key: bytes, text: str, rule: PageViewIds) -> str:
    """What is stored of the id of a playing."""
    if rule is PageViewIds.KEEP or not text:
        return text
    return "" if rule is PageViewIds.DROP else f"{keyed.hash_text(key, Kind.PLAYING, text):016x}"
