"""Site searches: keyword and category in the page's URL, by the site's lists of parameters.

The query goes before the fragment, where single-page sites have them. Both leave the stored URL of a site search, for
they have columns; other actions on the page of results keep them.
"""

from __future__ import annotations

from collections.abc import Iterable, Set
from typing import NamedTuple

from schemas.parameters import decode
from streams.anonymize.urls import Parameter, clean_text
from streams.rules import Rules

LIMIT = 255  # bytes
CATEGORY_LIMIT = 200


class Search(NamedTuple):
    """What was looked for in a site, "" where not given. Without a keyword there is no search."""

    keyword: str = ""
    category: str = ""


NONE = Search()


def of_parameters(parameters: Iterable[Parameter], rules: Rules) -> Search:
    """The search of a URL's parameters; of several the first counts that is not empty after cleaning."""
    given = tuple(parameters)
    keyword = _first(given, rules.search_parameters, rules, LIMIT)
    if not keyword:
        return NONE
    return Search(keyword, _first(given, rules.category_parameters, rules, CATEGORY_LIMIT))


def _first(given: Iterable[Parameter], names: Set[str], rules: Rules, limit: int) -> str:
    for parameter in given:
        if parameter.name in names and parameter.value:
            text, _ = clean_text(decode(parameter.value), rules, limit)
            if text:
                return text
    return ""
