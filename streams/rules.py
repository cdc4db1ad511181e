"""A site's policy made ready for use on events: sets instead of lists, the time zone resolved.

Actions with consent may have rules of their own (`consented`). What decides which visit an action belongs to is the
same under both: the fingerprint, and whether a campaign begins a visit; so consent within a visit doesn't split it.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date, datetime
from itertools import chain
from types import MappingProxyType
from zoneinfo import ZoneInfo

from schemas.exclusions import safe_pattern
from schemas.goals import Goal
from schemas.parameter_lists import CAMPAIGN_FIELDS, CAMPAIGN_PARAMETERS, EXCLUSION_LISTS
from schemas.privacy import (
    CountryByLanguage,
    Detector,
    Fingerprint,
    FingerprintAddress,
    Location,
    Privacy,
    UrlParameters,
)
from schemas.sites import Folders, SitePolicy
from streams.domains import Domains, bare, canonical, portless
from streams.exclusions import Exclusions
from streams.surroundings import PolicyUnusable

# Offsets from UTC have been whole quarters of an hour everywhere since 1972, so a date never changes within one.
QUARTER_MS = 900_000


@dataclass(frozen=True, slots=True)
class Rules:
    """The policy of one site.

    allowed: parameters of URLs that are kept, None where all are but the excluded. column_parameters: those of
    campaigns and site searches. folders: those of all sites. fingerprint_mask: bytes of an address that the fingerprint
    doesn't see. reads_ids: whether `_id`, `cid` and `uid` are read at all. granted: these are the rules of actions with
    consent, where others have their own.
    """

    site: int
    timezone: ZoneInfo
    repeat_ms: int
    privacy: Privacy
    allowed: frozenset[str] | None
    excluded: frozenset[str]
    patterns: tuple[re.Pattern[str], ...]
    personal: frozenset[str]
    masked_paths: tuple[tuple[str, ...], ...]
    search_parameters: frozenset[str]
    category_parameters: frozenset[str]
    campaign_fields: Mapping[str, tuple[str, ...]]
    campaign_parameters: frozenset[str]
    column_parameters: frozenset[str]
    domains: Domains
    folders: Folders
    excluded_referrers: Domains
    exclusions: Exclusions
    country_by_language: CountryByLanguage
    fingerprint_mask: int
    detectors: frozenset[Detector]
    fine: bool
    campaign_splits: bool
    reads_ids: bool
    goals: tuple[Goal, ...] = ()
    granted: bool = False
    consented: Rules | None = None

    @classmethod
    def of(cls, site: int, policy: SitePolicy, folders: Folders = MappingProxyType({})) -> Rules:
        """The rules of a policy among all; raises PolicyUnusable where its time zone is unknown here."""
        try:
            timezone = ZoneInfo(policy.timezone)
        except (KeyError, ValueError, OSError):
            raise PolicyUnusable(site, policy.timezone) from None
        privacy, granted = policy.privacy, policy.privacy.granted()
        if granted is privacy:
            return cls._made(site, timezone, policy, folders, privacy, privacy)
        consented = cls._made(site, timezone, policy, folders, granted, privacy)
        return cls._made(site, timezone, policy, folders, privacy, privacy, consented)

    @classmethod
    def _made(
        cls,
        site: int,
        timezone: ZoneInfo,
        policy: SitePolicy,
        folders: Folders,
        privacy: Privacy,
        base: Privacy,
        consented: Rules | None = None,
    ) -> Rules:
        search = frozenset(privacy.search_parameters)
        categories = frozenset(privacy.search_category_parameters)
        fields, named = CAMPAIGN_FIELDS, CAMPAIGN_PARAMETERS
        if policy.campaign_parameters:
            fields = {name: (*policy.campaign_parameters.get(name, ()), *known) for name, known in fields.items()}
            named = frozenset(chain.from_iterable(fields.values()))
        campaigns = named if privacy.campaigns else frozenset()
        patterns = {name: pattern for name in privacy.excluded_parameters if (pattern := safe_pattern(name))}
        names = frozenset(name for name in privacy.excluded_parameters if name not in patterns)
        listed = privacy.url_parameters is UrlParameters.LISTED
        lists = () if listed else privacy.excluded_lists
        if "sessions" in lists:
            names |= EXCLUSION_LISTS["sessions"]
        if not privacy.campaigns:
            names |= named
        placeless = privacy.location is Location.NONE
        full = base.fingerprint_address is FingerprintAddress.FULL
        return cls(
            site=site,
            timezone=timezone,
            repeat_ms=policy.repeat_seconds * 1000,
            privacy=privacy,
            allowed=search | categories | campaigns | frozenset(privacy.allowed_parameters) if listed else None,
            excluded=names,
            patterns=tuple(re.compile(found.pattern, found.flags | re.IGNORECASE) for found in patterns.values()),
            personal=EXCLUSION_LISTS["personal"] if "personal" in lists else frozenset(),
            masked_paths=tuple(tuple(path.strip("/").split("/")) for path in privacy.masked_paths),
            search_parameters=search,
            category_parameters=categories,
            campaign_fields=fields,
            campaign_parameters=named,
            column_parameters=named | search | categories,
            domains=Domains(policy.domains),
            folders=folders,
            excluded_referrers=Domains(policy.excluded_referrers),
            exclusions=Exclusions.of(policy),
            country_by_language=CountryByLanguage.NEVER if placeless else privacy.country_by_language,
            fingerprint_mask=0 if full else base.mask_bytes,
            detectors=frozenset(privacy.detectors),
            fine=base.fingerprint is Fingerprint.FINE,
            campaign_splits=base.campaigns,
            reads_ids=privacy.reads_ids,
            goals=policy.goal_rules,
            granted=privacy is not base,
            consented=consented,
        )

    def of_consent(self, consent: int) -> Rules:
        """The rules of an action whose consent is `consent.GIVEN` or anything else."""
        return self.consented if consent == 1 and self.consented is not None else self

    def neighbour(self, host: str, path: str, depth: int) -> str:
        """The folder of another site that holds a page, as `shop.example/en`; "" where the site's own is as deep.

        depth: of the page in the site's own domains.
        """
        if not self.folders:
            return ""
        name = bare(host)
        name = name if name in self.folders else portless(name)
        path = canonical(path)
        folder = next((folder for folder in self.folders.get(name, ()) if path.startswith(folder)), "")
        return name + folder.rstrip("/") if len(folder) > depth else ""

    def date(self, ms: int) -> date:
        """The calendar date of a moment (milliseconds since 1970 UTC, from 1972 on) at the site."""
        return datetime.fromtimestamp(ms // 1000, self.timezone).date()
