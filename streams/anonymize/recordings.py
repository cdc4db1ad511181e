"""Session recordings, heatmaps and form values: what people typed and did, never kept.

Parameters `hsr_*` (heatmaps and session recordings) and `fa_*` (form analytics) are dropped before anything
reads them, and counted as removed parameters.
"""

from __future__ import annotations

from schemas.parameters import decode

PREFIXES = ("hsr_", "fa_")


def recorded(name: str) -> bool:
    """Whether a decoded parameter name carries a recording or a form value."""
    return name.startswith(PREFIXES)


def count(query: str) -> int:
    """How many parts of a raw query string are dropped."""
    if "hsr_" not in query and "fa_" not in query and "%" not in query:
        return 0
    return sum(recorded(decode(part.partition("=")[0])) for part in query.split("&"))
