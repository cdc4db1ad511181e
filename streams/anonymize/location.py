"""Location: whatever tells a place on earth sees the masked address only, and no more than the policy's level is kept.

A request may name its place itself (`country`, `region`, `city`) where its token may write; there is no column for
`lat` and `long`, which are never read.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import NamedTuple

from schemas.packets import Role
from schemas.privacy import Location
from streams.anonymize.texts import free_text
from streams.anonymize.urls import tidy
from streams.rules import Rules

PARAMETERS = ("country", "region", "city")
SOURCES = ("", "request", "language")  # of the country: what it was told by
LIMIT = 255  # bytes of a city's name

_country = re.compile(r"[a-z]{2,3}").fullmatch
_region = re.compile(r"[A-Z0-9]{1,3}").fullmatch


class Place(NamedTuple):
    """Country (a code in lower case), region (a code in upper case) and city, "" where unknown or not kept."""

    country: str = ""
    region: str = ""
    city: str = ""


NOWHERE = Place()


def visible(masked: bytes, level: int) -> bytes | None:
    """What location enrichment may see of an address: the masked one, None where nothing of it is left."""
    return None if level >= 4 else masked


def cut_to(place: Place, level: Location) -> Place:
    """The place at a level."""
    keep = (Location.NONE, Location.COUNTRY, Location.REGION, Location.CITY).index(level)
    return Place(*(text if at < keep else "" for at, text in enumerate(place)))


def given(parameters: Mapping[str, str], role: int, rules: Rules) -> Place:
    """The place that a request names by decoded parameters, with the role of its token."""
    if role < Role.WRITE:
        return NOWHERE
    country, region, city = (parameters.get(name, "") for name in PARAMETERS)
    country, region = country.strip().lower(), region.strip().upper()
    if not _country(country):
        return NOWHERE
    town = free_text(tidy(city), rules, LIMIT)
    return cut_to(Place(country, region if _region(region) else "", town), rules.privacy.location)
