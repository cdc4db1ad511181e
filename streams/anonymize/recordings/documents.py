"""The document of a chunk: its nodes as they are written, and what later events of the chunk say of them.

A chunk is masked by itself, so a node that an earlier chunk told of is not known, and what is said of it is masked. A
node is shown where it or the nearest element around it that says anything says so; a field that is locked, and what is
in it, never is. What an element says is taken as it first said it: a later event can only hide it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from schemas.recordings import Selector
from streams.anonymize.recordings import attributes as attribute
from streams.anonymize.recordings.names import locked, name, tag
from streams.anonymize.recordings.styles import sheet
from streams.anonymize.recordings.texts import FIXED, Tally, hidden, shown
from streams.rules import Rules

DOCUMENT, DOCTYPE, ELEMENT, TEXT, CDATA, COMMENT = range(6)  # rrweb's NodeType
HIGHEST = 999_999  # of a node's id: one digit more could be a number of somebody
DEPTH = 120  # of elements in one another
AROUND = 256  # elements around a node that are looked at
NODES = 60_000  # of one chunk
GONE = frozenset(("script", "noscript", "object", "embed", "applet", "base", "template", "param"))
BOXES = frozenset(("iframe", "frame", "canvas", "video", "audio", "portal", "fencedframe"))  # nothing of what is inside
FIELDS = frozenset(("input", "textarea", "select", "option", "optgroup", "datalist", "output"))
BOX_ATTRIBUTES = frozenset(
    ("class", "id", "style", "width", "height", "rr_width", "rr_height", "rr_left", "rr_top", "rr_mediastate")
)
SWITCHES = ("isSVG", "isShadowHost", "isShadow", "isCustom", "needBlock")
PATH_STEPS = 6


@dataclass(slots=True)
class Known:
    """A node of this chunk. mark: see `attributes.mark`. locked: nothing in it is ever shown."""

    parent: int
    tag: str
    name: str
    mark: bool | None
    locked: bool
    field: bool = False
    personal: bool = False  # its names are those of a field that is locked


class Document:
    """For one chunk."""

    def __init__(self, rules: Rules, unmask: tuple[Selector, ...], tally: Tally) -> None:
        self._rules = rules
        self._unmask = unmask
        self._tally = tally
        self._telling = {"class", "id"}.union(name for one in unmask for name, _ in one.attributes)
        self._known: dict[int, Known] = {}

    def node(self, raw: object, parent: int = 0, depth: int = 0) -> dict[str, object] | None:
        """A serialized node and all below it as it may be kept; None where it may not."""
        if not isinstance(raw, Mapping) or depth > DEPTH or len(self._known) >= NODES:
            self._tally.dropped["node"] += 1
            return None
        number, kind = node_id(raw.get("id")), raw.get("type")
        if number is None or not isinstance(kind, int):
            self._tally.dropped["node"] += 1
            return None
        if kind == DOCTYPE:
            return {"type": DOCTYPE, "name": "html", "publicId": "", "systemId": "", "id": number}
        if kind in (TEXT, CDATA):
            self._known[number] = Known(parent, "", "", None, False)
            return {"type": TEXT, "textContent": self.text(number, raw.get("textContent")), "id": number}
        if kind == DOCUMENT:
            self._known[number] = Known(0, "", "", None, False)
            return {"type": DOCUMENT, "childNodes": self._children(raw, number, depth), "id": number}
        if kind != ELEMENT:
            self._tally.dropped["comment" if kind == COMMENT else "node"] += 1
            return None
        return self._element(raw, number, parent, depth)

    def _element(self, raw: Mapping[object, object], number: int, parent: int, depth: int) -> dict[str, object] | None:
        own = tag(raw.get("tagName"))
        if own in GONE or own == "meta":
            self._tally.dropped[own if own in ("script", "meta") else "node"] += 1
            return None
        given = attribute.lowered(raw.get("attributes"))
        field = own in FIELDS or str(given.get("contenteditable", "false")).lower() != "false"
        marks = "".join(f".{kept}" for word in str(given.get("class", "")).split()[:2] if (kept := name(word)))
        named = name(str(given.get("id", "")))
        said, personal = attribute.mark(own, given, self._unmask), locked(given)
        shut = field and personal
        if (before := self._known.get(number)) is not None:  # moved, or an id that stands twice
            said, shut = False if before.mark is False else said, shut or before.locked
        known = Known(parent, own, f"{own}#{named}" if named else own + marks, said, shut, field, personal)
        self._known[number] = known
        boxed = own in BOXES
        attributes = raw.get("attributes")
        if boxed and isinstance(attributes, Mapping):
            attributes = {key: value for key, value in attributes.items() if str(key).lower() in BOX_ATTRIBUTES}
        out: dict[str, object] = {"type": ELEMENT, "tagName": own, "attributes": self.attributes(number, attributes)}
        out["childNodes"] = [] if boxed else self._children(raw, number, depth)
        if boxed and raw.get("childNodes"):
            self._tally.dropped["inside"] += 1
        out |= {switch: True for switch in SWITCHES if raw.get(switch) is True}
        if (root := node_id(raw.get("rootId"))) is not None:
            out["rootId"] = root
        out["id"] = number
        return out

    def _children(self, raw: Mapping[object, object], number: int, depth: int) -> list[object]:
        given = raw.get("childNodes")
        out: list[object] = []
        for child in given if isinstance(given, list) else ():
            made = self.node(child, number, depth + 1)
            if made is not None:
                out.append(made)
        return out

    def text(self, number: int, value: object) -> str:
        """The text of a text node."""
        text = value if isinstance(value, str) else ""
        known = self._known.get(number)
        if known is not None and (around := self._known.get(known.parent)) is not None and around.tag == "style":
            return sheet(text, self._rules, self._tally)
        return self._said(number, text, "text")

    def value(self, number: int, value: object) -> str:
        """What was put into a field."""
        text = value if isinstance(value, str) else ""
        known = self._known.get(number)
        if known is None or self._locked(number):
            self._tally.masked["field"] += bool(text)
            return FIXED if text else ""
        return self._said(number, text, "field")

    def chosen(self, number: int, value: object) -> bool:
        """Whether a field is chosen, as far as that may be told."""
        return value is True and self.visible(number) and not self._locked(number)

    def attributes(self, number: int, given: object) -> dict[str, object]:
        """Attributes of a node, of the document or changed later."""
        known = self._known.get(number)
        return attribute.masked(
            given,
            self._rules,
            self._tally,
            visible=self.visible(number),
            fixed=known is None or self._locked(number),
            kept=self._unmask,
        )

    def hide(self, number: int | None, given: object) -> None:
        """Attributes that changed later: those that hide a node do, those that show it do not."""
        known = self._known.get(number) if number is not None else None
        if known is None:
            return
        lower = attribute.lowered(given)
        if attribute.MASK in lower or (known.mark and not self._telling.isdisjoint(lower)):
            known.mark = False
        known.field = known.field or str(lower.get("contenteditable", "false")).lower() != "false"
        known.personal = known.personal or locked(lower)
        known.locked = known.locked or (known.field and known.personal)

    def learn(self, added: Iterable[tuple[object, int | None]]) -> None:
        """What nodes that are added say of themselves, before any of them is written."""
        tally, self._tally = self._tally, Tally()
        for raw, parent in added:
            if parent is not None:
                self.added(raw, parent)
        self._tally = tally

    def added(self, raw: object, parent: int) -> dict[str, object] | None:
        """A node that is added below another; None for what is inside a frame."""
        around = self._known.get(parent)
        inside = isinstance(raw, Mapping) and raw.get("type") == DOCUMENT
        if inside or (around is not None and around.tag in BOXES):
            self._tally.dropped["inside"] += 1
            return None
        return self.node(raw, parent)

    def visible(self, number: int) -> bool:
        """Whether the texts of a node are shown."""
        said = None
        for _ in range(AROUND):
            known = self._known.get(number)
            if known is None:
                return said is True
            if known.locked:
                return False
            said = known.mark if said is None else said
            number = known.parent
        return False

    def path(self, number: int) -> str:
        """A selector of a node, as far as it is known here."""
        steps: list[str] = []
        while (known := self._known.get(number)) is not None and len(steps) < PATH_STEPS:
            if known.name:
                steps.append(known.name)
            if "#" in known.name:
                break
            number = known.parent
        return " > ".join(reversed(steps))

    def _locked(self, number: int) -> bool:
        for _ in range(AROUND):
            known = self._known.get(number)
            if known is None:
                return False
            if known.locked:
                return True
            number = known.parent
        return True

    def _said(self, number: int, text: str, kind: str) -> str:
        if not self.visible(number):
            self._tally.masked[kind] += bool(text.strip())
            return hidden(text)
        cleaned, something = shown(text, self._rules)
        self._tally.masked["value"] += something
        return cleaned


def node_id(value: object) -> int | None:
    """An id of a node, None for anything else."""
    if isinstance(value, bool) or not isinstance(value, int):
        return None
    return value if 0 < value <= HIGHEST else None
