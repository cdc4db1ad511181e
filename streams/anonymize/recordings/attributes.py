"""Attributes of elements, by name: a closed list, each by the rule of its kind.

    names      class, id, type, rel, role ...: without those that may be made of a value (`names`)
    links      href, src, action ...; srcset
    style      style, and the text of a style sheet that rrweb puts beside it (`_cssText`)
    measures   width, viewBox, d, transform ...: numbers, and words of the language of shapes
    switches   disabled, hidden, open ...: without a value; `checked` and `selected` say what somebody chose
    texts      value, placeholder, title, alt, aria-*, data-*: as texts of the element are

Everything else is left out: handlers, `srcdoc`, the pixels of a canvas, what is not known.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from schemas.recordings import Selector
from streams.anonymize.recordings.links import link, srcset
from streams.anonymize.recordings.measures import measure
from streams.anonymize.recordings.names import name, names
from streams.anonymize.recordings.styles import sheet
from streams.anonymize.recordings.texts import FIXED, Tally, hidden, shown
from streams.rules import Rules

MASK, UNMASK = "data-matomo-mask", "data-matomo-unmask"
MOST = 60  # attributes of one element
_names = """
    class id type rel dir lang role name for target method scope shape charset as loading wrap align valign enctype
    autocomplete contenteditable draggable spellcheck inputmode itemprop itemtype is slot part crossorigin xml:lang
    xml:space
"""
NAMES = frozenset(_names.split())
SEVERAL = frozenset(("class", "rel", "autocomplete", "itemprop", "part"))  # that hold several names
_links = """
    href src action formaction poster cite background longdesc data rr_src xlink:href
"""
LINKS = frozenset(_links.split())
SRCSETS = frozenset(("srcset", "imagesrcset"))
STYLES = frozenset(("style", "_csstext"))
_measures = """
    width height colspan rowspan cols rows size span tabindex min max step maxlength minlength border cellpadding
    cellspacing rr_width rr_height rr_left rr_top rr_scrollleft rr_scrolltop rr_mediastate rr_mediacurrenttime
    rr_mediaplaybackrate rr_mediamuted rr_medialoop rr_mediavolume viewbox d points transform x y x1 x2 y1 y2 cx cy
    r rx ry fx fy dx dy offset opacity fill fill-opacity fill-rule stroke stroke-width stroke-opacity stroke-linecap
    stroke-linejoin stroke-dasharray stroke-dashoffset stroke-miterlimit stop-color stop-opacity clip-rule
    preserveaspectratio patternunits gradientunits gradienttransform media sizes color bgcolor version
"""
MEASURES = frozenset(_measures.split())
CHOICES = frozenset(("checked", "selected"))
_switches = """
    disabled readonly required multiple hidden open autofocus autoplay controls loop muted playsinline async defer
    novalidate reversed nowrap inert default
"""
SWITCHES = frozenset(_switches.split())
_texts = """
    value placeholder title alt label summary abbr standby
"""
TEXTS = frozenset(_texts.split())
STATES = frozenset(("", "true", "false", "mixed", "page", "step", "off", "polite", "assertive", "0", "1"))

_attribute = re.compile(r"[A-Za-z_][A-Za-z_:-]{0,47}").fullmatch


def lowered(attributes: object) -> dict[str, object]:
    """The attributes with their names in lower case; nothing of what is no object."""
    if not isinstance(attributes, Mapping):
        return {}
    return {name.lower(): value for name, value in attributes.items() if isinstance(name, str)}


def mark(tag: str, attributes: Mapping[str, object], unmask: tuple[Selector, ...]) -> bool | None:
    """What an element says of itself and what is in it: True to show, False to mask, None for nothing.

    attributes: as `lowered` gives them.
    """
    if MASK in attributes:
        return False
    return True if any(selector.matches(tag, attributes) for selector in unmask) else None


def masked(
    attributes: object, rules: Rules, tally: Tally, *, visible: bool, fixed: bool, kept: tuple[Selector, ...]
) -> dict[str, object]:
    """The attributes as they may be kept.

    visible: the element's texts are shown. fixed: not even the length of its value is. kept: selectors whose attributes
    stay as the site's rules spell them.
    """
    out: dict[str, object] = {}
    if not isinstance(attributes, Mapping):
        return out
    spelled = {pair for selector in kept for pair in selector.attributes}
    for key, value in list(attributes.items())[:MOST]:
        if not isinstance(key, str):
            continue
        lower = key.lower()
        if lower in (MASK, UNMASK):
            out[lower] = ""
            continue
        if (lower, None) in spelled and lower not in TEXTS:
            out[lower] = value if isinstance(value, str) and name(value) == value else ""
            continue
        if isinstance(value, str) and (lower, value) in spelled:
            out[lower] = value
            continue
        found_ = _masked(lower, value, rules, tally, visible, fixed)
        if found_ is None:
            tally.dropped["attribute"] += 1
        else:
            out[key if _attribute(key) else lower] = found_
    return out


def _masked(key: str, value: object, rules: Rules, tally: Tally, visible: bool, fixed: bool) -> object:
    if key in STYLES and isinstance(value, Mapping):
        return _properties(value, rules, tally)
    if value is None or value is True or value is False:
        return value if key in SWITCHES or key in MEASURES or (key in CHOICES and visible and not fixed) else None
    if not isinstance(value, str | int | float):
        return None
    text = str(value)
    if key in NAMES:
        return names(text) if key in SEVERAL or len(text.split()) < 2 else ""
    if key in LINKS:
        return link(text, rules)
    if key in SRCSETS:
        return srcset(text, rules)
    if key in STYLES:
        return sheet(text, rules, tally)
    if key in MEASURES:
        return value if measure(text) else None
    if key in SWITCHES:
        return ""
    if key in CHOICES:
        return "" if visible and not fixed else None
    if key in TEXTS or (key.startswith(("aria-", "data-")) and name(key) == key and _attribute(key)):
        return _text(key, text, rules, tally, visible, fixed)
    return None


def _text(key: str, text: str, rules: Rules, tally: Tally, visible: bool, fixed: bool) -> str:
    if key.startswith("aria-") and text in STATES:
        return text
    if key == "value" and fixed:
        tally.masked["field"] += bool(text)
        return FIXED if text else ""
    if not visible:
        tally.masked["attribute"] += bool(text.strip())
        return hidden(text)
    cleaned, something = shown(text, rules)
    tally.masked["value"] += something
    return cleaned


def _properties(value: Mapping[object, object], rules: Rules, tally: Tally) -> dict[str, object]:
    """Declarations as rrweb tells of changed ones: false takes one away, a list has its priority behind it."""
    out: dict[str, object] = {}
    for key, said in list(value.items())[:MOST]:
        if not isinstance(key, str) or name(key) != key:
            continue
        if said is False:
            out[key] = False
            continue
        first, priority = (said[0], "important") if isinstance(said, list) and said else (said, "")
        if isinstance(first, str):
            plain = sheet(first, rules, tally)
            out[key] = [plain, priority] if priority else plain
    return out
