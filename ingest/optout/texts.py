"""The texts of the opt-out, in the 24 official languages of the European Union, from `texts.json`."""

from __future__ import annotations

import re
from collections.abc import Mapping
from importlib.resources import files

import msgspec

FALLBACK = "en"

_weighted = re.compile(r"([a-z]{2,3})(?:-[a-z0-9-]+)?(?:;q=([0-9.]{1,5}))?").fullmatch


class Texts(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What a visitor reads in one language.

    counted, refused: the state. refuse, allow: the buttons that change it. cookies: the choice cannot be kept.
    signal: the browser asks not to be tracked, and that is enough.
    """

    title: str
    intro: str
    counted: str
    refused: str
    refuse: str
    allow: str
    cookies: str
    signal: str


def load() -> Mapping[str, Texts]:
    """Language code (ISO 639-1) -> its texts."""
    return msgspec.json.decode(files(__package__).joinpath("texts.json").read_bytes(), type=dict[str, Texts])


TEXTS = load()


def choose(wanted: str, accepted: str) -> str:
    """The language to answer in: the one asked for by name, else the best of an Accept-Language header."""
    named = wanted.strip().lower().replace("_", "-").partition("-")[0]
    if named in TEXTS:
        return named
    best, weight = FALLBACK, 0.0
    for part in accepted.lower().replace(" ", "").split(",")[:32]:
        if (found := _weighted(part)) and found[1] in TEXTS:
            try:
                quality = float(found[2] or 1)
            except ValueError:
                continue
            if quality > weight:
                best, weight = found[1], quality
    return best
