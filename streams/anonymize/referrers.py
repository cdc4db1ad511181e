"""How much of a referrer is kept: Matomo's four levels (plugin PrivacyManager, setting anonymizeReferrer).

The type is always kept. The name of a campaign, a search engine, a network or an assistant is kept at every level,
that of a website at all but the last. The keyword of a campaign is kept; every other is emptied by any level.
"""

from __future__ import annotations

import re

from schemas.privacy import Referrers
from schemas.tables import ReferrerType

_host_and_path = re.compile(r"((?:[a-z][a-z0-9+.-]*:)?//[^/?#]+)/", re.IGNORECASE).match


def url(text: str, level: Referrers) -> str:
    """The URL at a level; one without a host has no path that could be cut."""
    if level is Referrers.KEEP:
        return text
    if level is Referrers.EXCLUDE_ALL:
        return ""
    if level is Referrers.EXCLUDE_PATH and (found := _host_and_path(text)):
        return found[1] + "/"
    return text.partition("#")[0].partition("?")[0] if level is Referrers.EXCLUDE_QUERY else _bare(text)


def _bare(text: str) -> str:
    """Of a URL without a path, what stands before its query; anything that is no URL stays."""
    return text.partition("#")[0].partition("?")[0] if "//" in text else text


def name(text: str, type_: int, level: Referrers) -> str:
    """The name at a level."""
    return "" if level is Referrers.EXCLUDE_ALL and type_ == ReferrerType.WEBSITE else text


def keyword(text: str, type_: int, level: Referrers) -> str:
    """The keyword at a level."""
    return text if level is Referrers.KEEP or type_ == ReferrerType.CAMPAIGN else ""
