"""Session recordings, heatmaps and form values: what people typed and did, masked or not kept.

In events, parameters `hsr_*` (heatmaps and session recordings) and `fa_*` (form analytics) are dropped before anything
reads them, and counted as removed parameters; a request that tells of actions by them is no event at all. Where a site
takes recordings, `events` masks those of rrweb and `points` makes heatmaps of them and of `hsr_*`. Nothing that the
browser says of having masked is believed.

Every module writes what it knows and nothing else: a closed list of events, fields, attributes; so what is new in a
recorder is missing in a row, never there as it came. Masking what was masked changes nothing.
"""

from __future__ import annotations

from schemas.parameters import decode
from schemas.recordings import TOLD

__all__ = ["PREFIXES", "TOLD", "count", "recorded"]

PREFIXES = ("hsr_", "fa_")


def recorded(name: str) -> bool:
    """Whether a decoded parameter name carries a recording or a form value."""
    return name.startswith(PREFIXES)


def count(query: str) -> int:
    """How many parts of a raw query string are dropped."""
    if "hsr_" not in query and "fa_" not in query and "%" not in query:
        return 0
    return sum(recorded(decode(part.partition("=")[0])) for part in query.split("&"))
