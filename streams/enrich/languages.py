"""The visitor's language: the first of the list, as `language-region` in lower case."""

from __future__ import annotations

import re

LIMIT = 20  # characters, Matomo's

_comment = re.compile(r"\([^()]*\)").sub
_first = re.compile(r"[a-z]{1,8}(?:-[a-z0-9]{1,8})*").match


def first(text: str) -> str:
    """The first language of an Accept-Language header or of parameter `lang`, "" where there is none."""
    found = _first(_comment("", text[:256]).strip().lower())
    return found[0][:LIMIT].rstrip("-") if found else ""
