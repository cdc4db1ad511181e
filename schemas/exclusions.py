"""How a site's file says which requests are not kept: the grammar of agents, requests and hosts, and its checks.

excluded_agents     a text that the User-Agent holds, in any case; or a regular expression between slashes, `/bot/i`
excluded_requests   `parameter OP value`, several of them joined by commas (one suffices): `==` is, `!=` is not,
                    `=@` holds, `!@` does not hold, `=^` begins with, `=$` ends with; in any case, the value
                    percent-encoded; a parameter that is missing is the empty text (Matomo's `exclude_requests`)
excluded_parameters a name, or a regular expression between slashes
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

from schemas.parameters import decode

_pattern = re.compile(r"/(.+)/([a-zA-Z]*)", re.DOTALL).fullmatch
_comparison = re.compile(r"(.+?)(==|!=|=@|!@|=\^|=\$)(.*)", re.DOTALL).fullmatch
_FLAGS = {"i": re.IGNORECASE, "m": re.MULTILINE, "s": re.DOTALL, "x": re.VERBOSE}


def is_pattern(text: str) -> bool:
    """Whether a text is written as a regular expression."""
    return _pattern(text) is not None


def pattern(text: str) -> re.Pattern[str] | None:
    """The regular expression of a text between slashes, with PHP's flags; None where it is no such text.

    Raises re.error where it cannot be compiled.
    """
    found = _pattern(text)
    if found is None:
        return None
    flags = re.RegexFlag(0)
    for letter in found[2]:
        flags |= _FLAGS.get(letter, re.RegexFlag(0))
    return re.compile(found[1].replace(r"\/", "/"), flags)


def safe_pattern(text: str) -> re.Pattern[str] | None:
    """`pattern`, and None for one that cannot be compiled: it is a text like any other then."""
    try:
        return pattern(text)
    except re.error:
        return None


@dataclass(frozen=True, slots=True)
class Comparison:
    """One comparison of a request's parameter. `value` is decoded and case-folded."""

    name: str
    operator: str
    value: str

    def holds(self, given: str) -> bool:
        """Whether a decoded value, "" where the parameter is missing, is meant."""
        given = given.casefold()
        match self.operator:
            case "==":
                return given == self.value
            case "!=":
                return given != self.value
            case "=@":
                return self.value in given
            case "!@":
                return self.value not in given
            case "=^":
                return given.startswith(self.value)
        return given.endswith(self.value)


def comparisons(text: str) -> tuple[Comparison, ...] | None:
    """The comparisons of a text, of which one suffices; None where a part of it is none."""
    out = []
    for part in text.split(","):
        if not part.strip():
            continue
        found = _comparison(part.strip())
        if found is None:
            return None
        out.append(Comparison(decode(found[1].strip()), found[2], decode(found[3]).casefold()))
    return tuple(out)


def agent_matches(agent: str, texts: Iterable[str]) -> bool:
    """Whether one of the site's `excluded_agents` is meant by a User-Agent."""
    lower = agent.casefold()
    for text in texts:
        expression = safe_pattern(text)
        if expression is not None:
            if expression.search(agent):
                return True
        elif text.casefold() in lower:
            return True
    return False
