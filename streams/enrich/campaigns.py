"""Campaigns: parameters of the page's URL, or of the tracking request itself, that name one.

The names are those of Matomo, `mtm_` before `matomo_` before `pk_` before `piwik_` before `utm_`, and before them those
that the site has of its own; these are read in the page's URL alone. A campaign without a name takes its source's, then
its medium's. They leave the stored URL, for they have columns.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import NamedTuple

from schemas.parameter_lists import CAMPAIGN_PARAMETERS
from schemas.parameters import decode
from streams.anonymize.urls import Parameter, clean_text, tidy
from streams.rules import Rules

LIMIT = 255  # bytes


class Campaign(NamedTuple):
    """The five texts of a campaign, "" where not given. A campaign has a name or is none."""

    name: str = ""
    source: str = ""
    medium: str = ""
    term: str = ""
    content: str = ""


NONE = Campaign()
UNNAMED = "(placeholder)"  # the referrer's name of a campaign where the site keeps none of it (Matomo)

PARAMETERS = CAMPAIGN_PARAMETERS  # of a tracking request


def of_values(values: Mapping[str, str], rules: Rules) -> Campaign:
    """The campaign of decoded values by lower-case name; NONE where they name none."""
    texts = []
    for names in rules.campaign_fields.values():
        found = (text for name in names if name in values and (text := clean_text(values[name], rules, LIMIT)[0]))
        texts.append(next(found, ""))
    campaign = Campaign(*texts)
    if not campaign.name:
        campaign = campaign._replace(name=campaign.source or campaign.medium)
    return campaign if campaign.name else NONE


def named(parameters: Iterable[Parameter], rules: Rules) -> tuple[Parameter, ...]:
    """Those of a URL's parameters that may name a campaign."""
    return tuple([parameter for parameter in parameters if parameter.name in rules.campaign_parameters])


def of_parameters(parameters: Iterable[Parameter], rules: Rules) -> Campaign:
    """The campaign of a URL's parameters; of several with one name the first that is not empty counts."""
    values: dict[str, str] = {}
    for parameter in named(parameters, rules):
        if not values.get(parameter.name):
            values[parameter.name] = tidy(decode(parameter.value))
    return of_values(values, rules) if values else NONE


def of_request(request: Mapping[str, str], rules: Rules) -> Campaign:
    """The campaign that a tracking request names by parameters of its own, which goes before the URL's."""
    values = {name: text for name, text in request.items() if name in PARAMETERS}
    return of_values(values, rules) if values else NONE
