"""Documents as rrweb writes them: by hand, and by hypothesis with any value in any place."""

from __future__ import annotations

from typing import Any

from hypothesis import strategies as st

from schemas.recordings import UNMASK, selector
from schemas.sites import SitePolicy
from streams.anonymize.recordings.events import mask
from streams.anonymize.recordings.texts import Tally
from streams.rules import Rules
from tests.streams.anonymize.detect import corpus

RULES = Rules.of(1, SitePolicy(domains=("shop.example",)))
SHOWING = tuple(map(selector, UNMASK))

_tags = "div p span style script iframe textarea input select option title meta a img svg path button"
_names = """
    class id name type value placeholder title alt href src srcset style data-user aria-label d fill width
    checked selected onclick srcdoc content autocomplete contenteditable _cssText data-matomo-mask data-matomo-unmask
"""
TAGS, NAMES = _tags.split(), _names.split()


def masked(events: list[Any], rules: Rules = RULES, tally: Tally | None = None) -> list[Any]:
    return mask(events, rules, SHOWING, tally or Tally()).events


def element(number: int, tag: str, attributes: Any = None, children: Any = (), **more: Any) -> dict[str, Any]:
    return {
        "type": 2, "id": number, "tagName": tag, "attributes": attributes or {}, "childNodes": list(children), **more
    }  # fmt: skip


def text(number: int, content: Any) -> dict[str, Any]:
    return {"type": 3, "id": number, "textContent": content}


def snapshot(*children: Any, at: int = 1_790_000_000_000) -> dict[str, Any]:
    root = {"type": 0, "id": 1, "childNodes": list(children)}
    return {"type": 2, "timestamp": at, "data": {"node": root, "initialOffset": {"left": 0, "top": 0}}}


def change(source: int, at: int = 1_790_000_000_100, **data: Any) -> dict[str, Any]:
    return {"type": 3, "timestamp": at, "data": {"source": source, **data}}


def mutation(**data: Any) -> dict[str, Any]:
    return change(0, **{"adds": [], "texts": [], "attributes": [], "removes": [], **data})


def strings(value: Any) -> list[str]:
    """Every text in what is stored, names of fields too."""
    if isinstance(value, str):
        return [value]
    if isinstance(value, dict):
        return [*value, *(text for inner in value.values() for text in strings(inner))]
    return [text for inner in value for text in strings(inner)] if isinstance(value, list) else []


SAMPLES = [sample.text for sample in corpus.samples(seed=11, each=1)]
PIECES = st.one_of(
    st.sampled_from(SAMPLES),
    st.sampled_from(
        [
            *("jo@example.com", "jo%40example.com", "jo&#64;example.com", "\\6a o@example.com", "am9AZXhhbXBsZS5jb20="),
            *("4111 1111 1111 1111", "0151 23456789", "１２３４５６７８", "12345\u200b678", "%31%32%33%34%35%36%37%38"),
            *("a{color:red}", "url(", ")", '"', "'", "/*", "*/", "@media x{", "}", "\\", "\n", ";", "content:", "--x:"),
            *("https://shop.example/p?q=jo@example.com&x=1", "//", "data:text/html,", "javascript:", "/users/jane.doe"),
            *("", " ", "é", "\ud800", "article", "M1 2 3", "translate(1px)", "on", "password", "#fff", "=", "format("),
        ]
    ),
    st.text(max_size=20),
)
VALUES = st.lists(PIECES, max_size=5).map("".join)
SCALARS = st.one_of(VALUES, st.none(), st.booleans(), st.integers(-(10**20), 10**20), st.floats())
JSON = st.recursive(SCALARS, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(VALUES, inner, max_size=4))
IDS = st.one_of(st.integers(1, 12), st.integers(1, 12), SCALARS)
ATTRIBUTES = st.dictionaries(
    st.one_of(st.sampled_from(NAMES), st.sampled_from(NAMES), VALUES), SCALARS | JSON, max_size=6
)


def _element(children: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    fields: dict[str, st.SearchStrategy[Any]] = {
        "type": st.sampled_from([2, 2, 2, 2, 0]),
        "id": IDS,
        "tagName": st.one_of(st.sampled_from(TAGS), SCALARS),
        "attributes": ATTRIBUTES,
        "childNodes": st.lists(children, max_size=4),
        "rootId": IDS,
    }
    return st.fixed_dictionaries(fields)


LEAF = st.fixed_dictionaries({"type": st.sampled_from([1, 3, 3, 3, 4, 5]), "id": IDS, "textContent": SCALARS})
NODES = st.recursive(LEAF, _element, max_leaves=12)
TIMES = st.one_of(st.integers(0, 2 * 10**12), SCALARS)
DATA = st.one_of(
    st.fixed_dictionaries({"node": NODES, "initialOffset": JSON}),
    st.fixed_dictionaries({"href": SCALARS, "width": SCALARS, "height": SCALARS}),
    st.fixed_dictionaries({"tag": SCALARS, "payload": JSON, "plugin": VALUES}),
    st.fixed_dictionaries(
        {
            "source": st.just(0),
            "adds": st.lists(st.fixed_dictionaries({"parentId": IDS, "nextId": IDS, "node": NODES}), max_size=2),
            "texts": st.lists(st.fixed_dictionaries({"id": IDS, "value": SCALARS}), max_size=2),
            "attributes": st.lists(st.fixed_dictionaries({"id": IDS, "attributes": ATTRIBUTES}), max_size=2),
            "removes": st.lists(st.fixed_dictionaries({"parentId": IDS, "id": IDS}), max_size=2),
        }
    ),
    st.fixed_dictionaries(
        {
            "source": st.integers(0, 16),
            "id": IDS,
            "text": SCALARS,
            "isChecked": SCALARS,
            "type": SCALARS,
            "x": SCALARS,
            "y": SCALARS,
            "index": JSON,
            "currentTime": SCALARS,
            "positions": st.lists(st.fixed_dictionaries({"id": IDS, "x": SCALARS, "timeOffset": SCALARS}), max_size=2),
            "adds": st.lists(st.fixed_dictionaries({"rule": SCALARS, "index": JSON}), max_size=2),
            "set": st.fixed_dictionaries({"property": VALUES, "value": SCALARS, "priority": VALUES}),
            "styles": st.lists(
                st.fixed_dictionaries({"styleId": IDS, "rules": st.lists(st.fixed_dictionaries({"rule": SCALARS}))}),
                max_size=2,
            ),
        }
    ),
    JSON,
)
EVENTS = st.lists(
    st.one_of(
        st.fixed_dictionaries({"type": st.sampled_from([2, 3, 3, 4, 5, 6, 0]), "timestamp": TIMES, "data": DATA}), JSON
    ),
    max_size=4,
)
