"""Campaigns: parameters of the page's URL, or of the tracking request itself, that name one.

The names are those of Matomo, `mtm_` before `matomo_` before `pk_` before `piwik_` before `utm_`. A campaign
without a name takes its source's, then its medium's. They leave the stored URL, for they have columns.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import NamedTuple

from schemas.parameters import decode
from streams.anonymize.urls import Parameter, cut, tidy

LIMIT = 255  # bytes


class Campaign(NamedTuple):
    """The five texts of a campaign, "" where not given. A campaign has a name or is none."""

    name: str = ""
    source: str = ""
    medium: str = ""
    term: str = ""
    content: str = ""


NONE = Campaign()

FIELDS: dict[str, tuple[str, ...]] = {
    "name": ("mtm_campaign", "matomo_campaign", "mtm_cpn", "pk_campaign", "piwik_campaign", "pk_cpn", "utm_campaign"),
    "source": ("mtm_source", "matomo_source", "pk_source", "piwik_source", "utm_source"),
    "medium": ("mtm_medium", "matomo_medium", "pk_medium", "piwik_medium", "utm_medium"),
    "term": ("mtm_keyword", "mtm_kwd", "matomo_kwd", "pk_keyword", "pk_kwd", "piwik_kwd", "utm_term"),
    "content": ("mtm_content", "matomo_content", "pk_content", "piwik_content", "utm_content"),
}
PARAMETERS = frozenset(name for names in FIELDS.values() for name in names)


def of_values(values: Mapping[str, str]) -> Campaign:
    """The campaign of decoded values by lower-case name; NONE where they name none."""
    texts = []
    for names in FIELDS.values():
        found = (text for name in names if name in values and (text := cut(tidy(values[name]), LIMIT)))
        texts.append(next(found, ""))
    campaign = Campaign(*texts)
    if not campaign.name:
        campaign = campaign._replace(name=campaign.source or campaign.medium)
    return campaign if campaign.name else NONE


def of_parameters(parameters: Iterable[Parameter]) -> Campaign:
    """The campaign of a URL's parameters; of several with one name the first that is not empty counts."""
    values: dict[str, str] = {}
    for parameter in parameters:
        if parameter.name in PARAMETERS and not values.get(parameter.name):
            values[parameter.name] = tidy(decode(parameter.value))
    return of_values(values) if values else NONE


def of_request(request: Mapping[str, str]) -> Campaign:
    """The campaign that a tracking request names by parameters of its own, which goes before the URL's."""
    return of_values(request) if not PARAMETERS.isdisjoint(request) else NONE
