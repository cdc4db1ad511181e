"""A site's policy made ready for use on events: sets instead of lists, the time zone resolved.

Actions with consent may have rules of their own (`consented`). What decides which visit an action belongs to is the
same under both: the fingerprint, and whether a campaign begins a visit; so consent within a visit doesn't split it.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import date, datetime
from zoneinfo import ZoneInfo

from schemas.exclusions import safe_pattern
from schemas.parameter_lists import CAMPAIGN_PARAMETERS, EXCLUSION_LISTS
from schemas.privacy import Consent, Detector, Fingerprint, FingerprintAddress, Privacy, UrlParameters, VisitorIds
from schemas.sites import SitePolicy
from streams.exclusions import Exclusions
from streams.surroundings import PolicyUnusable

# Offsets from UTC have been whole quarters of an hour everywhere since 1972, so a date never changes within one.
QUARTER_MS = 900_000


@dataclass(frozen=True, slots=True)
class Rules:
    """The policy of one site. `hosts` and `suffixes` (".shop.example") are the site's own, without `www.`.

    allowed: parameters of URLs that are kept, None where all are but the excluded. fingerprint_mask: bytes of an
    address that the fingerprint doesn't see. reads_ids: whether `_id`, `cid` and `uid` are read at all. granted: these
    are the rules of actions with consent, where others have their own.
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
    hosts: frozenset[str]
    suffixes: tuple[str, ...]
    exclusions: Exclusions
    fingerprint_mask: int
    detectors: frozenset[Detector]
    fine: bool
    campaign_splits: bool
    reads_ids: bool
    granted: bool = False
    consented: Rules | None = None

    @classmethod
    def of(cls, site: int, policy: SitePolicy) -> Rules:
        """The rules of a policy; raises PolicyUnusable where its time zone is unknown here."""
        try:
            timezone = ZoneInfo(policy.timezone)
        except (KeyError, ValueError, OSError):
            raise PolicyUnusable(site, policy.timezone) from None
        privacy, granted = policy.privacy, policy.privacy.granted()
        if granted is privacy:
            return cls._made(site, timezone, policy, privacy, privacy)
        return cls._made(site, timezone, policy, privacy, privacy, cls._made(site, timezone, policy, granted, privacy))

    @classmethod
    def _made(
        cls,
        site: int,
        timezone: ZoneInfo,
        policy: SitePolicy,
        privacy: Privacy,
        base: Privacy,
        consented: Rules | None = None,
    ) -> Rules:
        search = frozenset(privacy.search_parameters)
        campaigns = CAMPAIGN_PARAMETERS if privacy.campaigns else frozenset()
        patterns = {name: pattern for name in privacy.excluded_parameters if (pattern := safe_pattern(name))}
        names = frozenset(name for name in privacy.excluded_parameters if name not in patterns)
        domains = [domain.partition("/")[0] for domain in policy.domains]
        listed = privacy.url_parameters is UrlParameters.LISTED
        lists = () if listed else privacy.excluded_lists
        if "sessions" in lists:
            names |= EXCLUSION_LISTS["sessions"]
        if not privacy.campaigns:
            names |= CAMPAIGN_PARAMETERS
        full = base.fingerprint_address is FingerprintAddress.FULL
        return cls(
            site=site,
            timezone=timezone,
            repeat_ms=policy.repeat_seconds * 1000,
            privacy=privacy,
            allowed=search | campaigns | frozenset(privacy.allowed_parameters) if listed else None,
            excluded=names,
            patterns=tuple(re.compile(found.pattern, found.flags | re.IGNORECASE) for found in patterns.values()),
            personal=EXCLUSION_LISTS["personal"] if "personal" in lists else frozenset(),
            masked_paths=tuple(tuple(path.strip("/").split("/")) for path in privacy.masked_paths),
            search_parameters=search,
            hosts=frozenset(host.removeprefix("www.") for host in domains if host[:2] != "*."),
            suffixes=tuple(host[1:] for host in domains if host[:2] == "*."),
            exclusions=Exclusions.of(policy),
            fingerprint_mask=0 if full else base.mask_bytes,
            detectors=frozenset(privacy.detectors),
            fine=base.fingerprint is Fingerprint.FINE,
            campaign_splits=base.campaigns,
            reads_ids=(
                privacy.visitor_ids is not VisitorIds.REQUEST
                and not (privacy is base and privacy.consent is Consent.AWARE)
            ),
            granted=privacy is not base,
            consented=consented,
        )

    def of_consent(self, consent: int) -> Rules:
        """The rules of an action whose consent is `consent.GIVEN` or anything else."""
        return self.consented if consent == 1 and self.consented is not None else self

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
