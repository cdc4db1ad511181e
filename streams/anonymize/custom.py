"""What a site says of its visitors in fields of its own: custom dimensions and custom variables.

`dimension1` to `dimension999`: trimmed, at most 250 characters; an empty value clears and is kept as such. `cvar`
(page), `_cvar` (visit) and `e_cvar` (event): JSON {"1": ["name", "value"]}, slots 1 to 5, at most 200 characters each
(Matomo). `data` has no column and is never read. A value is dropped, hashed by the key of the site's day or the site's
own, or kept; the name of a variable is the site's, not the visitor's, and is kept with it.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from typing import NamedTuple

from schemas.privacy import Privacy, Values
from streams.anonymize.urls import clean_text, tidy
from streams.keyed import Kind, hash_text
from streams.rules import Rules

DIMENSION_LIMIT, VARIABLE_LIMIT = 250, 200  # characters
SLOTS = ("1", "2", "3", "4", "5")
JSON_LIMIT = 16_384  # characters of a parameter's value that are looked at
SCOPES = {"cvar": 1, "_cvar": 2, "e_cvar": 3}

dimension_name = re.compile(r"dimension([1-9][0-9]{0,2})").fullmatch

Keys = Callable[[Values], bytes]  # the 16 bytes of the key of Values.DAY or Values.SITE


class Variable(NamedTuple):
    """One custom variable; `scope` is a number of SCOPES."""

    scope: int
    name: str
    value: str


def wanted(rules: Privacy) -> tuple[bool, bool]:
    """Whether anything of dimensions and of variables is kept."""
    dimensions = {rules.custom_dimensions, *rules.dimensions.values()} != {Values.DROP}
    return dimensions, rules.custom_variables is not Values.DROP


def value(text: str, rule: Values, kind: Kind, keys: Keys, rules: Rules) -> str:
    """A text as a rule other than DROP stores it: a hash is 16 hex digits."""
    limit = DIMENSION_LIMIT if kind is Kind.DIMENSION else VARIABLE_LIMIT
    if rule is Values.KEEP:
        return _shortened(text, limit, rules)
    text = text[:limit].strip()
    return f"{hash_text(keys(rule), kind, text):016x}" if text else ""


def _shortened(text: str, limit: int, rules: Rules) -> str:
    """A text that is masked before it is cut, as half a value is none; and after it, for what it looks like then."""
    found = clean_text(text, rules)[0]
    return found if len(found) <= limit else clean_text(found[:limit], rules)[0][:limit].strip()


def dimensions(given: Mapping[int, str], rules: Rules, keys: Keys) -> list[tuple[int, str]]:
    """Slots, rising, and what is stored of their decoded values."""
    out = []
    for slot, text in sorted(given.items()):
        rule = rules.privacy.dimension(slot)
        if rule is not Values.DROP:
            out.append((slot, value(tidy(text), rule, Kind.DIMENSION, keys, rules)))
    return out


def variables(given: Mapping[str, str], rules: Rules, keys: Keys) -> list[Variable]:
    """What is stored of the decoded parameters of SCOPES, in its order; what is malformed is left out."""
    rule = rules.privacy.custom_variables
    if rule is Values.DROP:
        return []
    out = []
    for parameter, scope in SCOPES.items():
        for name, text in _parsed(given.get(parameter, "")):
            name = _shortened(name, VARIABLE_LIMIT, rules)
            out.append(Variable(scope, name, value(text, rule, Kind.VARIABLE, keys, rules)))
    return out


def _parsed(text: str) -> list[tuple[str, str]]:
    if not text or len(text) > JSON_LIMIT:
        return []
    try:
        found = json.loads(text)
    except (ValueError, RecursionError):
        return []
    if not isinstance(found, dict):
        return []
    out = []
    for slot in SLOTS:
        pair = found.get(slot)
        if isinstance(pair, list) and len(pair) >= 2:
            name, content = _text(pair[0]), _text(pair[1])
            if name:
                out.append((name, content))
    return out


def _text(given: object) -> str:
    if isinstance(given, bool) or not isinstance(given, str | int | float):
        return ""
    try:
        return tidy(str(given))
    except ValueError:  # an integer of thousands of digits
        return ""
