"""Names that pages give to things: classes, ids, tags; which of them may be kept, and which fields are locked.

A name is kept where it looks like one that a developer wrote. One that may be made of a value, such as `user-4711` or
`anna@mail.example`, is left out. A field is locked where its type or a name of it is one of those that hold personal
data (Matomo's list, `schemas.parameter_lists`): what is in it is masked whatever its element's mark says.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from schemas.parameter_lists import PERSONAL_PARAMETERS
from streams.anonymize.detect.unfolding import unfolded
from streams.anonymize.recordings.texts import found

MOST_NAMES = 40  # in one attribute
DIGITS = 4  # in one name
_locked_types = """
    password email tel number file hidden date datetime-local month time week url search color range
"""
LOCKED_TYPES = frozenset(_locked_types.split())
OPEN_AUTOCOMPLETE = frozenset(("", "on", "off"))

_name = re.compile(r"[A-Za-z_-][A-Za-z0-9_:/-]{0,39}").fullmatch
_digit = re.compile(r"[0-9]").findall
_tag = re.compile(r"[a-z][a-z0-9]*(?:-[a-z0-9]+)*").fullmatch
_joint = re.compile(r"[-_ ]").sub
_humps = re.compile(r"(?<=[a-z0-9])(?=[A-Z])").sub
_pieces = re.compile(r"[^\W_]+").findall
_letters = re.compile(r"[^\W\d_]+").match
_combinators = re.compile(r"\s*[>+~/]+\s*|\s+")
_brackets = re.compile(r"\[(?![0-9]{1,3}\])[^\]]*(?:\]|$)").sub
_step = re.compile(
    r"([A-Za-z][A-Za-z0-9-]*|\*)?((?:[#.][^#.:\[\]]+)*)((?::[a-z-]{1,24}(?:\([0-9]{1,3}\))?)*)((?:\[[0-9]{1,3}\])?)"
).fullmatch
_marked = re.compile(r"([#.])([^#.]+)").findall
STEPS, SELECTOR = 12, 300  # of a selector: steps, characters


def name(text: str) -> str:
    """A name as it may be kept; "" where it may be made of a value."""
    if _name(text) is None or len(_digit(text)) > DIGITS or found(text) is not None:
        return ""
    return text


def names(text: str) -> str:
    """Several names with blanks between, without those that may not be kept; "" where a value stands among them."""
    if _personal_text(text):
        return ""
    kept = " ".join(word for word in text.split()[:MOST_NAMES] if name(word))
    return "" if found(kept) else kept


def tag(text: object) -> str:
    """The name of an element, `div` for one that may not be kept."""
    lower = text.lower() if isinstance(text, str) else ""
    return lower if len(lower) <= 40 and _tag(lower) and name(lower) else "div"


def locked(attributes: Mapping[str, object]) -> bool:
    """Whether a field of a form is one whose content is never shown; names of attributes in lower case."""
    if str(attributes.get("type", "")).strip().lower() in LOCKED_TYPES:
        return True
    if not OPEN_AUTOCOMPLETE.issuperset(str(attributes.get("autocomplete", "")).lower().split()):
        return True
    return any(_personal(str(attributes.get(key, ""))) for key in ("name", "id"))


def _personal_text(text: str) -> bool:
    return "@" in unfolded(text) or found(text) is not None


def _personal(text: str) -> bool:
    words = [word.lower() for word in _pieces(_humps("_", text[:200]))]
    whole = _joint("", text).lower()
    bare = [match[0] for word in words if (match := _letters(word))]  # address1, phone2
    return whole in PERSONAL_PARAMETERS or not PERSONAL_PARAMETERS.isdisjoint((*words, *bare))


def selector(text: str) -> str:
    """A selector of CSS, or an XPath, with only the names that may be kept; a star for a step, or all, that may not."""
    if _personal_text(text[:4096]):
        return "*"
    steps = []
    for step in _combinators.split(_brackets("", text[:4096]).strip()):
        if not step:
            continue
        match = _step(step)
        if match is None:
            steps.append("*")
            continue
        own = tag(match[1]) if match[1] and match[1] != "*" else ""
        marks = match[2] if all(name(word) for _, word in _marked(match[2])) else ""
        steps.append((own + marks + match[3] + match[4]) or "*")
    joined = " > ".join(steps[-STEPS:])
    return joined if len(joined) <= SELECTOR and not found(joined) else "*"
