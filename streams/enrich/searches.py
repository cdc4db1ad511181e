"""Site searches: the keyword in the page's URL, by the site's list of parameters."""

from __future__ import annotations

from collections.abc import Iterable

from schemas.parameters import decode
from streams.anonymize.urls import Parameter, clean_text
from streams.rules import Rules

LIMIT = 255  # bytes


def keyword(parameters: Iterable[Parameter], rules: Rules) -> str:
    """The first keyword that is not empty after cleaning, "" where there is none."""
    for parameter in parameters:
        if parameter.name in rules.search_parameters and parameter.value:
            text, _ = clean_text(decode(parameter.value), rules, LIMIT)
            if text:
                return text
    return ""
