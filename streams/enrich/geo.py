"""Location from the masked address.

Not there yet: columns `country`, `region` and `city` keep their default, the empty text. What comes here gets
its address from `streams.anonymize.location.visible` and nowhere else.
"""

from __future__ import annotations

from typing import NamedTuple


class Location(NamedTuple):
    """ISO 3166-1 code in upper case, ISO 3166-2 code of the region, name of the city; "" where not known."""

    country: str = ""
    region: str = ""
    city: str = ""


UNKNOWN = Location()
