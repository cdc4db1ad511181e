"""Events of rrweb as they may be kept: a closed list, each with the fields that a replay needs and no others.

Kept are full snapshots, meta events (address and size of the page) and of the incremental ones mutations, moves,
clicks, scrolls, sizes, inputs, media, style rules and selections. Left out and counted are pixels of canvases, fonts,
what plugins and consoles say, the content of custom events, and whatever is not known here.

Times are milliseconds since the first event of the chunk: a visitor's clock is not kept. Numbers are whole and of six
digits at most, so none of them can be a number of somebody.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from enum import IntEnum
from typing import NamedTuple

from schemas.recordings import Selector
from streams.anonymize.recordings.documents import Document, node_id
from streams.anonymize.recordings.links import link
from streams.anonymize.recordings.names import name
from streams.anonymize.recordings.styles import sheet
from streams.anonymize.recordings.texts import Tally
from streams.rules import Rules

HIGHEST = 999_999
POSITIONS = 1000  # of a pointer in one event
CHANGES = 20_000  # of one kind in one mutation
STYLE_RULES = 5_000

Json = dict[str, object]


class Type(IntEnum):
    """rrweb's EventType."""

    DOM_CONTENT_LOADED = 0
    LOAD = 1
    FULL_SNAPSHOT = 2
    INCREMENTAL = 3
    META = 4
    CUSTOM = 5


class Source(IntEnum):
    """rrweb's IncrementalSource."""

    MUTATION = 0
    MOUSE_MOVE = 1
    INTERACTION = 2
    SCROLL = 3
    VIEWPORT = 4
    INPUT = 5
    TOUCH_MOVE = 6
    MEDIA = 7
    STYLE_RULE = 8
    DRAG = 12
    STYLE_DECLARATION = 13
    SELECTION = 14
    ADOPTED_STYLE = 15


class Masked(NamedTuple):
    """A chunk as it may be stored, and its document, which names what was clicked."""

    events: list[Json]
    document: Document


def mask(events: Sequence[object], rules: Rules, unmask: tuple[Selector, ...], tally: Tally) -> Masked:
    """The events of a chunk as they may be stored; raises nothing, whatever they are."""
    document = Document(rules, unmask, tally)
    masker = _Masker(document, rules, tally)
    start: int | None = None
    out: list[Json] = []
    for event in events:
        if not isinstance(event, Mapping):
            tally.dropped["event"] += 1
            continue
        kind = event.get("type")
        data = masker.data(kind, event.get("data"))
        if data is None or isinstance(kind, bool) or not isinstance(kind, int):
            tally.dropped[_kind(event)] += 1
            continue
        at = _time(event)
        start = at if start is None else start
        out.append({"type": kind, "data": data, "timestamp": bounded((at or 0) - (start or 0), 0)})
    return Masked(out, document)


def bounded(value: object, low: int = -HIGHEST, otherwise: int = 0) -> int:
    """A number as a whole one of six digits at most."""
    if isinstance(value, bool) or not isinstance(value, int | float) or value != value:
        return otherwise
    return int(min(max(value, low), HIGHEST))


def _time(event: object) -> int | None:
    at = event.get("timestamp") if isinstance(event, Mapping) else None
    if isinstance(at, bool) or not isinstance(at, int | float) or not 0 <= at < 1e15:
        return None
    return int(at)


def _kind(event: Mapping[object, object]) -> str:
    """What a dropped event is called in the counts: by number, where it is a known kind of number."""
    kind, data = event.get("type"), event.get("data")
    source = data.get("source") if isinstance(data, Mapping) else None
    if kind == Type.INCREMENTAL and isinstance(source, int) and 0 <= source < 32:
        return f"source_{int(source)}"
    return f"type_{int(kind)}" if isinstance(kind, int) and 0 <= kind < 32 else "event"


class _Masker:
    def __init__(self, document: Document, rules: Rules, tally: Tally) -> None:
        self._document = document
        self._rules = rules
        self._tally = tally
        self._sources: dict[int, Callable[[Mapping[object, object]], Json | None]] = {
            Source.MUTATION: self._mutation,
            Source.MOUSE_MOVE: self._moves,
            Source.TOUCH_MOVE: self._moves,
            Source.DRAG: self._moves,
            Source.INTERACTION: self._interaction,
            Source.SCROLL: self._scroll,
            Source.VIEWPORT: self._viewport,
            Source.INPUT: self._input,
            Source.MEDIA: self._media,
            Source.STYLE_RULE: self._style_rule,
            Source.STYLE_DECLARATION: self._declaration,
            Source.SELECTION: self._selection,
            Source.ADOPTED_STYLE: self._adopted,
        }

    def data(self, kind: object, data: object) -> Json | None:
        """The content of an event; None where it is left out."""
        if kind in (Type.DOM_CONTENT_LOADED, Type.LOAD):
            return {}
        if not isinstance(data, Mapping):
            return None
        if kind == Type.FULL_SNAPSHOT:
            node = self._document.node(data.get("node"))
            offset = data.get("initialOffset")
            offset = offset if isinstance(offset, Mapping) else {}
            places = {side: bounded(offset.get(side)) for side in ("left", "top")}
            return None if node is None else {"node": node, "initialOffset": places}
        if kind == Type.META:
            href = data.get("href")
            address = link(href, self._rules) if isinstance(href, str) else ""
            return {"href": address, **{side: bounded(data.get(side), 0) for side in ("width", "height")}}
        if kind == Type.CUSTOM:
            tag = data.get("tag")
            if data.get("payload") not in (None, {}):
                self._tally.dropped["payload"] += 1
            return {"tag": name(tag) if isinstance(tag, str) else "", "payload": {}}
        if kind != Type.INCREMENTAL:
            return None
        source = data.get("source")
        known = self._sources.get(source) if isinstance(source, int) and not isinstance(source, bool) else None
        made = known(data) if known is not None else None
        return None if made is None else {"source": source, **made}

    def _mutation(self, data: Mapping[object, object]) -> Json:
        document = self._document
        # What is hidden by anything in a mutation is hidden in all of it: so marks and locks are learnt first.
        document.learn((one.get("node"), node_id(one.get("parentId"))) for one in _objects(data.get("adds")))
        changed = [(node_id(one.get("id")), one.get("attributes")) for one in _objects(data.get("attributes"))]
        for number, given in changed:
            document.hide(number, given)
        adds: list[Json] = []
        for one in _objects(data.get("adds")):
            parent = node_id(one.get("parentId"))
            node = document.added(one.get("node"), parent) if parent is not None else None
            if node is not None:
                after = {key: node_id(one.get(key)) for key in ("previousId", "nextId") if key in one}
                adds.append({"parentId": parent, **after, "node": node})
        texts: list[Json] = []
        attributes: list[Json] = []
        removes: list[Json] = []
        for number, given in changed:
            document.hide(number, given)  # of nodes that this mutation has added, too
            if number is not None:
                attributes.append({"id": number, "attributes": document.attributes(number, given)})
        for one in _objects(data.get("texts")):
            if (number := node_id(one.get("id"))) is not None:
                texts.append({"id": number, "value": document.text(number, one.get("value"))})
        for one in _objects(data.get("removes")):
            parent, number = node_id(one.get("parentId")), node_id(one.get("id"))
            if parent is not None and number is not None:
                shadow = {"isShadow": True} if one.get("isShadow") is True else {}
                removes.append({"parentId": parent, "id": number, **shadow})
        return {"texts": texts, "attributes": attributes, "removes": removes, "adds": adds}

    def _moves(self, data: Mapping[object, object]) -> Json:
        places: list[Json] = []
        for one in _objects(data.get("positions"), POSITIONS):
            if (number := node_id(one.get("id"))) is not None:
                at = {side: bounded(one.get(side)) for side in ("x", "y", "timeOffset")}
                places.append({"id": number, **at})
        return {"positions": places}

    def _interaction(self, data: Mapping[object, object]) -> Json | None:
        number, kind = node_id(data.get("id")), bounded(data.get("type"), 0, -1)
        if number is None or not 0 <= kind < 16:
            return None
        at = {side: bounded(data.get(side)) for side in ("x", "y") if side in data}
        pointer = {"pointerType": bounded(data["pointerType"], 0) % 10} if "pointerType" in data else {}
        return {"type": kind, "id": number, **at, **pointer}

    def _scroll(self, data: Mapping[object, object]) -> Json | None:
        number = node_id(data.get("id"))
        return None if number is None else {"id": number, "x": bounded(data.get("x")), "y": bounded(data.get("y"))}

    def _viewport(self, data: Mapping[object, object]) -> Json:
        return {side: bounded(data.get(side), 0) for side in ("width", "height")}

    def _input(self, data: Mapping[object, object]) -> Json | None:
        number = node_id(data.get("id"))
        if number is None:
            return None
        text, chosen = self._document.value(number, data.get("text")), data.get("isChecked")
        return {"id": number, "text": text, "isChecked": self._document.chosen(number, chosen)}

    def _media(self, data: Mapping[object, object]) -> Json | None:
        number, kind = node_id(data.get("id")), bounded(data.get("type"), 0, -1)
        if number is None or not 0 <= kind < 8:
            return None
        switches = {key: data[key] for key in ("muted", "loop") if isinstance(data.get(key), bool)}
        return {"type": kind, "id": number, "currentTime": bounded(data.get("currentTime"), 0), **switches}

    def _style_rule(self, data: Mapping[object, object]) -> Json | None:
        place = _place(data)
        if place is None:
            return None
        adds = [
            {"rule": self._sheet(one.get("rule")), **_index(one)} for one in _objects(data.get("adds"), STYLE_RULES)
        ]
        removes = [_index(one) for one in _objects(data.get("removes"), STYLE_RULES)]
        whole = {key: self._sheet(data[key]) for key in ("replace", "replaceSync") if isinstance(data.get(key), str)}
        return {**place, "adds": adds, "removes": removes, **whole}

    def _declaration(self, data: Mapping[object, object]) -> Json | None:
        place, out = _place(data), Json()
        if place is None:
            return None
        said, removed = data.get("set"), data.get("remove")
        if isinstance(said, Mapping) and (property_ := _name(said.get("property"))):
            priority = "important" if said.get("priority") == "important" else ""
            out["set"] = {"property": property_, "value": self._sheet(said.get("value")), "priority": priority}
        if isinstance(removed, Mapping) and (property_ := _name(removed.get("property"))):
            out["remove"] = {"property": property_}
        return {**place, **_index(data), **out}

    def _selection(self, data: Mapping[object, object]) -> Json:
        ranges: list[Json] = []
        for one in _objects(data.get("ranges"), 100):
            start, end = node_id(one.get("start")), node_id(one.get("end"))
            if start is not None and end is not None:
                offsets = {key: bounded(one.get(key), 0) for key in ("startOffset", "endOffset")}
                ranges.append({"start": start, "end": end, **offsets})
        return {"ranges": ranges}

    def _adopted(self, data: Mapping[object, object]) -> Json | None:
        number = node_id(data.get("id"))
        if number is None:
            return None
        given = data.get("styleIds")
        ids = [found for one in given if (found := node_id(one))] if isinstance(given, list) else []
        styles: list[Json] = []
        for one in _objects(data.get("styles"), 1000):
            if (style := node_id(one.get("styleId"))) is not None:
                rules = [{"rule": self._sheet(rule.get("rule"))} for rule in _objects(one.get("rules"), STYLE_RULES)]
                styles.append({"styleId": style, "rules": rules})
        return {"id": number, "styleIds": ids[:1000], "styles": styles}

    def _sheet(self, value: object) -> str:
        return sheet(value, self._rules, self._tally) if isinstance(value, str) else ""


def _objects(value: object, most: int = CHANGES) -> Iterator[Mapping[object, object]]:
    if isinstance(value, list):
        yield from (one for one in value[:most] if isinstance(one, Mapping))


def _place(data: Mapping[object, object]) -> Json | None:
    """Which style sheet is meant: that of a node, or an adopted one."""
    place: Json = {key: found for key in ("id", "styleId") if (found := node_id(data.get(key))) is not None}
    return place or None


def _index(data: Mapping[object, object]) -> Json:
    value = data.get("index")
    if isinstance(value, list):
        return {"index": [bounded(one, 0) for one in value[:8]]}
    return {"index": bounded(value, 0)} if "index" in data else {}


def _name(value: object) -> str:
    return name(value) if isinstance(value, str) else ""
