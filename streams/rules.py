"""A site's policy made ready for use on events: sets instead of lists, the time zone resolved."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import date, datetime
from zoneinfo import ZoneInfo

from schemas.sites import SitePolicy
from streams.exclusions import Exclusions
from streams.surroundings import PolicyUnusable

# Offsets from UTC have been whole quarters of an hour everywhere since 1972, so a date never changes within one.
QUARTER_MS = 900_000


@dataclass(frozen=True, slots=True)
class Rules:
    """The policy of one site. `hosts` and `suffixes` (".shop.example") are the site's own, without `www.`."""

    site: int
    timezone: ZoneInfo
    repeat_ms: int
    mask_bytes: int
    excluded: frozenset[str]
    keep_fragment: bool
    search_parameters: frozenset[str]
    hosts: frozenset[str]
    suffixes: tuple[str, ...]
    excluded_patterns: tuple[re.Pattern[str], ...]
    exclusions: Exclusions

    @classmethod
    def of(cls, site: int, policy: SitePolicy) -> Rules:
        """The rules of a policy; raises PolicyUnusable where its time zone is unknown here."""
        try:
            timezone = ZoneInfo(policy.timezone)
        except (KeyError, ValueError, OSError):
            raise PolicyUnusable(site, policy.timezone) from None
        domains = [domain.partition("/")[0] for domain in policy.domains]
        return cls(
            site=site,
            timezone=timezone,
            repeat_ms=policy.repeat_seconds * 1000,
            mask_bytes=policy.mask_bytes,
            excluded=policy.excluded,
            keep_fragment=policy.keep_fragment,
            search_parameters=frozenset(policy.search_parameters),
            hosts=frozenset(host.removeprefix("www.") for host in domains if host[:2] != "*."),
            suffixes=tuple(host[1:] for host in domains if host[:2] == "*."),
            excluded_patterns=policy.excluded_patterns,
            exclusions=Exclusions.of(policy),
        )

    def internal(self, host: str) -> bool:
        """Whether a host (lower case, with its port where one was given) is the site's own."""
        bare = host.removeprefix("www.")
        plain = bare.partition(":")[0]
        return (
            bare in self.hosts or plain in self.hosts or (bool(self.suffixes) and f".{plain}".endswith(self.suffixes))
        )

    def date(self, ms: int) -> date:
        """The calendar date of a moment (milliseconds since 1970 UTC, from 1972 on) at the site."""
        return datetime.fromtimestamp(ms // 1000, self.timezone).date()
